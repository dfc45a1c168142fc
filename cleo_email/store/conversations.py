"""Conversations: which have work, when it is due, and whose wake-up is on its way."""

from __future__ import annotations

from typing import cast

from cleo_email.store.connection import PREFIX, StorePart


class Conversations(StorePart):
    """A conversation is the list of the messages of one thread that still have to be handled, in order."""

    def head(self, thread_id: str, now: int) -> str | None:
        """Return the message to handle now, None where there is none or it is not due yet."""
        with self._redis.pipeline(transaction=False) as pipe:
            pipe.lindex(f"{PREFIX}conversation:{thread_id}", 0)
            pipe.zscore(f"{PREFIX}active", thread_id)
            pipe.delete(f"{PREFIX}woken:{thread_id}")
            head, due, _ = pipe.execute()
        if head is None or (due is not None and due > now):
            return None
        return cast("bytes", head).decode()

    def drop_head(self, thread_id: str, id_: str) -> None:
        """Take an id whose record was forgotten off the list."""
        self._run(
            "drop", keys=[f"{PREFIX}conversation:{thread_id}", f"{PREFIX}active"], args=[id_, thread_id]
        )

    def due(self, now: int, limit: int, *, offset: int = 0) -> list[str]:
        """Return threads with work that is due, longest waiting first, being handled or not."""
        raw = self._redis.zrange(f"{PREFIX}active", "-inf", now, byscore=True, offset=offset, num=limit)
        return [item.decode() for item in cast("list[bytes]", raw)]

    def hurry(self, thread_id: str, now: int) -> bool:
        """Make due now what was due later. Return False where there is no such work."""
        return bool(self._redis.zadd(f"{PREFIX}active", {thread_id: now}, xx=True, lt=True, ch=True))

    def unlocked(self, threads: list[str]) -> list[str]:
        with self._redis.pipeline(transaction=False) as pipe:
            for thread in threads:
                pipe.exists(f"{PREFIX}lock:conversation:{thread}")
            held = pipe.execute()
        return [thread for thread, taken in zip(threads, held, strict=True) if not taken]

    def claim_wake(self, thread_id: str, seconds: int) -> bool:
        """Return True for one caller in ``seconds``: a lost wake-up is repeated, not multiplied."""
        return bool(self._redis.set(f"{PREFIX}woken:{thread_id}", 1, nx=True, ex=seconds))
