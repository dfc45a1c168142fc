"""Reports about mail that we sent: bounces, delays, receipts and complaints. None of them is ever answered.

``report_mark`` recognises a report. ``read_report`` says which mail it is about, by the Message-ID that we
gave that mail, and what became of it: from the fields of RFC 3464 (delivery status), RFC 8098 (receipts) and
RFC 5965 (feedback), else from the first address and the first status code in the text for people.
"""

import re
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Final

from cleo_email.errors import UnreadableMessage
from cleo_email.mail.address import local_part
from cleo_email.mail.decoding import decode
from cleo_email.mail.headers import MAX_VALUE, keyword, quoted, shown
from cleo_email.mail.mime import Part, split
from cleo_email.mail.model import InboundEmail, ParseLimits
from cleo_email.screening.automatic import fold, is_bounce_subject, mentions_bounce, pattern

_MAX_DIAGNOSTIC: Final = 500  # characters
_MAX_ADDRESS: Final = 320
_MAX_MAILBOXES: Final = 50  # of one From header; a mail with more than one is held anyway
_MAX_SOURCE: Final = 4 * 1024 * 1024  # octets of a report that are read
_MAX_PART: Final = 256 * 1024  # octets of one part
_MAX_TEXT: Final = 64 * 1024  # characters of the text for people
_MAX_GROUPS: Final = 500

# Local parts of mail systems; the last is Exchange's own.
_DAEMON: Final = re.compile(r"mailer[-_]?daemon|mail-daemon|postmaster|microsoftexchange[0-9a-f]{32}")
_HOTMAIL_COMPLAINT: Final = re.compile(r"complaint about message from \[?[0-9a-f.:]{3,45}\]?")
_REPORT_TYPES: Final = {
    "multipart/report": "text",  # as a leaf: its delimiters are lost, and it is read as one text
    "message/delivery-status": "status",
    "message/global-delivery-status": "status",
    "message/disposition-notification": "receipt",
    "message/global-disposition-notification": "receipt",
    "message/feedback-report": "feedback",
}
_REPORT_TYPE: Final = re.compile(r"report-type\s*=", re.IGNORECASE)
_RETURNED_TYPES: Final = ("message/rfc822", "message/global", "text/rfc822-headers", "message/rfc822-headers")

_FIELD: Final = re.compile(r"^([!-9;-~]{1,100})[ \t]*+:(.*(?:\n[ \t]++\S.*)*)", re.MULTILINE)
_MESSAGE_ID: Final = re.compile(
    r"^[ \t>]{0,20}(?:x-)?(?:original-)?message-id:\s{0,20}<?([^<>\s@]{1,500}@[^<>\s]{1,490})(?=[>\s]|\Z)",
    re.IGNORECASE | re.MULTILINE,
)
_WORD: Final = r"[^\s<>()\[\]{}\"':;,*@]{1,255}"
_ADDRESS: Final = re.compile(rf"(?<![^\s<>()\[\]{{}}\"':;,*]){_WORD}@{_WORD}")
# Where a copy of our mail begins in a text: a ruled line that announces it, or its first header field.
_COPY: Final = re.compile(
    r"^(?:[ \t]{0,20}-{2,}+.{0,60}\b(?:message|header|copy|kopie|nachricht)"
    r"|(?:return-path|received|message-id):)",
    re.IGNORECASE | re.MULTILINE,
)

# Status codes (RFC 3463). A code is no part of a longer dotted number, such as an IP address or a version; in
# running text "Postfix 2.5.6" and dates are none.
_STATUS: Final = re.compile(r"\s*([245]\.[0-9]{1,3}\.[0-9]{1,3})(?![0-9]|\.[0-9])")
_STATUS_IN_TEXT: Final = re.compile(r"(?<![0-9.A-Za-z])([45]\.[0-7]\.[0-9]{1,3})(?![0-9]|\.[0-9])")
# A reply code counts only where a server is quoted: "said: 550 …", "host x [1.2.3.4]: 550 …", "<<< 550 …".
_REPLY: Final = re.compile(
    r"(?:^|[:;>]|said|says|replied|responded|code)[ \"'(]{0,3}([45][0-57][0-9])(?=[ \-:,.)\"']|$)",
    re.IGNORECASE,
)


class ReportKind(StrEnum):
    """What became of the mail; for several recipients the first of these counts."""

    BOUNCE = "bounce"  # given up
    DELAY = "delay"  # the server goes on trying
    RELAYED = "relayed"  # handed to a server that sends no reports
    DELIVERED = "delivered"
    FEEDBACK = "feedback"  # a complaint, or an unsubscription
    RECEIPT = "receipt"  # read, deleted, … by the recipient


