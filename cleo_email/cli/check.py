"""``cleo-email check``: what is right, what is wrong, and what to do about it, a line each."""

from __future__ import annotations

import argparse
import json
import os
import socket
import ssl
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass
from urllib.parse import urlsplit

from redis import Redis
from redis.exceptions import RedisError

from cleo_email.agents import build_agent
from cleo_email.agents.openai import DEFAULT_BASE_URL, OpenAIAgent
from cleo_email.clock import now_ms
from cleo_email.embedded.beside import embedded_redis
from cleo_email.errors import CleoError, MailboxError, SettingsError
from cleo_email.front import build_front
from cleo_email.mailbox import Mailbox
from cleo_email.services import accounts
from cleo_email.settings import Settings, read_settings
from cleo_email.settings.providers import OAUTH_NEEDS
from cleo_email.store import Store
from cleo_email.store.connection import connect_web
from cleo_email.submission import Submitter
from cleo_email.workflows.opening import load_suppliers
from cleo_email.workflows.scheduling import next_due

OLDEST_REDIS = (6, 2)
REACH_S = 10.0


@dataclass(frozen=True)
class Finding:
    """``level`` is ``ok``, ``warning`` or ``wrong``; ``text`` says what to do unless it is ok."""

    what: str
    level: str
    text: str


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
    try:
        settings = read_settings(defaults=embedded_redis())
    except SettingsError as error:
        return [Finding("settings", "wrong", fault) for fault in error.faults]
    if not settings.enabled:
        return [
            Finding("settings", "wrong", "ENABLED_CLIENTS does not list email: set ENABLED_CLIENTS=email")
        ]
    findings = [Finding("settings", "ok", f"mail goes out as {settings.from_address.addr}")]
    for examine_one in (_redis, _provider, _imap, _smtp, _agent, _workflows, _doors):
        findings += examine_one(settings)
    return findings


def _tried(what: str, action: Callable[[], str]) -> Finding:
    try:
        return Finding(what, "ok", action())
    except CleoError as error:
        return Finding(what, "wrong", str(error))


def _redis(settings: Settings) -> list[Finding]:
    redis = connect_web(settings.redis_url.get_secret_value())
    try:
        info = {**redis.info("server"), **redis.info("persistence"), **redis.info("memory")}
    except (RedisError, OSError) as error:
        return [
            Finding(
                "redis",
                "wrong",
                f"REDIS_URL: no answer ({type(error).__name__}); start Redis, or: cleo-email run",
            )
        ]
    findings = [*_redis_server(info), *_redis_persistence(redis, info)]
    health = Store.on(redis).pulse.health()
    if health.submission_fault:
        findings.append(Finding("sending", "wrong", f"stopped: {health.submission_fault}"))
    if health.worker_is_away(now_ms()):
        text = "none has been seen in the last 90 s: start cleo-email run, or python worker.py"
        findings.append(Finding("worker", "warning", text))
    else:
        findings.append(Finding("worker", "ok", "at work"))
    return findings


def _redis_server(info: dict[str, object]) -> list[Finding]:
    name = str(info.get("server_name", "redis"))
    version = str(info.get("valkey_version") or info.get("redis_version", "0"))
    number = tuple(int(part) for part in str(info.get("redis_version", "0")).split(".")[:2])
    if number < OLDEST_REDIS:
        return [Finding("redis", "wrong", f"version {version}: 6.2 or newer is needed")]
    return [Finding("redis", "ok", f"{name} {version}")]


def _redis_persistence(redis: Redis, info: dict[str, object]) -> list[Finding]:
    """Without persistence a restart of Redis loses mail that was accepted."""
    findings = []
    if info.get("aof_enabled"):
        findings.append(
            Finding("redis", "ok", f"appendonly is on, appendfsync {_config(redis, 'appendfsync')}")
        )
    elif _config(redis, "save") not in ("", "?"):
        text = "only snapshots are kept: what came since the last one is lost in a crash; set appendonly yes"
        findings.append(Finding("redis", "warning", text))
    else:
        text = "nothing is kept over a restart: set appendonly yes, or choose a plan with persistence"
        findings.append(Finding("redis", "warning", text))
    policy = str(info.get("maxmemory_policy", "noeviction"))
    if policy != "noeviction" and info.get("maxmemory"):
        text = f"maxmemory-policy is {policy}: records may vanish; set it to noeviction"
        findings.append(Finding("redis", "wrong", text))
    return findings


def _config(redis: Redis, name: str) -> str:
    """A setting of the server, or ``?`` where a hosted one does not tell."""
    try:
        return str(redis.config_get(name).get(name, "?"))
    except RedisError:
        return "?"


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


def _agent(settings: Settings) -> list[Finding]:
    token = settings.agent_token.get_secret_value() if settings.agent_token else None
    try:
        agent = build_agent(settings.agent, token=token, environ=os.environ)
    except SettingsError as error:
        return [Finding("agent", "wrong", fault) for fault in error.faults]
    if settings.agent == "echo":
        return [Finding("agent", "warning", "CLEO_AGENT is echo: mail is answered with its own text")]
    url = settings.agent if "://" in settings.agent else ""
    if isinstance(agent, OpenAIAgent):
        url = os.environ.get("OPENAI_BASE_URL", "").strip() or DEFAULT_BASE_URL
    if not url:
        return [Finding("agent", "ok", f"{settings.agent} was found")]
    return [_tried("agent", lambda: _reached(url))]


def _reached(url: str) -> str:
    """Whether somebody listens at ``url``; no question is asked, since answers may cost money."""
    parts = urlsplit(url)
    host, tls = parts.hostname or "", parts.scheme == "https"
    port = parts.port or (443 if tls else 80)
    if any(os.environ.get(name) for name in ("HTTPS_PROXY", "https_proxy", "HTTP_PROXY", "http_proxy")):
        return f"{host}:{port} is behind a proxy and was not tried"
    try:
        with socket.create_connection((host, port), REACH_S) as plain:
            if tls:
                ssl.create_default_context().wrap_socket(plain, server_hostname=host).close()
    except ssl.SSLCertVerificationError as error:
        raise CleoError(f"{host}:{port}: {error.verify_message} (a private CA: SSL_CERT_FILE)") from None
    except OSError as error:
        raise CleoError(f"{host}:{port} cannot be reached: {error} (CLEO_AGENT, OPENAI_BASE_URL)") from None
    return f"{host}:{port} answers; it is asked with the first mail"


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
    if settings.api_token is None:
        text = "CLEO_API_TOKEN is not set: /email/send and /email/messages answer only this machine itself"
        findings.append(Finding("api", "ok", text))
    return findings
