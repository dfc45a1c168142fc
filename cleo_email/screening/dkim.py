"""Proof of the sender by a DKIM check of our own (EMAIL_VERIFY_DKIM): a signature (RFC 6376) that holds and
that is aligned with the From address, as DMARC (RFC 7489) wants it.

dkimpy does the arithmetic. What it leaves to its caller is here: a signature with ``l=`` proves nothing about
what was appended, SHA-1 proves nothing at all (RFC 8301), and a field that the reader of the mail believes
must not stand there more often than it was signed.
"""

from __future__ import annotations

import logging
import re
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property
from typing import Protocol

import dkim
import dns.exception
import dns.name
import dns.rdatatype
import dns.resolver
from dns.rdtypes.ANY.TXT import TXT
from publicsuffixlist import PublicSuffixList

from cleo_email.errors import UnreadableMessage
from cleo_email.mail.address import a_label, split_address
from cleo_email.mail.decoding import decode, decode_transfer
from cleo_email.mail.headers import parse_header_value, shown
from cleo_email.mail.model import InboundEmail
from cleo_email.mail.parse import parse
from cleo_email.runtime import DNS_S, SIGNATURES_TRIED

_MAX_RECORDS = 20
_MAX_SIGNATURES = 20
# dkimpy's own checks take time that grows with the square of a field's length; real ones have under 2,000.
_MAX_FIELD = 4_096
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
# The forms that a body may have so that it can be read in one way only.
_PREAMBLES = frozenset({b"this is a multi-part message in mime format.", b"this is a multipart message."})
_MULTIPARTS = frozenset(f"multipart/{kind}" for kind in ("mixed", "alternative", "related", "signed"))
_IDENTITIES = frozenset({b"", b"7bit", b"8bit", b"binary"})
# In these the letters of ASCII are themselves, and other octets are no letters of ASCII.
_CHARSET = re.compile(r"(?:us-ascii|ascii|utf-?8|iso-8859-\d{1,2}|windows-125\d)?")
_QUOTED_PRINTABLE = re.compile(rb"(?:[^=\x80-\xff]|=[0-9A-Fa-f]{2}|=[ \t]*\r?(?:\n|\Z))*+")
_BASE64 = re.compile(rb"(?:[A-Za-z0-9+/]{1,76}\r?\n)*+[A-Za-z0-9+/]{0,76}={0,2}\s*+")
_LONG_LINE = re.compile(rb"[^\r\n]{79}")
_HTML_BEGINS = 400  # octets that are looked at
_HTML = re.compile(rb"\s*<(?:!doctype\s+html|html)\b", re.IGNORECASE)


class Outcome(StrEnum):
    PROVEN = "proven"
    UNPROVEN = "unproven"
    UNKNOWN = "unknown"  # DNS did not answer: asking later may tell


@dataclass(frozen=True)
class Finding:
    """``reason`` is a sentence for the record, '' where the sender is proven."""

    outcome: Outcome
    reason: str = ""


class SenderCheck:
    """Checks who wrote a mail. Thread-safe; takes ``deadlines.PROOF_S`` at most, waiting for DNS."""

    def __init__(self, lookup: TxtLookup | None = None) -> None:
        self._lookup = lookup or Dns()
        self._alignment = Alignment(self._lookup)

    def check(self, source: bytes, mail: InboundEmail) -> Finding:
        """Return what the signatures of ``source`` prove of the From address of ``mail`` (the same)."""
        signed = SignedMail(source)
        author, reason = _author(signed, mail)
        if reason:
            return Finding(Outcome.UNPROVEN, f"The sender is not proven: {reason} (EMAIL_VERIFY_DKIM).")
        return self._try_all(signed, author)

    def _try_all(self, signed: SignedMail, author: str) -> Finding:
        why = f"no DKIM signature speaks for {shown(author)}"
        fault = ""
        related = [one for one in signed.signatures() if self._alignment.is_related(one.domain, author)]
        for signature in related[:SIGNATURES_TRIED]:
            if signature.flaw:
                why = f"the DKIM signature of {shown(signature.domain)} does not count: {signature.flaw}"
                continue
            try:
                if not self._alignment.is_aligned(signature.domain, author):
                    why = f"DMARC of {shown(author)} lets {shown(signature.domain)} not speak for it"
                elif signed.holds(signature, self._lookup):
                    return Finding(Outcome.PROVEN)
                else:
                    why = f"the DKIM signature of {shown(signature.domain)} does not hold"
            except DnsFault as error:
                fault = str(error)
        if fault:
            text = f"DNS did not tell whether {shown(author)} has signed this mail ({fault})"
            return Finding(Outcome.UNKNOWN, text)
        return Finding(Outcome.UNPROVEN, f"The sender is not proven: {why} (EMAIL_VERIFY_DKIM).")


