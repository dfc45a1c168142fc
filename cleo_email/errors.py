"""Every error that leaves a module of this package, in one tree.

``retry_helps`` is true for a temporary fault, which is tried again later with the same input; any other ends
in a state that a person can see. Edges (IMAP, SMTP, Redis, agents) turn foreign exceptions into these.
"""

import errno
import socket
import traceback
from collections.abc import Sequence
from typing import ClassVar


def place_of(error: BaseException) -> str:
    """Return the kind of an unexpected error and its place; its text may hold what a stranger sent."""
    frames = traceback.extract_tb(error.__traceback__)
    where = f"{frames[-1].filename.rpartition('/')[2]}:{frames[-1].lineno}" if frames else "an unknown place"
    return f"{type(error).__name__} at {where}"


def network_words(error: OSError) -> str:
    """Return why there is no connection, for a person: without an error number, with what to look at."""
    if isinstance(error, TimeoutError):
        return "no answer in time"
    if isinstance(error, socket.gaierror):
        if error.errno in (socket.EAI_NONAME, getattr(socket, "EAI_NODATA", socket.EAI_NONAME)):
            return "no server of this name is known: look for a typo"
        return "the name cannot be looked up now"
    if isinstance(error, ConnectionRefusedError):
        return "refused: nothing listens there, or a firewall is between"
    if error.errno in (errno.ENETUNREACH, errno.EHOSTUNREACH, errno.ENETDOWN):
        return "there is no way to it: look at the network of this machine, and for a firewall"
    if isinstance(error, ConnectionResetError | BrokenPipeError):
        return "the connection was cut"
    return error.strerror or str(error) or type(error).__name__


# The exit status for faulty settings. gunicorn ends on this status of a worker that fails at import; on any
# other it restarts it for ever.
BAD_SETTINGS = 3


class CleoError(Exception):
    """Base of all; its text is one line that a person can act on and never holds a secret or a body."""

    retry_helps: ClassVar[bool] = False


class SettingsError(CleoError):
    """The environment holds missing or nonsensical values; ``faults`` has one line for each."""

    def __init__(self, faults: Sequence[str]) -> None:
        super().__init__("; ".join(faults))
        self.faults = tuple(faults)


class UnreadableMessage(CleoError):
    """The bytes are no message that can be read (beyond a cap on headers, parts or depth)."""


class InvalidField(CleoError):
    """A value from outside that cannot be used; ``field`` names it."""

    def __init__(self, field: str, message: str) -> None:
        super().__init__(message)
        self.field = field


class StoreUnavailable(CleoError):
    """Redis did not answer in time or not at all; nothing was half written."""

    retry_helps = True


class LockLost(CleoError):
    """Another process has taken the conversation over, so this one must record nothing."""

    retry_helps = True


class WrongState(CleoError):
    """The record's state does not allow the change."""


class AlreadyAnswered(WrongState):
    """The agent has given another answer to the question before, and the first one stands."""


class NotFound(CleoError):
    """No record, thread or file of that name."""


class KeyReused(CleoError):
    """The idempotency key was used for something else within 24 hours."""


class AgentError(CleoError):
    """The agent gave no usable answer and asking again will not help (4xx, malformed answer)."""


class AgentUnavailable(AgentError):
    """The agent could not be reached, was overloaded or ran out of time."""

    retry_helps = True


class TokenError(CleoError):
    """There is no access token until a person acts: a login that was revoked, a wrong client or scope."""


class TokenUnavailable(TokenError):
    """The token server could not be reached, was overloaded or made no sense; asking later can help."""

    retry_helps = True


class SubmissionError(CleoError):
    """The server refused this mail for good (5xx, no STARTTLS, untrusted certificate)."""


class SubmissionUnavailable(SubmissionError):
    """A temporary fault before the end of DATA: the server has certainly not accepted the mail."""

    retry_helps = True


class SubmissionLimited(SubmissionUnavailable):
    """The server takes no mail of this account for a while: a daily limit, or the account is blocked.

    ``permanent``: it used a code that means "never" for the mail.
    """

    def __init__(self, message: str, *, permanent: bool) -> None:
        super().__init__(message)
        self.permanent = permanent


class SubmissionLoginRefused(SubmissionError):
    """The server refuses the login (535): nothing can be sent until a person acts."""

    retry_helps = True


class SubmissionUncertain(SubmissionError):
    """The connection broke after the end of DATA and before its answer: the server may have the mail."""


class MailboxError(CleoError):
    """The mailbox cannot be used until a person acts (untrusted certificate, no such mailbox)."""


class MailboxUnavailable(MailboxError):
    """A temporary fault of the IMAP server or of the way to it."""

    retry_helps = True


class MailboxLoginRefused(MailboxError):
    """The server says ``[AUTHENTICATIONFAILED]``: user or password is wrong."""
