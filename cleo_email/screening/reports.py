"""Reports about mail that we sent: bounces, delays, receipts, complaints. Nobody ever answers one of them.

``report_mark`` recognises them. ``read_report`` says which mail a report is about and what became of it, from
the fields of RFC 3464 (delivery status), RFC 8098 (receipts) and RFC 5965 (feedback), and from the codes and
addresses in the texts that qmail, Exim, Postfix, Exchange and others write for people.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from cleo_email.errors import UnreadableMessage
from cleo_email.mail.address import local_part
from cleo_email.mail.decoding import decode
from cleo_email.mail.headers import MAX_VALUE, first_reason, keyword, quoted, shown
from cleo_email.mail.mime import Part, split
from cleo_email.mail.model import InboundEmail, ParseLimits
from cleo_email.screening.words import fold, is_bounce_subject, mentions_bounce

_MAX_DIAGNOSTIC: Final = 500
_MAX_ADDRESS: Final = 320  # characters
_MAX_MAILBOXES: Final = 50  # of one header; more than one From mailbox is held anyway
_MAX_SOURCE: Final = 4 * 1024 * 1024  # octets of a report that are looked at
_MAX_TEXT: Final = 256 * 1024  # and of each part
_MAX_GROUPS: Final = 500
_MAX_LINES: Final = 2000
_MAX_LINE: Final = 1000
_MAX_PARAGRAPH: Final = 30  # lines about one recipient

_DAEMONS: Final = frozenset({"mailer-daemon", "mailerdaemon", "mail-daemon", "postmaster", "mailer_daemon"})
_EXCHANGE_DAEMON: Final = re.compile(r"microsoftexchange[0-9a-f]{32}")
_HOTMAIL_COMPLAINT: Final = re.compile(r"complaint about message from \[?[0-9a-f.:]{3,45}\]?")
_REPORT_TYPES: Final = {
    "multipart/report": "text",  # as a part: its delimiters are lost, and it is read as one text
    "message/delivery-status": "status",
    "message/global-delivery-status": "status",
    "message/disposition-notification": "receipt",
    "message/global-disposition-notification": "receipt",
    "message/feedback-report": "feedback",
}
_RETURNED_TYPES: Final = ("message/rfc822", "message/global", "text/rfc822-headers", "message/rfc822-headers")

_FIELD: Final = re.compile(r"^([!-9;-~]{1,100})[ \t]*+:(.*(?:\n[ \t]++\S.*)*)", re.MULTILINE)
_MESSAGE_ID: Final = re.compile(
    r"^[ \t>]{0,20}(?:x-)?(?:original-)?message-id:\s{0,20}<?([^<>\s@]{1,500}@[^<>\s]{1,490})(?=[>\s]|\Z)",
    re.IGNORECASE | re.MULTILINE,
)
_ADDRESS: Final = re.compile(
    r"(?<![^\s<>()\[\]{}\"':;,*])[^\s<>()\[\]{}\"':;,*@]{1,255}@[^\s<>()\[\]{}\"':;,*@]{1,255}"
)
# Where a copy of our mail begins in a text: a ruled line that announces it, or its first header field.
_COPY: Final = re.compile(
    r"^(?:[ \t]{0,20}-{2,}+.{0,60}\b(?:message|header|copy|kopie|nachricht)"
    r"|(?:return-path|received|message-id|delivered-to|mime-version|dkim-signature):)",
    re.IGNORECASE | re.MULTILINE,
)

# Status codes (RFC 3463). A code is no part of a longer dotted number, such as an IP address or a version.
_CODE: Final = r"[245]\.[0-9]{1,3}\.[0-9]{1,3}(?![0-9]|\.[0-9])"
_STATUS: Final = re.compile(rf"\s*({_CODE})")
# In running text: right after a reply code of its class, or alone, but not "Postfix 2.5.6" and no date.
_AFTER_REPLY: Final = re.compile(rf"(?<![0-9.])([45])[0-9]{{2}}[ -]{{1,2}}(?:\(?#)?((?=\1){_CODE})")
_ALONE: Final = re.compile(r"(?<![0-9.A-Za-z])()([45]\.[0-7]\.[0-9]{1,3})(?![0-9]|\.[0-9])")
# A reply code counts only where a server is quoted: "said: 550 …", "host x [1.2.3.4]: 550 …", "<<< 550 …".
_REPLY: Final = re.compile(
    r"(?:^\s*(?:smtp;)?|said:?|says:?|replied:?|responded:?|response:?|response was:?|returned:?|error:?"
    r"|message:|reason:|\]:|\):|<<<|>:|smtp;|rejected:|state 1[0-9]\)\.?|code:?|connection:|of data:"
    r"|size=[0-9]{1,12}:)[ \"'(]{0,3}([45][0-57][0-9])(?=[ \-:,.)\"']|$)",
    re.IGNORECASE,
)
_UNDELIVERED: Final = re.compile(
    r"undeliver|(?:not|n't|able to) (?:yet )?(?:been |be )?deliver|delivery (?:has )?(?:fail|to the)"
    r"|not reach the following|had (?:permanent|transient|delivery)|failed (?:recipient|permanently|address)"
    r"|permanent (?:error|failure)|incorrectly constructed|malformed address|no valid recipients"
    r"|mailbox is full|user unknown|unknown user|returned to sender"
    r"|nicht (?:zugestellt|ausgeliefert|zustellbar)|unzustellbar|pas pu être remis"
    r"|(?:pudo|podido) entregar|impossibile recapitare|worden bezorgd"
)
_DELAYED: Final = re.compile(
    r"warning only|still being retried|not yet been delivered|attempts will continue"
    r"|will (?:be retried until|continue to try|keep trying)"
    r"|(?:delivery|message) (?:is )?delayed|\(delay\)|delivery incomplete|not send message for past"
    r"|we will retry|verzögert"
)


class ReportKind(StrEnum):
    BOUNCE = "bounce"  # given up
    DELAY = "delay"  # the server goes on trying
    DELIVERED = "delivered"
    RELAYED = "relayed"  # handed to a server that sends no reports
    FEEDBACK = "feedback"  # a complaint, or an unsubscription
    RECEIPT = "receipt"  # read, deleted, … by the recipient


# The values of Action (RFC 3464 section 2.3.3), the worst first.
_ACTIONS: Final = {
    "failed": ReportKind.BOUNCE,
    "delayed": ReportKind.DELAY,
    "relayed": ReportKind.RELAYED,
    "expanded": ReportKind.DELIVERED,
    "delivered": ReportKind.DELIVERED,
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


# --- is it one? ---------------------------------------------------------------------------------------------


def report_mark(mail: InboundEmail, envelope_from: str | None) -> str:
    """Return why this is a bounce, a receipt or a feedback report, or an empty string.

    Each check returns one sentence that names the header (RFC 3834 section 2, RFC 5321 section 4.5.5).
    """
    return first_reason(
        lambda: _null_sender(mail, envelope_from),
        lambda: _from_daemon(mail, envelope_from),
        lambda: _report_type(mail),
        lambda: _report_header(mail),
    )


def _is_null(path: str) -> bool:
    return path.strip().replace(" ", "") in ("", "<>")


def _null_sender(mail: InboundEmail, envelope_from: str | None) -> str:
    if envelope_from is not None and _is_null(envelope_from[:MAX_VALUE]):
        return "The envelope sender is empty (`MAIL FROM:<>`): a bounce or an automatic reply."
    paths = mail.header_all("return-path")
    # Only the topmost one is the last server's; those below came with the mail (RFC 5321 section 4.4).
    if paths and _is_null(paths[0][:MAX_VALUE]):
        return "`Return-Path: <>`: a bounce or an automatic reply."
    return ""


def _from_daemon(mail: InboundEmail, envelope_from: str | None) -> str:
    for address in mail.from_[:_MAX_MAILBOXES]:
        if _is_daemon(address.addr):
            return f"{quoted('From', address.addr)}: a mail system, not a person."
    paths = [("envelope sender", envelope_from or "")]
    paths += [("Return-Path", path) for path in mail.header_all("return-path")[:1]]
    for name, path in paths:
        if local_part(path) in _DAEMONS:
            return f"{name} {shown(path)}: a mail system, not a person."
    return ""


def _is_daemon(address: str) -> bool:
    """Return whether ``address`` is that of a mail system, by its local part."""
    name = local_part(address)
    return name in _DAEMONS or bool(_EXCHANGE_DAEMON.match(name))


def _report_type(mail: InboundEmail) -> str:
    for value in (mail.content_type, *mail.header_all("content-type")[:2]):
        value = value[:MAX_VALUE]
        kind = keyword(value).replace(" ", "")
        if kind in _REPORT_TYPES or re.search(r"report-type\s*=", value, re.IGNORECASE):
            return f"{quoted('Content-Type', value)}: a delivery report or receipt."
    # A person who forwards a bounce may attach its parts, but writes a subject of their own.
    for attachment in mail.attachments:
        if attachment.content_type.lower() in _REPORT_TYPES and is_bounce_subject(mail.subject):
            kind = shown(attachment.content_type)
            return f"{quoted('Subject', mail.subject)} with a part {kind}: a delivery report."
    return ""


def _report_header(mail: InboundEmail) -> str:
    for name in ("x-failed-recipients", "x-bounced-address"):
        if value := mail.header(name):
            return f"{quoted(name, value)}: a bounce."
    if _HOTMAIL_COMPLAINT.fullmatch(fold(mail.subject)) and local_part(mail.from_address) == "staff":
        return f"{quoted('Subject', mail.subject)}: a feedback report."
    return ""


# --- what does it say? --------------------------------------------------------------------------------------


def read_report(source: bytes, mail: InboundEmail, *, envelope_from: str | None = None) -> Report | None:
    """Return the report that ``source`` is, or None. Raises nothing; linear in the size of the source.

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
    original = _original_id(texts, mail)
    return (
        _feedback(texts, mail, original)
        or _receipt(texts, original)
        or _delivery(texts, mail, original, is_marked=marked)
    )


