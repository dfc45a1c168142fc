"""The records of messages: accept each once, move it between states, read one or a page of them."""

from __future__ import annotations

import hashlib
import heapq
import io
import json
import logging
import re
import secrets
import threading
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any, cast

from redis import Redis

from cleo_email.errors import CleoError, LockLost, NotFound, WrongState
from cleo_email.mail.model import AttachedFile, OutboundEmail
from cleo_email.runtime import random_bits
from cleo_email.store.connection import PREFIX, StorePart, json_text
from cleo_email.store.figures import figure_of
from cleo_email.store.files import WaitingFiles
from cleo_email.store.locks import Lock
from cleo_email.store.source import PIECE, packed, unpacked

log = logging.getLogger(__name__)


class State(StrEnum):
    """The state of a message. docs/reliability.md describes each."""

    RECEIVED = "received"
    ANSWERING = "answering"
    REVIEW = "review"
    SUBMITTING = "submitting"
    REPLIED = "replied"
    IGNORED = "ignored"
    HELD = "held"
    FAILED = "failed"
    UNCERTAIN = "uncertain"


S = State
# The states from which a record may enter each state. A state may follow itself with another reason.
MAY_BECOME: dict[State, tuple[State, ...]] = {
    S.RECEIVED: (S.HELD, S.FAILED, S.IGNORED, S.RECEIVED),  # released, retried
    S.ANSWERING: (S.RECEIVED, S.ANSWERING),
    S.REVIEW: (S.ANSWERING, S.REVIEW),
    S.SUBMITTING: (S.ANSWERING, S.REVIEW, S.SUBMITTING, S.HELD, S.FAILED, S.IGNORED, S.UNCERTAIN),
    S.REPLIED: (S.REVIEW, S.SUBMITTING, S.UNCERTAIN, S.REPLIED),  # from review: a person sent the draft
    # From the last four a person dismisses or discards it.
    S.IGNORED: (S.RECEIVED, S.ANSWERING, S.REVIEW, S.HELD, S.FAILED, S.UNCERTAIN),
    S.HELD: (S.RECEIVED, S.ANSWERING, S.REVIEW, S.SUBMITTING),
    S.FAILED: (S.RECEIVED, S.ANSWERING, S.SUBMITTING, S.UNCERTAIN),
    S.UNCERTAIN: (S.SUBMITTING, S.UNCERTAIN),
}
# What else may become of a message, only where the caller names the state that it is in: a mail that was sent
# bounced, or some of its recipients still are to get it; or a person has answered.
BY_NAME: dict[State, tuple[State, ...]] = {
    S.SUBMITTING: (S.REPLIED,),
    S.REVIEW: (S.SUBMITTING,),
    S.REPLIED: (S.RECEIVED, S.ANSWERING, S.HELD, S.IGNORED, S.FAILED),
    S.IGNORED: (S.SUBMITTING,),
    S.HELD: (S.HELD,),  # by a limit, and now for a person
    S.FAILED: (S.REPLIED, S.FAILED),
    S.UNCERTAIN: (S.REPLIED,),
}
FINAL = frozenset({S.REPLIED, S.IGNORED})  # the stored mail is dropped some days later
WAITING = frozenset({S.REVIEW, S.HELD, S.FAILED, S.UNCERTAIN})  # for a person
AT_WORK = frozenset({S.RECEIVED, S.ANSWERING, S.SUBMITTING})

LOGIN = "login"  # ingress of a mail with a link to log in: its text is kept nowhere else, and not shown
QUESTION = "question"  # ingress of a mail in which the agent asks back, about the message in ``outbound``
# Ingress of records with which no mail came in, and of those to which no agent's answer belongs.
UNASKED = frozenset({"send", "workflow", "handoff", "person", LOGIN, QUESTION})
NO_ANSWERS = UNASKED - {"workflow"}

AGENT, MAILBOX = "agent", "mailbox"  # who moves records: this program, and people by what they do there

# Upper bounds of the buckets, in milliseconds. A field of the totals is named by its bound: with other bounds
# what was counted before goes into the next larger ones.
REPLY_BOUNDS = (
    *(100, 250, 500, 1000, 2500, 5000, 10_000, 30_000, 60_000, 120_000, 300_000, 900_000),
    *(3_600_000, 14_400_000, 86_400_000),
)
AGENT_BOUNDS = (
    *(50, 100, 250, 500, 1000, 2500, 5000, 10_000, 20_000, 30_000, 60_000, 120_000, 300_000),
    *(900_000, 3_600_000),
)
HANDED_OVER = "handed-over"  # of the totals

SEARCHED = 300  # characters
SEARCHED_AT_ONCE = 5000  # records

