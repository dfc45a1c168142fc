"""Reading records: one by its id, or many newest first."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Iterator, Sequence
from dataclasses import fields
from typing import cast

from redis import Redis

from cleo_email.errors import NotFound
from cleo_email.mail.model import OutboundEmail
from cleo_email.store.connection import ours
from cleo_email.store.keys import PREFIX
from cleo_email.store.large import read_large
from cleo_email.store.record import Record, State

_ID = re.compile(r"[0-9a-f]{24}")
# All fields but the texts, which only a thread's history needs.
LIGHT = [spec.name for spec in fields(Record) if spec.name not in ("text", "answer_text")]
MOST_TOLD = 1000  # damaged records, by one process

log = logging.getLogger(__name__)


class Records:
    """What is known of messages. Every method raises StoreUnavailable."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis
        self._damaged: set[str] = set()  # ids that were told of

    def get(self, id_: str) -> Record:
        """Raises NotFound, for a record that cannot be read too."""
        raw: dict[bytes, bytes] = {}
        if _ID.fullmatch(id_):  # other text could name a key beside the record
            with ours():
                raw = cast("dict[bytes, bytes]", self._redis.hgetall(f"{PREFIX}m:{id_}"))
        if not raw:
            raise NotFound(f"there is no message {id_[:60]!r}; see: cleo-email messages list")
        record = self._load(id_, raw)
        if record is None:
            raise NotFound(f"the record of message {id_} is damaged and cannot be read")
        return record

    def source(self, id_: str) -> bytes | None:
        """The stored mail, or None where it was dropped some days after the final state."""
        with ours():
            return read_large(self._redis, f"{PREFIX}m:{id_}:source")

    def answer(self, id_: str) -> OutboundEmail | None:
        """The kept answer, exactly as it is or was submitted."""
        with ours():
            raw = cast("dict[bytes, bytes]", self._redis.hgetall(f"{PREFIX}m:{id_}:answer"))
            source = read_large(self._redis, f"{PREFIX}m:{id_}:answer:bytes") if raw else None
        if source is None:
            return None
        return OutboundEmail(
            raw[b"message_id"].decode(),
            raw[b"envelope_from"].decode(),
            tuple(json.loads(raw[b"recipients"])),
            source,
        )

    def answer_size(self, id_: str) -> int:
        """Octets of the kept answer, 0 where there is none."""
        with ours():
            return self._redis.strlen(f"{PREFIX}m:{id_}:answer:bytes")

    def history(self, id_: str) -> list[dict[str, str]]:
        with ours():
            raw = cast("list[bytes]", self._redis.lrange(f"{PREFIX}m:{id_}:history", 0, -1))
        return [json.loads(entry) for entry in raw]

    def page(
        self,
        *,
        state: str = "",
        thread_id: str = "",
        message_id: str = "",
        limit: int = 100,
        cursor: str = "",
    ) -> tuple[list[Record], str | None]:
        """Records newest first, and the cursor of the next page or None."""
        index = "all"
        if message_id:
            index = f"message-id:{message_id}"
        elif thread_id:
            index = f"thread:{thread_id}"
        elif state:
            index = f"state:{state}"
        found: list[Record] = []
        for record in self._newest_first(f"{PREFIX}index:{index}", cursor, limit):
            if (state and record.state != state) or (thread_id and record.thread_id != thread_id):
                continue
            if len(found) == limit:
                return found, found[-1].id
            found.append(record)
        return found, None

    def count(self, state: State) -> int:
        with ours():
            return self._redis.zcard(f"{PREFIX}index:state:{state}")

    def older_than(self, cutoff_ms: int, limit: int) -> list[str]:
        """Ids of records that arrived before ``cutoff_ms``, oldest first."""
        with ours():
            raw = self._redis.zrange(
                f"{PREFIX}index:all", "-", f"({cutoff_ms:012x}", bylex=True, offset=0, num=limit
            )
        return [item.decode() for item in cast("list[bytes]", raw)]

    def load(self, ids: Sequence[str]) -> list[Record]:
        """The records of these ids that can be read, without the texts that only a thread's history needs."""
        with ours(), self._redis.pipeline(transaction=False) as pipe:
            for id_ in ids:
                pipe.hmget(f"{PREFIX}m:{id_}", LIGHT)
            rows = pipe.execute()
        pairs = (zip((name.encode() for name in LIGHT), row, strict=True) for row in rows)
        found = ({name: value for name, value in pair if value is not None} for pair in pairs)
        records = (self._load(id_, raw) for id_, raw in zip(ids, found, strict=True) if raw)
        return [record for record in records if record is not None]

    def _load(self, id_: str, raw: dict[bytes, bytes]) -> Record | None:
        """None for a damaged one (by a hand in Redis, say): it must not hide the others of a page."""
        try:
            return Record.load(raw)
        except (KeyError, ValueError, TypeError) as error:
            if id_ not in self._damaged and len(self._damaged) < MOST_TOLD:
                self._damaged.add(id_)
                log.error(
                    "the record of message %s is damaged (%s) and is passed over; its mail is in Redis at %s",
                    *(id_, type(error).__name__, f"{PREFIX}m:{id_}:source"),
                )
            return None

    def _newest_first(self, key: str, cursor: str, chunk: int) -> Iterator[Record]:
        start = f"({cursor}" if cursor else "+"
        while True:
            with ours():
                raw = self._redis.zrange(
                    key, start, "-", desc=True, bylex=True, offset=0, num=min(chunk + 1, 1001)
                )
            ids = [item.decode() for item in cast("list[bytes]", raw)]
            if not ids:
                return
            yield from self.load(ids)
            start = f"({ids[-1]}"

    def first_of(self, fingerprint: str, date: str = "") -> str | None:
        """The record that was accepted under this fingerprint, as long as that is remembered.

        ``date`` as in accept.lua: of two that are known, each with another one, they are two mails.
        """
        with ours():
            found = cast("dict[bytes, bytes]", self._redis.hgetall(f"{PREFIX}seen:{fingerprint}"))
        same = (id_ for known, id_ in found.items() if not date or known.decode() in ("", date))
        return next((id_.decode() for id_ in same), None)