def _texts(root: Part) -> dict[str, list[str]]:
    """Return the decoded beginnings of the parts in order, by what the parts are for."""
    texts: dict[str, list[str]] = defaultdict(list)
    for part in _leaves(root):
        kind = part.content_type
        readable = "text" if kind.startswith(("text/", "multipart/")) else ""
        if use := "returned" if kind in _RETURNED_TYPES else _REPORT_TYPES.get(kind, readable):
            text = decode(part.body()[:_MAX_TEXT], part.type.parameters.get("charset", "")).text
            texts[use].append(text.replace("\r\n", "\n"))
    return texts


def _leaves(part: Part) -> Iterator[Part]:
    if not part.children:
        yield part
    for child in part.children:
        yield from _leaves(child)


def _original_id(texts: dict[str, list[str]], mail: InboundEmail) -> str:
    """Return the first Message-ID that is named, ours before others, else what the report answers."""
    told = [text for use in ("receipt", "returned", "status", "text") for text in texts[use]]
    if found := [one[1] for text in told for one in _MESSAGE_ID.finditer(text)]:
        # A bounce may hold another one, in which our mail comes back.
        return f"<{next((id_ for id_ in found if id_.lower().startswith('cleo-')), found[0])}>"
    answered = (*mail.in_reply_to, *reversed(mail.references))[:1]
    return next((id_ for id_ in answered if re.fullmatch(r"<[^<>\s]{1,996}>", id_)), "")


