"""Threads: participants, our Message-IDs that lead there, history, and counts of sent mail.

A thread's conversation is the list of those of its messages that still have to be handled.
"""

import json
import secrets
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, cast

from redis import Redis

from cleo_email.mail.address import person
from cleo_email.mail.model import Turn
from cleo_email.store.connection import PREFIX, StorePart, json_text
from cleo_email.store.messages import (
    AGENT,
    MAILBOX,
    QUESTION,
    REMEMBER_PEOPLE_S,
    UNASKED,
    Record,
    State,
    iso,
    met_key,
)


class SigningKeys(StorePart):
    """Keys that sign Message-IDs: the ``configured`` ones, or one that is kept in Redis."""

    def __init__(self, redis: Redis, configured: Sequence[bytes]) -> None:
        super().__init__(redis)
        self._keys = tuple(configured)

    def __call__(self) -> Sequence[bytes]:
        """Return the keys. Raise StoreUnavailable."""
        return self._keys or self.kept()

    def kept(self) -> Sequence[bytes]:
        """Return the key in Redis, where the first process that needs it puts one."""
        name = f"{PREFIX}message-id-key"
        self._redis.set(name, secrets.token_bytes(32), nx=True)
        self._keys = (cast("bytes", self._redis.get(name)),)
        return self._keys


# A longer history does not help a model and costs memory in every request.
HISTORY_TURNS = 100
HISTORY_CHARACTERS = 400_000
# So many records are looked at for it: mails of others in the thread must not push out those of the asker.
HISTORY_PAGES, _PAGE = 10, 51
_OF_TURNS = tuple(
    "state text answer_text people recipients bounced from_address to_address ingress colleague"
    " question outbound".split()
)
_SAID = {State.REPLIED, State.UNCERTAIN, State.SUBMITTING}
_ASKED = _SAID | {State.FAILED, State.IGNORED}


# What people see of a thread: as many characters, and of mail that waits also what the agent was not shown.
MOST_SHOWN = 10 * HISTORY_CHARACTERS
_OF_THREADS = ("received_at", "updated_at", "data_ended_at", "answered_by")


@dataclass(frozen=True)
class ThreadTurn:
    """One turn of a thread as people see it: ``by`` an address, ``agent`` or whoever approved, ``at`` (ms).

    ``text`` is '' where the agent has not been shown the mail yet: then it is in the source only.
    """

    id: str
    role: str
    by: str
    text: str
    at: int


def workflow_key(thread_id: str) -> str:
    """Return where the workflow of a thread is kept, as long as any record of the thread."""
    return f"workflow:{thread_id}"


def taken_by(by: str, reason: str, now: int) -> str:
    """Return what is kept of a thread that a person has from ``now`` (ms) on."""
    return json_text({"reason": reason, "by": by, "at": iso(now)})


def _person_key(thread_id: str) -> str:
    return f"{PREFIX}person:{thread_id}"


def _turns_of(raw: Mapping[str, str]) -> Iterator[Turn]:
    """Yield the answer in a record, then the question.

    Records of earlier versions do not say who was on them: it is the person who wrote, or was written to.
    """
    sent_first = raw["ingress"] in UNASKED
    other = person(raw["to_address"] if sent_first else raw["from_address"])
    reached = frozenset(person(one) for one in json.loads(raw["recipients"] or "[]")) or frozenset([other])
    # A bounce may be forged, and takes nothing out of the history.
    if raw["answer_text"] and (raw["bounced"] or raw["state"] in _SAID):
        role = "person" if raw["ingress"] == "person" else "assistant"
        by_agent = raw["ingress"] not in ("send", "person")
        yield Turn(role, raw["answer_text"], reached, by_agent=by_agent)
    if raw["text"] and raw["state"] in _ASKED:
        people = json.loads(raw["people"]) if raw["people"] else [other]
        # A colleague's mail that a person has released is a mail to the agent.
        by_colleague = int(raw["colleague"] or 0) and raw["state"] == State.IGNORED
        yield Turn("person" if by_colleague else "user", raw["text"], frozenset(people), reached)


