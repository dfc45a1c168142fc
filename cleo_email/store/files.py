"""Attachments of mails that are not composed yet: one copy for all the mails of one request."""

import json
from collections.abc import Sequence
from typing import Any

from cleo_email.mail.model import AttachedFile
from cleo_email.store.connection import PREFIX, StorePart, read_large

# They expire, in case no record ever drops them (a failed start that is never retried).
KEEP_S = 30 * 86_400


class WaitingFiles(StorePart):
    """Keeps files by batch, until every record that needs them is done."""

    @staticmethod
    def put(pipe: Any, batch: str, files: Sequence[AttachedFile], record_ids: Sequence[str]) -> None:
        """Store on ``pipe`` the files, and which records need them."""
        pipe.set(f"{PREFIX}files:{batch}", pack(files), ex=KEEP_S)
        pipe.sadd(f"{PREFIX}files:{batch}:for", *record_ids)
        pipe.expire(f"{PREFIX}files:{batch}:for", KEEP_S)

    def get(self, batch: str) -> tuple[AttachedFile, ...] | None:
        packed = read_large(self._redis, f"{PREFIX}files:{batch}")
        return None if packed is None else unpack(packed)

    def done(self, batch: str, record_id: str, *, keep_s: int = 0) -> None:
        """Note that the record needs them no more. The last one drops them, after ``keep_s`` seconds."""
        self._redis.srem(f"{PREFIX}files:{batch}:for", record_id)
        if not self._redis.exists(f"{PREFIX}files:{batch}:for"):
            self._redis.expire(f"{PREFIX}files:{batch}", keep_s, lt=True)


def pack(files: Sequence[AttachedFile]) -> bytes:
    """Return a line of JSON with names, types and sizes, then the bytes one after the other."""
    head = json.dumps([[file.filename, file.content_type, file.size] for file in files]).encode()
    return b"\n".join([head, b"".join(file.content for file in files)])


def unpack(packed: bytes) -> tuple[AttachedFile, ...]:
    start = packed.index(b"\n") + 1
    head, files = packed[:start], []
    for filename, content_type, size in json.loads(head):
        files.append(AttachedFile(filename, content_type, packed[start : start + size]))
        start += size
    return tuple(files)
