"""``cleo-email poll``: read the mailbox once, now. For cron, Heroku Scheduler and the impatient."""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import sys

from cleo_email.cli.progress import Progress
from cleo_email.crashpoints import arm
from cleo_email.embedded.redis import embedded_redis
from cleo_email.errors import CleoError
from cleo_email.logs import set_up_logging
from cleo_email.services import build_services
from cleo_email.settings import read_settings


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = commands.add_parser("poll", help="read the mailbox once, now; a worker answers what it finds")
    parser.add_argument("--json", action="store_true", help="for programs")
    parser.set_defaults(call=_poll)


def _poll(arguments: argparse.Namespace) -> int:
    set_up_logging()
    arm(os.environ)
    settings = read_settings(defaults=embedded_redis())
    if not settings.enabled:
        raise CleoError("the email channel is not enabled: ENABLED_CLIENTS does not list email")
    polling = build_services(settings).polling
    if polling is None:
        raise CleoError("EMAIL_IMAP_HOST is not set: there is no mailbox to poll")
    with Progress("mails", quiet=arguments.json) as progress:
        result = polling.run(force=True, progress=progress)
    if arguments.json:
        print(json.dumps(dataclasses.asdict(result)))
    elif result.busy:
        print("another process is polling this mailbox right now; nothing to do")
    else:
        print(
            f"{result.accepted} new mails ({result.held} of them held), {result.duplicates} known, "
            f"{result.quarantined} quarantined",
            file=sys.stdout,
        )
    return 0
