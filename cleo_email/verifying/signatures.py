"""DKIM signatures (RFC 6376) of a mail: which could count, and whether they hold.

dkimpy does the arithmetic. What it leaves to its caller is here: a signature with ``l=`` proves nothing about
what was appended, SHA-1 proves nothing at all (RFC 8301), and a field that the reader of the mail believes
must not stand there more often than it was signed.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import dkim  # type: ignore[import-untyped]

from cleo_email.verifying.dns import DnsFault, TxtLookup
from cleo_email.verifying.readings import must_be_signed

# dkimpy's own checks take time that grows with the square of a field's length; real ones have under 2,000.
LONGEST_FIELD = 4_096
MOST_SIGNATURES = 20
_ALGORITHMS = frozenset({b"rsa-sha256", b"ed25519-sha256"})
# What decides who wrote, to whom an answer goes and what is shown as the question's title.
_MUST_BE_SIGNED = (b"from", b"reply-to", b"subject")
_ALL_OR_NONE = (
    *(b"to", b"cc", b"date", b"message-id", b"mime-version"),
    *(b"content-type", b"content-transfer-encoding"),
)
_FAULTS = (
    dkim.DKIMException,
    dkim.util.InvalidTagValueList,
    dkim.canonicalization.InvalidCanonicalizationPolicyError,
    dkim.crypto.DigestTooLargeError,
    dkim.crypto.UnparsableKeyError,
    dkim.asn1.ASN1FormatError,
    ValueError,
    IndexError,
    KeyError,
    TypeError,
    AttributeError,
    ArithmeticError,
    AssertionError,
    NameError,
)


@dataclass(frozen=True)
class Signature:
    """The signature number ``index`` from the top. ``flaw`` is why it cannot count, '' for no reason."""

    index: int
    domain: str
    flaw: str = ""


class SignedMail:
    """``source`` as it came, CRLF or LF line ends. Nothing here raises but DnsFault."""

    def __init__(self, source: bytes) -> None:
        self.headers: list[tuple[bytes, bytes]] = []
        head, *rest = re.split(rb"\r?\n\r?\n", source, maxsplit=1)
        self._body = b"".join(rest)
        # What two readers may take for the end of a line, or of a field, makes them see two mails.
        self.readable = not re.search(rb"\r(?!\n)|\x00", head)
        self._verifier: dkim.DKIM | None = None
        try:
            self._verifier = dkim.DKIM(source, logger=_silent(), minkey=1024)
            self.headers = [(bytes(name).lower(), bytes(value)) for name, value in self._verifier.headers]
        except _FAULTS:
            self.readable = False

    def count(self, name: bytes) -> int:
        return sum(1 for header, _ in self.headers if header == name)

    def value(self, name: bytes) -> bytes:
        """The first field of that name as it stands in the mail, unfolded or not."""
        return next((value for header, value in self.headers if header == name), b"")

    def signatures(self) -> list[Signature]:
        fields = [value for name, value in self.headers if name == b"dkim-signature"]
        return [self._read(number, value) for number, value in enumerate(fields[:MOST_SIGNATURES])]

    def holds(self, signature: Signature, lookup: TxtLookup) -> bool:
        """Whether it is mathematically right and not expired. Raises DnsFault."""
        assert self._verifier is not None
        faults: list[DnsFault] = []

        def dnsfunc(name: bytes | str, timeout: float = 0) -> bytes | None:
            text = name.decode("ascii", "replace") if isinstance(name, bytes) else name
            try:
                records = lookup(text)
            except DnsFault as fault:
                faults.append(fault)
                return None
            key = records[0] if len(records) == 1 else _the_key(records)
            return None if key is None or _is_a_test(key) else key

        try:
            holds = bool(self._verifier.verify(idx=signature.index, dnsfunc=dnsfunc))
        except _FAULTS:
            holds = False
        if faults:
            raise faults[0]
        return holds

    @cached_property
    def _open_fields(self) -> frozenset[bytes]:
        """The fields without which the body could be read in another way."""

        def values(name: bytes) -> list[bytes]:
            return [value for header, value in self.headers if header == name]

        found = must_be_signed(values(b"content-type"), values(b"content-transfer-encoding"), self._body)
        return found | ({b"content-disposition"} if self.count(b"content-disposition") else set())

    def _read(self, index: int, value: bytes) -> Signature:
        if len(value) > LONGEST_FIELD:
            return Signature(index, "", "it is too long")
        try:
            tags = dkim.util.parse_tag_value(value)
            domain = bytes(tags[b"d"]).decode("ascii").strip().lower().rstrip(".")
            signed = [name.strip().lower() for name in re.split(rb"\s*:\s*", tags[b"h"])]
        except (*_FAULTS, UnicodeDecodeError):
            return Signature(index, "", "it cannot be read")
        if b"l" in tags:
            return Signature(index, domain, "it has l= and leaves open what was appended")
        if tags.get(b"a") not in _ALGORITHMS:
            return Signature(index, domain, "its algorithm proves nothing (RFC 8301)")
        return Signature(index, domain, self._uncovered(signed))

    def _uncovered(self, signed: Sequence[bytes]) -> str:
        for name in (*_MUST_BE_SIGNED, *_ALL_OR_NONE):
            there, covered = self.count(name), signed.count(name)
            if there > covered and (covered or name in _MUST_BE_SIGNED):
                return f"it does not cover every {name.decode().title()}"
        for name in sorted(self._open_fields - set(signed)):
            return f"it leaves open how the body is read ({name.decode().title()} is not signed)"
        return ""


def _silent() -> logging.Logger:
    """dkimpy tells each forged mail as an error, with what stands in it."""
    logger = logging.Logger("dkimpy")
    logger.disabled = True
    return logger


def _is_a_test(key: bytes) -> bool:
    """A domain that tests DKIM wants its mail to be taken for unsigned (``t=y``, RFC 6376 section 3.6.1)."""
    flags = re.search(rb"(?:^|;)\s*t\s*=([^;]*)", key)
    return flags is not None and b"y" in [flag.strip().lower() for flag in flags[1].split(b":")]


def _the_key(records: Sequence[bytes]) -> bytes | None:
    """Of several TXT records the one that is a key (RFC 6376 section 3.6.2.2 leaves it undefined)."""
    keys = [record for record in records if re.search(rb"(^|;)\s*p\s*=", record)]
    return keys[0] if len(keys) == 1 else None
