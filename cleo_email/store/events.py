"""What the web process remembers: events of a provider, and how often a secret was wrong."""

from __future__ import annotations

import hashlib
import secrets
from dataclasses import dataclass
from typing import cast

from redis import Redis

from cleo_email.store.connection import PREFIX, redis_errors, script

CLAIM_S = 60  # the longest that one request takes; after a crash the event may come again then


@dataclass(frozen=True)
class Claim:
    """One event that is being taken. ``note`` is what was stored with it when it was taken before."""

    key: str
    token: str
    is_ours: bool
    note: str = ""

    @property
    def is_taken(self) -> bool:
        """Whether an earlier request stored it. If it is neither ours nor taken, another one is at it now."""
        return bool(self.note)


class Events:
    """Takes every event once as long as it is remembered, whatever becomes of the record."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis
        self._unlock = script(redis, "unlock")

    def claim(self, name: str) -> Claim:
        """Begin with the event ``name`` (any text). Raise StoreUnavailable."""
        key = f"{PREFIX}event:{hashlib.sha256(name.encode('utf-8', 'replace')).hexdigest()}"
        token = f"pending:{secrets.token_hex(8)}"
        with redis_errors():
            if self._redis.set(key, token, nx=True, ex=CLAIM_S):
                return Claim(key, token, is_ours=True)
            found = cast("bytes | None", self._redis.get(key)) or b"pending:"
        value = found.decode("utf-8", "replace")
        # A lost answer makes the client repeat the SET: then it is refused by our own token.
        pending = value.startswith("pending:")
        return Claim(key, token, is_ours=value == token, note="" if pending else value)

    def done(self, claim: Claim, note: str, seconds: int) -> None:
        """Remember that the event is stored, with a ``note``, for ``seconds``. Raise StoreUnavailable."""
        with redis_errors():
            self._redis.set(claim.key, note, ex=seconds)

    def release(self, claim: Claim) -> None:
        """Let an event that was not stored come again. Raise StoreUnavailable."""
        with redis_errors():
            # In one step: it may expire at any moment, and be taken or stored by another request.
            self._unlock(keys=[claim.key], args=[claim.token, 0])


class Failures:
    """Counts wrong secrets per minute, of one address and of all; at most ``overall`` keys a minute."""

    def __init__(self, redis: Redis, *, per_address: int = 60, overall: int = 200) -> None:
        self._redis = redis
        self._per_address = per_address
        self._overall = overall

    def count(self, address: str, now_s: int) -> int:
        """Count one more. Return the seconds to wait where that is too many, else 0."""
        minute, second = divmod(now_s, 60)
        stem = f"{PREFIX}failures:{minute}"
        with redis_errors():
            if self._add(stem) > self._overall or self._add(f"{stem}:{address}") > self._per_address:
                return 60 - second
        return 0

    def _add(self, key: str) -> int:
        with self._redis.pipeline() as pipe:
            pipe.incr(key)
            pipe.expire(key, 120)
            return int(pipe.execute()[0])
