"""Mail as customers write it, and the text of what they get back."""

from __future__ import annotations

from email.message import EmailMessage

AGENT = "agent@cleo.test"
PASSWORD = "geheim-Pässwort"
CRLF = "\r\n"


def mail(
    number: int,
    *,
    sender: str = "",
    subject: str = "",
    text: str = "",
    message_id: str = "",
    references: str = "",
    extra: str = "",
) -> bytes:
    """A plain mail from a customer."""
    who = sender or f"customer{number}@example.test"
    lines = [
        f"From: Customer {number} <{who}>",
        f"To: {AGENT}",
        f"Subject: {subject or f'Question {number}'}",
        f"Message-ID: {message_id or f'<q{number}@example.test>'}",
        "Date: Tue, 24 Nov 2026 09:00:00 +0100",
        *([f"In-Reply-To: {references.split()[-1]}", f"References: {references}"] if references else []),
        *([extra] if extra else []),
        "MIME-Version: 1.0",
        "Content-Type: text/plain; charset=utf-8",
        "",
        text or f"This is question {number}.",
        "",
    ]
    return CRLF.join(lines).encode()


def text_of(message: EmailMessage) -> str:
    part = message.get_body(("plain",))
    assert part is not None
    return str(part.get_content()).strip()
