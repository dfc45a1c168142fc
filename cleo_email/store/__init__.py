"""All Redis keys and scripts of the project. The state of each message is kept here, not in the queue."""

from redis import Redis

from cleo_email.store.callbacks import CallbackStore, Given
from cleo_email.store.drafts import Draft, Drafts
from cleo_email.store.events import Claim, Events, Failures
from cleo_email.store.figures import Figures
from cleo_email.store.files import WaitingFiles
from cleo_email.store.health import HealthStore
from cleo_email.store.locks import Lock, Locks, Ticks
from cleo_email.store.mailbox import DueList, MailboxState
from cleo_email.store.messages import (
    AT_WORK,
    DAY_S,
    LOGIN,
    QUESTION,
    WAITING,
    Accepted,
    Effects,
    Identity,
    Messages,
    Record,
    Start,
    State,
    ThreadClosed,
    ThreadFree,
    ThreadTaken,
    conversation_of,
    iso,
    later_of,
    new_id,
)
from cleo_email.store.sessions import Sessions
from cleo_email.store.threads import Conversations, Threads

__all__ = ["AT_WORK", "LOGIN", "WAITING", "Accepted", "Claim", "Draft", "Drafts", "Effects"]
__all__ += [
    "QUESTION",
    "Events",
    "Given",
    "Identity",
    "Lock",
    "Locks",
    "Messages",
    "Record",
    "Start",
    "State",
    "Store",
    "ThreadClosed",
    "ThreadFree",
    "ThreadTaken",
    "Ticks",
    "conversation_of",
    "iso",
    "later_of",
    "new_id",
]


class Store:
    """The parts of the store on one connection."""

    def __init__(self, redis: Redis, *, account: str = "", retention_days: int = 90) -> None:
        self.messages = Messages(redis, retention_days=retention_days)
        self.conversations = Conversations(redis)
        self.callbacks = CallbackStore(redis, keep_s=(retention_days + 7) * DAY_S)
        self.threads = Threads(redis)
        self.health = HealthStore(redis)
        self.ticks = Ticks(redis)
        self.locks = Locks(redis)
        self.mailbox = MailboxState(redis, account)
        self.filing = DueList(redis, "filing")
        self.settling = DueList(redis, "settling")
        self.fetching = DueList(redis, "fetching")
        self.resuming = DueList(redis, "resuming")
        self.drafting = DueList(redis, "drafting")
        self.handing_over = DueList(redis, "handing-over")
        self.drafts = Drafts(redis)
        self.events = Events(redis)
        self.failures = Failures(redis)
        self.files = WaitingFiles(redis)
        self.sessions = Sessions(redis)
        self.figures = Figures(redis)
