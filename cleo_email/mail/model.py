"""The frozen values that travel between the modules, and the limits within which a mail is read."""

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import NamedTuple


@dataclass(frozen=True)
class ParseLimits:
    """The limits of a mail. Text beyond the last limit is cut; beyond any other the mail is unreadable.

    Real mail stays far below: the largest of some 1,450 public messages has 100 headers and 30 parts.
    """

    message_bytes: int = 64 * 1024 * 1024
    header_bytes: int = 1024 * 1024  # of all header blocks of one mail together
    headers: int = 10_000  # of all parts of one mail together
    parts: int = 500
    depth: int = 50  # multiparts within multiparts
    text_bytes: int = 1024 * 1024  # of text that is shown; what is longer also becomes an attachment


@dataclass(frozen=True)
class Address:
    """One mailbox of RFC 5322 section 3.4. ``addr`` keeps its spelling; ``key`` is for comparing."""

    addr: str
    name: str = ""

    @property
    def key(self) -> str:
        return self.addr.strip().lower()


@dataclass(frozen=True)
class AttachedFile:
    """A file in a mail. ``filename`` is safe: no path, no control characters, never empty."""

    filename: str
    content_type: str
    content: bytes = field(repr=False)
    content_id: str = ""  # without angle brackets; inline images are referred to by it
    inline: bool = False
    charset: str = ""  # as declared, of a text; see parse.attachment_text

    @property
    def size(self) -> int:
        return len(self.content)


@dataclass(frozen=True)
class Body:
    """What a mail holds, with short remarks on what could not be read as it was meant."""

    text: str = ""
    attachments: tuple[AttachedFile, ...] = ()
    notes: tuple[str, ...] = ()


class Split(NamedTuple):
    """``text`` is what the sender wrote now, ``quoted`` everything else: quotes, signatures, their marks."""

    text: str
    quoted: str


@dataclass(frozen=True)
class InboundEmail:
    """A mail as it was read. It is what the sender wrote: none of it proves anything.

    ``message_id``, ``in_reply_to`` and ``references`` keep their angle brackets. ``headers`` holds every
    top-level header in order as (lower-case name, unfolded and decoded value). ``text`` is the new part,
    ``full_text`` all of it, ``quoted`` what was left out of ``text``. ``notes`` are short remarks for the
    record and the agent ("hidden text dropped", "unknown charset x: read as utf-8"). ``unread`` says why the
    text of the mail could not be read, and ``doubt`` why the header can be read in two ways (whatever was
    found out about such a mail proves nothing about what is here); both are empty in most.

    ``read`` reads the body, and ``split`` cuts off what is quoted, when that is first asked for: whoever
    takes a mail in needs neither in most, and the text of HTML takes longer than all the rest. ``remarks``
    are those of the ``notes`` that are known without, ``attached_types`` the types of the files.
    """

    message_id: str = ""
    in_reply_to: tuple[str, ...] = ()
    references: tuple[str, ...] = ()
    from_: tuple[Address, ...] = ()  # every mailbox of every From header, usually exactly one
    sender: Address | None = None
    reply_to: tuple[Address, ...] = ()
    to: tuple[Address, ...] = ()
    cc: tuple[Address, ...] = ()
    subject: str = ""
    date: datetime | None = None  # aware
    content_type: str = "text/plain"  # of the whole message, lower case, without parameters
    headers: tuple[tuple[str, str], ...] = field(default=(), repr=False)
    attached_types: tuple[str, ...] = ()
    remarks: tuple[str, ...] = ()
    doubt: str = ""
    unread: str = ""
    read: Callable[[], Body] = field(default=Body, repr=False, compare=False)
    split: Callable[[], Split] | None = field(default=None, repr=False, compare=False)

    @property
    def full_text(self) -> str:
        return self.read().text

    @property
    def attachments(self) -> tuple[AttachedFile, ...]:
        return self.read().attachments

    @property
    def notes(self) -> tuple[str, ...]:
        return self.read().notes

    @property
    def text(self) -> str:
        return self.split().text if self.split else self.full_text

    @property
    def quoted(self) -> str:
        return self.split().quoted if self.split else ""

    @property
    def from_address(self) -> str:
        """Return the address of the first From mailbox as spelled, or an empty string."""
        return self.from_[0].addr if self.from_ else ""

    @property
    def from_name(self) -> str:
        return self.from_[0].name if self.from_ else ""

    def header(self, name: str) -> str:
        return next(iter(self.header_all(name)), "")

    def header_all(self, name: str) -> tuple[str, ...]:
        wanted = name.lower()
        return tuple(value for key, value in self.headers if key == wanted)


class Action(StrEnum):
    ANSWER = "answer"
    IGNORE = "ignore"
    HOLD = "hold"


@dataclass(frozen=True)
class Verdict:
    """The decision about a mail, with its reason for the record."""

    action: Action
    reason: str = ""


@dataclass(frozen=True)
class Turn:
    """One step of a thread as the agent sees it: ``role`` is ``user``, ``assistant`` or ``person``.

    A person is one of ours, who answered in the agent's place.

    ``people`` were on that mail, its author and all to whom it was addressed, and ``answered`` got our answer
    to it; both as of ``mail.address.person``. ``by_agent``: it is not a mail that an application sent.
    """

    role: str
    content: str
    people: frozenset[str] = frozenset()
    answered: frozenset[str] = frozenset()
    by_agent: bool = False


@dataclass(frozen=True)
class Ask:
    """A question of the agent's: to the customer, or ``to`` an address. ``context`` is JSON, '' for none."""

    question: str
    to: Address | None = None
    context: str = ""


@dataclass(frozen=True)
class Answer:
    """What the agent decided: ``text`` to be mailed (Markdown), or in ``ignore`` why nothing is.

    ``review`` says why a person is to look at the text before it leaves, ``handoff`` why the thread is handed
    over to people; with the latter ``text`` is the agent's last word, and may be empty. ``later``: the answer
    comes by callback. ``ask``: first somebody is to be asked by mail.
    """

    text: str = ""
    attachments: tuple[AttachedFile, ...] = ()
    ignore: str = ""
    review: str = ""
    handoff: str = ""
    later: bool = False
    ask: Ask | None = None


@dataclass(frozen=True)
class OutboundEmail:
    """A finished mail, fixed before submission: a retry sends these bytes."""

    message_id: str
    envelope_from: str
    recipients: tuple[str, ...]
    source: bytes = field(repr=False)  # RFC 5322, CRLF line ends


@dataclass(frozen=True)
class Receipt:
    """The server accepted the mail, but for some recipients, each with the server's words: those that it
    ``refused``, and the ``deferred`` ones, which it may accept later."""

    response: str = ""
    refused: dict[str, str] = field(default_factory=dict)
    deferred: dict[str, str] = field(default_factory=dict)
