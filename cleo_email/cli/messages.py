"""``cleo-email messages``: list, show, release, retry."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from typing import Any

from cleo_email.cli.arguments import at_least_one
from cleo_email.cli.mail_text import mail_text
from cleo_email.deciding import Deciding
from cleo_email.embedded.redis import embedded_redis
from cleo_email.errors import NotFound, WrongState
from cleo_email.front import Front, build_front, policy
from cleo_email.settings import read_settings
from cleo_email.store import Messages, Record, State, Store, iso

PAGE = 500  # records that are read at once


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = commands.add_parser(
        "messages", help="what became of every message, and decide about those that wait"
    )
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    listing = actions.add_parser("list", help="messages, newest first")
    listing.add_argument("--state", choices=[str(state) for state in State], help="only those in this state")
    listing.add_argument("--thread", default="", help="only those of this thread")
    listing.add_argument("--limit", type=at_least_one, default=50)
    listing.set_defaults(call=_list)
    show = actions.add_parser("show", help="one message with its history")
    show.add_argument("id")
    form = show.add_mutually_exclusive_group()
    form.add_argument("--text", action="store_true", help="the mail itself: who wrote, its text, its files")
    form.add_argument("--source", action="store_true", help="the mail's bytes, as they came")
    form.add_argument("--answer", action="store_true", help="the answer's bytes, sent or kept for it")
    show.set_defaults(call=_show)
    for name, text, call in (
        ("release", "let a held message through", _release),
        ("retry", "try a failed or uncertain message again", _retry),
        ("dismiss", "leave a held, failed or uncertain message as it is: ignored", _dismiss),
    ):
        action = actions.add_parser(name, help=text)
        action.add_argument("id", nargs="*")
        action.set_defaults(call=call, usage=action)
    release, retry = actions.choices["release"], actions.choices["retry"]
    release.add_argument(
        "--held", action="store_true", help="instead of ids: every held one with --reason, oldest first"
    )
    release.add_argument(
        "--reason", default="", metavar="TEXT", help="with --held, needed: only where the reason has it"
    )
    retry.add_argument("--failed", action="store_true", help="instead of ids: every failed one, oldest first")
    retry.add_argument(
        "--reason", default="", metavar="TEXT", help="with --failed: only where the reason has it"
    )
    for action in actions.choices.values():
        action.add_argument("--json", action="store_true", help="for programs")


def _list(arguments: argparse.Namespace) -> int:
    records, following = _front().store.messages.page(
        state=arguments.state or "", thread_id=arguments.thread, limit=arguments.limit
    )
    if arguments.json:
        print(json.dumps({"messages": [record.public() for record in records], "next": following}, indent=1))
        return 0
    if not records:
        print("no messages")
    for record in records:
        print(_line(record))
    if following:
        print(f"… more: --limit {arguments.limit * 2}")
    return 0


def _show(arguments: argparse.Namespace) -> int:
    messages = _front().store.messages
    record = messages.get(arguments.id)
    if arguments.text or arguments.source or arguments.answer:
        return _show_mail(messages, arguments)
    history = messages.history(arguments.id)
    if arguments.json:
        print(json.dumps({**record.public(), "history": history}, indent=1))
        return 0
    for name, value in record.public().items():
        if value != "":
            print(f"{name:17} {value}")
    print("history")
    for step in history:
        print(f"  {step['at']}  {step['state']:10} {step['reason']}")
    return 0


def _show_mail(messages: Messages, arguments: argparse.Namespace) -> int:
    if arguments.answer:
        answer = messages.answer(arguments.id)
        found = answer.source if answer else None
        missing = "has no answer, or it was dropped 7 days after its final state"
    else:
        found = messages.source(arguments.id)
        missing = "has no source: it answers no mail, or its source was dropped 7 days after its final state"
    if not found:
        raise NotFound(f"message {arguments.id} {missing}")
    if arguments.text:
        print(mail_text(found))
    else:
        sys.stdout.buffer.write(found)
    return 0


def _dismiss(arguments: argparse.Namespace) -> int:
    if not arguments.id:
        arguments.usage.error("expected one or more ids")
    return _decide(arguments, _front(), "dismiss", arguments.id)


def _release(arguments: argparse.Namespace) -> int:
    """Those that are named, or all that one rule holds: without a reason spam would be answered too."""
    if arguments.held == bool(arguments.id):
        arguments.usage.error("expected one or more ids, or --held --reason TEXT")
    if arguments.held != bool(arguments.reason.strip()):
        arguments.usage.error("--held and --reason TEXT go together")
    front = _front()
    ids = arguments.id or _in_state(front.store, State.HELD, arguments.reason)
    return _decide(arguments, front, "release", ids)


def _retry(arguments: argparse.Namespace) -> int:
    """Those that are named, or all that failed; what is uncertain a person looks at one by one."""
    if arguments.failed == bool(arguments.id):
        arguments.usage.error("expected one or more ids, or --failed")
    if arguments.reason and not arguments.failed:
        arguments.usage.error("--reason goes with --failed")
    front = _front()
    ids = arguments.id or _in_state(front.store, State.FAILED, arguments.reason)
    return _decide(arguments, front, "retry", ids)


def _in_state(store: Store, state: State, reason: str) -> list[str]:
    """Oldest first, so that each conversation goes on in its order."""
    found: list[str] = []
    cursor: str | None = ""
    while cursor is not None:
        records, cursor = store.messages.page(state=state, limit=PAGE, cursor=cursor)
        found += [record.id for record in records if reason.lower() in record.reason.lower()]
    return found[::-1]


def _decide(arguments: argparse.Namespace, front: Front, what: str, ids: Sequence[str]) -> int:
    """Each message by itself: one that cannot be released or retried keeps no other from it."""
    deciding = Deciding(front.store, front.intake, policy(front.settings))
    told: list[dict[str, Any]] = []
    refused = 0
    if not ids and not arguments.json:
        print("no messages")
    for id_ in ids:
        try:
            record = getattr(deciding, what)(id_)
        except (NotFound, WrongState) as error:
            refused += 1
            told.append({"id": id_, "error": str(error)})
            if not arguments.json:
                print(f"cleo-email: {error}", file=sys.stderr)
            continue
        told.append(record.public())
        if not arguments.json:
            print(f"{record.id} is {record.state}{' again' * (what != 'dismiss')}")
    if arguments.json:
        print(json.dumps(told, indent=1))
    return 1 if refused else 0


def _front() -> Front:
    return build_front(read_settings(defaults=embedded_redis()))


def _line(record: Record) -> str:
    when = iso(record.received_at)[:19].replace("T", " ") + "Z"
    reason = f" — {record.reason}" if record.reason else ""
    return f"{record.id}  {when}  {record.state:10} {_who(record)}: {record.subject[:60]}{reason}"


def _who(record: Record) -> str:
    """Who wrote, or, for a mail that answers nobody, to whom it goes."""
    return f"to {record.to_address}" if record.outbound else record.from_address
