"""The key that signs Message-IDs where the operator has set none: made once, shared by all processes."""

from __future__ import annotations

import secrets
import threading
from collections.abc import Sequence
from typing import cast

from redis import Redis

from cleo_email.store.connection import ours
from cleo_email.store.keys import PREFIX


class SigningKeys:
    """``configured`` keys are used as they are; without any, one is kept in Redis."""

    def __init__(self, redis: Redis, configured: Sequence[bytes]) -> None:
        self._redis = redis
        self._keys = tuple(configured)
        self._guard = threading.Lock()

    def __call__(self) -> Sequence[bytes]:
        """Raises StoreUnavailable."""
        with self._guard:
            if not self._keys:
                name = f"{PREFIX}message-id-key"
                with ours():
                    self._redis.set(name, secrets.token_bytes(32), nx=True)
                    self._keys = (cast("bytes", self._redis.get(name)),)
            return self._keys
