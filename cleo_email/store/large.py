"""Reading values of many megabytes: the client's own way holds four copies of one at once."""

from __future__ import annotations

import io
from typing import cast

from redis import Redis

PIECE = 1 << 20  # bytes


def read_large(redis: Redis, key: str) -> bytes | None:
    """The string at ``key``, which nobody changes meanwhile, or None where there is none."""
    first = cast("bytes", redis.getrange(key, 0, PIECE - 1))
    if not first:
        return cast("bytes | None", redis.get(key))
    if len(first) < PIECE:
        return first
    whole = io.BytesIO()  # its value is taken without another copy
    piece = first
    while piece:
        whole.write(piece)
        piece = cast("bytes", redis.getrange(key, whole.tell(), whole.tell() + PIECE - 1))
    return whole.getvalue()
