"""``cleo-email send``: the agent's mailbox writes first."""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
from pathlib import Path

from cleo_email.attaching import Attachment
from cleo_email.embedded.redis import embedded_redis
from cleo_email.errors import CleoError, InvalidField
from cleo_email.front import build_front, build_outbound
from cleo_email.outbound import Draft, read_addresses
from cleo_email.settings import read_settings


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = commands.add_parser("send", help="send a mail from the agent's address; a worker submits it")
    parser.add_argument("--to", action="append", required=True, help="recipient; may be repeated")
    parser.add_argument("--cc", action="append", default=[], help="may be repeated")
    parser.add_argument("--subject", required=True)
    parser.add_argument("--body", help="Markdown; read from standard input where absent")
    parser.add_argument("--thread", default="", help="thread id to continue")
    parser.add_argument("--attach", action="append", default=[], type=Path, metavar="FILE")
    parser.add_argument("--idempotency-key", default="")
    parser.add_argument("--json", action="store_true", help="for programs")
    parser.set_defaults(call=_send)


def _send(arguments: argparse.Namespace) -> int:
    settings = read_settings(defaults=embedded_redis())
    if not settings.enabled:
        raise CleoError("the email channel is not enabled: ENABLED_CLIENTS does not list email")
    draft = Draft(
        to=read_addresses("to", arguments.to),
        cc=read_addresses("cc", arguments.cc),
        subject=arguments.subject,
        body=arguments.body if arguments.body is not None else sys.stdin.read(),
        attachments=[_read(path).file() for path in arguments.attach],
        thread_id=arguments.thread,
    )
    sent = build_outbound(build_front(settings)).send(draft, idempotency_key=arguments.idempotency_key)
    if arguments.json:
        print(json.dumps(dataclasses.asdict(sent)))
    else:
        print(f"{sent.id} will be submitted as {sent.message_id}; see: cleo-email messages show {sent.id}")
    return 0


def _read(path: Path) -> Attachment:
    try:
        with path.open("rb") as file:
            return Attachment(path.name, file)
    except OSError as error:
        raise CleoError(f"--attach {path}: {error.strerror}") from None
    except InvalidField as error:
        raise CleoError(f"--attach {path}: {error}") from None
