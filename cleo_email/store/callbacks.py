"""Answers that agents give by callback, until the worker has taken them."""

from dataclasses import dataclass
from typing import cast

from redis import Redis

from cleo_email.store.connection import PREFIX, StorePart, read_large
from cleo_email.store.source import MARK, packed, unpacked


@dataclass(frozen=True)
class Given:
    """What became of a callback: accepted, duplicate, missing, stale, another or over; see give.lua."""

    outcome: str
    state: str
    reason: str


class CallbackStore(StorePart):
    """Keeps the given answers, each for ``keep_s`` seconds at most."""

    def __init__(self, redis: Redis, *, keep_s: int) -> None:
        super().__init__(redis)
        self._keep_s = keep_s

    def give(self, id_: str, number: int | None, digest: str, payload: bytes, now: int) -> Given:
        """Store the answer to question ``number`` (None: the open one), once, and make its conversation due.

        Safe to repeat: the same answer again is a duplicate.
        """
        return self._give(id_, number, now, digest, packed(payload), "")

    def progress(self, id_: str, number: int | None, reason: str, now: int) -> Given:
        """Set the reason of a message that the agent works on; its history stays as it is."""
        return self._give(id_, number, now, "", b"", reason)

    def _give(
        self, id_: str, number: int | None, now: int, digest: str, payload: bytes, progress: str
    ) -> Given:
        asked = "" if number is None else str(number)
        args = [PREFIX, id_, asked, now, digest, payload, self._keep_s, progress]
        outcome, state, reason = cast("list[bytes]", self._run("give", args=args))
        return Given(outcome.decode(), state.decode(), reason.decode("utf-8", "replace"))

    def given(self, id_: str) -> bytes | None:
        """Return the answer that was given, None where there is none."""
        kept = read_large(self._redis, f"{PREFIX}m:{id_}:given")
        if not kept:
            return None
        return unpacked(kept) if kept.startswith(MARK) else kept
