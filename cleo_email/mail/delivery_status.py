"""The field groups of message/delivery-status (RFC 3464 section 2.1), wherever they stand."""

from __future__ import annotations

from dataclasses import dataclass

from cleo_email.mail.report_parts import Fields, field, split_message
from cleo_email.mail.smtp_status import better, leading_status, status_in

_MAX_GROUPS = 500
_MAX_ADDRESS = 320
# What makes a group one about a recipient; "Status:" alone is a word of many texts.
_RECIPIENT_FIELDS = ("final-recipient", "original-recipient", "action")
_WORST_FIRST = ("failed", "delayed", "relayed", "expanded", "delivered")


@dataclass(frozen=True)
class RecipientStatus:
    """What became of one recipient. ``action`` is in lower case, possibly empty."""

    recipient: str
    action: str
    status: str
    diagnostic: str


def recipient_statuses(text: bytes) -> list[RecipientStatus]:
    """Every per-recipient group of ``text``, which may hold other paragraphs too. Expects LF line ends."""
    return [_status(group) for group in _groups(text) if any(field(group, n) for n in _RECIPIENT_FIELDS)]


def message_fields(text: bytes) -> Fields:
    """The fields of the first group, which is about the message."""
    return next(iter(_groups(text)), ())


def worst(statuses: list[RecipientStatus]) -> RecipientStatus:
    """The first recipient for whom it went worst; of an unknown action, the status decides."""
    return min(statuses, key=lambda one: _rank(one))


def _rank(one: RecipientStatus) -> int:
    if one.action in _WORST_FIRST:
        return _WORST_FIRST.index(one.action)
    return {"5": 0, "4": 1, "2": 4}.get(one.status[:1], 0)


def _groups(text: bytes) -> list[Fields]:
    groups: list[Fields] = []
    for paragraph in text.split(b"\n\n", _MAX_GROUPS)[:_MAX_GROUPS]:
        fields, _ = split_message(paragraph.strip(b"\n"))
        if fields:
            groups.append(fields)
    return groups


def _status(group: Fields) -> RecipientStatus:
    diagnostic = field(group, "diagnostic-code").partition(";")
    words = (diagnostic[2] or diagnostic[0]).strip()
    status = better(leading_status(field(group, "status")), status_in(words))
    action = field(group, "action").partition(" ")[0].strip(" ;").lower()
    return RecipientStatus(_recipient(group), action, status, words)


def _recipient(group: Fields) -> str:
    """Final-Recipient first: it is who the server knows (RFC 3464 section 2.3.2)."""
    for name in ("final-recipient", "original-recipient", "x-actual-recipient"):
        if address := bare_address(field(group, name).rpartition(";")[2]):
            return address
    return ""


def bare_address(value: str) -> str:
    """``value`` without angle brackets and quotes where it looks like an address, else an empty string."""
    value = value.strip(" \t<>\"'")
    if "@" not in value or len(value) > _MAX_ADDRESS or any(char.isspace() for char in value):
        return ""
    return value if value.isprintable() else ""
