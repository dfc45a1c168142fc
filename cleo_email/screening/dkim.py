"""Proof of the sender by a DKIM check of our own (EMAIL_VERIFY_DKIM): a signature (RFC 6376) that holds and
that is aligned with the From address, as DMARC (RFC 7489) wants it.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import cache

import dns.exception
import dns.name
import dns.rdatatype
import dns.resolver
from dns.rdtypes.ANY.TXT import TXT
from publicsuffixlist import PublicSuffixList

from cleo_email.errors import UnreadableMessage
from cleo_email.mail.address import a_label, split_address
from cleo_email.mail.fields import read_header
from cleo_email.mail.headers import header_text, parse_addresses, shown
from cleo_email.mail.model import InboundEmail, ParseLimits
from cleo_email.runtime import DNS_S, PROOF_S, SIGNATURES_TRIED
from cleo_email.screening.signature import Signature, SignedMail

_MAX_RECORDS = 20
QUICK_S = 0.5  # in which nearly every domain answers
HASTY_S = 0.1  # for the neighbours of a domain that did not
REMEMBERED_S = 30.0
_MAX_REMEMBERED = 5_000


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

    Whoever writes a mail chooses the name servers that are asked about it, and answering slowly costs them
    nothing. A proof that DNS has not answered after QUICK_S goes on only while less than ``slow_at_once``
    others do; else it is UNKNOWN for now, and the thread is free for the next mail. The domain is then not
    asked for REMEMBERED_S, and its neighbours get less time.
    """

    def __init__(self, lookup: TxtLookup | None = None, *, slow_at_once: int = 2) -> None:
        self._lookup = lookup or Dns()
        self._slow = threading.Semaphore(slow_at_once)
        self._late = _Remembered()

    def check(self, source: bytes, mail: InboundEmail) -> Finding:
        """Return what the signatures of ``source`` prove of the From address of ``mail`` (the same)."""
        try:
            header = read_header(source, ParseLimits())
        except UnreadableMessage:
            return _unproven("its header cannot be read")
        signed = SignedMail(source, header)
        author, why = _author(signed, mail, header.doubt or mail.doubt)
        if why:
            return _unproven(why)
        proof = _Proof(self._lookup, signed, author)
        neighbours = f"*.{_organisation(author)}"
        hasty = self._late.get(neighbours)
        finding = proof.attempt(HASTY_S if hasty else QUICK_S, but=self._late)
        if not proof.is_unfinished:
            return finding
        late = proof.late if hasty else {neighbours, *proof.late}
        for name in late:
            self._late.put(name, "late")
        if self._slow.acquire(blocking=False):
            try:
                finding = proof.attempt(PROOF_S - QUICK_S)
            finally:
                self._slow.release()
            for name in () if proof.is_unfinished else late:
                self._late.forget(name)
        return finding


class _Proof:
    """One mail whose sender says that it is of the domain ``author``."""

    def __init__(self, lookup: TxtLookup, signed: SignedMail, author: str) -> None:
        self._txt = lookup
        self._signed = signed
        self._author = author
        self._left = 0.0  # seconds of waiting; the arithmetic is bounded by the size of a mail
        self._but: _Remembered | None = None
        self._answers: dict[str, Sequence[bytes]] = {}
        self.late: set[str] = set()  # domains that did not answer in time
        self.is_unfinished = False
        own = _organisation(author)
        related = [
            one
            for one in signed.signatures()
            if one.domain == author or _organisation(one.domain) == own != ""
        ]
        related.sort(key=lambda one: (bool(one.flaw), one.domain != author))
        self._signatures = related[:SIGNATURES_TRIED]

    def attempt(self, seconds: float, *, but: _Remembered | None = None) -> Finding:
        """Try the signatures, the likely ones first, waiting for ``seconds``; ask no domain of ``but``."""
        self._left, self._but, self.late, self.is_unfinished = seconds, but, set(), False
        fault, why = "", f"no DKIM signature speaks for {shown(self._author)}"
        for signature in self._signatures:
            try:
                flaw = self._flaw(signature)
            except DnsFault as error:
                fault = str(error)
                self.is_unfinished |= error.late
                continue
            if not flaw:
                self.is_unfinished = False
                return Finding(Outcome.PROVEN)
            why = flaw
        if fault:
            why = f"DNS did not tell whether {shown(self._author)} has signed this mail ({fault})"
            return Finding(Outcome.UNKNOWN, why)
        return _unproven(why)

    def _flaw(self, signature: Signature) -> str:
        """Return why ``signature`` does not prove the author, or ''. Raise DnsFault."""
        signer, author = shown(signature.domain), self._author
        if signature.flaw:
            return f"the DKIM signature of {signer} does not count: {signature.flaw}"
        if signature.domain != author:
            policy = self._policy(author) or self._policy(_organisation(author))
            if policy is None or policy.get("adkim", "r").lower() != "r":
                return f"DMARC of {shown(author)} lets {signer} not speak for it"
        holds = self._signed.holds(signature, self._lookup)
        return "" if holds else f"the DKIM signature of {signer} does not hold"

    def _policy(self, domain: str) -> dict[str, str] | None:
        """Return the tags of the one DMARC record, if it is one (RFC 7489 section 6.6.3)."""
        records = [tags for text in self._lookup(f"_dmarc.{domain}") if (tags := read_policy(text))]
        return records[0] if len(records) == 1 else None

    def _lookup(self, name: str) -> Sequence[bytes]:
        if name in self._answers:
            return self._answers[name]
        domain = (name.partition("._domainkey.")[2] or name.removeprefix("_dmarc.")).rstrip(".").lower()
        if self._but and self._but.get(domain):
            raise DnsFault("no answer a moment ago")
        if self._left <= 0:
            raise DnsFault("no time left", late=True)
        begun = time.monotonic()
        try:
            self._answers[name] = self._txt(name, min(self._left, DNS_S))
        except DnsFault as fault:
            if fault.late:
                self.late.add(domain)
            raise
        finally:
            self._left -= time.monotonic() - begun
        return self._answers[name]


