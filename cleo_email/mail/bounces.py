"""Reports about mail that we sent: bounces, delays, receipts, complaints.

Such a mail belongs to the delivery that it reports on; nobody answers it. Read are RFC 3464 (delivery
status), RFC 8098 (receipts), RFC 5965 (feedback) and the plain texts of qmail, Exim, Postfix, Exchange and
others, which put into words what they know.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum

from cleo_email.mail import plain_bounces
from cleo_email.mail.automatic_subjects import is_bounce_subject
from cleo_email.mail.delivery_status import (
    RecipientStatus,
    bare_address,
    message_fields,
    recipient_statuses,
    worst,
)
from cleo_email.mail.model import InboundEmail
from cleo_email.mail.report_marks import report_mark
from cleo_email.mail.report_parts import Part, as_text, field, leaves, split_message

_MAX_DIAGNOSTIC = 500
_MAX_ID = 998
_MESSAGE_ID = re.compile(r"<[^<>\s]{1,996}>")
_DELIVERY_STATUS = ("message/delivery-status", "message/global-delivery-status")
_RECEIPT = ("message/disposition-notification", "message/global-disposition-notification")
_RETURNED = ("message/rfc822", "message/global", "text/rfc822-headers", "message/rfc822-headers")


class ReportKind(StrEnum):
    BOUNCE = "bounce"  # given up
    DELAY = "delay"  # the server goes on trying
    DELIVERED = "delivered"
    RELAYED = "relayed"  # handed to a server that sends no reports
    FEEDBACK = "feedback"  # a complaint, or an unsubscription
    RECEIPT = "receipt"  # read, deleted, … by the recipient


_KINDS = {
    "failed": ReportKind.BOUNCE,
    "delayed": ReportKind.DELAY,
    "delivered": ReportKind.DELIVERED,
    "expanded": ReportKind.DELIVERED,
    "relayed": ReportKind.RELAYED,
}


@dataclass(frozen=True)
class Report:
    """What a report says about one delivery; what it does not say is an empty string.

    ``recipient`` is the address that it is about (of several, the first that went worst), ``status`` the
    code of RFC 3463 (``5.1.1``), ``diagnostic`` the server's words on one line of at most 500 characters,
    ``original_message_id`` the Message-ID of our mail with its angle brackets.
    """

    kind: ReportKind
    recipient: str = ""
    status: str = ""
    diagnostic: str = ""
    original_message_id: str = ""


def read_report(source: bytes, mail: InboundEmail, *, envelope_from: str | None = None) -> Report | None:
    """The report that ``source`` is, or None if it is none. Raises nothing; linear in the size of the source.

    ``mail`` is the same message, parsed; ``envelope_from`` its envelope sender as in ``screening.screen``. A
    person who forwards or describes a bounce sends no report: the message itself must bear the marks of one
    (its type, its sender, an empty Return-Path), or the subject of one and a part that is one.
    """
    marked = bool(report_mark(mail, envelope_from) or mail.header("x-apple-unsubscribe"))
    if not marked and not is_bounce_subject(mail.subject):
        return None
    parts = leaves(source)
    structured = _feedback(parts, mail) or _receipt(parts, mail) or _delivery_status(parts, mail)
    if structured or not marked:
        return structured
    return _plain(parts, mail) or _bare_type(parts, mail)


def _of_type(parts: list[Part], types: tuple[str, ...]) -> list[Part]:
    return [part for part in parts if part.content_type in types]


def _feedback(parts: list[Part], mail: InboundEmail) -> Report | None:
    reports = _of_type(parts, ("message/feedback-report",))
    if reports:
        fields = split_message(reports[0].body.lstrip(b"\n"))[0]
        recipient = field(fields, "original-rcpt-to") or field(fields, "removal-recipient")
        kind = field(fields, "feedback-type")
        return _report(ReportKind.FEEDBACK, recipient, "", kind, _original_id(parts, mail))
    if mail.header("x-apple-unsubscribe"):  # Apple Mail's "unsubscribe" button
        sender = mail.from_address
        return _report(ReportKind.FEEDBACK, sender, "", "unsubscribe", _original_id(parts, mail))
    returned = _of_type(parts, _RETURNED)
    if returned and mail.subject.strip().lower().startswith("complaint about message from "):
        fields = split_message(returned[0].body)[0]
        recipient = field(fields, "x-hmxmroriginalrecipient")
        return _report(ReportKind.FEEDBACK, recipient, "", "abuse", _original_id(parts, mail))
    return None


def _receipt(parts: list[Part], mail: InboundEmail) -> Report | None:
    reports = _of_type(parts, _RECEIPT)
    if not reports:
        return None
    fields = split_message(reports[0].body.lstrip(b"\n"))[0]
    recipient = field(fields, "final-recipient") or field(fields, "original-recipient")
    original = _first_id(field(fields, "original-message-id")) or _original_id(parts, mail)
    return _report(
        ReportKind.RECEIPT, recipient.rpartition(";")[2], "", field(fields, "disposition"), original
    )


def _delivery_status(parts: list[Part], mail: InboundEmail) -> Report | None:
    for part in _of_type(parts, _DELIVERY_STATUS):
        statuses = recipient_statuses(part.body)
        if not statuses:
            continue
        named = _first_id(field(message_fields(part.body), "x-original-message-id"))
        original = _original_id(parts, mail) or named
        return _from_status(worst(statuses), parts, mail, original)
    return None


def _from_status(status: RecipientStatus, parts: list[Part], mail: InboundEmail, original: str) -> Report:
    kind = _KINDS.get(status.action)
    if kind is None:
        delayed = plain_bounces.is_delay(mail.subject, _notification(parts)[0])
        kind = ReportKind.DELAY if delayed else ReportKind.BOUNCE
        kind = ReportKind.DELIVERED if status.status.startswith("2") else kind
    notice = plain_bounces.read(mail, _notification(parts)[0])
    # A bare "Status: 5.0.0" with no words of the server: the text for people often has them.
    code = status.status or notice.status
    return _report(
        kind, status.recipient or notice.recipient, code, status.diagnostic or notice.diagnostic, original
    )


def _plain(parts: list[Part], mail: InboundEmail) -> Report | None:
    text, copy = _notification(parts)
    if not plain_bounces.is_bounce_text(mail, text):
        return None
    body = "\n".join(part.text for part in parts if part.content_type.startswith("text/"))
    statuses = recipient_statuses(body.encode("utf-8", "replace")) if "-Recipient:" in body else []
    if statuses:
        after = body[body.rfind("-Recipient:") :]
        return _from_status(worst(statuses), parts, mail, _id_in_text(after) or _original_id(parts, mail))
    notice = plain_bounces.read(mail, text)
    kind = ReportKind.DELAY if plain_bounces.is_delay(mail.subject, text) else ReportKind.BOUNCE
    original = _id_in_text(copy) or _original_id(parts, mail)
    return _report(kind, notice.recipient, notice.status, notice.diagnostic, original)


def _bare_type(parts: list[Part], mail: InboundEmail) -> Report | None:
    """A multipart/report of delivery-status whose status part is missing or broken beyond reading."""
    if "delivery-status" not in mail.header("content-type")[:2000].lower():
        return None
    text, copy = _notification(parts)
    notice = plain_bounces.read(mail, text)
    kind = ReportKind.DELAY if plain_bounces.is_delay(mail.subject, text) else ReportKind.BOUNCE
    original = _original_id(parts, mail) or _id_in_text(copy)
    return _report(kind, notice.recipient, notice.status, notice.diagnostic, original)


def _notification(parts: list[Part]) -> tuple[str, str]:
    """The text for people, and the copy of our mail that may follow in the same part."""
    for part in parts:
        if part.content_type in ("text/plain", "text/html", "text"):
            return plain_bounces.split_copy(part.text)
    return "", ""


def _original_id(parts: list[Part], mail: InboundEmail) -> str:
    """The Message-ID of the returned message, whole or headers only; else what the report answers."""
    for part in _of_type(parts, _RETURNED):
        if found := _first_id(field(split_message(part.body.lstrip(b"\n"))[0], "message-id")):
            return found
        if found := _id_in_text(as_text(part.body[:65_536])):
            return found
    for part in parts:
        copy = plain_bounces.split_copy(part.text)[1] if part.content_type.startswith("text/") else ""
        if found := _id_in_text(copy):
            return found
    answered = (*mail.in_reply_to, *reversed(mail.references))
    return _first_id(answered[0]) if answered else ""


def _id_in_text(text: str) -> str:
    """The first ``Message-ID:`` line of a returned header, the id possibly on the line below."""
    lines = text[:262_144].splitlines()[:5000]
    for number, line in enumerate(lines):
        if line[:20].lstrip(" >").lower().startswith("message-id:"):
            below = lines[number + 1] if number + 1 < len(lines) else ""
            value = line.partition(":")[2][:_MAX_ID]
            if found := _first_id(value if value.strip() else below[:_MAX_ID]):
                return found
    return ""


def _first_id(value: str) -> str:
    value = value[: 4 * _MAX_ID].strip()
    if found := _MESSAGE_ID.search(value):
        return found[0]
    bare = bare_address(value)
    return f"<{bare}>" if bare and "<" not in bare and ">" not in bare else ""


def _report(kind: ReportKind, recipient: str, status: str, diagnostic: str, original: str) -> Report:
    line = " ".join(diagnostic[: 4 * _MAX_DIAGNOSTIC].split())[:_MAX_DIAGNOSTIC]
    line = "".join(char if char.isprintable() else "�" for char in line)
    return Report(kind, bare_address(recipient.partition(",")[0]), status, line, original)