DAY_S = 86_400
SOURCE_AFTER_FINAL_S = 7 * DAY_S
TOGETHER_OCTETS = 4 * 1024 * 1024  # of mails that are stored in one round trip
MAX_DAMAGED_LOGGED = 1000  # records, by one process
# The field that tells a review, which is stored as ``held``, from what is held. A version without reviews
# that takes over for a while would pass over a state that it does not know.
_REVIEW = "review"
_ALWAYS = frozenset({"data_ended_at", "received_at", "updated_at"})
_ID = re.compile(r"[0-9a-f]{24}")
_PUBLIC = ["id", "state", "reason", "thread_id", "message_id", "in_reply_to", "from_address", "subject"]
_PUBLIC += ["received_at", "updated_at", "attempts", "reply_message_id", "recipients"]


def new_id(now_ms: int, after: str = "") -> str:
    """Return a record's id: 24 hexadecimal digits that sort by time of arrival, and behind ``after``."""
    id_ = f"{now_ms:012x}{random_bits(48):012x}"
    return id_ if id_ > after else f"{int(after, 16) + 1 + random_bits(20):024x}"


def iso(ms: int) -> str:
    """Return the time as ISO 8601 in UTC with milliseconds."""
    return datetime.fromtimestamp(ms / 1000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


@dataclass(frozen=True)
class Record:
    """One message. Times are milliseconds since 1970 UTC.

    ``attempts`` counts every try and is for people only; the work is bounded by ``tries`` (calls of
    the agent), ``sends`` (submissions that failed, since ``sends_since``), ``faults`` (our own) and ``begun``
    (attempts whose worker died while it read the mail).
    """

    id: str
    state: State
    thread_id: str  # also the conversation in whose list the message waits
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
    data_ended_at: int = 0  # set just before the final dot of DATA: the server may have the mail since then
    reply_message_id: str = ""
    authenticated: str = ""  # "1", "0" or "" for unknown
    mailbox: str = ""  # UIDVALIDITY/UID of a polled mail
    marked: int = 0  # 1: \\Seen is ours, and comes off where nobody is answered after all
    partial: int = 0  # 1: only the header was fetched
    # Of ingress "send" the request's digest, of "workflow" JSON of what to send, of "handoff" and "question"
    # the message that it is about.
    outbound: str = ""
    workflow: str = ""  # JSON of the workflow that the thread belongs to
    text: str = ""  # new part of the mail, kept for the thread's history
    answer_text: str = ""
    people: str = ""  # JSON of those on the mail: From, To and Cc without our own addresses
    filing_begun: int = 0  # when our copy was first about to be put into Sent
    filing_fault: str = ""  # why it is not there
    released: int = 0  # 1: a person let it through, so limits do not hold it again
    looks: int = 0  # searches of Sent for an uncertain mail
    decided: str = ""  # what a person last decided: approve, discard, release, dismiss, retry or takeover
    decided_as: str = ""  # the digest of the text and subject that were approved in place of the agent's
    answered_by: str = ""  # who answered, or approved the answer, where it was not the agent alone
    with_person: int = 0  # 1: held because a person has the thread
    handoff: str = ""  # why the agent handed the thread over to people
    handoffs: int = 0  # how often
    colleague: int = 0  # of a colleague's mail, a person's turn: 1, and 2 once its effects are complete
    superseded_by: str = ""  # the message about which the agent was asked in place of this one
    supersedes: str = ""  # JSON of the messages in whose place the agent was asked
    begun: int = 0  # attempts that began to read the mail, since one got as far as the agent or an end
    # Of a message whose answer may come later:
    asked: int = 0  # the number of the question to the agent: a token is for one of them
    waits_until: int = 0  # when the waiting for the agent, or for who was asked back, ends; 0 where none is
    given: str = ""  # the digest of the answer that came by callback
    asking: str = ""  # the record of the question that is open
    asks: int = 0  # how often the agent has asked back
    resumed: str = ""  # JSON of the last question and its answer, for the agent
    resumed_by: str = ""  # the mails that answered its questions, separated by blanks
    # Of a mail that answers a question: the record of that; of a question: what the agent wants to be shown.
    question: str = ""
    context: str = ""
    # Of the mail that we send, JSON lists of addresses, '' for none:
    recipients: str = ""  # all of them
    pending: str = ""  # those who still are to get it, where others have it already
    refused: str = ""  # while some are pending: what the server said of others, for the reason
    bounced: str = ""  # those from whom it came back

    def addresses(self, name: str) -> list[str]:
        """Return the addresses in ``recipients``, ``pending`` or ``bounced``."""
        kept: list[str] = json.loads(getattr(self, name) or "[]")
        return kept or ([self.to_address] if name == "recipients" and self.outbound else [])

    @classmethod
    def load(cls, raw: dict[bytes, bytes]) -> Record:
        """Return the record in a Redis hash. Fields that are unknown (of another version) are ignored."""
        known: dict[str, Any] = {}
        for spec in fields(cls):
            value = raw.get(spec.name.encode())
            if value is not None:
                text = value.decode("utf-8", "replace")
                known[spec.name] = int(text) if spec.type == "int" else text
        known["state"] = State(known["state"])
        if known["state"] is State.HELD and raw.get(_REVIEW.encode()) == b"1":
            known["state"] = State.REVIEW
        return cls(**known)

    def dump(self) -> dict[str, str | int]:
        """Return the fields that say something. Scripts compare ``data_ended_at`` with 0."""
        return {name: value for name, value in vars(self).items() if value or name in _ALWAYS}

    @property
    def told(self) -> str:
        """Return the reason as people see it, with a hand-over, and what became of our copy in Sent."""
        over = f"handed over to a person: {self.handoff}" if self.handoff else ""
        over = "" if over in self.reason else over
        return "; ".join(filter(None, (self.reason, over, self.filing_fault)))

    def public(self) -> dict[str, object]:
        """Return the record as the HTTP interface and ``--json`` show it."""
        shown: dict[str, object] = {name: getattr(self, name) for name in _PUBLIC}
        shown["reason"] = self.told
        times = {"received_at": self.received_at, "updated_at": self.updated_at or self.received_at}
        shown |= {"state": str(self.state), "recipients": self.addresses("recipients")}
        return {**shown, **{name: iso(at) for name, at in times.items()}}


# The fields without those that only a thread's history needs.
_HEAVY = ("text", "answer_text", "people", "resumed", "context")
_LIGHT = [*(spec.name for spec in fields(Record) if spec.name not in _HEAVY), _REVIEW]

# What an event carries of the record; bounds of what waits while the receiver does not answer.
EVENT_FIELDS = [*_PUBLIC, "to_address", "outbound", "handoff", "filing_fault", _REVIEW]
MOST_TOLD = 20_000  # messages
EVENTS_KEPT_S = 3 * DAY_S


class ThreadTaken(CleoError):
    """A person has the thread, so nothing is answered in it."""


class ThreadFree(CleoError):
    """No person has the thread, or none any more, so nothing is held for one."""


@dataclass(frozen=True)
class Identity:
    """What tells copies of one mail from other mails; accept.lua compares.

    ``date`` is '' where the copy has none. ``content`` is a hash in hexadecimal that copies of one ``kind``
    share: the channel, as one may carry a mail in another form than the next one.
    """

    fingerprint: str
    date: str = ""
    kind: str = ""
    content: str = ""
    proven: bool = False
    remember_s: int = 100 * DAY_S

    @property
    def claim(self) -> str:
        return f"{self.date}|{self.kind}|{self.content}|{'1' if self.proven else ''}"


@dataclass(frozen=True)
class Arrival:
    """A mail that is to be stored. ``people`` then take part in its thread. If by then the thread has
    participants and ``sender`` is none of them, nothing is stored; '' is one of each."""

    record: Record
    source: bytes = field(repr=False)
    identity: Identity
    people: Sequence[str]
    sender: str = ""
    packed: bytes | None = field(default=None, repr=False)  # the source as of ``source.packed``
    wake: Sequence[Any] = ()  # the job that wakes a worker in the same step, as of ``WakeQueue.job``


@dataclass(frozen=True)
class Accepted:
    """The result of ``accept``: the new record, or the earlier one of which the mail is a duplicate.

    ``is_same``: that one came in the same form and said the same.
    """

    id: str
    thread_id: str
    duplicate: bool
    state: State
    is_same: bool = field(default=False, compare=False)


@dataclass(frozen=True)
class Start:
    """A record that begins with us and has no mail yet. ``keys``: (key, value, seconds or 0 for good) that
    are set where the record is accepted, in the same step."""

    record: Record
    identity: Identity
    people: Sequence[str]
    keys: Sequence[tuple[str, str, int]] = ()


@dataclass(frozen=True)
class Effects:
    """The changes that are stored together with a move. Times in milliseconds since 1970."""

    fields: Mapping[str, str | int] = field(default_factory=dict)
    pop: bool = False  # take it off its conversation, which goes on
    push: bool = False  # put it at the end of its conversation
    due: int | None = None  # the conversation rests until then
    filing: int | None = None  # flags and our copy in Sent are to be made from then on
    resuming: int | None = None  # a held message may go on by itself from then on
    settling: int | None = None  # the Sent mailbox is to be searched from then on
    answer: OutboundEmail | None = None  # kept as bytes
    drop_answer: bool = False  # the kept one, so that the agent is asked anew
    drafting: int | None = None  # the Drafts mailbox is to be brought into line from then on
    person: str = ""  # JSON of why and since when a person has the thread: see Threads.person
    unless_taken: bool = False  # raise ThreadTaken where a person has the thread
    only_if_taken: bool = False  # raise ThreadFree where no person has it
    people: Sequence[str] = ()
    met: Sequence[str] = ()  # to whom mail has gone out by now, as of ``mail.address.person``
    later: int | None = None  # the record goes on in a conversation of its own, from then on
    conversation: str = ""  # whose lock is held and of which pop, push and due speak; '' for the thread's
    counts: Mapping[str, int] = field(default_factory=dict)  # what is added to the totals: see Totals


_OPTIONS = (
    *("pop", "push", "due", "filing", "settling", "resuming", "later", "conversation"),
    *("drop_answer", "drafting", "person", "unless_taken", "only_if_taken", "counts"),
)


REMEMBER_PEOPLE_S = 180 * DAY_S


def met_key(one: str) -> str:
    """Return where is kept since when that person, as of ``mail.address.person``, has had mail from us."""
    return f"{PREFIX}met:{hashlib.sha256(one.encode()).hexdigest()[:32]}"


def later_of(id_: str) -> str:
    """Return the conversation in which a record waits that others of its thread need not wait for."""
    return f"later:{id_}"


def alone_of(id_: str) -> str:
    """Return the conversation in which a record waits by itself, as its thread waits for what comes of it."""
    return f"alone:{id_}"


def conversation_of(record: Record) -> str:
    """Return the conversation in which the record waits to be handled."""
    return alone_of(record.id) if record.ingress == QUESTION or record.question else record.thread_id


class Messages(StorePart):
    """Reads, accepts and changes records.

    ``event_added``: changes of state are told to somebody, and this is set where one was stored.
    """

    def __init__(
        self, redis: Redis, *, retention_days: int = 90, event_added: threading.Event | None = None
    ) -> None:
        super().__init__(redis)
        self._event_added = event_added
        self._keep_s = (retention_days + 7) * DAY_S
        self._damaged: set[str] = set()  # ids that were logged

    # --- reading --------------------------------------------------------------------------------------------

    def get(self, id_: str) -> Record:
        """Return the record. Raise NotFound where there is none, or none that can be read."""
        raw: dict[bytes, bytes] = {}
        if _ID.fullmatch(id_):  # other text could name a key beside the record
            raw = cast("dict[bytes, bytes]", self._redis.hgetall(f"{PREFIX}m:{id_}"))
        if not raw:
            raise _not_found(id_)
        record = self.loaded(id_, raw)
        if record is None:
            raise NotFound(f"the record of message {id_} is damaged and cannot be read")
        return record

    def find(self, id_: str) -> Record | None:
        """Return what ``load`` does of one id, None where it can read none."""
        return next(iter(self.load([id_])), None)

    def load(self, ids: Sequence[str]) -> list[Record]:
        """Return the records of these ids that can be read, without what only a history needs."""
        with self._redis.pipeline(transaction=False) as pipe:
            for id_ in ids:
                pipe.hmget(f"{PREFIX}m:{id_}", _LIGHT)
            rows = pipe.execute()
        found: list[Record] = []
        for id_, row in zip(ids, rows, strict=True):
            raw = {name.encode(): value for name, value in zip(_LIGHT, row, strict=True) if value is not None}
            if raw and (record := self.loaded(id_, raw)) is not None:
                found.append(record)
        return found

    def loaded(self, id_: str, raw: dict[bytes, bytes]) -> Record | None:
        """Return the record in a hash, None for none or a damaged one, so that the others can be listed."""
        if not raw:
            return None
        try:
            return Record.load(raw)
        except (KeyError, ValueError, TypeError) as error:
            if id_ not in self._damaged and len(self._damaged) < MAX_DAMAGED_LOGGED:
                self._damaged.add(id_)
                log.error(
                    "the record of message %s is damaged (%s) and is passed over; its mail is in Redis at %s",
                    *(id_, type(error).__name__, f"{PREFIX}m:{id_}:source"),
                )
            return None

    def source(self, id_: str) -> bytes | None:
        """Return the mail, None if it was removed, some days after the final state."""
        return self._kept(f"{PREFIX}m:{id_}:source")

    def _kept(self, key: str, first: tuple[bytes, bytes] | None = None) -> bytes | None:
        """Return what is kept there; ``first`` is its first piece where that was read already."""
        whole, number, kind = io.BytesIO(), 0, b""
        while whole.tell() == number * PIECE:
            kind, piece = first if first and not number else self._piece(key, number)
            whole.write(piece)
            number += 1
        if kind == b"none":
            return None
        return unpacked(whole.getvalue()) if kind == b"list" else whole.getvalue()

    def _piece(self, key: str, number: int, pipe: Any = None) -> Any:
        return self._run("piece", keys=[key], args=[number, PIECE], pipe=pipe)

    def _kept_size(self, key: str) -> int:
        return int(self._run("piece", keys=[key], args=["", PIECE])[1] or 0)

    def answer(self, id_: str) -> OutboundEmail | None:
        """Return the stored answer, exactly as it is or was submitted."""
        return self._answer(id_)

    def answer_to_copy(self, id_: str, now: int) -> OutboundEmail | None:
        """Note that a copy of the stored answer is about to be made, and return that."""
        return self._answer(id_, copied=now)

    def _answer(self, id_: str, *, copied: int = 0) -> OutboundEmail | None:
        key = f"{PREFIX}m:{id_}:answer"
        with self._redis.pipeline(transaction=False) as pipe:
            self._load_script("piece", pipe)
            if copied:
                self._load_script("note", pipe)
                self._note(id_, "filing_begun", copied, pipe)
            pipe.hgetall(key)
            self._piece(f"{key}:bytes", 0, pipe)
            *_, raw, first = pipe.execute()
        source = self._kept(f"{key}:bytes", first) if raw else None
        if source is None:
            return None
        recipients = tuple(json.loads(raw[b"recipients"]))
        return OutboundEmail(raw[b"message_id"].decode(), raw[b"envelope_from"].decode(), recipients, source)

    def source_size(self, id_: str) -> int:
        """Return the size of the stored mail in octets, 0 where there is none."""
        return self._kept_size(f"{PREFIX}m:{id_}:source")

    def answer_size(self, id_: str) -> int:
        """Return the size of the stored answer in octets, 0 where there is none."""
        return self._kept_size(f"{PREFIX}m:{id_}:answer:bytes")

    def history(self, id_: str) -> list[dict[str, str]]:
        raw = cast("list[bytes]", self._redis.lrange(f"{PREFIX}m:{id_}:history", 0, -1))
        return [{"by": AGENT, **json.loads(entry)} for entry in raw]  # earlier versions did not say it

    def page(
        self,
        *,
        state: str = "",
        thread_id: str = "",
        message_id: str = "",
        limit: int = 100,
        cursor: str = "",
    ) -> tuple[list[Record], str | None]:
        """Return records, newest first, and the cursor of the next page or None."""
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

    def newest(self, states: Collection[State], limit: int) -> list[Record]:
        """Return the newest records in each of these states, at most so many of each."""
        if not states:
            return []
        with self._redis.pipeline(transaction=False) as pipe:
            for state in states:
                key = f"{PREFIX}index:state:{state}"
                pipe.zrange(key, "+", "-", desc=True, bylex=True, offset=0, num=limit)
            found = pipe.execute()
        ids = dict.fromkeys(id_.decode() for some in found for id_ in some)
        return [record for record in self.load(list(ids)) if record.state in states]

    def _newest_first(self, key: str, cursor: str, chunk: int) -> Iterator[Record]:
        start, most = f"({cursor}" if cursor else "+", min(chunk + 1, 1001)
        while True:
            raw = self._redis.zrange(key, start, "-", desc=True, bylex=True, offset=0, num=most)
            ids = [item.decode() for item in cast("list[bytes]", raw)]
            if not ids:
                return
            yield from self.load(ids)
            start = f"({ids[-1]}"

    def waiting(self, *, limit: int = 100, cursor: str = "") -> tuple[list[Record], str | None]:
        """Return the records that wait for a person as ``page`` does, whatever their state."""
        each = [self._newest_first(f"{PREFIX}index:state:{state}", cursor, limit) for state in WAITING]
        found: list[Record] = []
        for record in heapq.merge(*each, key=lambda record: record.id, reverse=True):
            if record.state not in WAITING or (found and found[-1].id == record.id):
                continue  # it has moved on since its list was read
            if len(found) == limit:
                return found, found[-1].id
            found.append(record)
        return found, None

    def search(
        self, text: str, *, limit: int = 100, cursor: str = "", seconds: float = 2.0
    ) -> tuple[list[Record], str | None]:
        """Return the records with ``text`` in their addresses or subject, newest first, as ``page`` does.

        Every word has to be there, anywhere. After ``seconds`` what was found until then is returned, and
        the cursor goes on from there.
        """
        words, until = text.casefold().split(), time.monotonic() + seconds
        start, found = f"({cursor}" if cursor else "+", list[str]()
        reached: str | None = cursor
        while reached is not None and len(found) <= limit and time.monotonic() < until:
            lines = self._searched(start)
            for line in lines:
                id_, _, said = line.partition(" ")
                if all(word in said for word in words):
                    found.append(id_)
            reached = lines[-1].partition(" ")[0] if lines else None
            start = f"({reached}"
        if len(found) > limit:
            reached = found[limit - 1]
        return self.load(found[:limit]), reached

    def _searched(self, start: str) -> list[str]:
        """Return the next lines of the index for searches, newest first, each an id, a blank and its text.

        Records of versions that had no such index are older than all in it, and are read one by one.
        """
        key = f"{PREFIX}index:search"
        raw = self._redis.zrange(key, start, "-", desc=True, bylex=True, offset=0, num=SEARCHED_AT_ONCE)
        if raw:
            return [line.decode("utf-8", "replace") for line in cast("list[bytes]", raw)]
        raw = self._redis.zrange(f"{PREFIX}index:all", start, "-", desc=True, bylex=True, offset=0, num=1000)
        return [
            f"{record.id} {search_text(record)}"
            for record in self.load([item.decode() for item in cast("list[bytes]", raw)])
        ]

    def counts(self) -> dict[State, int]:
        """Return how many records are in each state."""
        with self._redis.pipeline(transaction=False) as pipe:
            for state in State:
                pipe.zcard(f"{PREFIX}index:state:{state}")
            return dict(zip(State, pipe.execute(), strict=True))

    def count(self, state: State) -> int:
        return self._redis.zcard(f"{PREFIX}index:state:{state}")

    def older_than(self, cutoff_ms: int, limit: int) -> list[str]:
        """Return ids of records that arrived before ``cutoff_ms``, oldest first."""
        key, end = f"{PREFIX}index:all", f"({cutoff_ms:012x}"
        raw = self._redis.zrange(key, "-", end, bylex=True, offset=0, num=limit)
        return [item.decode() for item in cast("list[bytes]", raw)]

    def first_of(self, identity: Identity) -> str | None:
        """Return the record of which a mail would be a copy, as long as that is remembered."""
        args = [PREFIX, "", identity.fingerprint, identity.claim, "", "", "", ""]
        id_ = cast("list[bytes]", self._run("accept", args=args))[1]
        return id_.decode() or None

    # --- accepting ------------------------------------------------------------------------------------------

    def accept(
        self,
        record: Record,
        source: bytes,
        identity: Identity,
        people: Sequence[str],
        *,
        answer: OutboundEmail | None = None,
        keys: Sequence[tuple[str, str, int]] = (),
    ) -> Accepted:
        """Store a mail, its record and its place in the conversation in one step, once.

        Calling it again with the same record (the reply of Redis was lost) returns it as accepted. With
        ``answer`` the record is of a mail that we send first; ``source`` is not used then. ``keys`` are set
        in the same step, as those of a Start.
        """
        return _accepted(self._store(record, source, identity, people, answer=answer, keys=keys), record)

    def accept_each(self, arrivals: Sequence[Arrival]) -> list[Accepted | None]:
        """Store each mail as ``accept`` does, in their order; None where the thread is one of others by now.

        They share round trips and, being one transaction, one fsync. Raise StoreUnavailable where one could
        not be stored: others may be.
        """
        accepted: list[Accepted | None] = []
        for some in _of_size(arrivals, TOGETHER_OCTETS):
            if len(some) == 1:
                replies = [self._store_arrival(some[0])]
            else:
                with self._redis.pipeline(transaction=True) as pipe:
                    self._load_script("accept", pipe)
                    for arrival in some:
                        self._store_arrival(arrival, pipe)
                    replies = pipe.execute()[1:]
            for one, reply in zip(some, replies, strict=True):
                accepted.append(None if reply[0] == b"stranger" else _accepted(reply, one.record))
        return accepted

    def _store_arrival(self, one: Arrival, pipe: Any = None) -> Any:
        more: dict[str, Any] = {
            "sender": one.sender,
            "packed_source": one.packed,
            "wake": one.wake,
            "pipe": pipe,
        }
        return self._store(one.record, one.source, one.identity, one.people, **more)

    def accept_together(
        self, starts: Sequence[Start], *, batch: str = "", files: Sequence[AttachedFile] = ()
    ) -> list[Accepted]:
        """Store several records that have no mail of their own: all of them or, on a fault, none.

        ``files`` are kept under the name ``batch`` until each of the records has said that it is done.
        """
        with self._redis.pipeline(transaction=True) as pipe:
            self._load_script("accept", pipe)
            for start in starts:
                self._store(start.record, b"", start.identity, start.people, keys=start.keys, pipe=pipe)
            if files:
                WaitingFiles.put(pipe, batch, files, [start.record.id for start in starts])
            replies = pipe.execute()[1 : len(starts) + 1]
        if self._event_added:
            self._event_added.set()
        return [_accepted(reply, start.record) for reply, start in zip(replies, starts, strict=True)]

    def first_value(self, name: str, value: str, seconds: int) -> str:
        """Return the value that was given first under this name within that time: ours, or an earlier one."""
        with self._redis.pipeline() as pipe:
            pipe.set(f"{PREFIX}first:{name}", value, nx=True, ex=seconds)
            pipe.get(f"{PREFIX}first:{name}")
            return cast("bytes", pipe.execute()[1]).decode()

    def _store(
        self,
        record: Record,
        source: bytes,
        identity: Identity,
        people: Sequence[str],
        *,
        answer: OutboundEmail | None = None,
        keys: Sequence[tuple[str, str, int]] = (),
        sender: str = "",
        packed_source: bytes | None = None,
        pipe: Redis | None = None,
        wake: Sequence[Any] = (),
    ) -> Any:
        conversation = conversation_of(record)
        steps = [_entry(State.RECEIVED, record.received_at, "")]
        if record.state is not State.RECEIVED:
            steps.append(_entry(record.state, record.received_at, record.reason))
        kept = ""
        if answer is not None:
            record = replace(record, recipients=json.dumps(answer.recipients))
            source = answer.source
            kept = json_text({"fields": _kept(answer), "our_id": answer.message_id, "keep_s": self._keep_s})
        args = [
            *(PREFIX, record.id, identity.fingerprint, identity.claim, identity.remember_s),
            *(record.received_at, record.state, record.thread_id, record.message_id),
            packed(source) if packed_source is None else packed_source,
            SOURCE_AFTER_FINAL_S if record.state in FINAL else "",
            json_text([str(item) for pair in record.dump().items() for item in pair]),
            *(json_text(steps), json_text(list(people)), kept, json_text(list(keys)) if keys else ""),
            *(sender, search_text(record), json_text(_figures(record))),
            json_text(_event(always=True)) if self._event_added else "",
            "" if conversation == record.thread_id else conversation,
            *wake,
        ]
        reply = self._run("accept", args=args, pipe=pipe)
        if self._event_added:
            self._event_added.set()
        return reply

    # --- changing -------------------------------------------------------------------------------------------

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
        given: tuple[str, int | str] | None = None,
        quiet: bool = False,
        by: str = AGENT,
    ) -> None:
        """Move a record from state to state: atomic, fenced by the conversation's lock, with its history.

        ``by`` is who did it: AGENT, MAILBOX, "cli", an operator's address or the name of an API token.
        ``given`` is a field of the record that must have this value, a fence in place of the lock.
        ``quiet`` leaves no line in the history (a note for the machine, not for a person).
        Raise NotFound, LockLost (another worker has taken over), WrongState (with the state it is in),
        ThreadTaken (a person has the thread by now) or ThreadFree.
        """
        args = self._change(id_, to, now, reason, lock, effects, only_from, given, quiet=quiet, by=by)
        reply = self._run("move", args=args)
        if self._event_added:
            self._event_added.set()
        _moved(id_, to, reply)

    def ask(
        self,
        id_: str,
        question: Record,
        mail: OutboundEmail,
        people: Sequence[str],
        *,
        reason: str,
        lock: Lock,
        effects: Effects,
        given: tuple[str, int | str],
    ) -> None:
        """Store a question and let message ``id_`` wait for its answer, in one step; raise as ``move`` does.

        Where it raises, the question may be stored: it is not sent, as no message waits for it.
        """
        now, identity = question.received_at, Identity(f"{QUESTION}:{question.id}", remember_s=DAY_S)
        state = State.ANSWERING
        args = self._change(id_, state, now, reason, lock, effects, [state], given, quiet=False, by=AGENT)
        with self._redis.pipeline(transaction=True) as pipe:
            for script in ("move", "accept"):
                self._load_script(script, pipe)
            self._run("move", args=args, pipe=pipe)
            self._store(question, b"", identity, people, answer=mail, pipe=pipe)
            *_, moved, _ = pipe.execute()
        if self._event_added:
            self._event_added.set()
        _moved(id_, state, moved)

    def _change(
        self,
        id_: str,
        to: State,
        now: int,
        reason: str,
        lock: Lock | None,
        effects: Effects,
        only_from: Sequence[State],
        given: tuple[str, int | str] | None,
        *,
        quiet: bool,
        by: str,
    ) -> list[Any]:
        """Return the arguments of move.lua."""
        allowed = MAY_BECOME[to]
        if only_from:
            allowed = tuple(state for state in (*allowed, *BY_NAME.get(to, ())) if state in only_from)
        values = dict(effects.fields) if quiet else {"reason": reason, **effects.fields}
        options: dict[str, Any] = {"keep_s": self._keep_s}
        if effects.answer is not None:
            values["reply_message_id"] = options["our_id"] = effects.answer.message_id
            values["recipients"] = json_text(effects.answer.recipients)
            options["answer"] = _kept(effects.answer)
        kept = {name: value for name, value in values.items() if value or name in _ALWAYS} or {"id": id_}
        options["fields"] = [str(item) for pair in kept.items() for item in pair]
        if unset := sorted(values.keys() - kept.keys()):
            options["unset"] = unset
        if not quiet:
            options["history"] = _entry(to, now, reason, by)
            if self._event_added:
                # A retry is no news; that a mail bounced is, although its state may stay.
                options["event"] = _event(always=to not in AT_WORK)
        if to in WAITING:
            options["figure"] = figure_of(to, reason)
        if to is State.REPLIED:
            options |= {"unasked": sorted(UNASKED), "bounds": REPLY_BOUNDS}
        if to in FINAL:
            options["keep_source_s"] = SOURCE_AFTER_FINAL_S
        for name in _OPTIONS:
            if value := getattr(effects, name):
                options[name] = value
        if effects.people:
            options["people"] = list(effects.people)
        if effects.met:
            options["met"], options["met_s"] = [met_key(one) for one in effects.met], REMEMBER_PEOPLE_S
        if given:
            options["given"] = [given[0], str(given[1])]
        args = [PREFIX, id_, ",".join(allowed), to, now, lock.token if lock else "", secrets.token_hex(6)]
        source = packed(effects.answer.source) if effects.answer else b""
        return [*args, json_text(options), source]

    def mark_data_end(self, record: Record, lock: Lock, now: int, *, conversation: str = "") -> None:
        """Record before the final dot of DATA, durably, that the server may have the mail from now on.

        A question does not leave in a thread that a person has: raise ThreadTaken.
        """
        fields, stops = {"data_ended_at": now}, record.ingress == QUESTION
        effects = Effects(fields=fields, conversation=conversation, unless_taken=stops)
        state = record.state
        self.move(record.id, state, now=now, lock=lock, quiet=True, only_from=[state], effects=effects)

    def note(self, id_: str, field: str, value: str | int) -> None:
        """Set a field without a change of state. Do nothing if the record was removed."""
        self._note(id_, field, value)

    def note_each(self, ids: Sequence[str], field: str, value: str | int) -> None:
        """Do what ``note`` does of each."""
        with self._redis.pipeline(transaction=False) as pipe:
            self._load_script("note", pipe)
            for id_ in ids:
                self._note(id_, field, value, pipe)
            pipe.execute()

    def _note(self, id_: str, field: str, value: str | int, pipe: Any = None) -> None:
        self._run("note", args=[PREFIX, id_, field, value], pipe=pipe)

    def replace_source(self, id_: str, source: bytes) -> None:
        """Store the whole mail in place of its header. Do nothing if the record was removed."""
        self._run("note", args=[PREFIX, id_, "partial", 0, packed(source)])

    def forget(self, id_: str, *, unless: Collection[State] = ()) -> bool:
        """Remove the record unless it is in one of these states. Return whether it was there and is gone."""
        return bool(self._run("forget", args=[PREFIX, id_, ",".join(unless), ",".join(State)]))


