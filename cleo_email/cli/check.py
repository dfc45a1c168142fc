"""``cleo-email check``: what is right, what is wrong, and what to do about it, a line each."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from dataclasses import asdict

from cleo_email.cli.check_agent import examine_agent
from cleo_email.cli.check_redis import examine_redis
from cleo_email.cli.finding import Finding
from cleo_email.clock import now_ms
from cleo_email.embedded.redis import embedded_redis
from cleo_email.errors import CleoError, MailboxError, SettingsError
from cleo_email.front import build_front
from cleo_email.mailbox import Mailbox
from cleo_email.services import accounts
from cleo_email.settings import Settings, gather, read_settings
from cleo_email.settings.misspelt import misspelt
from cleo_email.settings.providers import OAUTH_NEEDS
from cleo_email.settings.whereabouts import no_dotenv
from cleo_email.submission import Submitter
from cleo_email.workflows.opening import load_suppliers
from cleo_email.workflows.scheduling import next_due


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = commands.add_parser("check", help="test settings, Redis, IMAP, SMTP and the agent, a line each")
    parser.add_argument("--json", action="store_true", help="for programs")
    parser.set_defaults(call=_check)


def _check(arguments: argparse.Namespace) -> int:
    findings = examine()
    if arguments.json:
        print(json.dumps([asdict(finding) for finding in findings], indent=1))
    else:
        marks = {"ok": "ok     ", "warning": "warning", "wrong": "WRONG  "}
        for finding in findings:
            print(f"{marks[finding.level]}  {finding.what:9} {finding.text}", file=sys.stdout)
    return 1 if any(finding.level == "wrong" for finding in findings) else 0


def examine() -> list[Finding]:
    """Everything that can be known without sending a mail."""
    findings: list[Finding] = []
    try:
        findings += [Finding("settings", "warning", line) for line in misspelt(gather())]
        settings = read_settings(defaults=embedded_redis())
    except SettingsError as error:
        faults = [Finding("settings", "wrong", f"{fault}{no_dotenv()}") for fault in error.faults]
        return [*faults, *findings]
    if not settings.enabled:
        text = "ENABLED_CLIENTS does not list email: set ENABLED_CLIENTS=email" + no_dotenv()
        return [Finding("settings", "wrong", text), *findings]
    findings.insert(0, Finding("settings", "ok", f"mail goes out as {settings.from_address.addr}"))
    for examine_one in (examine_redis, _provider, _imap, _smtp, examine_agent, _workflows, _doors):
        findings += examine_one(settings)
    return findings


def _tried(what: str, action: Callable[[], str]) -> Finding:
    try:
        return Finding(what, "ok", action())
    except CleoError as error:
        return Finding(what, "wrong", str(error))


def _imap(settings: Settings) -> list[Finding]:
    if settings.imap is None:
        return [Finding("imap", "ok", "EMAIL_IMAP_HOST is not set: mail comes by webhook only")]
    _, account = accounts(settings, build_front(settings))
    assert account is not None
    with Mailbox(account) as mailbox:
        return [_with_needs(settings, _tried("imap", lambda: _inbox(mailbox)))]


def _inbox(mailbox: Mailbox) -> str:
    """Raises MailboxError for one that no poll takes mail from."""
    text = mailbox.check()
    if mailbox.open().read_only:
        raise MailboxError(f"{text}; give EMAIL_USER the right to write to its INBOX")
    return text


def _smtp(settings: Settings) -> list[Finding]:
    account, _ = accounts(settings, build_front(settings))
    submitter = Submitter(account)
    try:
        return [_with_needs(settings, _tried("smtp", submitter.check))]
    finally:
        submitter.close()


def _provider(settings: Settings) -> list[Finding]:
    """What the mail provider wants of its customers; not said where OAuth does without it."""
    preset = settings.preset
    if preset is None or settings.oauth is not None:
        return []
    return [Finding("provider", "ok", f"{preset.title}: {preset.needs}")]


def _with_needs(settings: Settings, finding: Finding) -> Finding:
    """A refused login is mostly one that lacks what this provider asks for."""
    refused = finding.level == "wrong" and "login" in finding.text.lower()
    if not refused or settings.preset is None:
        return finding
    needs = settings.preset.needs
    if settings.oauth is not None:
        needs = OAUTH_NEEDS.get(settings.preset.name, "")
    if not needs or "cleo-email login" in finding.text:
        return finding
    return Finding(finding.what, finding.level, f"{finding.text}. {settings.preset.title}: {needs}")


def _workflows(settings: Settings) -> list[Finding]:
    workflows = settings.workflows or {}
    try:
        load_suppliers(workflows)
    except SettingsError as error:
        return [Finding("workflows", "wrong", fault) for fault in error.faults]
    findings = []
    for one in workflows.values():
        text = f"{one.id}: started by POST /workflows"
        if one.schedule:
            due = next_due(one.schedule, one.timezone, now_ms())
            many = "" if len(one.users) == 1 else "s"
            text = f"{one.id}: next {due:%a %Y-%m-%d %H:%M %Z}, to {len(one.users)} user{many}"
        findings.append(Finding("workflows", "ok", text))
    return findings


def _doors(settings: Settings) -> list[Finding]:
    findings = []
    if not settings.webhook_secrets:
        text = "EMAIL_WEBHOOK_SECRET is not set: webhooks are taken only from this machine itself"
        findings.append(Finding("webhook", "ok", text))
    if not settings.api_tokens:
        text = "CLEO_API_TOKEN is not set: /email/send and /email/messages answer only this machine itself"
        findings.append(Finding("api", "ok", text))
    return findings
