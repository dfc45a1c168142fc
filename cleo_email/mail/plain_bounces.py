"""Bounces that are plain text: what qmail, Exim, old Postfix, sendmail, Exchange and others write."""

from __future__ import annotations

from dataclasses import dataclass

from cleo_email.mail.automatic_subjects import fold, mentions_bounce
from cleo_email.mail.delivery_status import bare_address
from cleo_email.mail.model import InboundEmail
from cleo_email.mail.report_marks import is_daemon
from cleo_email.mail.smtp_status import status_in

_MAX_TEXT = 256 * 1024
_MAX_LINES = 2000
_MAX_LINE = 1000
_MAX_PARAGRAPH = 30  # lines about one recipient

# Lines after which a copy of our own mail follows.
_COPY_BELOW = (
    "below this line is a copy of the message",
    "this is a copy of the message",
    "this is a copy of your message",
    "this is a copy of the headers",
    "enclosed is a copy of the message",
    "unsent message follows",
    "original message follows",
    "original message headers follow",
    "your original message",
    "message text follows",
    "message header follows",
    "message headers follow",
    "the header of the original message",
    "----- original message",
    "original message headers:",
    "undelivered message follows",
    "the first 100 lines of the original message",
    "returned message follows",
    "copy of your message follows",
    "hier ist eine kopie der nachricht",
    "ursprüngliche nachricht",
    "es folgt eine kopie",
)
_SENTENCES = (
    "could not be delivered",
    "couldn't be delivered",
    "couldn't deliver",
    "could not deliver",
    "cannot be delivered",
    "can't be delivered",
    "can not be delivered",
    "cannot deliver",
    "wasn't able to deliver",
    "wasn't delivered",
    "was not delivered",
    "were not delivered",
    "weren't delivered",
    "has not yet been delivered",
    "has not been delivered",
    "have not been delivered",
    "not be delivered",
    "unable to deliver",
    "undeliverable",
    "undelivered",
    "delivery failed",
    "delivery has failed",
    "delivery to the following recipient",
    "delivery to these recipients",
    "did not reach the following recipient",
    "had permanent fatal errors",
    "had transient non-fatal errors",
    "had delivery problems",
    "failed recipient",
    "failed permanently",
    "failed addresses follow",
    "permanent error",
    "permanent failure",
    "recipient addresses that were incorrectly constructed",
    "malformed address",
    "no valid recipients were found",
    "mailbox is full",
    "user unknown",
    "unknown user",
    "returned to sender",
    "nicht zugestellt werden",
    "konnte nicht zugestellt",
    "nicht ausgeliefert werden",
    "nicht zustellbar",
    "unzustellbar",
    "n'a pas pu être remis",
    "no se ha podido entregar",
    "no se pudo entregar",
    "impossibile recapitare",
    "kon niet worden bezorgd",
)
_DELAYS = (
    "this is a warning only",
    "still being retried",
    "has not yet been delivered",
    "will be retried until",
    "delivery is delayed",
    "delivery status notification (delay)",
    "delivery delayed",
    "delivery incomplete",
    "could not send message for past",
    "message delayed",
    "delivery attempts will continue",
    "will continue to try",
    "will keep trying",
    "we will retry",
    "verzögert",
)


@dataclass(frozen=True)
class Notice:
    """What the text for people says; empty strings for what it does not say."""

    recipient: str = ""
    status: str = ""
    diagnostic: str = ""


def is_bounce_text(mail: InboundEmail, text: str) -> bool:
    """Whether text and subject say that mail was not delivered; a mere absence note says neither."""
    words = _words(text[:16_384])
    named = mentions_bounce(mail.subject) or is_daemon(mail.from_address)
    told = any(sentence in words for sentence in _SENTENCES)
    coded = bool(mail.header("x-failed-recipients") or status_in(text))
    return (told and (named or coded)) or (named and coded)


def is_delay(subject: str, text: str) -> bool:
    words = fold(subject) + " " + _words(text[:16_384])
    return any(sentence in words for sentence in _DELAYS)


def _words(text: str) -> str:
    return " ".join(text.replace("’", "'").casefold().split())


def split_copy(text: str) -> tuple[str, str]:
    """``text`` before and after the line that announces a copy of our mail."""
    lines = text[:_MAX_TEXT].splitlines()
    for number, line in enumerate(lines[: _MAX_LINES * 3]):
        short = line[:200].casefold()
        if any(marker in short for marker in _COPY_BELOW) or _begins_header(lines, number):
            return "\n".join(lines[:number]), "\n".join(lines[number:])
    return text[:_MAX_TEXT], ""


def _begins_header(lines: list[str], number: int) -> bool:
    """A blank line and then ``Return-Path:`` or ``Received:``: our mail, unannounced."""
    after_blank = number == 0 or not lines[number - 1].strip()
    return after_blank and lines[number][:20].lower().startswith(("return-path:", "received: "))


def read(mail: InboundEmail, text: str) -> Notice:
    """Recipient, status and words from the text before any copy."""
    lines = [line[:_MAX_LINE] for line in text.splitlines()[:_MAX_LINES]]
    known = bare_address(mail.header("x-failed-recipients")[:2000].partition(",")[0])
    known = known or bare_address(mail.header("x-bounced-address")[:500])
    at, recipient = _recipient_line(lines, known, {address.key for address in mail.to})
    words = " ".join(_about(lines, at))
    status = status_in(words) or status_in("\n".join(lines))
    return Notice(known or recipient, status, words)


def _recipient_line(lines: list[str], known: str, ours: set[str]) -> tuple[int, str]:
    """The line that begins what is said about the recipient, and the address there.

    A line that begins with the address (or has nothing else) beats one that merely mentions it; the address
    that the report was sent to is ours and comes last.
    """
    best = (9, len(lines), "")
    for number, line in enumerate(lines):
        if "@" not in line:
            continue
        for place, address in _addresses(line):
            wrong = 4 if known and address.casefold() != known.casefold() else 0
            own = 2 if not known and address.casefold() in ours else 0
            rank = wrong + own + (0 if place == 0 else 1)
            if rank < best[0]:
                best = (rank, number, address)
    return best[1], best[2]


def _addresses(line: str) -> list[tuple[int, str]]:
    """The addresses of a line with the number of the word that each stands in."""
    found = []
    for place, word in enumerate(line.split()[:50]):
        if "@" in word and (address := bare_address(word.strip("<>()[]{}\"':;,.*"))):
            found.append((place, address.partition(">")[0]))
    return found


def _about(lines: list[str], at: int) -> list[str]:
    """The paragraph from line ``at`` on; where that line stands alone, the next paragraph too."""
    out: list[str] = []
    for line in lines[at : at + _MAX_PARAGRAPH]:
        line = line.strip()
        if (not line and len(out) > 1) or (out and bare_address(line.strip(":"))):
            break  # what follows is about the next one
        if line:
            out.append(line)
    return out
