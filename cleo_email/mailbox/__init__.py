"""The edge to IMAP: read a mailbox, mark mail in it, file and find sent mail."""

from .halving import describe_each
from .mailbox import Mailbox
from .values import (
    ACCEPTED,
    ANSWERED,
    FAILED,
    HELD,
    REPLIED,
    SEEN,
    BatchFailed,
    Fetched,
    MailboxStatus,
    MessageInfo,
    Timeouts,
)

__all__ = [
    "ACCEPTED",
    "ANSWERED",
    "FAILED",
    "HELD",
    "REPLIED",
    "SEEN",
    "BatchFailed",
    "Fetched",
    "Mailbox",
    "MailboxStatus",
    "MessageInfo",
    "Timeouts",
    "describe_each",
]
