"""Marks of bounces, receipts and feedback reports: mail that must never be answered, whatever is allowed.

Each check gives one sentence that names the header, or nothing (RFC 3834 section 2, RFC 5321 section 4.5.5).
"""

from __future__ import annotations

import re

from cleo_email.mail.automatic_subjects import fold, is_bounce_subject
from cleo_email.mail.header_values import MAX_VALUE, first_reason, keyword, quoted, shown
from cleo_email.mail.model import InboundEmail
from cleo_email.mail.senders import local_part

_MAX_MAILBOXES = 50  # of one header; more than one From mailbox is held anyway

_DAEMONS = frozenset({"mailer-daemon", "mailerdaemon", "mail-daemon", "postmaster", "mailer_daemon"})
_REPORT_TYPES = (
    "multipart/report",
    "message/delivery-status",
    "message/global-delivery-status",
    "message/disposition-notification",
    "message/global-disposition-notification",
    "message/feedback-report",
)
_EXCHANGE_DAEMON = re.compile(r"microsoftexchange[0-9a-f]{32}")
_HOTMAIL_COMPLAINT = re.compile(r"complaint about message from \[?[0-9a-f.:]{3,45}\]?")


def report_mark(mail: InboundEmail, envelope_from: str | None) -> str:
    """Why this is a bounce, a receipt or a feedback report, or an empty string."""
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
        if is_daemon(address.addr):
            return f"{quoted('From', address.addr)}: a mail system, not a person."
    paths = [("envelope sender", envelope_from or "")]
    paths += [("Return-Path", path) for path in mail.header_all("return-path")[:1]]
    for name, path in paths:
        if local_part(path) in _DAEMONS:
            return f"{name} {shown(path)}: a mail system, not a person."
    return ""


def is_daemon(address: str) -> bool:
    """Whether ``address`` is a mail system's own, by its local part."""
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
