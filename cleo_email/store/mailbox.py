"""The state of the mailbox in Redis: how far it was read, the work that waits for it, its OAuth login."""

from collections.abc import Iterable
from typing import cast

from redis import Redis

from cleo_email.store.connection import PREFIX, StorePart


class MailboxState(StorePart):
    """Keeps what polls need, per UIDVALIDITY. ``account`` is '' where there is no mailbox."""

    def __init__(self, redis: Redis, account: str) -> None:
        super().__init__(redis)
        self._key = f"{PREFIX}mailbox:{account}"
        self.is_configured = bool(account)

    def cursor(self, uidvalidity: int) -> int | None:
        """Return the highest UID that was processed, None for a mailbox or a UIDVALIDITY never seen."""
        raw = cast("bytes | None", self._redis.hget(f"{self._key}:cursor", str(uidvalidity)))
        return int(raw) if raw is not None else None

    def set_cursor(self, uidvalidity: int, uid: int) -> None:
        self._redis.hset(f"{self._key}:cursor", str(uidvalidity), uid)

    def known(self) -> bool:
        """Return whether this mailbox was ever read under any UIDVALIDITY."""
        return bool(self._redis.exists(f"{self._key}:cursor"))

    def trouble(self, uidvalidity: int) -> dict[int, int]:
        """Return how often each UID that failed alone could not be fetched."""
        raw = cast("dict[bytes, bytes]", self._redis.hgetall(f"{self._key}:trouble:{uidvalidity}"))
        return {int(uid): int(count) for uid, count in raw.items()}

    def add_trouble(self, uidvalidity: int, uid: int) -> None:
        self._redis.hincrby(f"{self._key}:trouble:{uidvalidity}", str(uid), 1)

    def sent_mode(self) -> str:
        """Return who files into Sent: ``server``, ``client``, or '' where that is not known yet."""
        raw = cast("bytes | None", self._redis.get(f"{PREFIX}sent-mode"))
        return (raw or b"").decode()

    def set_sent_mode(self, mode: str) -> None:
        """Remember it for a week: a mailbox may move to another server."""
        self._redis.set(f"{PREFIX}sent-mode", mode, ex=7 * 86_400)


class DueList(StorePart):
    """Records that wait for the mailbox: to be filed, settled or fetched."""

    def __init__(self, redis: Redis, name: str) -> None:
        super().__init__(redis)
        self._key = f"{PREFIX}{name}"

    def due(self, now: int, limit: int = 500) -> list[str]:
        raw = self._redis.zrange(self._key, "-inf", now, byscore=True, offset=0, num=limit)
        return [item.decode() for item in cast("list[bytes]", raw)]

    def add(self, id_: str, due: int) -> None:
        self._redis.zadd(self._key, {id_: due})

    def put_off(self, ids: Iterable[str], due: int) -> None:
        """Let those that still wait be due at ``due`` or, where that is later, as they are."""
        if later := dict.fromkeys(ids, due):
            self._redis.zadd(self._key, later, xx=True, gt=True)

    def done(self, id_: str) -> None:
        self._redis.zrem(self._key, id_)


class TokenStore(StorePart):
    """Keeps OAuth logins, which are encrypted by the caller."""

    def get(self, name: str) -> bytes | None:
        return cast("bytes | None", self._redis.get(f"{PREFIX}oauth:{name}"))

    def put(self, name: str, blob: bytes) -> None:
        """Store it without an expiry, since a refresh token may be valid for years."""
        self._redis.set(f"{PREFIX}oauth:{name}", blob)
