"""What an application calls: ``send_message`` mails from the agent's address, as durably as answers;
``get_message`` tells what became of a mail; ``answer`` gives what the agent owes since it returned LATER.
"""

import logging
import os
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from redis import Redis

from cleo_email.agents.base import LATER as LATER
from cleo_email.agents.results import answer_in
from cleo_email.app import App, shared_app
from cleo_email.embedded.redis import embedded_redis
from cleo_email.errors import AgentError, SettingsError
from cleo_email.pipeline.callback import read_given
from cleo_email.pipeline.send import Attachment, NewMail, SentMessage, read_addresses
from cleo_email.settings.read import DOTENV, fingerprint, make_settings, merge, read_dotenv
from cleo_email.store import State
from cleo_email.store.connection import connect_web

log = logging.getLogger(__name__)

# OpenSSL reads these from the process's environment only; redis-py takes them as options too.
_TRUST = {"SSL_CERT_FILE": "ssl_ca_certs", "SSL_CERT_DIR": "ssl_ca_path"}


def send_message(
    to: str | Sequence[str],
    subject: str,
    body: str,
    *,
    cc: str | Sequence[str] = (),
    attachments: Sequence[Attachment] = (),
    thread_id: str | None = None,
    idempotency_key: str | None = None,
) -> SentMessage:
    """Store a mail for submission; a worker sends it. Return once it is durable.

    The settings come from the environment and ``.env`` as they are at the call; neither is changed.

    :param to: one address or several, each ``a@b`` or ``Name <a@b>``; with ``cc`` at most 50.
    :param body: Markdown; it goes out as text and HTML.
    :param thread_id: of an earlier mail or answer, with its angle brackets; None starts a thread.
    :param idempotency_key: the same call with the same key within 24 hours is the same mail.
    :raises InvalidField: a value that cannot be used; ``field`` names it.
    :raises NotFound: there is no such thread.
    :raises KeyReused: the key was used for another mail.
    :raises StoreUnavailable: Redis did not answer; call again, with a key in case it was stored after all.
    :raises SettingsError: the environment lacks what the channel needs, or does not enable it.
    :raises TypeError: an argument of another type, such as a path among the attachments.
    """
    _expect(isinstance(subject, str), "subject", subject, "a string")
    _expect(isinstance(body, str), "body", body, "a string")
    for name, id_ in (("thread_id", thread_id), ("idempotency_key", idempotency_key)):
        _expect(id_ is None or isinstance(id_, str), name, id_, "a string or None")
    for name, given in (("to", to), ("cc", cc)):
        usable = isinstance(given, str) or _is_list_of(str, given)
        _expect(usable, name, given, "an address or a list of addresses, each a string")
    wanted = "a list of cleo_email.Attachment(filename, content): no path is ever opened here"
    _expect(_is_list_of(Attachment, attachments), "attachments", attachments, wanted)
    draft = NewMail(
        to=read_addresses("to", to),
        subject=subject,
        body=body,
        cc=read_addresses("cc", cc),
        attachments=[one.file() for one in attachments],
        thread_id=thread_id or "",
    )
    return _app().sender.send(draft, idempotency_key=idempotency_key or "")


@dataclass(frozen=True)
class HistoryEntry:
    """A state that a message entered: when, why, and by whom (``agent``, ``mailbox``, ``cli``, a person)."""

    state: str
    reason: str
    by: str
    at: datetime


@dataclass(frozen=True)
class Message:
    """A message as it was at the call, with the fields of ``GET /email/messages/<id>``.

    ``state`` is a string too: ``message.state == "replied"``. ``answer`` is what waits for a person's
    approval, '' in all states but ``review``. Times are in UTC.
    """

    id: str
    state: State
    reason: str
    thread_id: str
    message_id: str
    in_reply_to: str
    from_address: str
    subject: str
    received_at: datetime
    updated_at: datetime
    attempts: int
    reply_message_id: str
    recipients: tuple[str, ...]
    answer: str
    history: tuple[HistoryEntry, ...]


