"""The DKIM signatures of a mail (RFC 6376): what each covers, and whether it holds.

dkimpy does the arithmetic of the header. What it leaves to its caller is here: a signature with ``l=`` proves
nothing about what was appended, SHA-1 proves nothing at all (RFC 8301), and a field that the reader of the
mail believes must not stand there more often than it was signed.

It is the only file that reaches into dkimpy. Left to itself dkimpy reads header and body in its own way, and
takes time that grows with the square of a run of blanks: here it gets the fields as everything else reads
them, no body (the hash of the body is compared before), and keys and fields of a bounded size.
``tests/screening/test_seam.py`` says what this leans on.
"""

from __future__ import annotations

import base64
import logging
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

import dkim

from cleo_email.mail.decoding import decode
from cleo_email.mail.fields import Header
from cleo_email.mail.headers import parse_header_value
from cleo_email.screening.signed_body import body_hash, is_encoded, is_evident

_MAX_SIGNATURES = 20
# dkimpy's own checks take time that grows with the square of a field's length; real ones have under 2,000.
_MAX_FIELD = 4_096
_MAX_NAMES = 200  # in h=
_MAX_KEY = 1_200  # characters of a record; RSA of 4,096 bits (RFC 8301 asks for no more) takes 740
_MANY_BLANKS = re.compile(rb"\s{100}")
_ALGORITHMS = frozenset({b"rsa-sha256", b"ed25519-sha256"})
# The fields that name the author, the address for the answer and the title of the question.
_MUST_BE_SIGNED = b"from reply-to subject".split()
_ALL_OR_NONE = b"to cc date message-id mime-version content-type content-transfer-encoding".split()
# What dkimpy raises on malformed signatures and keys.
_FAULTS = (
    *(dkim.DKIMException, dkim.util.InvalidTagValueList, dkim.asn1.ASN1FormatError),
    *(dkim.crypto.DigestTooLargeError, dkim.crypto.UnparsableKeyError),
    dkim.canonicalization.InvalidCanonicalizationPolicyError,
    *(ValueError, LookupError, TypeError, AttributeError, ArithmeticError, AssertionError, NameError),
)


@dataclass(frozen=True)
class Signature:
    """The signature number ``index`` from the top. ``flaw`` says why it cannot count; it may be empty."""

    index: int
    domain: str
    flaw: str = ""


class SignedMail:
    """The fields and signatures of a mail as it came. Nothing here raises but what a lookup raises."""

    def __init__(self, source: bytes, header: Header) -> None:
        self._source = source
        self._body = header.body
        self._fields = [(name, _with_crlf(value)) for name, value in header.fields]
        self._hashes: dict[bool, bytes] = {}

    def values(self, name: bytes) -> list[bytes]:
        """Return the fields of that (lower-case) name as they stand in the mail, folded or not."""
        return [value for header, value in self._fields if header.lower() == name]

    def signatures(self) -> list[Signature]:
        fields = self.values(b"dkim-signature")[:_MAX_SIGNATURES]
        return [self._read(number, value) for number, value in enumerate(fields)]

    def holds(self, signature: Signature, lookup: Callable[[str], Sequence[bytes]]) -> bool:
        """Return whether it is mathematically right and not expired. ``lookup`` returns the TXT records."""

        def dnsfunc(name: bytes | str, timeout: float = 0) -> bytes | None:
            return _usable_key(lookup(name.decode("ascii", "replace") if isinstance(name, bytes) else name))

        verifier = dkim.DKIM(logger=_silent(), minkey=1024)
        verifier.headers = self._fields
        try:
            tags, names, fields = verifier.verify_headerprep(signature.index)
            if len(names) > _MAX_NAMES or not self._covers_body(tags):
                return False
            # Only the fields that are signed are made canonical.
            wanted = {b"dkim-signature", *names}
            verifier.headers = [field for field in self._fields if field[0].lower() in wanted]
            return bool(verifier.verify_sig(tags, names, fields[signature.index], dnsfunc))
        except _FAULTS:
            return False

    def _covers_body(self, tags: dict[bytes, bytes]) -> bool:
        """Return whether the hash of the body is right, and take it out: dkimpy then looks at no body."""
        policy = dkim.canonicalization.CanonicalizationPolicy.from_c_value(tags.get(b"c"))
        relaxed = policy.body_algorithm.name == b"relaxed"
        if relaxed not in self._hashes:  # two at most, however many signatures there are
            self._hashes[relaxed] = body_hash(self._source, self._body, relaxed=relaxed)
        return self._hashes[relaxed] == base64.b64decode(re.sub(rb"\s+", b"", tags.pop(b"bh")))

    @cached_property
    def _open_fields(self) -> frozenset[bytes]:
        """Return the fields without which the body could be read in another way, in lower case.

        Gmail, for one, signs neither Content-Type nor Content-Transfer-Encoding. An attacker who holds such
        a mail could replace them, so that other words of the same bytes become the text: by a boundary that
        stands in a quotation, by an encoding that was not there. What is not signed must follow from the
        body itself.
        """
        types, encodings = self.values(b"content-type"), self.values(b"content-transfer-encoding")
        encoding = encodings[0].strip().lower() if encodings else b""
        kind, parameters = parse_header_value(decode(types[0]).text) if types else ("text/plain", {})
        body = (self._source, self._body)
        found = {
            b"content-type": len(types) < 2 and is_evident(kind, parameters, encoding, *body),
            b"content-transfer-encoding": len(encodings) < 2
            and is_encoded(encoding, kind, parameters, *body),
            b"content-disposition": not self.values(b"content-disposition"),
        }
        return frozenset(name for name, shows in found.items() if not shows)

    def _read(self, index: int, value: bytes) -> Signature:
        if len(value) > _MAX_FIELD or _MANY_BLANKS.search(value):
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


def _with_crlf(value: bytes) -> bytes:
    return value.replace(b"\r\n", b"\n").removesuffix(b"\n").replace(b"\n", b"\r\n") + b"\r\n"


def _silent() -> logging.Logger:
    """Return a logger that writes nothing: dkimpy logs each forged mail as an error, with its content."""
    logger = logging.Logger("dkimpy")
    logger.disabled = True
    return logger


def _usable_key(records: Sequence[bytes]) -> bytes | None:
    """Return the key of a selector: its one TXT record, or the one of several that is a key.

    Several are undefined (RFC 6376 section 3.6.2.2); the mail of a domain that only tests DKIM (``t=y``)
    counts as unsigned (section 3.6.1). Arithmetic with a key of any size would take any time.
    """
    keys = records if len(records) == 1 else [one for one in records if re.search(rb"(^|;)\s*p\s*=", one)]
    if len(keys) != 1 or len(keys[0]) > _MAX_KEY:
        return None
    flags = re.search(rb"(?:^|;)\s*t\s*=([^;]*)", keys[0])
    is_a_test = flags is not None and b"y" in [flag.strip().lower() for flag in flags[1].split(b":")]
    return None if is_a_test else keys[0]
