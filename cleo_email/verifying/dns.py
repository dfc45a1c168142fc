"""TXT records, within seconds, and with the one difference that counts: "there is none" or "nobody knows"."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import dns.exception
import dns.name
import dns.rdatatype
import dns.resolver
from dns.rdtypes.ANY.TXT import TXT

from cleo_email.deadlines import DNS_S

LIFETIME_S = DNS_S
MOST_RECORDS = 20


class DnsFault(Exception):
    """No answer, or a server's fault (SERVFAIL): nothing is known."""


class TxtLookup(Protocol):
    def __call__(self, name: str) -> Sequence[bytes]:
        """Every TXT record of a name, none where there is no such name or record. Raises DnsFault."""
        ...


class Dns:
    """Asks the resolvers of this machine. Thread-safe; they are read at the first question."""

    def __init__(self, resolver: dns.resolver.Resolver | None = None) -> None:
        self._resolver = resolver

    def __call__(self, name: str) -> Sequence[bytes]:
        try:
            if self._resolver is None:
                self._resolver = dns.resolver.Resolver()
            # A full name: no search list of this machine is tried on it.
            full = dns.name.from_text(name.rstrip(".") + ".")
            answer = self._resolver.resolve(full, dns.rdatatype.TXT, lifetime=LIFETIME_S)
        except (dns.resolver.NXDOMAIN, dns.resolver.NoAnswer, dns.resolver.YXDOMAIN):
            return ()
        except (dns.name.LabelTooLong, dns.name.NameTooLong, dns.name.EmptyLabel, dns.name.BadEscape):
            return ()  # no name that could have a record
        except (dns.exception.DNSException, OSError, UnicodeError) as error:
            raise DnsFault(type(error).__name__) from None
        return [b"".join(item.strings) for item in answer if isinstance(item, TXT)][:MOST_RECORDS]
