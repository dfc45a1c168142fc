"""``cleo-email send``: the agent's mailbox writes first."""

import dataclasses
import json
import sys
from pathlib import Path

import click

from cleo_email.app import App
from cleo_email.cli.command import SettingsCommand, as_json, settings_here
from cleo_email.errors import CleoError, InvalidField
from cleo_email.pipeline.send import Attachment, NewMail, read_addresses


@click.command(cls=SettingsCommand)
@click.option("--to", multiple=True, required=True, metavar="ADDRESS", help="Recipient; may be repeated.")
@click.option("--cc", multiple=True, metavar="ADDRESS", help="Recipient of a copy; may be repeated.")
@click.option("--subject", required=True)
@click.option("--body", help="Markdown; read from standard input where absent.")
@click.option("--thread", default="", metavar="ID", help="Thread to continue, as the records name it.")
@click.option(
    "--attach", multiple=True, type=click.Path(path_type=Path), metavar="FILE", help="May be repeated."
)
@click.option(
    "--idempotency-key", default="", metavar="KEY", help="Within 24 hours the same key sends once only."
)
@as_json
def send(
    to: tuple[str, ...],
    cc: tuple[str, ...],
    subject: str,
    body: str | None,
    thread: str,
    attach: tuple[Path, ...],
    idempotency_key: str,
    as_json: bool,
) -> None:
    """Send a mail from the agent's address; a worker submits it."""
    sender = App(settings_here().with_email()).sender
    draft = NewMail(
        to=read_addresses("to", list(to)),
        cc=read_addresses("cc", list(cc)),
        subject=subject,
        body=body if body is not None else _read_body(),
        attachments=[_read(path).file() for path in attach],
        thread_id=thread,
    )
    sent = sender.send(draft, idempotency_key=idempotency_key)
    if as_json:
        print(json.dumps(dataclasses.asdict(sent)))
    else:
        print(f"{sent.id} will be submitted as {sent.message_id}; see: cleo-email messages show {sent.id}")


def _read_body() -> str:
    try:
        return sys.stdin.read()
    except UnicodeDecodeError as error:
        text = f"the body on standard input is not {error.encoding}: set PYTHONIOENCODING, such as to utf-8"
        raise CleoError(text) from None


def _read(path: Path) -> Attachment:
    try:
        with path.open("rb") as file:
            return Attachment(path.name, file)
    except (OSError, InvalidField) as error:
        raise CleoError(f"--attach {path}: {getattr(error, 'strerror', error)}") from None
