"""All Redis keys and scripts of the project. The state of each message is kept here, not in the queue."""

import threading

from redis import Redis

from cleo_email.store.alerts import AlertState
from cleo_email.store.callbacks import CallbackStore, Given
from cleo_email.store.claims import Claim, Claims, Failures
from cleo_email.store.drafts import Draft, Drafts
from cleo_email.store.event_log import Event, EventLog
from cleo_email.store.figures import Figures
from cleo_email.store.files import WaitingFiles
from cleo_email.store.health import LISTENING, HealthStore
from cleo_email.store.locks import Head, Lease, Lock, Locks, Ticks
from cleo_email.store.mailbox import DueList, DueWork, MailboxState
from cleo_email.store.messages import (
    AT_WORK,
    DAY_S,
    LOGIN,
    QUESTION,
    WAITING,
    Accepted,
    Arrival,
    Effects,
    Identity,
    Messages,
    Record,
    Start,
    State,
    ThreadFree,
    ThreadTaken,
    conversation_of,
    iso,
    later_of,
    new_id,
)
from cleo_email.store.sessions import Sessions
from cleo_email.store.threads import Conversations, Threads
from cleo_email.store.totals import Totals

__all__ = ["AT_WORK", "LOGIN", "WAITING", "Accepted", "Arrival", "Claim", "Claims", "Draft", "Drafts"]
__all__ += [
    "QUESTION",
    "Effects",
    "Event",
    "EventLog",
    "Given",
    "Head",
    "Identity",
    "Lease",
    "Lock",
    "Locks",
    "Messages",
    "Record",
    "Start",
    "State",
    "Store",
    "ThreadFree",
    "ThreadTaken",
    "Ticks",
    "conversation_of",
    "iso",
    "later_of",
    "new_id",
]


class Store:
    """The parts of the store on one connection, and ``quick`` for what must not wait long.

    ``events``: changes of state are told to somebody.
    """

    def __init__(
        self,
        redis: Redis,
        *,
        account: str = "",
        retention_days: int = 90,
        quick: Redis | None = None,
        events: bool = False,
    ) -> None:
        added = threading.Event()
        told = added if events else None
        self.messages = Messages(redis, retention_days=retention_days, event_added=told)
        self.event_log = EventLog(redis, added)
        self.conversations = Conversations(redis)
        self.callbacks = CallbackStore(redis, keep_s=(retention_days + 7) * DAY_S)
        self.threads = Threads(redis)
        self.health = HealthStore(redis)
        self.ticks = Ticks(redis)
        self.locks = Locks(redis, beats=quick)
        self.listening = Lease(redis, LISTENING)
        self.mailbox = MailboxState(redis, account)
        self.due_work = DueWork(redis)
        self.filing = DueList(redis, "filing")
        self.settling = DueList(redis, "settling")
        self.fetching = DueList(redis, "fetching")
        self.resuming = DueList(redis, "resuming")
        self.drafting = DueList(redis, "drafting")
        self.handing_over = DueList(redis, "handing-over")
        self.drafts = Drafts(redis)
        self.claims = Claims(redis)
        self.failures = Failures(redis)
        self.files = WaitingFiles(redis)
        self.sessions = Sessions(redis)
        self.figures = Figures(redis)
        self.totals = Totals(redis)
        self.alerts = AlertState(redis)
