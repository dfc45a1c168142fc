"""Mails that are really signed, and a DNS that knows the keys and policies of a few domains."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from functools import cache
from typing import Any

import dkim
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from cleo_email.mail.parse import parse
from cleo_email.screening.dkim import DnsFault, Finding, SenderCheck

SIGNED = (b"from", b"to", b"subject", b"date", b"message-id", b"reply-to")
BODY = b"Please pay the invoice.\r\n"


@cache
def key(bits: int = 2048, name: str = "") -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(65537, bits)


def pem(bits: int = 2048, name: str = "") -> bytes:
    form = serialization.PrivateFormat.TraditionalOpenSSL
    return key(bits, name).private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption())


def key_record(bits: int = 2048, name: str = "") -> bytes:
    public = key(bits, name).public_key()
    der = public.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    return b"v=DKIM1; k=rsa; p=" + base64.b64encode(der)


class FakeDns:
    """``records`` by name; names in ``broken`` give a fault; ``asked`` has every question."""

    def __init__(self) -> None:
        self.records: dict[str, list[bytes]] = {}
        self.broken: set[str] = set()
        self.asked: list[str] = []

    def __call__(self, name: str, seconds: float = 0) -> Sequence[bytes]:
        name = name.rstrip(".").lower()
        self.asked.append(name)
        if name in self.broken:
            raise DnsFault("Timeout")
        return self.records.get(name, [])

    def publish(self, domain: str, *, policy: str = "", selector: str = "s1", name: str = "") -> None:
        """A key for a domain, and its DMARC policy."""
        self.records[f"{selector}._domainkey.{domain}"] = [key_record(name=name)]
        if policy:
            self.records[f"_dmarc.{domain}"] = [policy.encode()]


def head(sender: str = "Boss <boss@example.com>", **more: str) -> bytes:
    fields = {
        "From": sender,
        "To": "agent@cleo.test",
        "Subject": "Invoice",
        "Date": "Tue, 24 Nov 2026 09:00:00 +0100",
        "Message-ID": "<m1@example.com>",
        **{name.replace("_", "-"): value for name, value in more.items()},
    }
    return "".join(f"{name}: {value}\r\n" for name, value in fields.items()).encode()


def sign(source: bytes, domain: str = "example.com", **options: Any) -> bytes:
    """The mail with a signature on top."""
    name = options.pop("name", "")
    bits = options.pop("bits", 2048)
    settings: dict[str, Any] = {"include_headers": SIGNED, "selector": b"s1", **options}
    header: bytes = dkim.sign(
        source,
        domain=domain.encode(),
        privkey=pem(bits, name),
        canonicalize=settings.pop("canonicalize", (b"relaxed", b"relaxed")),
        **settings,
    )
    return header + source


def check(source: bytes, dns: FakeDns) -> Finding:
    return SenderCheck(dns).check(source, parse(source))