def _feedback(texts: dict[str, list[str]], mail: InboundEmail, original: str) -> Report | None:
    for text in texts["feedback"]:
        fields = _fields(text)
        recipient = fields["original-rcpt-to"] or fields["removal-recipient"]
        return _report(ReportKind.FEEDBACK, recipient, "", fields["feedback-type"], original)
    if mail.header("x-apple-unsubscribe"):  # Apple Mail's "unsubscribe" button
        return _report(ReportKind.FEEDBACK, mail.from_address, "", "unsubscribe", original)
    for text in texts["returned"]:
        if mail.subject.strip().lower().startswith("complaint about message from "):
            recipient = _fields(text)["x-hmxmroriginalrecipient"]
            return _report(ReportKind.FEEDBACK, recipient, "", "abuse", original)
    return None


def _receipt(texts: dict[str, list[str]], original: str) -> Report | None:
    for text in texts["receipt"]:
        fields = _fields(text)
        recipient = fields["final-recipient"] or fields["original-recipient"]
        return _report(ReportKind.RECEIPT, recipient.rpartition(";")[2], "", fields["disposition"], original)
    return None


def _delivery(
    texts: dict[str, list[str]], mail: InboundEmail, original: str, *, is_marked: bool
) -> Report | None:
    """Return what the fields of RFC 3464 say, else what the text for people says."""
    text = _COPY.split(texts["text"][0], 1)[0] if texts["text"] else ""
    recipient, words = _recipient_in(text, mail)
    status = _status_in(words) or _status_in(text)
    plain = " ".join(text[:16_384].replace("’", "'").casefold().split())
    delayed = _DELAYED.search(f"{fold(mail.subject)} {plain}")
    kind = ReportKind.DELAY if delayed else ReportKind.BOUNCE
    if groups := _recipient_groups(texts["status"]) or (is_marked and _recipient_groups(texts["text"])):
        fields = min(groups, key=_rank)
        code, said = _status_of(fields)
        kind = _ACTIONS.get(_action(fields)) or (ReportKind.DELIVERED if code[:1] == "2" else kind)
        # A bare "Status: 5.0.0" with no words of the server: the text for people often has them.
        return _report(kind, _recipient_of(fields) or recipient, code or status, said or words, original)
    named = mentions_bounce(mail.subject) or _is_daemon(mail.from_address)
    coded = bool(mail.header("x-failed-recipients") or _status_in(text))
    marks = (named, coded, _UNDELIVERED.search(plain) is not None)  # an absence note has one at most
    announced = "delivery-status" in mail.header("content-type")[:2000].lower()
    if is_marked and (sum(marks) > 1 or announced):
        return _report(kind, recipient, status, words, original)
    return None


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


