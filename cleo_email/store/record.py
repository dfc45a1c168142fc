"""A record of one message: its state, and the one table of which state may follow which."""

from __future__ import annotations

import secrets
from dataclasses import dataclass, fields
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any


class State(StrEnum):
    RECEIVED = "received"
    ANSWERING = "answering"
    SUBMITTING = "submitting"
    REPLIED = "replied"
    IGNORED = "ignored"
    HELD = "held"
    FAILED = "failed"
    UNCERTAIN = "uncertain"


S = State
# From which states a record may come into the one named. A state may follow itself: the reason changes.
MAY_BECOME: dict[State, tuple[State, ...]] = {
    S.RECEIVED: (S.HELD, S.FAILED, S.RECEIVED),  # released, retried
    S.ANSWERING: (S.RECEIVED, S.ANSWERING),
    S.SUBMITTING: (S.ANSWERING, S.SUBMITTING, S.HELD, S.FAILED, S.UNCERTAIN),
    S.REPLIED: (S.SUBMITTING, S.UNCERTAIN, S.REPLIED),
    S.IGNORED: (S.RECEIVED, S.ANSWERING, S.HELD, S.FAILED, S.UNCERTAIN),  # the last three: dismissed
    S.HELD: (S.RECEIVED, S.ANSWERING, S.SUBMITTING),
    S.FAILED: (S.RECEIVED, S.ANSWERING, S.SUBMITTING, S.UNCERTAIN),
    S.UNCERTAIN: (S.SUBMITTING, S.UNCERTAIN),
}
# Nothing follows by itself; the source is dropped some days later. The others wait for a person.
FINAL = frozenset({State.REPLIED, State.IGNORED})
WAITING = frozenset({State.HELD, State.FAILED, State.UNCERTAIN})  # for a person
AT_WORK = frozenset({State.RECEIVED, State.ANSWERING, State.SUBMITTING})


def new_id(now_ms: int) -> str:
    """A record's id: 24 hexadecimal digits that sort by time of arrival."""
    return f"{now_ms:012x}{secrets.token_hex(6)}"


@dataclass(frozen=True)
class Record:
    """What is known of one message. Times are milliseconds since 1970 UTC.

    ``thread_id`` is also the conversation in whose list the message waits. ``attempts`` counts whatever was
    tried and is for people only; what bounds the work is ``tries`` (calls of the agent), ``sends``
    (submissions that failed, since ``sends_since``) and ``faults`` (unexpected ones, our own).
    ``data_ended_at`` is set just before the end of DATA is sent: from then on
    the message may have been accepted, whatever happens to us.
    """

    id: str
    state: State
    thread_id: str
    received_at: int
    updated_at: int = 0
    reason: str = ""
    message_id: str = ""
    in_reply_to: str = ""
    from_address: str = ""
    to_address: str = ""
    subject: str = ""
    ingress: str = ""
    attempts: int = 0
    tries: int = 0
    faults: int = 0
    sends: int = 0
    sends_since: int = 0
    data_ended_at: int = 0
    reply_message_id: str = ""
    envelope_from: str = ""
    envelope_known: int = 0
    authenticated: str = ""  # "1", "0" or "" for unknown
    mailbox: str = ""  # UIDVALIDITY/UID of a polled mail
    partial: int = 0  # 1: only the header was fetched
    outbound: str = ""  # JSON of a mail that is sent unasked (send, workflow); "" for an answer to a mail
    workflow: str = ""  # JSON of the workflow that the thread belongs to
    text: str = ""  # new part of the mail, kept for the thread's history
    answer_text: str = ""
    filing_begun: int = 0  # when our copy was first about to be put into Sent
    released: int = 0  # a person let it through: limits do not hold it again
    looks: int = 0  # searches of Sent for an uncertain mail

    @classmethod
    def load(cls, raw: dict[bytes, bytes]) -> Record:
        """From a Redis hash; unknown fields of newer versions are left alone."""
        known: dict[str, Any] = {}
        for spec in fields(cls):
            value = raw.get(spec.name.encode())
            if value is not None:
                text = value.decode("utf-8", "replace")
                known[spec.name] = int(text) if spec.type == "int" else text
        known["state"] = State(known["state"])
        return cls(**known)

    def dump(self) -> dict[str, str | int]:
        return {
            spec.name: getattr(self, spec.name) for spec in fields(self) if getattr(self, spec.name) != ""
        }

    def public(self) -> dict[str, object]:
        """The record as the HTTP interface and ``--json`` show it."""
        return {
            "id": self.id,
            "state": str(self.state),
            "reason": self.reason,
            "thread_id": self.thread_id,
            "message_id": self.message_id,
            "in_reply_to": self.in_reply_to,
            "from_address": self.from_address,
            "subject": self.subject,
            "received_at": iso(self.received_at),
            "updated_at": iso(self.updated_at or self.received_at),
            "attempts": self.attempts,
            "reply_message_id": self.reply_message_id,
        }


def iso(ms: int) -> str:
    """ISO 8601 in UTC with milliseconds."""
    return datetime.fromtimestamp(ms / 1000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
