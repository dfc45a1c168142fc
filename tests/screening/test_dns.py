"""The look-up itself, against a real name server on loopback."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator

import dns.flags
import dns.message
import dns.rcode
import dns.resolver
import dns.rrset
import pytest

from cleo_email.mail.parse import parse
from cleo_email.screening.dkim import Dns, DnsFault, Outcome, SenderCheck
from tests.screening.signing import BODY, head, key_record, sign


class NameServer:
    """Answers TXT questions by UDP; ``zone`` holds texts, or a name of an error."""

    def __init__(self) -> None:
        self.zone: dict[str, list[str] | str] = {}
        self.asked: list[str] = []
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
            self._socket.sendto(answer.to_wire(max_size=65535), peer)


@pytest.fixture
def server() -> Iterator[NameServer]:
    server = NameServer()
    yield server
    server.close()


def test_texts_in_several_strings_are_one_and_several_records_are_several(server: NameServer) -> None:
    server.zone["a.example"] = ['"v=DKIM1; " "p=" "AAAA"', '"v=spf1 -all"']
    assert sorted(Dns(server.resolver())("a.example")) == [b"v=DKIM1; p=AAAA", b"v=spf1 -all"]


def test_no_such_name_and_no_such_record_are_answers(server: NameServer) -> None:
    server.zone["b.example"] = []
    lookup = Dns(server.resolver())
    assert lookup("b.example") == lookup("nothing.example") == ()


@pytest.mark.parametrize("fault", ["SERVFAIL", "REFUSED", "silence"])
def test_faults_are_no_answers(server: NameServer, fault: str) -> None:
    server.zone["c.example"] = fault
    with pytest.raises(DnsFault):
        Dns(server.resolver())("c.example", 0.5)


def test_a_signed_mail_from_end_to_end(server: NameServer) -> None:
    text = key_record().decode()
    server.zone["s1._domainkey.example.com"] = [f'"{text[:200]}" "{text[200:]}"']
    source = sign(head() + b"\r\n" + BODY)
    check = SenderCheck(Dns(server.resolver()))
    assert check.check(source, parse(source)).outcome is Outcome.PROVEN
    assert server.asked == ["s1._domainkey.example.com"]
    server.zone["s1._domainkey.example.com"] = "SERVFAIL"
    assert check.check(source, parse(source)).outcome is Outcome.UNKNOWN