def _rank(fields: dict[str, str]) -> int:
    """Return how bad it is, the worst lowest; of an unknown action, the status decides."""
    if (action := _action(fields)) in _ACTIONS:
        return list(_ACTIONS).index(action)
    return {"4": 1, "2": 4}.get(_status_of(fields)[0][:1], 0)


def _action(fields: dict[str, str]) -> str:
    return fields["action"].partition(" ")[0].strip(" ;").lower()


def _recipient_of(fields: dict[str, str]) -> str:
    """Return the recipient; Final-Recipient is who the server knows (RFC 3464 section 2.3.2)."""
    names = ("final-recipient", "original-recipient", "x-actual-recipient")
    return next(filter(None, (_bare(fields[name].rpartition(";")[2]) for name in names)), "")


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
    text = " ".join(text[: _MAX_TEXT // 4].split())
    if found := _AFTER_REPLY.search(text) or _ALONE.search(text):
        return _plain_code(found[2])
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
    lines = [line[:_MAX_LINE].strip() for line in text.splitlines()[:_MAX_LINES]]
    found = []
    for number, line in enumerate(lines):
        for address in _ADDRESS.finditer(line):
            folded = address[0].strip(".").casefold()
            is_other = folded != known.casefold() if known else folded in ours
            is_inside = bool(line[: address.start()].strip("<([{\"':;,*."))
            found.append((is_other, is_inside, number, address[0].strip(".")))
    if not found:
        return known, ""
    _, _, at, address_found = min(found)
    return known or address_found, " ".join(_paragraph(lines[at : at + _MAX_PARAGRAPH]))


def _paragraph(lines: list[str]) -> list[str]:
    """Return the lines of the first paragraph; where its first line stands alone, of the next one too."""
    out: list[str] = []
    for line in lines:
        if (not line and len(out) > 1) or (out and _bare(line.strip(":"))):
            break  # what follows is about the next recipient
        if line:
            out.append(line)
    return out
