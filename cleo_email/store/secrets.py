"""Secrets that all processes share: the key that signs Message-IDs, and encrypted logins."""

from __future__ import annotations

import secrets
import threading
from collections.abc import Sequence
from typing import cast

from redis import Redis

from cleo_email.store.connection import PREFIX, redis_errors


class SigningKeys:
    """Keys that sign Message-IDs: the ``configured`` ones, or one that is kept in Redis."""

    def __init__(self, redis: Redis, configured: Sequence[bytes]) -> None:
        self._redis = redis
        self._keys = tuple(configured)
        self._guard = threading.Lock()

    def __call__(self) -> Sequence[bytes]:
        """Return the keys. Raise StoreUnavailable."""
        with self._guard:
            if not self._keys:
                name = f"{PREFIX}message-id-key"
                with redis_errors():
                    self._redis.set(name, secrets.token_bytes(32), nx=True)
                    self._keys = (cast("bytes", self._redis.get(name)),)
            return self._keys


class TokenStore:
    """Keeps OAuth logins, which are encrypted by the caller."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis

    def get(self, name: str) -> bytes | None:
        with redis_errors():
            return cast("bytes | None", self._redis.get(f"{PREFIX}oauth:{name}"))

    def put(self, name: str, blob: bytes) -> None:
        """Store it without an end: a refresh token lives as long as its owner wants."""
        with redis_errors():
            self._redis.set(f"{PREFIX}oauth:{name}", blob)
