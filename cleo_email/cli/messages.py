"""``cleo-email messages``: list and show messages, and decide about those that wait."""

import json
import sys
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, BinaryIO

import click

from cleo_email.app import App
from cleo_email.cli.command import SettingsCommand, as_json, settings_here, whole_number
from cleo_email.errors import CleoError, InvalidField, NotFound, UnreadableMessage, WrongState
from cleo_email.mail.decoding import without_format
from cleo_email.mail.headers import shown
from cleo_email.mail.parse import parse
from cleo_email.mail.wire import clean_text
from cleo_email.store import WAITING, Messages, Record, State, iso

PAGE = 500  # records that are read at once
HEADERS = ("from", "reply-to", "to", "cc", "date", "subject", "authentication-results")
HEADER_LENGTH = 1000  # characters that are shown of one
CLI = "cli"  # who decides
several = click.argument("ids", nargs=-1, required=True, metavar="ID...")
why = click.option("--reason", default="", metavar="TEXT", help="Why, for the record.")


def _app() -> App:
    return App(settings_here())


@click.group()
def messages() -> None:
    """See what became of every message, and decide about those that wait."""


@messages.command("list", cls=SettingsCommand)
@click.option("--state", type=click.Choice([*map(str, State)]), help="Only those in this state.")
@click.option("--waiting", is_flag=True, help="Only those that wait for a person.")
@click.option("--thread", default="", metavar="ID", help="Only those of this thread.")
@click.option("--limit", type=whole_number, default="50", show_default=True)
@as_json
def list_(state: str | None, waiting: bool, thread: str, limit: int, as_json: bool) -> None:
    """List messages, newest first. For a person wait: review, held, failed and uncertain."""
    if waiting and state:
        raise click.UsageError("--waiting and --state do not go together")
    page = partial(_app().store.messages.page, thread_id=thread, limit=limit)
    if waiting:
        pages = [page(state=one) for one in WAITING]
        found = sorted((one for records, _ in pages for one in records), key=lambda one: one.id, reverse=True)
        records, more = found[:limit], len(found) > limit or any(cursor for _, cursor in pages)
        following = records[-1].id if more else None
    else:
        records, following = page(state=state or "")
    if as_json:
        print(json.dumps({"messages": [record.public() for record in records], "next": following}, indent=1))
        return
    if not records:
        print("no messages")
    for record in records:
        print(_line(record))
    if following and sys.stdout.isatty():  # for a program it would be one more message
        print(f"… more: --limit {limit * 2}")


@messages.command(cls=SettingsCommand)
@click.argument("id_", metavar="ID")
@click.option("--text", "form", flag_value="text", help="The mail itself: who wrote, its text, its files.")
@click.option("--source", "form", flag_value="source", help="The mail's bytes, as they came.")
@click.option("--answer", "form", flag_value="answer", help="The answer's bytes, sent or kept for it.")
@as_json
def show(id_: str, form: str | None, as_json: bool) -> None:
    """Show one message with its history, or the mail itself."""
    store = _app().store.messages
    record = store.get(id_)
    if form == "text":
        print(mail_text(_bytes(store, id_, form)))
    elif form:
        sys.stdout.buffer.write(_bytes(store, id_, form))
    elif as_json:
        print(json.dumps({**record.public(), "history": store.history(id_)}, indent=1))
    else:
        shown_as = {**record.public(), "recipients": ", ".join(record.addresses("recipients"))}
        for name, value in shown_as.items():
            if value != "":
                print(f"{name:17} {value}")
        print("history")
        for step in store.history(id_):
            print(f"  {step['at']}  {step['state']:10} {step['by']:8} {step['reason']}".rstrip())


@messages.command(cls=SettingsCommand)
@click.argument("ids", nargs=-1, metavar="[ID]...")
@click.option("--held", is_flag=True, help="Instead of ids: every held one with --reason, oldest first.")
@click.option("--reason", default="", help="With --held, needed: only where the reason has this.")
@as_json
def release(ids: tuple[str, ...], held: bool, reason: str, as_json: bool) -> int:
    """Let held or ignored messages through. What was discarded or withdrawn is asked of the agent anew."""
    if held and not reason.strip():  # all that is held would be spam, too
        raise click.UsageError("--held and --reason TEXT go together")
    app, chosen = _choose(ids, State.HELD, reason, whole_state=held)
    return _decide(partial(app.decisions.release, by=CLI), chosen, "again", as_json=as_json, goes_on=True)


@messages.command(cls=SettingsCommand)
@click.argument("ids", nargs=-1, metavar="[ID]...")
@click.option("--failed", is_flag=True, help="Instead of ids: every failed one, oldest first.")
@click.option("--reason", default="", help="With --failed: only where the reason has this.")
@as_json
def retry(ids: tuple[str, ...], failed: bool, reason: str, as_json: bool) -> int:
    """Try failed, bounced or uncertain messages again: an answer that was kept is sent as it is.

    An uncertain one may have been sent: look at it first. For that reason --failed does not take those.
    """
    app, chosen = _choose(ids, State.FAILED, reason, whole_state=failed)
    return _decide(partial(app.decisions.retry, by=CLI), chosen, "again", as_json=as_json, goes_on=True)


@messages.command(cls=SettingsCommand)
@several
@why
@as_json
def dismiss(ids: tuple[str, ...], reason: str, as_json: bool) -> int:
    """Leave messages as they are that wait for a person: ignored."""
    return _decide(partial(_app().decisions.dismiss, by=CLI, reason=reason), ids, as_json=as_json)


