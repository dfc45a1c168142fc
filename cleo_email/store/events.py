"""What the web process remembers: which events of a provider were taken, and how often a secret was wrong."""

from __future__ import annotations

import hashlib
import secrets
from dataclasses import dataclass
from typing import cast

from redis import Redis

from cleo_email.store.connection import PREFIX, redis_errors, script

CLAIM_S = 60  # longest stay of one request; a crashed one gives the event free again


@dataclass(frozen=True)
class Claim:
    """One event on its way in. ``note`` is what was left with it when it was taken before."""

    key: str
    token: str
    is_ours: bool
    note: str = ""

    @property
    def is_taken(self) -> bool:
        """Stored by an earlier request; if neither ours nor taken, another request is at it right now."""
        return bool(self.note)


class Events:
    """Every event is taken once for as long as it is remembered, whatever becomes of the record."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis
        self._unlock = script(redis, "unlock")

    def claim(self, name: str) -> Claim:
        """Begin with the event ``name`` (any text). Raises StoreUnavailable."""
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
        """It is stored: remember it, with ``note`` (not empty), for ``seconds``. Raises StoreUnavailable."""
        with redis_errors():
            self._redis.set(claim.key, note, ex=seconds)

    def release(self, claim: Claim) -> None:
        """It was not stored: it may come again. Raises StoreUnavailable."""
        with redis_errors():
            # In one step: it may expire at any moment, and be taken or stored by another request.
            self._unlock(keys=[claim.key], args=[claim.token, 0])


class Failures:
    """Wrong secrets per minute, of one address and of all; at most ``overall`` keys a minute."""

    def __init__(self, redis: Redis, *, per_address: int = 60, overall: int = 200) -> None:
        self._redis = redis
        self._per_address = per_address
        self._overall = overall

    def count(self, address: str, now_s: int) -> int:
        """Note one more; seconds to wait where that is too many, else 0. Raises StoreUnavailable."""
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
