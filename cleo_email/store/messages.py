"""Records: accepted once, and moved by one function."""

from __future__ import annotations

import json
import secrets
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

from redis import Redis

from cleo_email.errors import CleoError, LockLost, NotFound, WrongState
from cleo_email.mail.model import Attachment, OutboundEmail
from cleo_email.store.connection import ours
from cleo_email.store.files import WaitingFiles
from cleo_email.store.keys import PREFIX, script
from cleo_email.store.locks import Lock
from cleo_email.store.record import FINAL, MAY_BECOME, Record, State, iso
from cleo_email.store.records import Records

DAY_S = 86_400
SOURCE_AFTER_FINAL_S = 7 * DAY_S


class ThreadClosed(CleoError):
    """Between the choice of a thread and the storing of a mail, others have begun it."""


@dataclass(frozen=True)
class Identity:
    """What makes two copies one mail. ``date`` is '' where the copy has none."""

    fingerprint: str
    date: str = ""
    remember_s: int = 100 * DAY_S


@dataclass(frozen=True)
class Accepted:
    id: str
    thread_id: str
    duplicate: bool
    state: State


@dataclass(frozen=True)
class Effects:
    """What becomes true together with a move. Times in milliseconds since 1970."""

    fields: Mapping[str, str | int] = field(default_factory=dict)
    pop: bool = False  # take it off its conversation, which goes on
    push: bool = False  # put it at the end of its conversation
    due: int | None = None  # the conversation rests until then
    filing: int | None = None  # flags and our copy in Sent are to be made from then on
    settling: int | None = None  # the Sent mailbox is to be searched from then on
    answer: OutboundEmail | None = None  # kept as bytes
    people: Sequence[str] = ()


@dataclass(frozen=True)
class Start:
    """A record that begins with us and has no mail yet. ``keys``: (key, value, seconds or 0 for good) that
    are set where the record is accepted, in the same step."""

    record: Record
    identity: Identity
    people: Sequence[str]
    keys: Sequence[tuple[str, str, int]] = ()


