"""Encrypted logins: only bytes that mean nothing here."""

from __future__ import annotations

from typing import cast

from redis import Redis

from cleo_email.store.connection import ours
from cleo_email.store.keys import PREFIX


class TokenShelf:
    def __init__(self, redis: Redis) -> None:
        self._redis = redis

    def get(self, name: str) -> bytes | None:
        with ours():
            return cast("bytes | None", self._redis.get(f"{PREFIX}oauth:{name}"))

    def put(self, name: str, blob: bytes) -> None:
        """Kept for good: a refresh token lives as long as its owner wants."""
        with ours():
            self._redis.set(f"{PREFIX}oauth:{name}", blob)
