"""Answers that agents give by callback, until the worker has taken them."""

import zlib
from dataclasses import dataclass
from typing import cast

from redis import Redis

from cleo_email.store.connection import PREFIX, StorePart, read_large

COMPRESSED_FROM = 4096  # bytes; most of it is base64, of which a quarter is air
_PLAIN, _PACKED = b"j", b"z"


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
        packed = _PLAIN + payload
        if len(payload) >= COMPRESSED_FROM:
            packed = _PACKED + zlib.compress(payload, 1)
        return self._give(id_, number, now, digest, packed, "")

    def progress(self, id_: str, number: int | None, reason: str, now: int) -> Given:
        """Set the reason of a message that the agent works on; its history stays as it is."""
        return self._give(id_, number, now, "", b"", reason)

    def _give(
        self, id_: str, number: int | None, now: int, digest: str, packed: bytes, progress: str
    ) -> Given:
        asked = "" if number is None else str(number)
        args = [PREFIX, id_, asked, now, digest, packed, self._keep_s, progress]
        outcome, state, reason = cast("list[bytes]", self._run("give", args=args))
        return Given(outcome.decode(), state.decode(), reason.decode("utf-8", "replace"))

    def given(self, id_: str) -> bytes | None:
        """Return the answer that was given, None where there is none."""
        packed = read_large(self._redis, f"{PREFIX}m:{id_}:given")
        if not packed:
            return None
        return zlib.decompress(packed[1:]) if packed[:1] == _PACKED else packed[1:]