def _of_size(arrivals: Sequence[Arrival], octets: int) -> Iterator[list[Arrival]]:
    """Yield the arrivals in lists of at most so many octets, or of one."""
    some: list[Arrival] = []
    for one in arrivals:
        if some and sum(len(other.source) for other in some) + len(one.source) > octets:
            yield some
            some = []
        some.append(one)
    if some:
        yield some


def _moved(id_: str, to: State, reply: Sequence[bytes]) -> None:
    outcome, state = reply
    if outcome == b"missing":
        raise _not_found(id_)
    if outcome == b"lost":
        raise LockLost(f"message {id_} was taken over by another worker")
    if outcome == b"taken":
        raise ThreadTaken(f"a person has the thread of message {id_}")
    if outcome == b"free":
        raise ThreadFree(f"no person has the thread of message {id_}")
    if outcome == b"wrong":
        raise WrongState(f"message {id_} is {state.decode()}; it cannot become {to} from there")


def _accepted(reply: Sequence[bytes], record: Record) -> Accepted:
    outcome, first, thread = (part.decode() for part in reply)
    # A call that redis-py repeats after a lost reply finds its own record.
    duplicate = outcome in ("duplicate", "same") and first != record.id
    return Accepted(first, thread or record.thread_id, duplicate, record.state, outcome == "same")