def _author(signed: SignedMail, mail: InboundEmail) -> tuple[str, str]:
    """Return the domain of the one From address, or why there is none that could be proven."""
    if not signed.readable:
        return "", "its header can be read in two ways"
    if signed.count(b"from") != 1 or len(mail.header_all("from")) != 1 or len(mail.from_) != 1:
        return "", "it does not have exactly one From address"
    try:
        again = parse(b"From:" + signed.value(b"from").rstrip(b"\r\n") + b"\r\n\r\n")
    except UnreadableMessage:
        return "", "its From cannot be read"
    if [address.addr for address in again.from_] != [mail.from_address]:
        return "", "its header can be read in two ways"
    parts = split_address(mail.from_address)
    domain = a_label(parts[1]) if parts else ""
    return (domain, "") if domain else ("", "its From is no address")


class DnsFault(Exception):
    """DNS did not answer, or with a fault of the server (SERVFAIL): nothing is known."""


class TxtLookup(Protocol):
    def __call__(self, name: str) -> Sequence[bytes]:
        """Return every TXT record of a name, none where there is no such name. Raises DnsFault."""
        ...


class Dns:
    """Asks the resolvers of this machine, whose configuration it reads at the first question. Thread-safe."""

    def __init__(self, resolver: dns.resolver.Resolver | None = None) -> None:
        self._resolver = resolver

    def __call__(self, name: str) -> Sequence[bytes]:
        try:
            if self._resolver is None:
                self._resolver = dns.resolver.Resolver()
            # A full name: no search list of this machine is tried on it.
            full = dns.name.from_text(name.rstrip(".") + ".")
            answer = self._resolver.resolve(full, dns.rdatatype.TXT, lifetime=DNS_S)
        except (dns.resolver.NXDOMAIN, dns.resolver.NoAnswer, dns.resolver.YXDOMAIN):
            return ()
        except (dns.name.LabelTooLong, dns.name.NameTooLong, dns.name.EmptyLabel, dns.name.BadEscape):
            return ()  # no name that could have a record
        except (dns.exception.DNSException, OSError, UnicodeError) as error:
            raise DnsFault(type(error).__name__) from None
        return [b"".join(item.strings) for item in answer if isinstance(item, TXT)][:_MAX_RECORDS]


class Alignment:
    """Whether a signature by one domain counts for the From address of another (RFC 7489 section 3.1.1).

    The same domain always counts. A related one (of the same organisational domain by the Public Suffix
    List) counts where the From domain publishes DMARC without ``adkim=s``; where it publishes nothing, nobody
    has said that such signatures count, and they do not.
    """

    def __init__(self, lookup: TxtLookup) -> None:
        self._lookup = lookup
        self._guard = threading.Lock()
        self._suffixes: PublicSuffixList | None = None

    def is_related(self, signer: str, author: str) -> bool:
        """Return whether it could be aligned at all, without asking DNS. Both are A-labels in lower case."""
        return signer == author or self._organisation(signer) == self._organisation(author) != ""

    def is_aligned(self, signer: str, author: str) -> bool:
        """Return whether it is aligned. Raises DnsFault."""
        if signer == author:
            return True
        if not self.is_related(signer, author):
            return False
        policy = self._policy(author) or self._policy(self._organisation(author))
        return policy is not None and policy.get("adkim", "r").lower() == "r"

    def _policy(self, domain: str) -> dict[str, str] | None:
        """Return the tags of the one DMARC record, if it is one (RFC 7489 section 6.6.3)."""
        records = [tags for text in self._lookup(f"_dmarc.{domain}") if (tags := read_policy(text))]
        return records[0] if len(records) == 1 else None

    def _organisation(self, domain: str) -> str:
        with self._guard:
            if self._suffixes is None:
                self._suffixes = PublicSuffixList()  # takes 50 ms
        return str(self._suffixes.privatesuffix(domain) or "")


def read_policy(record: bytes) -> dict[str, str]:
    """Return the tags of a DMARC record, none for any other text (RFC 7489 section 6.3)."""
    parts = [part.partition("=") for part in record.decode("ascii", "replace").split(";")]
    tags = [(name.strip(), value.strip()) for name, _, value in parts]
    if not tags or tags[0] != ("v", "DMARC1"):
        return {}
    # Of a tag that is given twice the strictest reading would need a rule for each: the record is void.
    return dict(tags) if len({name for name, _ in tags if name}) == len([n for n, _ in tags if n]) else {}