def _unproven(why: str) -> Finding:
    return Finding(Outcome.UNPROVEN, f"The sender is not proven: {why} (EMAIL_VERIFY_DKIM).")


def _author(signed: SignedMail, mail: InboundEmail, doubt: str) -> tuple[str, str]:
    """Return the domain of the one From address, or why there is none that could be proven."""
    if doubt:
        return "", f"its header can be read in two ways ({doubt})"
    fields = signed.values(b"from")
    if len(fields) != 1 or len(mail.header_all("from")) != 1 or len(mail.from_) != 1:
        return "", "it does not have exactly one From address"
    if [address.addr for address in parse_addresses(header_text(fields[0]))] != [mail.from_address]:
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
    """DNS did not answer, or with a fault of the server (SERVFAIL): nothing is known.

    ``late``: it may answer if it gets more time.
    """

    def __init__(self, what: str, *, late: bool = False) -> None:
        super().__init__(what)
        self.late = late


# Returns every TXT record of a name within so many seconds, none where there is no such. Raises DnsFault.
TxtLookup = Callable[[str, float], Sequence[bytes]]


class Dns:
    """Asks the resolvers of this machine, whose configuration it reads at the first question. Thread-safe.

    A name that has no record, or whose servers fail, is not asked for again for REMEMBERED_S.
    """

    def __init__(self, resolver: dns.resolver.Resolver | None = None) -> None:
        self._resolver = resolver
        self._known = _Remembered()  # the fault of a name, '' where it has no record

    def __call__(self, name: str, seconds: float = DNS_S) -> Sequence[bytes]:
        known = self._known.get(name)
        if known:
            raise DnsFault(f"{known} a moment ago")
        if known == "":
            return ()
        try:
            found = self._ask(name, seconds)
        except dns.exception.Timeout as error:
            raise DnsFault(type(error).__name__, late=True) from None
        except (dns.exception.DNSException, OSError, UnicodeError) as error:
            self._known.put(name, type(error).__name__)
            raise DnsFault(type(error).__name__) from None
        if not found:
            self._known.put(name, "")
        return found

    def _ask(self, name: str, seconds: float) -> Sequence[bytes]:
        if self._resolver is None:
            self._resolver = dns.resolver.Resolver()
        try:
            # A full name: no search list of this machine is tried on it.
            full = dns.name.from_text(name.rstrip(".") + ".")
            answer = self._resolver.resolve(full, dns.rdatatype.TXT, lifetime=seconds)
        except (dns.resolver.NXDOMAIN, dns.resolver.NoAnswer, dns.resolver.YXDOMAIN):
            return ()
        except (dns.name.LabelTooLong, dns.name.NameTooLong, dns.name.EmptyLabel, dns.name.BadEscape):
            return ()  # no name that could have a record
        return [b"".join(item.strings) for item in answer if isinstance(item, TXT)][:_MAX_RECORDS]


class _Remembered:
    """The latest _MAX_REMEMBERED facts about names, each for REMEMBERED_S. Thread-safe."""

    def __init__(self) -> None:
        self._facts: dict[str, tuple[float, str]] = {}
        self._guard = threading.Lock()

    def put(self, name: str, fact: str) -> None:
        with self._guard:
            self._facts.pop(name, None)
            self._facts[name] = (time.monotonic() + REMEMBERED_S, fact)
            while len(self._facts) > _MAX_REMEMBERED:
                del self._facts[next(iter(self._facts))]

    def get(self, name: str) -> str | None:
        with self._guard:
            until, fact = self._facts.get(name, (0.0, ""))
        return fact if time.monotonic() < until else None

    def forget(self, name: str) -> None:
        with self._guard:
            self._facts.pop(name, None)