_SEVERITY: Final = list(ReportKind)
_ACTIONS: Final = {  # RFC 3464 section 2.3.3
    "failed": ReportKind.BOUNCE,
    "delayed": ReportKind.DELAY,
    "relayed": ReportKind.RELAYED,
    "expanded": ReportKind.DELIVERED,
    "delivered": ReportKind.DELIVERED,
}
_WORDS: Final = {"bounce": "bounced", "delay": "delayed", "feedback": "complained about"}


@dataclass(frozen=True)
class Report:
    """What a report says about one delivery; what it does not say is an empty string.

    ``recipient`` is the address that it is about (of several, the first that went worst), ``status`` the
    code of RFC 3463 (``5.1.1``), ``diagnostic`` the server's words on one line of at most 500 characters,
    ``original_message_id`` the Message-ID of our mail with its angle brackets, ``failed`` every address that
    was given up, a recipient's own and those that it was forwarded to alike.
    """

    kind: ReportKind
    recipient: str = ""
    status: str = ""
    diagnostic: str = ""
    original_message_id: str = ""
    failed: tuple[str, ...] = ()

    @property
    def reason(self) -> str:
        """Return a line for the record of our mail: ``bounced: 5.1.1 anna@x.example: no such user``."""
        detail = f"{self.status} {self.recipient}".strip()
        return ": ".join(filter(None, (_WORDS.get(self.kind, self.kind.value), detail, self.diagnostic)))

    def may_replace(self, reason: str) -> bool:
        """Return whether this may stand where ``reason`` stood: good news must not hide an earlier bounce."""
        return self.kind in (ReportKind.BOUNCE, ReportKind.FEEDBACK) or not reason.startswith("bounced")


# --- is it one? ---------------------------------------------------------------------------------------------


def report_mark(mail: InboundEmail, envelope_from: str | None) -> str:
    """Return why this is a bounce, a receipt or a feedback report, or an empty string."""
    return next(_marks(mail, envelope_from), "")


def _marks(mail: InboundEmail, envelope_from: str | None) -> Iterator[str]:
    """Yield a sentence for each mark that names its header (RFC 3834 section 2, RFC 5321 section 4.5.5)."""
    # Only the topmost Return-Path is the last server's; those below came with the mail (section 4.4).
    return_path = mail.header_all("return-path")[:1]
    if envelope_from is not None and _is_null(envelope_from):
        yield "The envelope sender is empty (`MAIL FROM:<>`): a bounce or an automatic reply."
    if any(map(_is_null, return_path)):
        yield "`Return-Path: <>`: a bounce or an automatic reply."
    for address in mail.from_[:_MAX_MAILBOXES]:
        if _is_daemon(address.addr):
            yield f"{quoted('From', address.addr)}: a mail system, not a person."
    for name, path in (("envelope sender", envelope_from or ""), ("Return-Path", "".join(return_path))):
        if _is_daemon(path):
            yield f"{name} {shown(path)}: a mail system, not a person."
    for value in (mail.content_type, *mail.header_all("content-type")[:2]):
        value = value[:MAX_VALUE]
        if keyword(value).replace(" ", "") in _REPORT_TYPES or _REPORT_TYPE.search(value):
            yield f"{quoted('Content-Type', value)}: a delivery report or receipt."
    # A person who forwards a bounce may attach its parts, but writes a subject of their own.
    for kind in map(str.lower, mail.attached_types):
        if kind in _REPORT_TYPES and is_bounce_subject(mail.subject):
            yield f"{quoted('Subject', mail.subject)} with a part {kind}: a delivery report."
    for name in ("x-failed-recipients", "x-bounced-address"):
        if value := mail.header(name):
            yield f"{quoted(name, value)}: a bounce."
    if _HOTMAIL_COMPLAINT.fullmatch(fold(mail.subject)) and local_part(mail.from_address) == "staff":
        yield f"{quoted('Subject', mail.subject)}: a feedback report."


def _is_null(path: str) -> bool:
    return path[:MAX_VALUE].replace(" ", "").strip() in ("", "<>")


def _is_daemon(address: str) -> bool:
    return _DAEMON.fullmatch(local_part(address)) is not None


# --- what does it say? --------------------------------------------------------------------------------------