@messages.command(cls=SettingsCommand)
@several
@click.option("--body", "file", type=click.File("rb"), metavar="FILE", help="Another text; - reads it here.")
@click.option("--subject", metavar="TEXT", help="Another subject.")
@as_json
def approve(ids: tuple[str, ...], file: BinaryIO | None, subject: str | None, as_json: bool) -> int:
    """Have answers sent that wait for a review, as they are or with another text (Markdown)."""
    if (file or subject is not None) and len(ids) > 1:
        raise click.UsageError("--body and --subject go with one id")
    body = _text(file) if file else None
    decide = partial(_app().decisions.approve, by=CLI, body=body, subject=subject)
    return _decide(decide, ids, "and approved", as_json=as_json, goes_on=True)


@messages.command(cls=SettingsCommand)
@several
@why
@as_json
def discard(ids: tuple[str, ...], reason: str, as_json: bool) -> int:
    """Leave mail unanswered whose answer waits for a review: ignored, nothing is sent."""
    return _decide(partial(_app().decisions.discard, by=CLI, reason=reason), ids, as_json=as_json)


@messages.command(cls=SettingsCommand)
@several
@why
@as_json
def takeover(ids: tuple[str, ...], reason: str, as_json: bool) -> int:
    """Take over the threads of these messages: the agent is silent in them until they are handed back."""
    decide = partial(_app().decisions.take_over, by=CLI, reason=reason)
    return _decide(decide, ids, "in a thread that a person has", as_json=as_json)


@messages.command(cls=SettingsCommand)
@several
@why
@as_json
def handback(ids: tuple[str, ...], reason: str, as_json: bool) -> int:
    """Hand threads back to the agent, which gets what was held in them since."""
    decide = partial(_app().decisions.hand_back, by=CLI, reason=reason)
    return _decide(decide, ids, "in a thread that the agent has", as_json=as_json, goes_on=True)


def _text(file: BinaryIO) -> str:
    try:
        return file.read().decode("utf-8-sig")
    except UnicodeDecodeError:
        raise CleoError("--body: the text is not UTF-8") from None


def _choose(ids: Sequence[str], state: State, reason: str, *, whole_state: bool) -> tuple[App, Sequence[str]]:
    """Return the app, and the ids, or all in the state, oldest first: each thread goes on in its order."""
    if whole_state == bool(ids):
        raise click.UsageError(f"expected one or more ids, or --{state}")
    if reason and not whole_state:
        raise click.UsageError(f"--reason goes with --{state}")
    app = _app()
    if ids:
        return app, ids
    found: list[str] = []
    cursor: str | None = ""
    while cursor is not None:
        records, cursor = app.store.messages.page(state=state, limit=PAGE, cursor=cursor)
        found += [record.id for record in records if reason.lower() in record.reason.lower()]
    return app, found[::-1]


def _decide(
    decide: Callable[[str], Record], ids: Sequence[str], so: str = "", *, as_json: bool, goes_on: bool = False
) -> int:
    """Apply the decision to each message alone, so that a refused one does not stop the others.

    ``so`` is said behind the state; ``goes_on``: the messages need a worker now.
    """
    results: list[dict[str, Any]] = []
    for id_ in ids:
        try:
            record = decide(id_)
        except (NotFound, WrongState, InvalidField) as error:
            results.append({"id": id_, "error": str(error)})
            if not as_json:
                print(f"cleo-email: {error}", file=sys.stderr)
        else:
            results.append(record.public())
            if not as_json:
                print(f"{record.id} is {record.state} {so}".rstrip())
    if goes_on:
        _tell_who_is_missing()
    if as_json:
        print(json.dumps(results, indent=1))
    elif not ids:
        print("no messages")
    return 1 if any("error" in result for result in results) else 0


def _tell_who_is_missing() -> None:
    """Say on standard error why what goes on now will not be answered yet."""
    app = _app()
    if not app.settings.agent:
        print("cleo-email: nobody is answered until CLEO_AGENT is set", file=sys.stderr)
    if app.store.health.read().worker_is_away(app.clock()):
        print("cleo-email: no worker is at work: start cleo-email run, or python worker.py", file=sys.stderr)


def _line(record: Record) -> str:
    when = iso(record.received_at)[:19].replace("T", " ") + "Z"
    first, *more = record.addresses("recipients") or [""]
    who = (
        f"to {first}" + (f" and {len(more)} more" if more else "") if record.outbound else record.from_address
    )
    reason = f" — {record.told}" if record.told else ""
    # An override of direction in an address would turn around the rest of the line.
    return without_format(f"{record.id}  {when}  {record.state:10} {who}: {record.subject[:60]}{reason}")


def _bytes(store: Messages, id_: str, form: str) -> bytes:
    if form == "answer":
        answer = store.answer(id_)
        found, missing = answer and answer.source, "answer, or it was"
    else:
        found, missing = store.source(id_), "source: it was"
    if not found and form != "answer" and store.get(id_).outbound:
        raise NotFound(f"message {id_} answers no mail, so there is no text of one; see: --answer")
    if not found:
        raise NotFound(f"message {id_} has no {missing} dropped 7 days after its final state")
    return found


def mail_text(source: bytes) -> str:
    """Return a mail as a person reads it in a terminal: who wrote, all of the text, the names of the files.

    Control characters are left out: a stranger could rewrite with them what the terminal shows.
    """
    try:
        mail = parse(source)
    except UnreadableMessage as error:
        return f"the mail cannot be read: {error}; --source gives its bytes"
    values = [(name, value) for name in HEADERS for value in mail.header_all(name)[:5]]
    lines = [f"{name.title()}: {shown(value, HEADER_LENGTH)}" for name, value in values]
    lines += ["", without_format(clean_text(mail.full_text)).strip(), ""]
    for file in mail.attachments:
        name = shown(file.filename) or "a file without a name"
        lines.append(f"[{name}, {shown(file.content_type)}, {file.size} bytes]")
    return "\n".join(lines).rstrip()
