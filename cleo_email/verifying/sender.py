"""Who wrote this mail, by our own look at its signatures: DKIM aligned with From, as DMARC wants it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from cleo_email.deadlines import SIGNATURES_TRIED
from cleo_email.errors import UnreadableMessage
from cleo_email.mail.header_values import shown
from cleo_email.mail.message import parse
from cleo_email.mail.model import InboundEmail
from cleo_email.mail.senders import a_label, split_address
from cleo_email.verifying.alignment import Alignment
from cleo_email.verifying.dns import Dns, DnsFault, TxtLookup
from cleo_email.verifying.signatures import SignedMail


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
    """Thread-safe. Takes at most ``deadlines.PROOF_S``, all of it waiting for DNS."""

    def __init__(self, lookup: TxtLookup | None = None) -> None:
        self._lookup = lookup or Dns()
        self._alignment = Alignment(self._lookup)

    def check(self, source: bytes, mail: InboundEmail) -> Finding:
        """What the signatures of ``source`` prove of the From address of ``mail``, which was read from it."""
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
    """The domain of the one From address, or why there is none that could be proven."""
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
