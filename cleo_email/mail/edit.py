"""Give a finished mail of ours another text, subject or date, as a person does who approves it.

Whatever else is in it stays byte for byte: recipients, Message-ID, threading, attachments.
"""

import re
from dataclasses import replace
from datetime import datetime

from cleo_email.errors import InvalidField, UnreadableMessage
from cleo_email.mail import wire
from cleo_email.mail.compose import MAX_SUBJECT, alternative, date_of
from cleo_email.mail.mime import split
from cleo_email.mail.model import OutboundEmail, ParseLimits

_SUBJECT = re.compile(rb"(?m)^Subject:.*\n(?:[ \t].*\n)*")
_DATE = re.compile(rb"(?m)^Date:.*\n(?:[ \t].*\n)*")
_ALTERNATIVE = re.compile(
    rb'(?s)(?<=\r\n)Content-Type: multipart/alternative;\s+boundary="([^"]+)"\r\n.*?\r\n--\1--\r\n'
)
_RULE = "\n\n-- \n"


def closing_of(mail: OutboundEmail, text: str | None) -> tuple[str, str]:
    """Return the notice and the signature (Markdown, or '') that stand below ``text`` in a mail of ours.

    Where ``text`` is None, or not what the mail begins with, only the signature is found. Raise
    UnreadableMessage for a mail that was not composed here.
    """
    part = split(_alternative(mail)[0], ParseLimits()).children[0]
    whole = part.body().decode("utf-8").replace(wire.CRLF, "\n")
    begins = wire.clean_text(text).rstrip("\n") if text is not None else None
    if begins is not None and whole.startswith(begins):
        below = whole[len(begins) :].strip("\n")
        notice, _, signature = f"\n\n{below}".partition(_RULE)
    else:
        notice, (_, rule, signature) = "", f"\n\n{whole}".rpartition(_RULE)
        signature = signature if rule else ""
    return notice.strip("\n"), signature.rstrip("\n")


def with_text(mail: OutboundEmail, markdown: str, notice: str, signature: str) -> OutboundEmail:
    """Return the mail with another text, plain and HTML. Raise UnreadableMessage as ``closing_of``."""
    part = _alternative(mail)
    before, after = mail.source[: part.start()], mail.source[part.end() :]
    content = alternative([markdown, notice, signature], mail.message_id)
    return replace(mail, source=b"".join([before, content, after]))


def with_subject(mail: OutboundEmail, subject: str) -> OutboundEmail:
    """Return the mail with another subject. Raise InvalidField for one that is empty or too long."""
    subject = wire.clean_header(subject)
    if not subject.strip():
        raise InvalidField("subject", "subject: it is empty; leave it out to keep the present one")
    if len(subject) > MAX_SUBJECT:
        raise InvalidField("subject", f"subject: longer than {MAX_SUBJECT} characters")
    line = wire.text_field("Subject", subject).encode("ascii")
    return replace(mail, source=_SUBJECT.sub(lambda _: line, mail.source, count=1))


def with_date(mail: OutboundEmail, date: datetime) -> OutboundEmail:
    """Return the mail with the date at which it was ready to leave (RFC 5322 section 3.6.1), aware.

    Clients sort by it: an answer that waited over a weekend would come below mail that was read long ago.
    """
    line = wire.field("Date", [date_of(date)]).encode("ascii")
    return replace(mail, source=_DATE.sub(lambda _: line, mail.source, count=1))


def _alternative(mail: OutboundEmail) -> re.Match[bytes]:
    if found := _ALTERNATIVE.search(mail.source):
        return found
    raise UnreadableMessage("the kept answer has no text and HTML of ours")