class Messages(Records):
    """What changes a record."""

    def __init__(self, redis: Redis, *, retention_days: int = 90) -> None:
        super().__init__(redis)
        self._accept = script(redis, "accept")
        self._move = script(redis, "move")
        self._forget = script(redis, "forget")
        self._note = script(redis, "note")
        self._keep_s = (retention_days + 7) * DAY_S

    def accept(
        self,
        record: Record,
        source: bytes,
        identity: Identity,
        people: Sequence[str],
        *,
        answer: OutboundEmail | None = None,
        sender: str = "",
    ) -> Accepted:
        """Store a mail, its record and its place in the conversation in one step, once.

        Calling it again with the same record (a lost answer of Redis) is told as accepted. With ``answer``
        the record is of a mail that we send first; ``source`` is not used then. Raises ThreadClosed where
        others take part in the thread by now, but not ``sender``: then nothing was stored.
        """
        with ours():
            told = self._accept(
                args=[*self._accept_args(record, source, identity, people, answer, ()), sender]
            )
        if told[0] == b"stranger":
            raise ThreadClosed(f"{record.thread_id[:200]} is a thread of others")
        return _told(told, record)

    def accept_together(
        self, starts: Sequence[Start], *, batch: str = "", files: Sequence[Attachment] = ()
    ) -> list[Accepted]:
        """Store several records that have no mail of their own: all of them or, on a fault, none.

        ``files`` are kept under the name ``batch`` until each of the records has said that it is done.
        """
        with ours(), self._redis.pipeline(transaction=True) as pipe:
            for start in starts:
                args = self._accept_args(start.record, b"", start.identity, start.people, None, start.keys)
                self._accept(args=[*args, ""], client=pipe)
            if files:
                WaitingFiles.put(pipe, batch, files, [start.record.id for start in starts])
            told = pipe.execute()[: len(starts)]
        return [_told(one, start.record) for one, start in zip(told, starts, strict=True)]

    def first_value(self, name: str, value: str, seconds: int) -> str:
        """The value that was given first under this name within that time: ours, or another one's."""
        with ours(), self._redis.pipeline() as pipe:
            pipe.set(f"{PREFIX}first:{name}", value, nx=True, ex=seconds)
            pipe.get(f"{PREFIX}first:{name}")
            return cast("bytes", pipe.execute()[1]).decode()

    def _accept_args(
        self,
        record: Record,
        source: bytes,
        identity: Identity,
        people: Sequence[str],
        answer: OutboundEmail | None,
        keys: Sequence[tuple[str, str, int]],
    ) -> list[str | bytes | int]:
        steps = [_entry(State.RECEIVED, record.received_at, "")]
        if record.state is not State.RECEIVED:
            steps.append(_entry(record.state, record.received_at, record.reason))
        kept = ""
        if answer is not None:
            source = answer.source
            kept = json.dumps({"fields": _kept(answer), "our_id": answer.message_id, "keep_s": self._keep_s})
        flat = [item for pair in record.dump().items() for item in pair]
        return [
            PREFIX,
            record.id,
            identity.fingerprint,
            identity.date,
            identity.remember_s,
            record.received_at,
            record.state,
            record.thread_id,
            record.message_id,
            source,
            SOURCE_AFTER_FINAL_S if record.state in FINAL else "",
            json.dumps([str(item) for item in flat]),
            json.dumps(steps),
            json.dumps(list(people)),
            kept,
            json.dumps(list(keys)) if keys else "",
        ]

    def move(
        self,
        id_: str,
        to: State,
        *,
        now: int,
        reason: str = "",
        lock: Lock | None = None,
        effects: Effects = Effects(),
        only_from: Sequence[State] = (),
        given: tuple[str, int] | None = None,
        quiet: bool = False,
    ) -> None:
        """The one way from state to state: atomic, fenced by the conversation's lock, with its history.

        ``given`` is a field of the record that must have this value, a fence in place of the lock.
        ``quiet`` leaves no line in the history (a note for the machine, not for a person).
        Raises NotFound, LockLost (another worker has taken over) or WrongState (with the state it is in).
        """
        allowed = [state for state in MAY_BECOME[to] if not only_from or state in only_from]
        values = {"reason": reason, **effects.fields} if not quiet else dict(effects.fields)
        options: dict[str, Any] = {"keep_s": self._keep_s, "fields": None}
        if effects.answer is not None:
            values["reply_message_id"] = effects.answer.message_id
            options["our_id"] = effects.answer.message_id
            options["answer"] = _kept(effects.answer)
        options["fields"] = [str(item) for pair in (values or {"id": id_}).items() for item in pair]
        if not quiet:
            options["history"] = _entry(to, now, reason)
        if to in FINAL:
            options["keep_source_s"] = SOURCE_AFTER_FINAL_S
        for name in ("pop", "push", "due", "filing", "settling"):
            if value := getattr(effects, name):
                options[name] = value
        if effects.people:
            options["people"] = list(effects.people)
        if given:
            options["given"] = [given[0], str(given[1])]
        with ours():
            word, state = self._move(
                args=[
                    PREFIX,
                    id_,
                    ",".join(allowed),
                    to,
                    now,
                    lock.token if lock else "",
                    secrets.token_hex(6),
                    json.dumps(options),
                    effects.answer.source if effects.answer else b"",
                ]
            )
        _raise_unless_moved(id_, to, word.decode(), state.decode())

    def replace_source(self, id_: str, source: bytes) -> None:
        """The whole mail in place of its header, once it was fetched. Nothing if it was forgotten."""
        with ours():
            self._note(args=[PREFIX, id_, "partial", 0, source])

    def mark_data_end(self, id_: str, lock: Lock, now: int) -> None:
        """From here on the server may have the mail: durable before the end of DATA is sent."""
        self.move(
            id_,
            State.SUBMITTING,
            now=now,
            lock=lock,
            quiet=True,
            only_from=[State.SUBMITTING],
            effects=Effects(fields={"data_ended_at": now}),
        )

    def note(self, id_: str, field: str, value: str | int) -> None:
        """A remark for the machine that changes no state. Nothing where the record was forgotten."""
        with ours():
            self._note(args=[PREFIX, id_, field, value])

    def forget(self, id_: str, *, unless: Collection[State] = ()) -> bool:
        """Remove the record, unless it is in one of these states by now; whether it was there and is gone."""
        with ours():
            return bool(self._forget(args=[PREFIX, id_, ",".join(unless), ",".join(State)]))


def _told(told: Sequence[bytes], record: Record) -> Accepted:
    word, first, thread = (part.decode() for part in told)
    # A call that is repeated because its answer was lost finds its own record.
    again = word == "duplicate" and first != record.id
    return Accepted(first, thread or record.thread_id, again, record.state)


def _kept(mail: OutboundEmail) -> list[str]:
    """The fields of a kept answer but its bytes."""
    return [
        *("message_id", mail.message_id),
        *("envelope_from", mail.envelope_from),
        *("recipients", json.dumps(mail.recipients)),
    ]


def _entry(state: State, at: int, reason: str) -> str:
    return json.dumps({"state": state, "at": iso(at), "reason": reason})


def _raise_unless_moved(id_: str, to: State, word: str, state: str) -> None:
    if word == "missing":
        raise NotFound(f"there is no message {id_[:60]!r}; see: cleo-email messages list")
    if word == "lost":
        raise LockLost(f"message {id_} was taken over by another worker")
    if word == "wrong":
        raise WrongState(f"message {id_} is {state}; it cannot become {to} from there")