@dataclass(frozen=True)
class Outlook:
    """What decides about a mail: whether a person has its thread, whether any answer waits for a review
    anywhere, and the workflow of its thread."""

    is_taken: bool
    has_reviews: bool
    workflow: dict[str, Any] | None
    is_alone: bool = False  # the thread has no other record


class Threads(StorePart):
    """Reads the data of threads, and adds participants to them."""

    def by_our_ids(self, message_ids: Sequence[str]) -> dict[str, tuple[str, str]]:
        """Return those of the Message-IDs that we sent, each with its thread and its record."""
        return self.by_our_ids_and_people(message_ids, ())[0]

    def by_our_ids_and_people(
        self, message_ids: Sequence[str], thread_ids: Sequence[str]
    ) -> tuple[dict[str, tuple[str, str]], dict[str, frozenset[str]]]:
        """Return what ``by_our_ids`` and ``people`` do, in one round trip."""
        if not message_ids and not thread_ids:
            return {}, {}
        with self._redis.pipeline(transaction=False) as pipe:
            if message_ids:
                pipe.mget([f"{PREFIX}ours:{one}" for one in message_ids])
            for thread in thread_ids:
                pipe.smembers(f"{PREFIX}people:{thread}")
            found = pipe.execute()
        places = zip(message_ids, found.pop(0) if message_ids else (), strict=True)
        return (
            {one: cast("tuple[str, str]", tuple(json.loads(raw))) for one, raw in places if raw},
            {
                thread: frozenset(item.decode() for item in members)
                for thread, members in zip(thread_ids, found, strict=True)
            },
        )

    def known(self, message_ids: Sequence[str]) -> tuple[str, str]:
        """Return the thread, and the record in it, to which the first of these ids leads that leads to any.

        Whoever takes part. The record is '' where the id only names the thread; both are '' for unknown ids.
        """
        for message_id in message_ids:
            if ours := self.by_our_ids([message_id]):
                return ours[message_id]
            key = f"{PREFIX}index:message-id:{message_id}"
            for id_ in cast("list[bytes]", self._redis.zrange(key, "+", "-", desc=True, bylex=True)):
                thread = cast("bytes | None", self._redis.hget(f"{PREFIX}m:{id_.decode()}", "thread_id"))
                if thread is not None:
                    return thread.decode(), id_.decode()
            if self._redis.exists(f"{PREFIX}index:thread:{message_id}"):
                return message_id, ""
        return "", ""

    def lead(self, message_id: str, thread_id: str, id_: str, seconds: int) -> None:
        """Let replies to this mail, which is that record's, find its thread, as those to mail of ours do."""
        place = json_text([thread_id, id_])
        self._redis.set(f"{PREFIX}ours:{message_id}", place, nx=True, ex=seconds)

    def people(self, thread_ids: Sequence[str]) -> dict[str, frozenset[str]]:
        """Return the addresses of those who take part, in lower case, per thread."""
        return self.by_our_ids_and_people((), thread_ids)[1]

    def admit(self, id_: str, sender: str, people: Sequence[str], own: Sequence[str], now: int) -> str:
        """Add ``people`` to the thread of record ``id_``, and return the thread it then belongs to.

        Where the thread has participants and ``sender`` is none of them, the record moves to the first of
        ``own`` that is open to the sender.
        """
        lists = [json_text(list(people)), json_text(list(own))]
        return cast("bytes", self._run("admit", args=[PREFIX, id_, sender, *lists, now])).decode()

    def begin(self, record: Record) -> Outlook:
        """Count that the reading of the mail begins, and read what decides what becomes of it."""
        with self._redis.pipeline(transaction=False) as pipe:
            self._load_script("note", pipe)
            self._run("note", args=[PREFIX, record.id, "begun", record.begun + 1], pipe=pipe)
            pipe.get(_person_key(record.thread_id))
            pipe.zcard(f"{PREFIX}index:state:{State.REVIEW}")
            pipe.get(f"{PREFIX}{workflow_key(record.thread_id)}")
            pipe.zcard(f"{PREFIX}index:thread:{record.thread_id}")
            person_, reviews, workflow, others = pipe.execute()[2:]
        return Outlook(
            person_ is not None, reviews > 0, json.loads(workflow) if workflow else None, is_alone=others <= 1
        )

    def person(self, thread_id: str) -> dict[str, str] | None:
        """Return why a person has the thread (``reason``), ``by`` whom and ``at`` (ISO 8601), or None."""
        raw = cast("bytes | None", self._redis.get(_person_key(thread_id)))
        return cast("dict[str, str]", json.loads(raw)) if raw else None

    def take(self, thread_id: str, taken: str) -> bool:
        """Give the thread to a person, ``taken`` as of :func:`taken_by`. Return False where one has it."""
        return bool(self._redis.set(_person_key(thread_id), taken, nx=True))

    def hand_back(self, thread_id: str) -> bool:
        """Give the thread to the agent again. Return False where it has it."""
        return bool(self._redis.delete(_person_key(thread_id)))

    def latest(self, key: str) -> str:
        """Return the thread that was last opened under this key, or ''."""
        raw = cast("bytes | None", self._redis.get(f"{PREFIX}{key}"))
        return raw.decode() if raw else ""

    def history(self, thread_id: str, *, but: str, among: Collection[str]) -> tuple[Turn, ...]:
        """Return the turns on which all ``among`` were, oldest first, without those of the message ``but``.

        ``among`` are addresses as of ``mail.address.person``. Whoever was on one mail of a thread, or named
        the thread first, has not read its other mails.
        """
        turns: list[Turn] = []
        room, wanted = HISTORY_CHARACTERS, frozenset(among)
        for turn in self._turns(thread_id, but):
            if not wanted <= turn.people:
                continue
            turns.append(turn)
            room -= len(turn.content)
            if room < 0 or len(turns) >= HISTORY_TURNS:
                break
        return tuple(reversed(turns))

    def _turns(self, thread_id: str, but: str) -> Iterator[Turn]:
        """Yield every turn of the thread, newest first.

        A question back and its answer stand between the mail that they are about and the answer to that;
        ``but`` hides its own, as the agent is shown them in another place.
        """
        within: dict[str, list[Turn]] = {}  # by the record in front of whose answer they stand, newest first
        hidden = {but}
        for id_, row in self._rows(thread_id, _OF_TURNS):
            turns = list(_turns_of(row))
            about = row["outbound"] if row["ingress"] == QUESTION else row["question"]
            if about:
                within.setdefault(about, []).extend((*within.pop(id_, ()), *turns))
                hidden |= {id_} if about == but else set()
            elif id_ != but:
                inner = within.pop(id_, [])
                answers = [one for one in turns if one.role == "assistant"]
                yield from (*answers, *inner, *(one for one in turns if one.role != "assistant"))
        for about, turns in within.items():
            if about not in hidden:
                yield from turns

    def turns(self, thread_id: str) -> list[ThreadTurn]:
        """Return what was said in the thread as people see it, oldest first, with mail that waits."""
        found: list[ThreadTurn] = []
        room = MOST_SHOWN
        for id_, row in self._rows(thread_id, (*_OF_TURNS, *_OF_THREADS)):
            came = int(row["received_at"] or 0)
            went = int(row["data_ended_at"] or 0) or int(row["updated_at"] or 0) or came
            said = [ThreadTurn(id_, one.role, "", one.content, came) for one in _turns_of(row)]
            open_ = row["state"] != State.IGNORED and row["ingress"] not in UNASKED
            if open_ and all(one.role == "assistant" for one in said):
                said.append(ThreadTurn(id_, "user", "", row["text"], came))
            for one in said:
                if one.role == "assistant":
                    found.append(replace(one, by=row["answered_by"] or AGENT, at=went))
                else:
                    found.append(replace(one, by=row["from_address"] or MAILBOX))
                room -= len(one.text)
            if room < 0:
                break
        found.reverse()
        found.sort(key=lambda turn: turn.at)  # at one time: as they arrived, a mail before its answer
        return found

    def _rows(self, thread_id: str, names: Sequence[str]) -> Iterator[tuple[str, dict[str, str]]]:
        """Yield the id and these fields of every record of the thread, newest first."""
        start = "+"
        for _ in range(HISTORY_PAGES):
            raw = self._redis.zrange(
                f"{PREFIX}index:thread:{thread_id}", start, "-", desc=True, bylex=True, offset=0, num=_PAGE
            )
            ids = [item.decode() for item in cast("list[bytes]", raw)]
            with self._redis.pipeline(transaction=False) as pipe:
                for id_ in ids:
                    pipe.hmget(f"{PREFIX}m:{id_}", *names)
                rows = pipe.execute()
            for id_, row in zip(ids, rows, strict=True):
                if row[0]:  # else it was forgotten meanwhile
                    values = [value.decode() if value else "" for value in row]
                    yield id_, dict(zip(names, values, strict=True))
            if len(ids) < _PAGE:
                return
            start = f"({ids[-1]}"

    def units(self, budget: str, since: int) -> int:
        """Return how many units of a budget were taken after ``since`` (ms)."""
        return self._redis.zcount(f"{PREFIX}budget:{budget}", f"({since}", "+inf")

    def met(self, people: Sequence[str], now: int) -> None:
        """Remember that mail has gone out to these people, as of ``mail.address.person``."""
        with self._redis.pipeline(transaction=False) as pipe:
            for one in people:
                pipe.set(met_key(one), now, nx=True)
                pipe.expire(met_key(one), REMEMBER_PEOPLE_S)
            pipe.execute()

    def has_met(self, one: str, before: int) -> bool:
        """Return whether mail went out to that person before that time (ms)."""
        raw = cast("bytes | None", self._redis.get(met_key(one)))
        return raw is not None and int(raw) < before

    def reserve(
        self, id_: str, now: int, budgets: Sequence[tuple[str, int, int, int, int]], *, known: str, since: int
    ) -> str:
        """Take units of every budget (name, window in ms, limit, more, units), or of none.

        The limit is higher by ``more`` where mail went out to the person ``known`` before ``since`` (ms).
        Return '' or the name of a full one. A mail of more units than the limit needs an empty budget; one
        of no units is refused by a full budget, and takes nothing.
        """
        flat = [str(item) for budget in budgets for item in budget]
        key = met_key(known) if known else ""
        return cast("bytes", self._run("reserve", args=[PREFIX, id_, now, key, since, *flat])).decode()


class Conversations(StorePart):
    """Keeps the conversations that have work, when it is due, and which have been woken."""

    def drop_head(self, thread_id: str, id_: str) -> None:
        """Remove an id whose record no longer exists from the list."""
        keys = [f"{PREFIX}conversation:{thread_id}", f"{PREFIX}active"]
        self._run("drop", keys=keys, args=[id_, thread_id])

    def due(self, now: int, limit: int, *, offset: int = 0) -> list[str]:
        """Return threads with work that is due, longest waiting first, being handled or not."""
        raw = self._redis.zrange(f"{PREFIX}active", "-inf", now, byscore=True, offset=offset, num=limit)
        return [item.decode() for item in cast("list[bytes]", raw)]

    def hurry(self, thread_id: str, now: int) -> bool:
        """Make work that is due later due now. Return False where there is none."""
        return bool(self._redis.zadd(f"{PREFIX}active", {thread_id: now}, xx=True, lt=True, ch=True))
