"""Logins of the operator page: links that were mailed, and sessions. Their secrets are kept as hashes."""

from __future__ import annotations

import hashlib
import json
import secrets
from typing import cast

from cleo_email.store.connection import PREFIX, StorePart, json_text

LINK_S = 900
SESSION_S = 43_200
MOST_LINKS = 5  # for one address, within the time of one


class Sessions(StorePart):
    """Keeps who is logged in. ``holder`` is what a caller made of a login, and gets back."""

    def make_link(self, address: str) -> str | None:
        """Return the secret of a new link for this address, None where there were many just now."""
        asked = f"{PREFIX}links:{_digest(address)}"
        with self._redis.pipeline() as pipe:
            pipe.set(asked, 0, ex=LINK_S, nx=True)
            pipe.incr(asked)
            count = int(pipe.execute()[1])
        if count > MOST_LINKS:
            return None
        secret = secrets.token_urlsafe(32)
        self._redis.set(f"{PREFIX}link:{_digest(secret)}", address, ex=LINK_S)
        return secret

    def has_link(self, secret: str) -> bool:
        return bool(self._redis.exists(f"{PREFIX}link:{_digest(secret)}"))

    def use_link(self, secret: str) -> str:
        """Return the address for which the link was made, once; '' for one that is used or too old."""
        raw = cast("bytes | None", self._redis.getdel(f"{PREFIX}link:{_digest(secret)}"))
        return raw.decode() if raw else ""

    def open(self, holder: dict[str, str]) -> str:
        """Begin a session and return its secret."""
        secret = secrets.token_urlsafe(32)
        self._redis.set(f"{PREFIX}session:{_digest(secret)}", json_text(holder), ex=SESSION_S)
        return secret

    def holder(self, secret: str) -> dict[str, str] | None:
        """Return whose session this is, None where it has ended."""
        raw = cast("bytes | None", self._redis.get(f"{PREFIX}session:{_digest(secret)}"))
        return cast("dict[str, str]", json.loads(raw)) if raw else None

    def close(self, secret: str) -> None:
        self._redis.delete(f"{PREFIX}session:{_digest(secret)}")


def _digest(secret: str) -> str:
    return hashlib.sha256(secret.encode("utf-8", "replace")).hexdigest()
