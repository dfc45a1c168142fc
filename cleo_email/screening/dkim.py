"""Proof of the sender by a DKIM check of our own (EMAIL_VERIFY_DKIM): a signature (RFC 6376) that holds and
that is aligned with the From address, as DMARC (RFC 7489) wants it.

dkimpy does the arithmetic. What it leaves to its caller is here: a signature with ``l=`` proves nothing about
what was appended, SHA-1 proves nothing at all (RFC 8301), and a field that the reader of the mail believes
must not stand there more often than it was signed.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import cache, cached_property

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
# The fields that name the author, the address for the answer and the title of the question.
_MUST_BE_SIGNED = b"from reply-to subject".split()
_ALL_OR_NONE = b"to cc date message-id mime-version content-type content-transfer-encoding".split()
# What dkimpy raises on malformed mail, signatures and keys.
_FAULTS = (
    *(dkim.DKIMException, dkim.util.InvalidTagValueList, dkim.asn1.ASN1FormatError),
    *(dkim.crypto.DigestTooLargeError, dkim.crypto.UnparsableKeyError),
    dkim.canonicalization.InvalidCanonicalizationPolicyError,
    *(ValueError, LookupError, TypeError, AttributeError, ArithmeticError, AssertionError, NameError),
)


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
    """Checks who wrote a mail. Thread-safe; waits for DNS for ``runtime.PROOF_S`` at most.

    The signature of the From domain itself always counts. That of a related one (of the same organisational
    domain by the Public Suffix List) counts where the From domain publishes DMARC without ``adkim=s``
    (RFC 7489 section 3.1.1); a domain that publishes nothing has not said that such signatures count.
    """

    def __init__(self, lookup: TxtLookup | None = None) -> None:
        self._lookup = lookup or Dns()

    def check(self, source: bytes, mail: InboundEmail) -> Finding:
        """Return what the signatures of ``source`` prove of the From address of ``mail`` (the same)."""
        signed = SignedMail(source)
        author, why = _author(signed, mail)
        fault = ""
        if not why:
            why = f"no DKIM signature speaks for {shown(author)}"
            own = _organisation(author)
            related = [
                one
                for one in signed.signatures()
                if one.domain == author or _organisation(one.domain) == own != ""
            ]
            for signature in related[:SIGNATURES_TRIED]:
                try:
                    flaw = self._flaw(signed, signature, author)
                except DnsFault as error:
                    fault = str(error)
                    continue
                if not flaw:
                    return Finding(Outcome.PROVEN)
                why = flaw
        if fault:
            why = f"DNS did not tell whether {shown(author)} has signed this mail ({fault})"
            return Finding(Outcome.UNKNOWN, why)
        return Finding(Outcome.UNPROVEN, f"The sender is not proven: {why} (EMAIL_VERIFY_DKIM).")

    def _flaw(self, signed: SignedMail, signature: Signature, author: str) -> str:
        """Return why ``signature`` does not prove ``author``, or ''. Raise DnsFault."""
        signer = shown(signature.domain)
        if signature.flaw:
            return f"the DKIM signature of {signer} does not count: {signature.flaw}"
        if signature.domain != author:
            policy = self._policy(author) or self._policy(_organisation(author))
            if policy is None or policy.get("adkim", "r").lower() != "r":
                return f"DMARC of {shown(author)} lets {signer} not speak for it"
        holds = signed.holds(signature, self._lookup)
        return "" if holds else f"the DKIM signature of {signer} does not hold"

    def _policy(self, domain: str) -> dict[str, str] | None:
        """Return the tags of the one DMARC record, if it is one (RFC 7489 section 6.6.3)."""
        records = [tags for text in self._lookup(f"_dmarc.{domain}") if (tags := read_policy(text))]
        return records[0] if len(records) == 1 else None


def _author(signed: SignedMail, mail: InboundEmail) -> tuple[str, str]:
    """Return the domain of the one From address, or why there is none that could be proven."""
    if not signed.readable:
        return "", "its header can be read in two ways"
    if len(signed.values(b"from")) != 1 or len(mail.header_all("from")) != 1 or len(mail.from_) != 1:
        return "", "it does not have exactly one From address"
    try:
        again = parse(b"From:" + signed.values(b"from")[0].rstrip(b"\r\n") + b"\r\n\r\n")
    except UnreadableMessage:
        return "", "its From cannot be read"
    if [address.addr for address in again.from_] != [mail.from_address]:
        return "", "its header can be read in two ways"
    parts = split_address(mail.from_address)
    domain = a_label(parts[1]) if parts else ""
    return (domain, "") if domain else ("", "its From is no address")


def _organisation(domain: str) -> str:
    return str(_suffixes().privatesuffix(domain) or "")


@cache
def _suffixes() -> PublicSuffixList:
    return PublicSuffixList()  # takes 50 ms


def read_policy(record: bytes) -> dict[str, str]:
    """Return the tags of a DMARC record, none for any other text (RFC 7489 section 6.3)."""
    parts = [part.partition("=") for part in record.decode("ascii", "replace").split(";")]
    tags = [(name.strip(), value.strip()) for name, _, value in parts]
    named = [tag for tag in tags if tag[0]]
    # Of a tag that is given twice the strictest reading would need a rule for each: the record is void.
    return dict(named) if tags[0] == ("v", "DMARC1") and len(dict(named)) == len(named) else {}


class DnsFault(Exception):
    """DNS did not answer, or with a fault of the server (SERVFAIL): nothing is known."""


# Returns every TXT record of a name, none where there is no such name. Raises DnsFault.
TxtLookup = Callable[[str], Sequence[bytes]]


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


@dataclass(frozen=True)
class Signature:
    """The signature number ``index`` from the top. ``flaw`` says why it cannot count; it may be empty."""

    index: int
    domain: str
    flaw: str = ""


class SignedMail:
    """The headers and signatures of a mail as it came. Nothing here raises but DnsFault."""

    def __init__(self, source: bytes) -> None:
        head, *rest = re.split(rb"\r?\n\r?\n", source, maxsplit=1)
        self._body = b"".join(rest)
        self._verifier: dkim.DKIM | None = None
        self._headers: list[tuple[bytes, bytes]] = []
        try:
            self._verifier = dkim.DKIM(source, logger=_silent(), minkey=1024)
            self._headers = [(bytes(name).lower(), bytes(value)) for name, value in self._verifier.headers]
        except _FAULTS:
            pass
        # What two readers may take for the end of a line, or of a field, makes them see two mails.
        self.readable = self._verifier is not None and not re.search(rb"\r(?!\n)|\x00", head)

    def values(self, name: bytes) -> list[bytes]:
        """Return the fields of that name as they stand in the mail, folded or not."""
        return [value for header, value in self._headers if header == name]

    def signatures(self) -> list[Signature]:
        fields = self.values(b"dkim-signature")[:_MAX_SIGNATURES]
        return [self._read(number, value) for number, value in enumerate(fields)]

    def holds(self, signature: Signature, lookup: TxtLookup) -> bool:
        """Return whether it is mathematically right and not expired. Raise DnsFault."""
        assert self._verifier is not None

        def dnsfunc(name: bytes | str, timeout: float = 0) -> bytes | None:
            return _usable_key(lookup(name.decode("ascii", "replace") if isinstance(name, bytes) else name))

        try:
            return bool(self._verifier.verify(idx=signature.index, dnsfunc=dnsfunc))
        except _FAULTS:
            return False

    @cached_property
    def _open_fields(self) -> frozenset[bytes]:
        """Return the fields without which the body could be read in another way, in lower case.

        Gmail, for one, signs neither Content-Type nor Content-Transfer-Encoding. An attacker who holds such
        a mail could replace them, so that other words of the same bytes become the text: by a boundary that
        stands in a quotation, by an encoding that was not there. What is not signed must follow from the
        body itself. Linear in the length of the body.
        """
        types, encodings = self.values(b"content-type"), self.values(b"content-transfer-encoding")
        encoding = encodings[0].strip().lower() if encodings else b""
        kind, parameters = parse_header_value(decode(types[0]).text) if types else ("text/plain", {})
        found = {
            b"content-type": len(types) < 2 and _is_evident(kind, parameters, encoding, self._body),
            b"content-transfer-encoding": len(encodings) < 2 and _is_encoded(encoding, kind, self._body),
            b"content-disposition": not self.values(b"content-disposition"),
        }
        return frozenset(name for name, shows in found.items() if not shows)

    def _read(self, index: int, value: bytes) -> Signature:
        if len(value) > _MAX_FIELD:
            return Signature(index, "", "it is too long")
        try:
            tags = dkim.util.parse_tag_value(value)
            domain = bytes(tags[b"d"]).decode("ascii").strip().lower().rstrip(".")
            signed = [name.strip().lower() for name in re.split(rb"\s*:\s*", tags[b"h"])]
        except _FAULTS:
            return Signature(index, "", "it cannot be read")
        if b"l" in tags:
            return Signature(index, domain, "it has l= and leaves open what was appended")
        if tags.get(b"a") not in _ALGORITHMS:
            return Signature(index, domain, "its algorithm proves nothing (RFC 8301)")
        return Signature(index, domain, self._uncovered(signed))

    def _uncovered(self, signed: Sequence[bytes]) -> str:
        for name in (*_MUST_BE_SIGNED, *_ALL_OR_NONE):
            covered = signed.count(name)
            if len(self.values(name)) > covered and (covered or name in _MUST_BE_SIGNED):
                return f"it does not cover every {name.decode().title()}"
        for name in sorted(self._open_fields - set(signed)):
            return f"it leaves open how the body is read ({name.decode().title()} is not signed)"
        return ""


def _silent() -> logging.Logger:
    """Return a logger that writes nothing: dkimpy logs each forged mail as an error, with its content."""
    logger = logging.Logger("dkimpy")
    logger.disabled = True
    return logger


def _usable_key(records: Sequence[bytes]) -> bytes | None:
    """Return the key of a selector: its one TXT record, or the one of several that is a key.

    Several are undefined (RFC 6376 section 3.6.2.2); the mail of a domain that only tests DKIM (``t=y``)
    counts as unsigned (section 3.6.1).
    """
    keys = records if len(records) == 1 else [one for one in records if re.search(rb"(^|;)\s*p\s*=", one)]
    if len(keys) != 1:
        return None
    flags = re.search(rb"(?:^|;)\s*t\s*=([^;]*)", keys[0])
    is_a_test = flags is not None and b"y" in [flag.strip().lower() for flag in flags[1].split(b":")]
    return None if is_a_test else keys[0]


# --- how the body may be read -------------------------------------------------------------------------------

# The forms that a body may have so that it can be read in one way only.
_PREAMBLES = frozenset({b"this is a multi-part message in mime format.", b"this is a multipart message."})
_MULTIPARTS = tuple(f"multipart/{kind}" for kind in ("mixed", "alternative", "related", "signed"))
# In these the letters of ASCII are themselves, and other octets are no letters of ASCII.
_CHARSET = re.compile(r"(?:us-ascii|ascii|utf-?8|iso-8859-\d{1,2}|windows-125\d)?")
_QUOTED_PRINTABLE = re.compile(rb"(?:[^=\x80-\xff]|=[0-9A-Fa-f]{2}|=[ \t]*\r?(?:\n|\Z))*+")
_BASE64 = re.compile(rb"(?:[A-Za-z0-9+/]{1,76}\r?\n)*+[A-Za-z0-9+/]{0,76}={0,2}\s*+")
_LONG_LINE = re.compile(rb"[^\r\n]{79}")
_HTML_BEGINS = 400  # octets that are looked at
_HTML = re.compile(rb"\s*<(?:!doctype\s+html|html)\b", re.IGNORECASE)


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
    if encoding in (b"", b"7bit", b"8bit", b"binary"):
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
