"""Whether a signature by one domain speaks for the From address of another (RFC 7489 section 3.1.1).

The same domain always does. A related one (the same organisational domain by the Public Suffix List) does
where the From domain publishes DMARC without ``adkim=s``; where it publishes nothing, nobody has said that
such signatures count, and they do not.
"""

from __future__ import annotations

import threading

from publicsuffixlist import PublicSuffixList

from cleo_email.verifying.dns import TxtLookup


class Alignment:
    def __init__(self, lookup: TxtLookup) -> None:
        self._lookup = lookup
        self._guard = threading.Lock()
        self._suffixes: PublicSuffixList | None = None

    def is_related(self, signer: str, author: str) -> bool:
        """Whether it could be aligned at all; without any question to DNS. Both in A-labels, lower case."""
        return signer == author or self._organisation(signer) == self._organisation(author) != ""

    def is_aligned(self, signer: str, author: str) -> bool:
        """Raises DnsFault."""
        if signer == author:
            return True
        if not self.is_related(signer, author):
            return False
        policy = self._policy(author) or self._policy(self._organisation(author))
        return policy is not None and policy.get("adkim", "r").lower() == "r"

    def _policy(self, domain: str) -> dict[str, str] | None:
        """The tags of the one DMARC record of a domain; None for none or several (RFC 7489 section 6.6.3)."""
        records = [tags for text in self._lookup(f"_dmarc.{domain}") if (tags := read_policy(text))]
        return records[0] if len(records) == 1 else None

    def _organisation(self, domain: str) -> str:
        with self._guard:
            if self._suffixes is None:
                self._suffixes = PublicSuffixList()  # takes 50 ms
        return str(self._suffixes.privatesuffix(domain) or "")


def read_policy(record: bytes) -> dict[str, str]:
    """The tags of a DMARC record, empty for any other text (RFC 7489 section 6.3)."""
    parts = [part.partition("=") for part in record.decode("ascii", "replace").split(";")]
    tags = [(name.strip(), value.strip()) for name, _, value in parts]
    if not tags or tags[0] != ("v", "DMARC1"):
        return {}
    # Of a tag that is given twice the strictest reading would need a rule for each: the record is void.
    return dict(tags) if len({name for name, _ in tags if name}) == len([n for n, _ in tags if n]) else {}
