"""``cleo-email recover``: after Redis was lost, take up again what the mailbox shows as unanswered."""

from __future__ import annotations

import argparse
import dataclasses
import json
import os

from cleo_email.cli.arguments import at_least_one
from cleo_email.cli.progress import Progress
from cleo_email.embedded.redis import embedded_redis
from cleo_email.errors import CleoError
from cleo_email.logs import set_up_logging
from cleo_email.recovering import Recovering, Recovery
from cleo_email.services import build_services
from cleo_email.settings import read_settings

SHOWN = 50


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = commands.add_parser(
        "recover", help="after Redis was lost: take up unanswered mail again (a dry run unless --apply)"
    )
    parser.add_argument("--days", type=at_least_one, default=7, help="how far to look back (7)")
    parser.add_argument("--apply", action="store_true", help="do it; without it nothing is changed")
    parser.add_argument("--json", action="store_true", help="for programs")
    parser.set_defaults(call=_recover)


def _recover(arguments: argparse.Namespace) -> int:
    set_up_logging()
    settings = read_settings(defaults=embedded_redis())
    services = build_services(settings, os.environ)
    if services.mailbox is None:
        raise CleoError("EMAIL_IMAP_HOST is not set: there is no mailbox to recover from")
    recovering = Recovering(
        services.front.store,
        services.mailbox,
        services.front.intake,
        max_bytes=settings.max_message_bytes,
    )
    with Progress("mails", quiet=arguments.json) as progress:
        result = recovering.run(days=arguments.days, apply=arguments.apply, progress=progress)
    if arguments.json:
        print(json.dumps(dataclasses.asdict(result), indent=1))
    else:
        _print(result, arguments.days)
    return 0


def _print(result: Recovery, days: int) -> None:
    verb = "taken up again" if result.applied else "would be taken up again"
    held = "held for a person" if result.applied else "would be held for a person"
    print(f"the inbox of the last {days} days:")
    print(f"  {result.answered:6} answered (\\Answered, $CleoReplied, or an answer lies in Sent): left alone")
    print(f"  {result.taken_up:6} unanswered: {verb}")
    print(f"  {result.held:6} held or failed before, or by a rule: {held}")
    if result.ignored:
        print(f"  {result.ignored:6} automatic mail and the like, which nobody answers: ignored")
    if result.failed:
        print(f"  {result.failed:6} cannot be fetched or read{': recorded as failed' * result.applied}")
    if result.known:
        print(f"  {result.known:6} known to Redis already")
    if result.unknown or not result.keywords:
        print(f"  {result.unknown:6} opened, and nothing shows whether they were answered: {held}")
    if not result.keywords:
        print(
            "this server keeps no keywords: what was accepted, held or failed before cannot be told from\n"
            "mail that a person opened; what was answered is known by \\Answered and by Sent"
        )
    for line in result.subjects[:SHOWN]:
        print(f"    {line}")
    if len(result.subjects) > SHOWN:
        print(f"    … and {len(result.subjects) - SHOWN} more")
    if not result.applied:
        print("nothing was changed; to do it: cleo-email recover --apply")
