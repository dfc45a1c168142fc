"""Every Redis key and script of the project. The truth about each message is here, not in the queue."""

from __future__ import annotations

from dataclasses import dataclass

from redis import Redis

from cleo_email.store.conversations import Conversations
from cleo_email.store.events import Claim, Events, Failures
from cleo_email.store.files import WaitingFiles
from cleo_email.store.health import HealthStore
from cleo_email.store.locks import Lock, Locks
from cleo_email.store.mailbox import DueList, MailboxState
from cleo_email.store.messages import (
    AT_WORK,
    FINAL,
    WAITING,
    Accepted,
    Effects,
    Identity,
    Messages,
    Record,
    Start,
    State,
    ThreadClosed,
    iso,
    new_id,
)
from cleo_email.store.threads import Threads
from cleo_email.store.ticks import Ticks

__all__ = [
    "AT_WORK",
    "FINAL",
    "WAITING",
    "Accepted",
    "Claim",
    "Conversations",
    "DueList",
    "Effects",
    "Events",
    "Failures",
    "HealthStore",
    "Identity",
    "Lock",
    "Locks",
    "MailboxState",
    "Messages",
    "Record",
    "Start",
    "State",
    "Store",
    "ThreadClosed",
    "Threads",
    "Ticks",
    "WaitingFiles",
    "iso",
    "new_id",
]


@dataclass(frozen=True)
class Store:
    messages: Messages
    conversations: Conversations
    threads: Threads
    health: HealthStore
    ticks: Ticks
    locks: Locks
    mailbox: MailboxState
    filing: DueList
    settling: DueList
    fetching: DueList
    events: Events
    failures: Failures
    files: WaitingFiles

    @classmethod
    def on(cls, redis: Redis, *, account: str = "", retention_days: int = 90) -> Store:
        return cls(
            Messages(redis, retention_days=retention_days),
            Conversations(redis),
            Threads(redis),
            HealthStore(redis),
            Ticks(redis),
            Locks(redis),
            MailboxState(redis, account),
            DueList(redis, "filing"),
            DueList(redis, "settling"),
            DueList(redis, "fetching"),
            Events(redis),
            Failures(redis),
            WaitingFiles(redis),
        )