def read_report(source: bytes, mail: InboundEmail, *, envelope_from: str | None = None) -> Report | None:
    """Return the report that ``source`` is, or None. Raise nothing; linear in the size of the source.

    ``mail`` is the same message, parsed; ``envelope_from`` its envelope sender as in ``screen.screen``. A
    person who forwards or describes a bounce sends no report: the message itself must bear the marks of one
    (its type, its sender, an empty Return-Path), or the subject of one and a part that is one.
    """
    marked = bool(report_mark(mail, envelope_from) or mail.header("x-apple-unsubscribe"))
    if not marked and not is_bounce_subject(mail.subject):
        return None
    try:
        texts = _texts(split(source[:_MAX_SOURCE], ParseLimits()))
    except UnreadableMessage:
        return None
    if not marked and not any(texts[use] for use in ("status", "feedback", "receipt")):
        return None
    original = _original_id(texts, mail)
    return _feedback_or_receipt(texts, mail, original) or _delivery(texts, mail, original)


def _texts(root: Part) -> dict[str, list[str]]:
    """Return the decoded beginnings of the parts in order, by what the parts are for."""
    texts: dict[str, list[str]] = defaultdict(list)
    for part in _leaves(root):
        kind = part.content_type
        readable = "text" if kind.startswith(("text/", "multipart/")) else ""
        if use := "returned" if kind in _RETURNED_TYPES else _REPORT_TYPES.get(kind, readable):
            text = decode(part.body()[:_MAX_PART], part.type.parameters.get("charset", "")).text
            texts[use].append(text.replace("\r\n", "\n"))
    return texts


def _leaves(part: Part) -> Iterator[Part]:
    if not part.children:
        yield part
    for child in part.children:
        yield from _leaves(child)


def _original_id(texts: dict[str, list[str]], mail: InboundEmail) -> str:
    """Return the first Message-ID that is named, ours before others, else what the report answers."""
    places = [text for use in ("receipt", "returned", "status", "text") for text in texts[use]]
    if found := [one[1] for text in places for one in _MESSAGE_ID.finditer(text)]:
        # A bounce may hold another one, in which our mail comes back.
        return f"<{next((id_ for id_ in found if id_.lower().startswith('cleo-')), found[0])}>"
    answered = (*mail.in_reply_to, *reversed(mail.references))[:1]
    return next((id_ for id_ in answered if re.fullmatch(r"<[^<>\s]{1,996}>", id_)), "")


def _feedback_or_receipt(texts: dict[str, list[str]], mail: InboundEmail, original: str) -> Report | None:
    for fields in map(_fields, texts["feedback"]):
        recipient = fields["original-rcpt-to"] or fields["removal-recipient"]
        return _report(ReportKind.FEEDBACK, recipient, "", fields["feedback-type"], original)
    if mail.header("x-apple-unsubscribe"):  # Apple Mail's "unsubscribe" button
        return _report(ReportKind.FEEDBACK, mail.from_address, "", "unsubscribe", original)
    if texts["returned"] and _HOTMAIL_COMPLAINT.match(fold(mail.subject)):
        recipient = _fields(texts["returned"][0])["x-hmxmroriginalrecipient"]
        return _report(ReportKind.FEEDBACK, recipient, "", "abuse", original)
    for fields in map(_fields, texts["receipt"]):
        recipient = (fields["final-recipient"] or fields["original-recipient"]).rpartition(";")[2]
        return _report(ReportKind.RECEIPT, recipient, "", fields["disposition"], original)
    return None


def _delivery(texts: dict[str, list[str]], mail: InboundEmail, original: str) -> Report | None:
    """Return what the fields of RFC 3464 say, else what the text for people says."""
    text = _COPY.split(texts["text"][0][:_MAX_TEXT], maxsplit=1)[0] if texts["text"] else ""
    recipient, words = _recipient_in(text, mail)
    status = _status_in(words) or _status_in(text)
    plain = " ".join(text.replace("’", "'").casefold().split())
    delayed = pattern("delayed").search(f"{fold(mail.subject)} {plain}")
    kind = ReportKind.DELAY if delayed else ReportKind.BOUNCE
    if groups := _recipient_groups(texts["status"]) or _recipient_groups(texts["text"]):
        fields = min(groups, key=lambda one: _SEVERITY.index(_kind_of(one, kind)))
        code, diagnostic = _status_of(fields)
        # Final-Recipient is who the server knows (RFC 3464 section 2.3.2).
        names = ("final-recipient", "original-recipient", "x-actual-recipient")
        recipients = [*(_bare(fields[name].rpartition(";")[2]) for name in names), recipient]
        # A bare "Status: 5.0.0" with no words of the server: the text for people often has them.
        known = next(filter(None, recipients), "")
        report = _report(_kind_of(fields, kind), known, code or status, diagnostic or words, original)
        given_up = [one for one in groups if _kind_of(one, kind) is ReportKind.BOUNCE]
        addresses = [_bare(one[name].rpartition(";")[2]) for one in given_up for name in names]
        return replace(report, failed=tuple(dict.fromkeys(filter(None, addresses))))
    marks = (  # an absence note has one of them at most
        mentions_bounce(mail.subject) or _is_daemon(mail.from_address),
        bool(mail.header("x-failed-recipients") or status),
        pattern("undelivered").search(plain) is not None,
        "delivery-status" in mail.header("content-type")[:2000].lower(),
    )
    return _report(kind, recipient, status, words, original) if sum(marks) > 1 else None


