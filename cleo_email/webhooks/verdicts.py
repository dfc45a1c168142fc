"""What a provider knows of the sender, read with suspicion.

Three answers: True, the provider vouches that the domain of the one From mailbox sent this (a pass that DMARC
would accept, RFC 7489 section 3.1); False, it says that it did not; None, it says nothing that counts. A
verdict counts *for* a mail only where it stands outside of it: a header can be written by the sender.
Alignment is strict: a sub-domain is another domain, as only the public suffix list says whose it is.
"""

from __future__ import annotations

from collections.abc import Iterable

from cleo_email.errors import UnreadableMessage
from cleo_email.mail.address import a_label, distinct, split_address
from cleo_email.mail.model import InboundEmail
from cleo_email.mail.parse import parse


def header_of(source: bytes) -> bytes:
    """The header block of a mail, with its blank line."""
    ends = [at + len(gap) for gap in (b"\r\n\r\n", b"\n\n") if (at := source.find(gap)) >= 0]
    return source[: min(ends)] if ends else source


def read_header(source: bytes) -> InboundEmail:
    """A mail's header alone; an empty one where it is beyond the caps (the intake quarantines such mail)."""
    try:
        return parse(header_of(source))
    except UnreadableMessage:
        return InboundEmail()


def from_domain(source: bytes) -> str:
    """The domain of the one From mailbox in A-labels; '' with two mailboxes or two From headers."""
    mail = read_header(source)
    writers = distinct([address.addr for address in mail.from_])
    parts = split_address(writers[0]) if len(writers) == 1 else None
    return parts[1] if parts and len(mail.header_all("from")) == 1 else ""


def dmarc(source: bytes, verdict: str) -> bool | None:
    """From a DMARC verdict over the mail: ``PASS``, ``FAIL`` or something else."""
    match verdict.upper():
        case "PASS":
            return bool(from_domain(source))
        case "FAIL":
            return False
        case _:
            return None


def aligned(source: bytes, passed: Iterable[str]) -> bool | None:
    """True if one of the domains that passed SPF or DKIM is the sender's, else None: that proves nothing."""
    domain = from_domain(source)
    return True if domain and domain in {a_label(one) for one in passed} else None


def domain_of(address: str) -> str:
    """The domain of an envelope address, '' for none."""
    parts = split_address(address.strip().strip("<>"))
    return parts[1] if parts else ""
