"""For the web process: the providers' events that were taken already, and the counts of wrong secrets."""

import hashlib
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import cast

from redis import Redis

from cleo_email.errors import StoreUnavailable
from cleo_email.store.connection import PREFIX, StorePart

CLAIM_S = 60  # the longest time of one request; after a crash the event is accepted again only then


@dataclass(frozen=True)
class Claim:
    """One event that is being taken. ``note`` is the text that an earlier request stored with it, or ''."""

    key: str
    token: str
    is_ours: bool
    note: str = ""

    @property
    def is_taken(self) -> bool:
        """Return whether an earlier request stored it. If neither ours nor taken, another processes it."""
        return bool(self.note)


class Events(StorePart):
    """Lets each event be taken once within its time, even if the record is removed earlier."""

    def claim(self, name: str) -> Claim:
        """Begin with the event ``name`` (any text)."""
        key = f"{PREFIX}event:{hashlib.sha256(name.encode('utf-8', 'replace')).hexdigest()}"
        token = f"pending:{secrets.token_hex(8)}"
        if self._redis.set(key, token, nx=True, ex=CLAIM_S):
            return Claim(key, token, is_ours=True)
        found = cast("bytes | None", self._redis.get(key)) or b"pending:"
        value = found.decode("utf-8", "replace")
        # If the reply was lost, redis-py repeats the SET, which then finds our own token.
        pending = value.startswith("pending:")
        return Claim(key, token, is_ours=value == token, note="" if pending else value)

    @contextmanager
    def once(self, name: str) -> Iterator[Claim]:
        """Yield a claim of the event; if the block raises, the event may be taken again."""
        claim = self.claim(name)
        try:
            yield claim
        except BaseException:
            if claim.is_ours:
                with suppress(StoreUnavailable):
                    self.release(claim)
            raise

    def done(self, claim: Claim, note: str, seconds: int) -> None:
        """Remember that the event is stored, with a ``note``, for ``seconds``."""
        self._redis.set(claim.key, note, ex=seconds)

    def release(self, claim: Claim) -> None:
        """Let an event that was not stored be taken again."""
        # A script does this in one step, since the key may expire and another request may take the event.
        self._run("unlock", args=[PREFIX, claim.key, claim.token, "", ""])


class Failures(StorePart):
    """Counts wrong secrets per minute, of one address and of all; at most ``overall`` keys a minute."""

    def __init__(self, redis: Redis, *, per_address: int = 60, overall: int = 200) -> None:
        super().__init__(redis)
        self._per_address = per_address
        self._overall = overall

    def count(self, address: str, now_s: int) -> int:
        """Count one more. Return the seconds to wait where that is too many, else 0."""
        minute, second = divmod(now_s, 60)
        stem = f"{PREFIX}failures:{minute}"
        if self._add(stem) > self._overall or self._add(f"{stem}:{address}") > self._per_address:
            return 60 - second
        return 0

    def _add(self, key: str) -> int:
        with self._redis.pipeline() as pipe:
            pipe.incr(key)
            pipe.expire(key, 120)
            return int(pipe.execute()[0])