def timed(name: str, bounds: Sequence[int], ms: int) -> dict[str, int]:
    """Return what one more duration adds to the totals."""
    bound = next((one for one in bounds if ms <= one), "inf")
    return {f"{name}:{bound}": 1, f"{name}:ms": ms}


def search_text(record: Record) -> str:
    """Return the text in which a search finds the record: from whom, to whom, about what."""
    said = f"{record.from_address} {record.to_address} {record.subject}"
    return " ".join(said.casefold().split())[:SEARCHED]


def _figures(record: Record) -> list[str]:
    """Return what a new record counts as in the figures of its day."""
    found = [] if record.ingress in UNASKED else ["arrived"]
    return found + ([figure_of(record.state, record.reason)] if record.state in WAITING else [])


def _kept(mail: OutboundEmail) -> list[str]:
    """Return the fields of a stored answer without its bytes."""
    recipients = json_text(mail.recipients)
    return ["message_id", mail.message_id, "envelope_from", mail.envelope_from, "recipients", recipients]


def _event(*, always: bool) -> dict[str, object]:
    return {"fields": EVENT_FIELDS, "most": MOST_TOLD, "keep_s": EVENTS_KEPT_S, "always": always}


def _entry(state: State, at: int, reason: str, by: str = AGENT) -> str:
    return json_text({"state": state, "at": iso(at), "reason": reason, "by": by})


def _not_found(id_: str) -> NotFound:
    return NotFound(f"there is no message {id_[:60]!r}; see: cleo-email messages list")