def _report(kind: ReportKind, recipient: str, status: str, diagnostic: str, original: str) -> Report:
    line = shown(" ".join(diagnostic[: 4 * _MAX_DIAGNOSTIC].split()), _MAX_DIAGNOSTIC)
    return Report(kind, _bare(recipient.partition(",")[0]), status, line, original)


def _bare(value: str) -> str:
    """Return ``value`` without angle brackets and quotes where it looks like an address, else ''."""
    value = value.strip(" \t<>\"'")
    is_address = "@" in value and len(value) <= _MAX_ADDRESS and " " not in value and value.isprintable()
    return value if is_address else ""


# --- the fields of a delivery status (RFC 3464 section 2) ---------------------------------------------------


def _fields(text: str) -> dict[str, str]:
    """Return the fields of ``text``, unfolded, the first of each name. Every other name has ''."""
    fields: dict[str, str] = defaultdict(str)
    for found in _FIELD.finditer(text):
        fields.setdefault(found[1].lower(), " ".join(found[2].split()))
    return fields


def _recipient_groups(texts: list[str]) -> list[dict[str, str]]:
    """Return every group of fields about one recipient, which other paragraphs may surround."""
    paragraphs = [one for text in texts for one in re.split(r"\n[ \t]*\n", text, maxsplit=_MAX_GROUPS)]
    groups = [_fields(paragraph) for paragraph in paragraphs[:_MAX_GROUPS]]
    return [one for one in groups if one.keys() & {"final-recipient", "original-recipient", "action"}]


def _kind_of(fields: dict[str, str], otherwise: ReportKind) -> ReportKind:
    """Return what the Action says; where it is unknown, only a status of class 2 is no failure."""
    action = fields["action"].partition(" ")[0].strip(" ;").lower()
    return _ACTIONS.get(action) or (ReportKind.DELIVERED if _status_of(fields)[0][:1] == "2" else otherwise)


def _status_of(fields: dict[str, str]) -> tuple[str, str]:
    """Return the status and the server's words, whose code counts where Status is vague (``5.0.0``)."""
    kind, _, words = fields["diagnostic-code"].partition(";")
    words = (words or kind).strip()
    found, other = _STATUS.match(fields["status"][:200]), _status_in(words)
    if not found:
        return other, words
    status = _plain_code(found[1])
    says_more = status.endswith(".0.0") and other[:1] == status[0] and not other.endswith(".0.0")
    return other if says_more else status, words


# --- the text for people ------------------------------------------------------------------------------------


def _status_in(text: str) -> str:
    """Return the first code of RFC 3463 in ``text``; a bare reply code gives a class: ``550`` → ``5.0.0``."""
    text = " ".join(text[:_MAX_TEXT].split())
    if found := _STATUS_IN_TEXT.search(text):
        return _plain_code(found[1])
    reply = _REPLY.search(text)
    return f"{reply[1][0]}.0.0" if reply else ""


def _plain_code(code: str) -> str:
    """Return ``code`` without leading zeros, which RFC 3463 section 2 forbids and some write."""
    return ".".join(str(int(number)) for number in code.split("."))


def _recipient_in(text: str, mail: InboundEmail) -> tuple[str, str]:
    """Return the recipient that ``text`` is about, and the paragraph that begins there.

    The address of X-Failed-Recipients is it, else one with which a line begins, else one that is merely
    mentioned; the address that the report was sent to is ours and comes last.
    """
    known = _bare((mail.header("x-failed-recipients") or mail.header("x-bounced-address")).partition(",")[0])
    ours = {address.key for address in mail.to}
    found = []
    for one in _ADDRESS.finditer(text):
        address, line = one[0].strip("."), text.rfind("\n", 0, one.start()) + 1
        is_other = address.casefold() != known.casefold() if known else address.casefold() in ours
        is_inside = bool(text[line : one.start()].strip(" \t<([{\"':;,*."))
        found.append((is_other, is_inside, line, address))
    if not found:
        return known, ""
    _, _, at, address = min(found)
    first, *more = re.split(r"\n[ \t]*\n", text[at : at + 4 * _MAX_DIAGNOSTIC], maxsplit=2)
    # Where the address stands alone in its paragraph, the next one is about it.
    return known or address, first if "\n" in first.strip() else " ".join([first, *more[:1]])
