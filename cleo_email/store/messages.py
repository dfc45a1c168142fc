"""Records of messages: accepted once, moved between states by one function, read singly or in pages."""

from __future__ import annotations

import json
import logging
import re
import secrets
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any, cast

from redis import Redis

from cleo_email.errors import CleoError, LockLost, NotFound, WrongState
from cleo_email.mail.model import AttachedFile, OutboundEmail
from cleo_email.store.connection import PREFIX, read_large, redis_errors, script
from cleo_email.store.files import WaitingFiles
from cleo_email.store.locks import Lock


class State(StrEnum):
    RECEIVED = "received"
    ANSWERING = "answering"
    SUBMITTING = "submitting"
    REPLIED = "replied"
    IGNORED = "ignored"
    HELD = "held"
    FAILED = "failed"
    UNCERTAIN = "uncertain"


S = State
# From which states a record may come into the one named. A state may follow itself: the reason changes.
MAY_BECOME: dict[State, tuple[State, ...]] = {
    S.RECEIVED: (S.HELD, S.FAILED, S.RECEIVED),  # released, retried
    S.ANSWERING: (S.RECEIVED, S.ANSWERING),
    S.SUBMITTING: (S.ANSWERING, S.SUBMITTING, S.HELD, S.FAILED, S.UNCERTAIN),
    S.REPLIED: (S.SUBMITTING, S.UNCERTAIN, S.REPLIED),
    S.IGNORED: (S.RECEIVED, S.ANSWERING, S.HELD, S.FAILED, S.UNCERTAIN),  # the last three: dismissed
    S.HELD: (S.RECEIVED, S.ANSWERING, S.SUBMITTING),
    S.FAILED: (S.RECEIVED, S.ANSWERING, S.SUBMITTING, S.UNCERTAIN),
    S.UNCERTAIN: (S.SUBMITTING, S.UNCERTAIN),
}
# Nothing follows by itself; the source is dropped some days later. The others wait for a person.
FINAL = frozenset({State.REPLIED, State.IGNORED})
WAITING = frozenset({State.HELD, State.FAILED, State.UNCERTAIN})  # for a person
AT_WORK = frozenset({State.RECEIVED, State.ANSWERING, State.SUBMITTING})


def new_id(now_ms: int) -> str:
    """A record's id: 24 hexadecimal digits that sort by time of arrival."""
    return f"{now_ms:012x}{secrets.token_hex(6)}"


@dataclass(frozen=True)
class Record:
    """What is known of one message. Times are milliseconds since 1970 UTC.

    ``thread_id`` is also the conversation in whose list the message waits. ``attempts`` counts whatever was
    tried and is for people only; what bounds the work is ``tries`` (calls of the agent), ``sends``
    (submissions that failed, since ``sends_since``) and ``faults`` (unexpected ones, our own).
    ``data_ended_at`` is set just before the end of DATA is sent: from then on
    the message may have been accepted, whatever happens to us.
    """

    id: str
    state: State
    thread_id: str
    received_at: int
    updated_at: int = 0
    reason: str = ""
    message_id: str = ""
    in_reply_to: str = ""
    from_address: str = ""
    to_address: str = ""
    subject: str = ""
    ingress: str = ""
    attempts: int = 0
    tries: int = 0
    faults: int = 0
    sends: int = 0
    sends_since: int = 0
    data_ended_at: int = 0
    reply_message_id: str = ""
    envelope_from: str = ""
    envelope_known: int = 0
    authenticated: str = ""  # "1", "0" or "" for unknown
    mailbox: str = ""  # UIDVALIDITY/UID of a polled mail
    partial: int = 0  # 1: only the header was fetched
    outbound: str = ""  # JSON of a mail that is sent unasked (send, workflow); "" for an answer to a mail
    workflow: str = ""  # JSON of the workflow that the thread belongs to
    text: str = ""  # new part of the mail, kept for the thread's history
    answer_text: str = ""
    filing_begun: int = 0  # when our copy was first about to be put into Sent
    released: int = 0  # a person let it through: limits do not hold it again
    looks: int = 0  # searches of Sent for an uncertain mail

    @classmethod
    def load(cls, raw: dict[bytes, bytes]) -> Record:
        """From a Redis hash; unknown fields of newer versions are left alone."""
        known: dict[str, Any] = {}
        for spec in fields(cls):
            value = raw.get(spec.name.encode())
            if value is not None:
                text = value.decode("utf-8", "replace")
                known[spec.name] = int(text) if spec.type == "int" else text
        known["state"] = State(known["state"])
        return cls(**known)

    def dump(self) -> dict[str, str | int]:
        return {
            spec.name: getattr(self, spec.name) for spec in fields(self) if getattr(self, spec.name) != ""
        }

    def public(self) -> dict[str, object]:
        """The record as the HTTP interface and ``--json`` show it."""
        return {
            "id": self.id,
            "state": str(self.state),
            "reason": self.reason,
            "thread_id": self.thread_id,
            "message_id": self.message_id,
            "in_reply_to": self.in_reply_to,
            "from_address": self.from_address,
            "subject": self.subject,
            "received_at": iso(self.received_at),
            "updated_at": iso(self.updated_at or self.received_at),
            "attempts": self.attempts,
            "reply_message_id": self.reply_message_id,
        }


