"""Dovecot, an SMTP server with STARTTLS and AUTH, Redis and the channel's processes, wired together."""

from __future__ import annotations

from collections.abc import Mapping
from email import message_from_bytes, policy
from email.message import EmailMessage
from pathlib import Path
from types import TracebackType
from typing import Self

from imapclient import IMAPClient

from tests.support.channel import AGENT, PASSWORD, Channel
from tests.support.dovecot import Dovecot
from tests.support.smtp_server import SmtpServer

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


class Rig:
    """``with Rig(tmp_path, redis_url) as rig``: ``rig.channel``, ``rig.dovecot``, ``rig.smtp``."""

    def __init__(self, directory: Path, redis_url: str, *, env: Mapping[str, str] | None = None) -> None:
        self.dovecot = Dovecot(users={AGENT: PASSWORD})
        self.smtp = SmtpServer(passwords={AGENT: PASSWORD})
        self._directory = directory
        self._redis_url = redis_url
        self._env = dict(env or {})

    def __enter__(self) -> Self:
        self.dovecot.__enter__()
        self.smtp.start()
        self.ca_file = self._directory / "trusted.pem"
        smtp_ca = self.smtp.ca.cert_pem.bytes()
        self.ca_file.write_bytes(smtp_ca + self.dovecot.ca_file.read_bytes())
        self.channel = Channel(
            self._directory,
            {
                "EMAIL_SMTP_HOST": "127.0.0.1",
                "EMAIL_SMTP_PORT": str(self.smtp.port),
                "EMAIL_IMAP_HOST": "127.0.0.1",
                "EMAIL_IMAP_PORT": str(self.dovecot.imaps_port),
                "REDIS_URL": self._redis_url,
                "SSL_CERT_FILE": str(self.ca_file),
                **self._env,
            },
        )
        self.channel.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.channel.__exit__(kind, value, trace)
        self.smtp.stop()
        self.dovecot.__exit__(kind, value, trace)

    def deliver(self, *sources: bytes) -> None:
        self.dovecot.deliver(AGENT, *sources)

    def replies(self) -> list[EmailMessage]:
        """Every mail that the SMTP server accepted."""
        parsed = [message_from_bytes(mail.source, policy=policy.default) for mail in list(self.smtp.mails)]
        return [message for message in parsed if isinstance(message, EmailMessage)]

    def imap(self) -> IMAPClient:
        """A person's look into the mailbox."""
        client = IMAPClient(
            "127.0.0.1", self.dovecot.imaps_port, ssl_context=self.dovecot.ssl_context(), timeout=20
        )
        client.plain_login(AGENT, PASSWORD)
        return client

    def unseen(self) -> list[int]:
        with self.imap() as client:
            client.select_folder("INBOX", readonly=True)
            found: list[int] = client.search("UNSEEN")
        return found


def text_of(message: EmailMessage) -> str:
    part = message.get_body(("plain",))
    assert part is not None
    return str(part.get_content()).strip()