def get_message(id: str) -> Message:
    """Return a message by its id: that of a mail that came in, or ``SentMessage.id``.

    The settings come from the environment and ``.env`` as they are at the call; neither is changed.

    :raises NotFound: there is no such message, or none any more (EMAIL_RETENTION_DAYS).
    :raises StoreUnavailable: Redis did not answer; call again.
    :raises SettingsError: the environment lacks what the channel needs, or does not enable it.
    :raises TypeError: the id is no string.
    """
    _expect(isinstance(id, str), "id", id, "a string")
    store = _app().store
    record = store.messages.get(id)
    history = store.messages.history(id)
    return Message(
        id=record.id,
        state=record.state,
        reason=record.told,
        thread_id=record.thread_id,
        message_id=record.message_id,
        in_reply_to=record.in_reply_to,
        from_address=record.from_address,
        subject=record.subject,
        received_at=_time(record.received_at),
        updated_at=_time(record.updated_at or record.received_at),
        attempts=record.attempts,
        reply_message_id=record.reply_message_id,
        recipients=tuple(record.addresses("recipients")),
        answer=record.answer_text if record.state is State.REVIEW else "",
        history=tuple(
            HistoryEntry(one["state"], one["reason"], one["by"], datetime.fromisoformat(one["at"]))
            for one in history
        ),
    )


def _time(ms: int) -> datetime:
    return datetime.fromtimestamp(ms / 1000, UTC)


def answer(
    id: str, answer: object, *, attachments: Sequence[Attachment] = (), review: str | None = None
) -> str:
    """Give the answer to a message for which the agent returned LATER. Return once it is durable.

    The settings come from the environment and ``.env`` as they are at the call; any process may call it.

    :param id: the request's ``id``.
    :param answer: what the agent could have returned at once: a text, messages, a dict such as
        ``{"ignore": "reason"}`` or ``{"ask": {…}}``; ``{"progress": "…"}`` changes only the reason shown.
    :param attachments: files beside a text.
    :param review: why a person is to see the text before it leaves.
    :returns: ``"accepted"``, or ``"duplicate"`` where the same answer was given before.
    :raises NotFound: there is no such message.
    :raises AlreadyAnswered: another answer was given before, and stands.
    :raises WrongState: nobody waits for it: it is over, dismissed, or a person's.
    :raises AgentError: it is no answer; the message still waits.
    :raises StoreUnavailable: Redis did not answer; call again, which is safe.
    :raises SettingsError: the environment lacks what the channel needs, or does not enable it.
    :raises TypeError: an argument of another type, such as a path among the attachments.
    """
    _expect(isinstance(id, str), "id", id, "a string")
    _expect(review is None or isinstance(review, str), "review", review, "a string or None")
    wanted = "a list of cleo_email.Attachment(filename, content): no path is ever opened here"
    _expect(_is_list_of(Attachment, attachments), "attachments", attachments, wanted)
    if isinstance(answer, Mapping) and answer.get("progress") is not None:
        return _app().callbacks.give(id, read_given(answer))
    given = answer_in(answer)
    if given.later:
        raise AgentError("LATER is what the agent returns; answer() takes the answer itself")
    if attachments or review is not None:
        if not given.text:
            raise AgentError("attachments and review stand beside a text, and there is none")
        files = (*given.attachments, *(one.file() for one in attachments))
        given = answer_in(replace(given, attachments=files, review=given.review or review or ""))
    return _app().callbacks.give(id, given)


def _is_list_of(kind: type, value: object) -> bool:
    return (
        isinstance(value, Collection)
        and not isinstance(value, str)
        and all(isinstance(one, kind) for one in value)
    )


def _expect(holds: bool, name: str, value: object, expected: str) -> None:
    if not holds:
        kinds = sorted({type(one).__name__ for one in value}) if isinstance(value, list | tuple) else []
        found = f"{type(value).__name__} of {', '.join(kinds)}" if kinds else type(value).__name__
        raise TypeError(f"{name} is {found}, expected {expected}")


def _app() -> App:
    """Return this process's app, made at the first call and again when the settings change.

    ``.env`` belongs to the application that calls: unreadable lines in it are skipped with a warning.
    """
    file, faults = read_dotenv(DOTENV)
    given = merge(file, os.environ, embedded_redis())

    def build() -> App:
        for fault in faults:
            log.warning("%s; it is passed over", fault)
        try:
            settings = make_settings(given).with_email()
        except SettingsError as error:
            read = f"{DOTENV.absolute()}" + ("" if DOTENV.exists() else ", which is not there")
            raise SettingsError(
                [f"{fault} (read: the environment, {read})" for fault in error.faults]
            ) from None
        return App(settings, redis=_connect(settings.redis_url.get_secret_value(), given))

    return shared_app("library", fingerprint(given), build)


def _connect(url: str, given: Mapping[str, str]) -> Redis:
    """Connect with the CA that ``.env`` names, for OpenSSL looks for one in the environment only."""
    named = {option: given[name] for name, option in _TRUST.items() if name in given}
    return connect_web(url, **(named if url.startswith("rediss://") else {}))
