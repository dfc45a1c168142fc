"""A real name server on loopback, as quick or as slow as a test wants it."""

from __future__ import annotations

import socket
import threading
from contextlib import suppress

import dns.flags
import dns.message
import dns.rcode
import dns.resolver
import dns.rrset


class NameServer:
    """Answers TXT questions by UDP; ``zone`` holds texts, or a name of an error.

    Names that end in one of ``slow`` are answered after ``delay`` seconds.
    """

    def __init__(self) -> None:
        self.zone: dict[str, list[str] | str] = {}
        self.asked: list[str] = []
        self.slow: tuple[str, ...] = ()
        self.delay = 3.0
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind(("127.0.0.1", 0))
        self.port: int = self._socket.getsockname()[1]
        threading.Thread(target=self._serve, daemon=True).start()

    def close(self) -> None:
        self._socket.close()

    def resolver(self) -> dns.resolver.Resolver:
        resolver = dns.resolver.Resolver(configure=False)
        resolver.nameservers, resolver.port = ["127.0.0.1"], self.port
        return resolver

    def _serve(self) -> None:
        while True:
            try:
                data, peer = self._socket.recvfrom(4096)
            except OSError:
                return
            query = dns.message.from_wire(data)
            name = query.question[0].name.to_text(omit_final_dot=True).lower()
            self.asked.append(name)
            found = self.zone.get(name, "NXDOMAIN")
            if found == "silence":
                continue
            answer = dns.message.make_response(query)
            answer.flags |= dns.flags.RA
            if isinstance(found, list):
                if found:
                    answer.answer.append(dns.rrset.from_text(name + ".", 60, "IN", "TXT", *found))
            else:
                answer.set_rcode(dns.rcode.from_text(found))
            wire = answer.to_wire(max_size=65535)
            if name.endswith(self.slow):
                timer = threading.Timer(self.delay, self._send, (wire, peer))
                timer.daemon = True
                timer.start()
            else:
                self._send(wire, peer)

    def _send(self, wire: bytes, peer: tuple[str, int]) -> None:
        with suppress(OSError):  # closed meanwhile
            self._socket.sendto(wire, peer)