def iso(ms: int) -> str:
    """ISO 8601 in UTC with milliseconds."""
    return datetime.fromtimestamp(ms / 1000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


_ID = re.compile(r"[0-9a-f]{24}")
# All fields but the texts, which only a thread's history needs.
LIGHT = [spec.name for spec in fields(Record) if spec.name not in ("text", "answer_text")]
MOST_TOLD = 1000  # damaged records, by one process

log = logging.getLogger(__name__)


class Records:
    """What is known of messages. Every method raises StoreUnavailable."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis
        self._damaged: set[str] = set()  # ids that were told of

    def get(self, id_: str) -> Record:
        """Raises NotFound, for a record that cannot be read too."""
        raw: dict[bytes, bytes] = {}
        if _ID.fullmatch(id_):  # other text could name a key beside the record
            with redis_errors():
                raw = cast("dict[bytes, bytes]", self._redis.hgetall(f"{PREFIX}m:{id_}"))
        if not raw:
            raise NotFound(f"there is no message {id_[:60]!r}; see: cleo-email messages list")
        record = self._load(id_, raw)
        if record is None:
            raise NotFound(f"the record of message {id_} is damaged and cannot be read")
        return record

    def source(self, id_: str) -> bytes | None:
        """The stored mail, or None where it was dropped some days after the final state."""
        with redis_errors():
            return read_large(self._redis, f"{PREFIX}m:{id_}:source")

    def answer(self, id_: str) -> OutboundEmail | None:
        """The kept answer, exactly as it is or was submitted."""
        with redis_errors():
            raw = cast("dict[bytes, bytes]", self._redis.hgetall(f"{PREFIX}m:{id_}:answer"))
            source = read_large(self._redis, f"{PREFIX}m:{id_}:answer:bytes") if raw else None
        if source is None:
            return None
        return OutboundEmail(
            raw[b"message_id"].decode(),
            raw[b"envelope_from"].decode(),
            tuple(json.loads(raw[b"recipients"])),
            source,
        )

    def answer_size(self, id_: str) -> int:
        """Octets of the kept answer, 0 where there is none."""
        with redis_errors():
            return self._redis.strlen(f"{PREFIX}m:{id_}:answer:bytes")

    def history(self, id_: str) -> list[dict[str, str]]:
        with redis_errors():
            raw = cast("list[bytes]", self._redis.lrange(f"{PREFIX}m:{id_}:history", 0, -1))
        return [json.loads(entry) for entry in raw]

    def page(
        self,
        *,
        state: str = "",
        thread_id: str = "",
        message_id: str = "",
        limit: int = 100,
        cursor: str = "",
    ) -> tuple[list[Record], str | None]:
        """Records newest first, and the cursor of the next page or None."""
        index = "all"
        if message_id:
            index = f"message-id:{message_id}"
        elif thread_id:
            index = f"thread:{thread_id}"
        elif state:
            index = f"state:{state}"
        found: list[Record] = []
        for record in self._newest_first(f"{PREFIX}index:{index}", cursor, limit):
            if (state and record.state != state) or (thread_id and record.thread_id != thread_id):
                continue
            if len(found) == limit:
                return found, found[-1].id
            found.append(record)
        return found, None

    def count(self, state: State) -> int:
        with redis_errors():
            return self._redis.zcard(f"{PREFIX}index:state:{state}")

    def older_than(self, cutoff_ms: int, limit: int) -> list[str]:
        """Ids of records that arrived before ``cutoff_ms``, oldest first."""
        with redis_errors():
            raw = self._redis.zrange(
                f"{PREFIX}index:all", "-", f"({cutoff_ms:012x}", bylex=True, offset=0, num=limit
            )
        return [item.decode() for item in cast("list[bytes]", raw)]

    def load(self, ids: Sequence[str]) -> list[Record]:
        """The records of these ids that can be read, without the texts that only a thread's history needs."""
        with redis_errors(), self._redis.pipeline(transaction=False) as pipe:
            for id_ in ids:
                pipe.hmget(f"{PREFIX}m:{id_}", LIGHT)
            rows = pipe.execute()
        pairs = (zip((name.encode() for name in LIGHT), row, strict=True) for row in rows)
        found = ({name: value for name, value in pair if value is not None} for pair in pairs)
        records = (self._load(id_, raw) for id_, raw in zip(ids, found, strict=True) if raw)
        return [record for record in records if record is not None]

    def _load(self, id_: str, raw: dict[bytes, bytes]) -> Record | None:
        """None for a damaged one (by a hand in Redis, say): it must not hide the others of a page."""
        try:
            return Record.load(raw)
        except (KeyError, ValueError, TypeError) as error:
            if id_ not in self._damaged and len(self._damaged) < MOST_TOLD:
                self._damaged.add(id_)
                log.error(
                    "the record of message %s is damaged (%s) and is passed over; its mail is in Redis at %s",
                    *(id_, type(error).__name__, f"{PREFIX}m:{id_}:source"),
                )
            return None

    def _newest_first(self, key: str, cursor: str, chunk: int) -> Iterator[Record]:
        start = f"({cursor}" if cursor else "+"
        while True:
            with redis_errors():
                raw = self._redis.zrange(
                    key, start, "-", desc=True, bylex=True, offset=0, num=min(chunk + 1, 1001)
                )
            ids = [item.decode() for item in cast("list[bytes]", raw)]
            if not ids:
                return
            yield from self.load(ids)
            start = f"({ids[-1]}"

    def first_of(self, fingerprint: str, date: str = "") -> str | None:
        """The record that was accepted under this fingerprint, as long as that is remembered.

        ``date`` as in accept.lua: of two that are known, each with another one, they are two mails.
        """
        with redis_errors():
            found = cast("dict[bytes, bytes]", self._redis.hgetall(f"{PREFIX}seen:{fingerprint}"))
        same = (id_ for known, id_ in found.items() if not date or known.decode() in ("", date))
        return next((id_.decode() for id_ in same), None)


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
        with redis_errors():
            told = self._accept(
                args=[*self._accept_args(record, source, identity, people, answer, ()), sender]
            )
        if told[0] == b"stranger":
            raise ThreadClosed(f"{record.thread_id[:200]} is a thread of others")
        return _told(told, record)

    def accept_together(
        self, starts: Sequence[Start], *, batch: str = "", files: Sequence[AttachedFile] = ()
    ) -> list[Accepted]:
        """Store several records that have no mail of their own: all of them or, on a fault, none.

        ``files`` are kept under the name ``batch`` until each of the records has said that it is done.
        """
        with redis_errors(), self._redis.pipeline(transaction=True) as pipe:
            for start in starts:
                args = self._accept_args(start.record, b"", start.identity, start.people, None, start.keys)
                self._accept(args=[*args, ""], client=pipe)
            if files:
                WaitingFiles.put(pipe, batch, files, [start.record.id for start in starts])
            told = pipe.execute()[: len(starts)]
        return [_told(one, start.record) for one, start in zip(told, starts, strict=True)]

    def first_value(self, name: str, value: str, seconds: int) -> str:
        """The value that was given first under this name within that time: ours, or another one's."""
        with redis_errors(), self._redis.pipeline() as pipe:
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
        with redis_errors():
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
        with redis_errors():
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
        with redis_errors():
            self._note(args=[PREFIX, id_, field, value])

    def forget(self, id_: str, *, unless: Collection[State] = ()) -> bool:
        """Remove the record, unless it is in one of these states by now; whether it was there and is gone."""
        with redis_errors():
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
