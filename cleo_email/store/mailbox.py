"""The state of the mailbox in Redis: how far it was read, the work that waits for it, its OAuth login."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from itertools import islice
from types import MappingProxyType
from typing import Any, TypeVar, cast

from redis import Redis

from cleo_email.runtime import DAY
from cleo_email.store.connection import PREFIX, StorePart
from cleo_email.store.drafts import DRAFTS

# How long the mail in the inbox may come after its answer: while the inbox cannot be read, say.
EARLY_S = 7 * 86_400


@dataclass(frozen=True)
class UidState:
    """How far a mailbox was read under its present UIDVALIDITY. Times in milliseconds since 1970, 0 for none.

    ``floor`` is the highest UID at the first poll under it: at and below it only the mail that was noted
    then is ever looked at. ``cursor``, the highest UID looked at so far, only grows. ``since``: the last poll
    under the UIDVALIDITY before, 0 where there was none. ``settled``: the last poll that left no mail unread.
    """

    validity: int
    floor: int
    cursor: int
    installed: int  # the first poll of this mailbox
    since: int = 0
    settled: int = 0
    searched: int = 0  # the last search for unread mail at or below the cursor

    @classmethod
    def load(cls, raw: dict[bytes, bytes]) -> UidState:
        return cls(**{spec.name: int(raw.get(spec.name.encode(), 0)) for spec in fields(cls)})

    def dump(self) -> dict[Any, Any]:
        return dict(vars(self))


@dataclass(frozen=True)
class Trouble:
    """A mail that cannot be fetched while others can: how often, since when (ms), whether it is recorded."""

    tries: int
    since: int
    recorded: bool = False


@dataclass(frozen=True)
class Noted:
    """What earlier polls have noted. ``again``: UID to when it is to be looked at again (ms), 0 for one at
    which none has looked since the last :meth:`MailboxState.begin`."""

    state: UidState | None  # how far the mailbox was read, None before its first poll (of this version)
    troubles: Mapping[int, Trouble]
    again: Mapping[int, int]
    knows_read_mail: bool  # whether anything is known of mail that people had read before the first poll


@dataclass(frozen=True)
class SentKnown:
    """``cursor`` as of :meth:`MailboxState.sent_cursor`; ``early``: the place in Sent (UIDVALIDITY/UID) of
    what answers a mail, by its Message-ID; ``drafted``: the records with a draft."""

    cursor: tuple[int, int] | None
    early: Mapping[str, str]
    drafted: frozenset[str]


class MailboxState(StorePart):
    """Keeps what polls need. ``account`` is '' where there is no mailbox.

    The caller holds the mailbox's lock. UIDs are those of the UIDVALIDITY of the last :meth:`begin`.
    """

    def __init__(self, redis: Redis, account: str) -> None:
        super().__init__(redis)
        self._key = f"{PREFIX}mailbox:{account}"
        self.is_configured = bool(account)

    def was_read(self) -> bool:
        """Return whether an earlier version has read this mailbox; its cursor cannot be trusted."""
        return bool(self._redis.exists(f"{self._key}:cursor"))

    def begin(self, state: UidState, again: Iterable[int], read: Collection[bytes]) -> None:
        """Begin with a UIDVALIDITY, in one step: all UIDs of another are void.

        ``again`` are the UIDs to be taken, ``read`` the identities of mail that people had read before.
        """
        with self._redis.pipeline() as pipe:
            pipe.delete(*(f"{self._key}:{name}" for name in ("uids", "again", "left", "troubles")))
            for uids in _chunks(again):
                pipe.zadd(f"{self._key}:again", dict.fromkeys(map(str, uids), 0))
            for identities in _chunks(read):
                pipe.sadd(f"{self._key}:read-before", *identities)
            pipe.hset(f"{self._key}:uids", mapping=state.dump())
            pipe.execute()

    def read_before(self, identities: Sequence[bytes]) -> set[bytes]:
        """Return those of mail that people had read before the first poll."""
        if not identities:
            return set()
        found = self._redis.smismember(f"{self._key}:read-before", list(identities))
        return {one for one, known in zip(identities, cast("list[int]", found), strict=True) if known}

    def noted(self) -> Noted:
        with self._redis.pipeline(transaction=False) as pipe:
            pipe.hgetall(f"{self._key}:uids")
            pipe.hgetall(f"{self._key}:troubles")
            pipe.zrange(f"{self._key}:again", 0, -1, withscores=True)
            pipe.exists(f"{self._key}:read-before")
            state, troubles, again, knows_read_mail = pipe.execute()
        found = {int(uid): [int(part) for part in value.split()] for uid, value in troubles.items()}
        return Noted(
            UidState.load(state) if state else None,
            {uid: Trouble(tries, since, bool(known)) for uid, (tries, since, known) in found.items()},
            {int(uid): int(score) for uid, score in again},
            bool(knows_read_mail),
        )

    def looked_at(self, uids: Iterable[int], now: int) -> None:
        """Note that UIDs which wait since the last :meth:`begin` have been looked at."""
        for chunk in _chunks(uids):
            self._redis.zadd(f"{self._key}:again", dict.fromkeys(map(str, chunk), now), xx=True)

    def left(self) -> set[int]:
        """Return the UIDs that stay unread on purpose, as far as no keyword says so."""
        return {int(uid) for uid in cast("set[bytes]", self._redis.smembers(f"{self._key}:left"))}

    def leave(self, uids: Iterable[int]) -> None:
        for chunk in _chunks(uids):
            self._redis.sadd(f"{self._key}:left", *chunk)

    def forget_left(self, uids: Iterable[int]) -> None:
        for chunk in _chunks(uids):
            self._redis.srem(f"{self._key}:left", *chunk)

    def advance(
        self,
        state: UidState,
        *,
        done: Iterable[int],
        again: Mapping[int, int],
        troubles: Mapping[int, Trouble],
    ) -> None:
        """Note the end of a poll in one step. ``again``: UID to when it is due (ms)."""
        with self._redis.pipeline() as pipe:
            for uids in _chunks(done):
                pipe.zrem(f"{self._key}:again", *uids)
                pipe.hdel(f"{self._key}:troubles", *map(str, uids))
            for uids in _chunks(again):
                pipe.zadd(f"{self._key}:again", {str(uid): again[uid] for uid in uids})
            for uid, trouble in troubles.items():
                value = f"{trouble.tries} {trouble.since} {int(trouble.recorded)}"
                pipe.hset(f"{self._key}:troubles", str(uid), value)
            pipe.hset(f"{self._key}:uids", mapping=state.dump())
            pipe.execute()

    def sent_cursor(self) -> tuple[int, int] | None:
        """Return (UIDVALIDITY, UID) up to which the Sent mailbox was read, None before the first time."""
        return _cursor(cast("bytes | None", self._redis.get(f"{self._key}:sent-cursor")))

    def set_sent_cursor(self, validity: int, uid: int) -> None:
        self._redis.set(f"{self._key}:sent-cursor", f"{validity} {uid}")

    def note_early_answer(self, message_id: str, place: str) -> None:
        """Remember a mail in Sent (UIDVALIDITY/UID) that answers one which is not known, or not yet."""
        self._redis.set(f"{PREFIX}early-answer:{message_id}", place, ex=EARLY_S)

    def sent_known(self, message_ids: Sequence[str]) -> SentKnown:
        """Return what is known before Sent is read for answers to these mails.

        The cursor first: a process that notes an early answer moves it after that.
        """
        named = list(filter(None, dict.fromkeys(message_ids)))
        with self._redis.pipeline(transaction=False) as pipe:
            pipe.get(f"{self._key}:sent-cursor")
            pipe.hkeys(DRAFTS)
            for one in named:
                pipe.get(f"{PREFIX}early-answer:{one}")
            cursor, drafted, *places = pipe.execute()
        early = {one: place.decode() for one, place in zip(named, places, strict=True) if place}
        return SentKnown(_cursor(cursor), early, frozenset(id_.decode() for id_ in drafted))

    def forget_early_answer(self, message_id: str) -> None:
        self._redis.delete(f"{PREFIX}early-answer:{message_id}")

    def sent_mode(self) -> str:
        """Return who files into Sent: ``server``, ``client``, or '' where that is not known yet."""
        raw = cast("bytes | None", self._redis.get(f"{PREFIX}sent-mode"))
        return (raw or b"").decode()

    def set_sent_mode(self, mode: str) -> None:
        """Remember it for a week: a mailbox may move to another server."""
        self._redis.set(f"{PREFIX}sent-mode", mode, ex=7 * 86_400)


def _cursor(raw: bytes | None) -> tuple[int, int] | None:
    validity, uid = map(int, raw.split()) if raw else (0, 0)
    return (validity, uid) if raw else None


Item = TypeVar("Item")


def _chunks(items: Iterable[Item]) -> Iterator[list[Item]]:
    """Yield the items in lists that one command of Redis takes without holding up others."""
    left = iter(items)
    while chunk := list(islice(left, 1000)):
        yield chunk


FLAGGED = 1_000 * DAY  # more than any mail waits, and less than any time


def filing_due(waited: int) -> int:
    """Return the time (ms) at which flags and copy of an answered mail are due: in any case at once.

    The order is that of how long the mail waited for its answer, so that new mail has its turn during a
    backlog. With FLAGGED added, behind all that have no flags yet, it is that of mail without its copy.
    """
    return min(max(waited, 1), FLAGGED - 1)  # 0 would mean: not at all


class DueList(StorePart):
    """Records that wait until something is done about them, most of it in the mailbox."""

    def __init__(self, redis: Redis, name: str) -> None:
        super().__init__(redis)
        self.key = f"{PREFIX}{name}"

    def due(self, now: int, limit: int = 500) -> list[str]:
        raw = self._redis.zrange(self.key, "-inf", now, byscore=True, offset=0, num=limit)
        return [item.decode() for item in cast("list[bytes]", raw)]

    def latest(self, now: int, since: int, limit: int) -> list[str]:
        """Return what became due last, after ``since``."""
        raw = self._redis.zrange(self.key, now, since, byscore=True, desc=True, offset=0, num=limit)
        return [item.decode() for item in cast("list[bytes]", raw)]

    def add(self, id_: str, due: int) -> None:
        self._redis.zadd(self.key, {id_: due})

    def add_each(self, due: Mapping[str, int]) -> None:
        """Let each id be due at its time (ms)."""
        if due:
            self._redis.zadd(self.key, dict(due))

    def put_off(self, ids: Iterable[str], due: int) -> None:
        """Let those that still wait be due at ``due`` or, where that is later, as they are."""
        self.put_off_each(dict.fromkeys(ids, due))

    def put_off_each(self, due: Mapping[str, int]) -> None:
        if due:
            self._redis.zadd(self.key, dict(due), xx=True, gt=True)

    def done(self, id_: str) -> None:
        self._redis.zrem(self.key, id_)

    def done_in(self, id_: str, state: str) -> None:
        """Take it off unless the record has changed its state meanwhile, which asks for it anew."""
        self.done_each({id_: state})

    def done_each(self, states: Mapping[str, str], again: Mapping[str, int] = MappingProxyType({})) -> None:
        """Take each id off as ``done_in`` does, and let those of ``again`` be due at their times (ms)."""
        if not states and not again:
            return
        with self._redis.pipeline(transaction=False) as pipe:
            self._load_script("done_in", pipe)
            for id_, state in states.items():
                self._run("done_in", args=[PREFIX, self.key, id_, state], pipe=pipe)
            if again:
                pipe.zadd(self.key, dict(again))
            pipe.execute()


class DueWork(StorePart):
    """Reads several lists of due work at once."""

    def exists(self, now: int, lists: Sequence[DueList]) -> bool:
        """Return whether anything is due in one of the lists."""
        return any(ids for ids, _ in self.read(now, [(one, 1, "") for one in lists]))

    def read(self, now: int, works: Sequence[tuple[DueList, int, str]]) -> list[tuple[list[str], int]]:
        """Return for each (list, most, tick) what is due in the list, and how far the tick is away (ms)."""
        with self._redis.pipeline(transaction=False) as pipe:
            for due, most, tick in works:
                pipe.zrange(due.key, "-inf", now, byscore=True, offset=0, num=most)
                pipe.pttl(f"{PREFIX}tick:{tick}")
            found = pipe.execute()
        return [
            ([id_.decode() for id_ in ids], left) for ids, left in zip(found[::2], found[1::2], strict=True)
        ]


class TokenStore(StorePart):
    """Keeps OAuth logins, which are encrypted by the caller."""

    def get(self, name: str) -> bytes | None:
        return cast("bytes | None", self._redis.get(f"{PREFIX}oauth:{name}"))

    def put(self, name: str, blob: bytes) -> None:
        """Store it without an expiry, since a refresh token may be valid for years."""
        self._redis.set(f"{PREFIX}oauth:{name}", blob)
