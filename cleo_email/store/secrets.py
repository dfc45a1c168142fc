"""Secrets that all processes share: the key that signs Message-IDs, and encrypted logins."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from typing import cast

from redis import Redis

from cleo_email.store.connection import PREFIX, StorePart


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


class TokenStore(StorePart):
    """Keeps OAuth logins, which are encrypted by the caller."""

    def get(self, name: str) -> bytes | None:
        return cast("bytes | None", self._redis.get(f"{PREFIX}oauth:{name}"))

    def put(self, name: str, blob: bytes) -> None:
        """Store it without an end: a refresh token lives as long as its owner wants."""
        self._redis.set(f"{PREFIX}oauth:{name}", blob)