@dataclass(frozen=True)
class Signature:
    """The signature number ``index`` from the top. ``flaw`` says why it cannot count; it may be empty."""

    index: int
    domain: str
    flaw: str = ""


class SignedMail:
    """The headers and signatures of a mail as it came. Nothing here raises but DnsFault."""

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
        return [self._read(number, value) for number, value in enumerate(fields[:_MAX_SIGNATURES])]

    def holds(self, signature: Signature, lookup: TxtLookup) -> bool:
        """Return whether it is mathematically right and not expired. Raises DnsFault."""
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
        """The fields without which the body could be read in another way, in lower case."""

        def values(name: bytes) -> list[bytes]:
            return [value for header, value in self.headers if header == name]

        found = must_be_signed(values(b"content-type"), values(b"content-transfer-encoding"), self._body)
        return found | ({b"content-disposition"} if self.count(b"content-disposition") else set())

    def _read(self, index: int, value: bytes) -> Signature:
        if len(value) > _MAX_FIELD:
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
    """Return a logger that writes nothing: dkimpy logs each forged mail as an error, with its content."""
    logger = logging.Logger("dkimpy")
    logger.disabled = True
    return logger


def _is_a_test(key: bytes) -> bool:
    """Return whether the domain only tests DKIM: its mail counts as unsigned (RFC 6376 section 3.6.1)."""
    flags = re.search(rb"(?:^|;)\s*t\s*=([^;]*)", key)
    return flags is not None and b"y" in [flag.strip().lower() for flag in flags[1].split(b":")]


def _the_key(records: Sequence[bytes]) -> bytes | None:
    """Return the one TXT record of several that is a key (undefined by RFC 6376 section 3.6.2.2)."""
    keys = [record for record in records if re.search(rb"(^|;)\s*p\s*=", record)]
    return keys[0] if len(keys) == 1 else None


def must_be_signed(types: Sequence[bytes], encodings: Sequence[bytes], body: bytes) -> frozenset[bytes]:
    """Return those of Content-Type and Content-Transfer-Encoding that the body does not confirm.

    Gmail, for one, signs neither. An attacker who holds such a mail could replace them, so that other words
    of the same bytes become the text: by a boundary that stands in a quotation, by an encoding that was not
    there. What is not signed must follow from the body itself. Linear in the length of the body.
    """
    found = set()
    encoding = encodings[0].strip().lower() if encodings else b""
    kind, parameters = parse_header_value(decode(types[0]).text) if types else ("text/plain", {})
    if len(types) > 1 or not _is_evident(kind, parameters, encoding, body):
        found.add(b"content-type")
    if len(encodings) > 1 or not _is_encoded(encoding, kind, body):
        found.add(b"content-transfer-encoding")
    return frozenset(found)


def _is_evident(kind: str, parameters: Mapping[str, str], encoding: bytes, body: bytes) -> bool:
    """Return whether the body is of that type and could be of no other with a text of its own."""
    if kind in _MULTIPARTS:
        boundary = parameters.get("boundary", "")
        return boundary.isascii() and boundary.encode() == _boundary(body)
    if kind == "text/html":
        return bool(_HTML.match(decode_transfer(body[:_HTML_BEGINS], encoding)))
    plain = kind == "text/plain" and _boundary(body) is None
    return plain and bool(_CHARSET.fullmatch(parameters.get("charset", "").strip().lower()))


def _is_encoded(encoding: bytes, kind: str, body: bytes) -> bool:
    """Return whether ``encoding`` leaves the body as it is, or shows by its form."""
    if encoding in _IDENTITIES:
        return True
    if kind.startswith(("multipart/", "message/")):
        return False
    if encoding == b"quoted-printable":
        return bool(_QUOTED_PRINTABLE.fullmatch(body)) and not _LONG_LINE.search(body)
    characters = len(body) - sum(map(body.count, (b"\r", b"\n", b" ", b"\t")))
    return encoding == b"base64" and characters % 4 == 0 and bool(_BASE64.fullmatch(body))


def _boundary(body: bytes) -> bytes | None:
    """Return the boundary with which the body begins and ends (RFC 2046 section 5.1.1), if it does."""
    text = body.strip(b"\r\n \t")
    first, _, rest = text.partition(b"\n")
    if first.strip().lower() in _PREAMBLES:
        first = rest.lstrip(b"\r\n \t").partition(b"\n")[0]
    last = text.rpartition(b"\n")[2].strip()
    name = first.strip()[2:] if first.startswith(b"--") else b""
    return name if name and last == b"--" + name + b"--" else None
