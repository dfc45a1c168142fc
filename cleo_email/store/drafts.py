"""The drafts that lie in the Drafts mailbox, or may: answers that wait for a person."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import cast

from cleo_email.store.connection import PREFIX, StorePart, json_text

DRAFTS = f"{PREFIX}drafts"


@dataclass(frozen=True)
class Draft:
    """Where the draft of a record's answer lies.

    ``place`` is UIDVALIDITY/UID, '' from before it is stored until its UID is known: then it may be there.
    ``edited``: a person has saved it anew. ``missed``: when (ms) it was first not found, or the
    mail was first flagged as answered, 0 while neither is so.
    """

    thread_id: str
    message_id: str  # ours, of the kept answer
    answers: str  # the Message-ID of the mail that it answers, '' where that has none
    place: str = ""
    edited: bool = False
    missed: int = 0
    removing: bool = False  # we have begun to remove it


class Drafts(StorePart):
    """Keeps every draft of ours from before it is put into the mailbox until it is certain to be gone."""

    def put(self, id_: str, draft: Draft) -> None:
        self._redis.hset(DRAFTS, id_, json_text(asdict(draft)))

    def get(self, id_: str) -> Draft | None:
        raw = cast("bytes | None", self._redis.hget(DRAFTS, id_))
        return Draft(**json.loads(raw)) if raw else None

    def all(self) -> dict[str, Draft]:
        """Return every draft by the id of its record."""
        raw = cast("dict[bytes, bytes]", self._redis.hgetall(DRAFTS))
        return {id_.decode(): Draft(**json.loads(value)) for id_, value in raw.items()}

    def of_thread(self, thread_id: str) -> dict[str, Draft]:
        return {id_: draft for id_, draft in self.all().items() if draft.thread_id == thread_id}

    def gone(self, id_: str) -> None:
        """Note that nobody can send the draft of this record any more."""
        self._redis.hdel(DRAFTS, id_)
