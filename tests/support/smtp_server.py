"""An SMTP submission server that tests can script: TLS, logins, and a fault at every step.

In process::

    with SmtpServer() as server:                       # STARTTLS, user "cleo", password "geheim"
        account = server.account()                     # SmtpAccount
        context = server.client_context()              # trusts the server's CA
        server.inject("rcpt/bob@*1=450 4.2.0 later")   # a fault, see below
        ...
        assert server.mails[0].source == mail.source   # envelope and bytes of every accepted mail

``SmtpServer(implicit_tls=True)`` speaks TLS at once. The client decides that by port 465, which tests cannot
bind; see ``implicit_tls`` in the tests of submission.

As a process (it survives the death of the processes under test)::

    python -m tests.support.smtp_server --port 0 --directory DIR [--fault FAULT ...] [--implicit-tls]

It prints one line of JSON, ``{"port": …, "ca": "DIR/ca.pem"}``, when it is ready (``SSL_CERT_FILE`` takes the
CA), writes each accepted mail to ``DIR/0001.eml`` and its envelope to ``DIR/0001.json`` *before* it answers,
and ends with its standard input or on SIGTERM. ``read_mails(DIR)`` reads them.

Faults
------
``STAGE[/MATCH][+SKIP][*TIMES]=ACTION``. The stage's command (for ``dot`` and ``body``: the whole envelope)
must contain MATCH, the first SKIP occasions pass, the fault then happens TIMES times (default 1, 0: always).

Stages: ``connect`` (instead of the greeting), ``ehlo``, ``starttls``, ``tls`` (instead of the handshake),
``auth`` (at the command), ``login`` (at the credentials' verdict), ``mail``, ``rcpt``, ``data``, ``body``
(after the first bytes of the mail), ``dot`` (the whole mail is there, nothing is answered yet), ``noop``,
``rset``, ``quit``.

Actions: a reply (``450 4.2.0 try later``; 421 also hangs up; at ``body`` nothing follows it), ``drop`` (hang
up), ``silence`` (say nothing until the client hangs up), ``drip`` (a byte of a reply now and then, for ever),
``flood`` (reply lines for ever), ``garbage`` (bytes that are no reply), ``wait`` (until ``server.gate`` is
set, then go on as usual). At ``dot``, ``accept+`` before an action keeps the mail as accepted and then acts:
``accept+drop``, ``accept+silence``, ``accept+451 …``. A reply that ends in `` then-drop`` is sent without
these words, and then the server hangs up.
"""

from __future__ import annotations

import argparse
import base64
import contextlib
import functools
import json
import re
import socket
import ssl
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import TracebackType

import trustme

from cleo_email.accounts import Login, SmtpAccount

USER, PASSWORD = "cleo", "geheim"
_FAULT = re.compile(
    r"(?P<stage>[a-z]+)(?:/(?P<match>[^+*=]*))?(?:\+(?P<skip>\d+))?(?:\*(?P<times>\d+))?=(?P<action>.*)",
    re.DOTALL,
)
STAGES = {"connect", "ehlo", "starttls", "tls", "auth", "login", "mail", "rcpt", "data", "body", "dot"}
STAGES |= {"noop", "rset", "quit"}


@dataclass(frozen=True)
class AcceptedMail:
    envelope_from: str
    recipients: tuple[str, ...]
    source: bytes = field(repr=False)
    login: str = ""
    connection: int = 0
    options: str = ""  # after MAIL FROM:<…>


@dataclass
class Fault:
    stage: str
    action: str
    match: str = ""
    skip: int = 0
    times: int = 1  # 0: always

    @classmethod
    def parse(cls, text: str) -> Fault:
        found = _FAULT.fullmatch(text)
        if not found or found["stage"] not in STAGES:
            raise ValueError(f"not a fault: {text}")
        times = 1 if found["times"] is None else int(found["times"])
        return cls(found["stage"], found["action"], found["match"] or "", int(found["skip"] or 0), times)


class _HangUp(Exception):
    """The conversation is over."""


@functools.cache
def authority() -> trustme.CA:
    return trustme.CA()


class SmtpServer:
    """See the module. Thread-safe; every attribute may be read while it runs."""

    def __init__(
        self,
        *,
        port: int = 0,
        implicit_tls: bool = False,
        starttls: bool = True,
        mechanisms: Sequence[str] = ("PLAIN", "LOGIN", "XOAUTH2"),
        size: int | None = 50_000_000,
        passwords: dict[str, str] | None = None,
        tokens: dict[str, str] | None = None,
        ca: trustme.CA | None = None,
        certified_name: str = "127.0.0.1",
        faults: Sequence[str] = (),
        directory: Path | None = None,
    ) -> None:
        self.implicit_tls, self.starttls = implicit_tls, starttls
        self.mechanisms, self.size = tuple(mechanisms), size
        self.passwords = {USER: PASSWORD} if passwords is None else passwords
        self.tokens = tokens or {}
        self.drip_seconds = 0.02
        self.smuggled = b""  # sent in clear behind the 220 of STARTTLS, as someone on the way could
        self.gate = threading.Event()
        self.mails: list[AcceptedMail] = []
        self.commands: list[str] = []  # of all connections, credentials included
        self.connections = 0
        self.open_connections = 0
        self.incomplete = 0  # mails whose connection ended before the final dot
        self.clear_commands: list[str] = []  # what came before TLS
        self.changed = threading.Condition()
        self._faults: list[Fault] = []
        self.ca = ca or authority()
        self._tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.ca.issue_cert(certified_name).configure_cert(self._tls)
        self._directory = directory
        self._sockets: set[socket.socket] = set()
        self._listener = socket.create_server(("127.0.0.1", port), backlog=128)
        # Little is in flight, so that a fault in the middle of a mail meets a client that is still sending.
        self._listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
        self.port: int = self._listener.getsockname()[1]
        self.inject(*faults)

    # --- for the tests ----------------------------------------------------------------------------------

    def inject(self, *faults: str) -> None:
        with self.changed:
            self._faults += [Fault.parse(fault) for fault in faults]

    def clear_faults(self) -> None:
        with self.changed:
            self._faults.clear()

    def account(
        self, user: str = USER, password: str = PASSWORD, token: Callable[[], str] | None = None
    ) -> SmtpAccount:
        return SmtpAccount("127.0.0.1", self.port, Login(user, password, token))

    def client_context(self) -> ssl.SSLContext:
        context = ssl.create_default_context()
        self.ca.configure_trust(context)
        return context

    def wait_for(self, condition: Callable[[SmtpServer], bool], timeout: float = 20.0) -> None:
        """Block until ``condition(self)`` holds; it is looked at after each command, mail and connection."""
        with self.changed:
            if not self.changed.wait_for(lambda: condition(self), timeout):
                raise AssertionError(f"not seen within {timeout} s; commands: {self.commands[-20:]}")

    def hang_up_all(self) -> None:
        """Break every connection off, as a restart of the server would."""
        with self.changed:
            sockets = list(self._sockets)
        for sock in sockets:
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)

    def start(self) -> SmtpServer:
        threading.Thread(target=self._accept, name="smtp-server", daemon=True).start()
        return self

    def stop(self) -> None:
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.gate.set()
        self.hang_up_all()
        with self.changed:
            self.changed.wait_for(lambda: not self.open_connections, 20)

    def __enter__(self) -> SmtpServer:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    # --- for the conversations --------------------------------------------------------------------------

    def fault(self, stage: str, subject: str) -> str:
        """The action that is due now, or an empty string."""
        with self.changed:
            for fault in self._faults:
                if fault.stage != stage or fault.match not in subject:
                    continue
                if fault.skip:
                    fault.skip -= 1
                    continue
                if fault.times:
                    fault.times -= 1
                    if not fault.times:
                        self._faults.remove(fault)
                return fault.action
        return ""

    def heard(self, line: str, encrypted: bool) -> None:
        with self.changed:
            self.commands.append(line)
            if not encrypted:
                self.clear_commands.append(line)
            self.changed.notify_all()

    def accept_mail(self, mail: AcceptedMail) -> None:
        with self.changed:
            self.mails.append(mail)
            if self._directory is not None:
                _write(self._directory, len(self.mails), mail)
            self.changed.notify_all()

    def note_incomplete(self) -> None:
        with self.changed:
            self.incomplete += 1
            self.changed.notify_all()

    def secure(self, sock: socket.socket) -> socket.socket:
        with self.changed:
            self._sockets.discard(sock)
        secured = self._tls.wrap_socket(sock, server_side=True)
        with self.changed:
            self._sockets.add(secured)
        return secured

    def _accept(self) -> None:
        while True:
            try:
                sock, _ = self._listener.accept()
            except OSError:
                return
            with self.changed:
                self.connections += 1
                self.open_connections += 1
                number = self.connections
                self._sockets.add(sock)
                self.changed.notify_all()
            threading.Thread(target=self._serve, args=(sock, number), daemon=True).start()

    def _serve(self, sock: socket.socket, number: int) -> None:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        conversation = _Conversation(self, sock, number)
        try:
            conversation.run()
        except (_HangUp, OSError):
            pass
        finally:
            with contextlib.suppress(OSError):
                conversation.sock.close()
            with self.changed:
                self._sockets.discard(sock)
                self._sockets.discard(conversation.sock)
                self.open_connections -= 1
                self.changed.notify_all()


class _Conversation:
    def __init__(self, server: SmtpServer, sock: socket.socket, number: int) -> None:
        self.server, self.sock, self.number = server, sock, number
        self.buffer = b""
        self.encrypted = False
        self.login = ""
        self.envelope_from: str | None = None
        self.options = ""
        self.recipients: list[str] = []

    def run(self) -> None:
        if self.server.implicit_tls:
            self._secure()
        if not self._faulty("connect", ""):
            self.say("220 test ESMTP")
        while True:
            line = self.line()
            self.server.heard(line, self.encrypted)
            verb, _, rest = line.partition(" ")
            handler = getattr(self, f"do_{verb.lower()}", None)
            if handler is None:
                self.say("500 5.5.2 unknown command")
            elif verb.lower() == "data" or not self._faulty(verb.lower(), line):
                handler(rest)

    # --- commands ---------------------------------------------------------------------------------------

    def do_ehlo(self, rest: str) -> None:
        lines = ["test", "8BITMIME", "ENHANCEDSTATUSCODES"]
        if self.server.size is not None:
            lines.append(f"SIZE {self.server.size}")
        if self.server.starttls and not self.encrypted:
            lines.append("STARTTLS")
        if self.server.mechanisms:
            lines.append("AUTH " + " ".join(self.server.mechanisms))
        for line in lines[:-1]:
            self.say(f"250-{line}")
        self.say(f"250 {lines[-1]}")

    def do_starttls(self, rest: str) -> None:
        self.sock.sendall(b"220 go ahead\r\n" + self.server.smuggled)
        if not self._faulty("tls", ""):
            self._secure()

    def do_auth(self, rest: str) -> None:
        mechanism, _, initial = rest.partition(" ")
        check = {"PLAIN": self._plain, "LOGIN": self._login, "XOAUTH2": self._xoauth2}.get(mechanism.upper())
        if check is None or mechanism.upper() not in self.server.mechanisms:
            self.say("504 5.5.4 unknown mechanism")
            return
        user = check(initial)
        if self._faulty("login", user):
            return
        self.login = user
        self.say("235 2.7.0 welcome" if user else "535 5.7.8 authentication failed")

    def do_mail(self, rest: str) -> None:
        found = re.match(r"FROM:<([^>]*)> ?(.*)", rest, re.IGNORECASE)
        if self.server.mechanisms and not self.login:
            self.say("530 5.7.0 authentication required")
        elif self.envelope_from is not None:
            self.say("503 5.5.1 nested MAIL")
        elif found is None:
            self.say("501 5.5.4 syntax")
        else:
            self.envelope_from, self.options = found[1], found[2]
            self.say("250 2.1.0 ok")

    def do_rcpt(self, rest: str) -> None:
        found = re.match(r"TO:<([^>]*)>", rest, re.IGNORECASE)
        if self.envelope_from is None or found is None:
            self.say("503 5.5.1 no MAIL")
        else:
            self.recipients.append(found[1])
            self.say("250 2.1.5 ok")

    def do_data(self, rest: str) -> None:
        if self._faulty("data", f"{self.envelope_from} {self.recipients}"):
            return
        if not self.recipients:
            self.say("554 5.5.1 no valid recipients")
            return
        self.say("354 go ahead")
        stuffed = self._body()
        if stuffed is None:
            return
        lines = stuffed.split(b"\r\n")
        source = b"\r\n".join(line[1:] if line.startswith(b".") else line for line in lines)
        mail = AcceptedMail(
            self.envelope_from or "", tuple(self.recipients), source, self.login, self.number, self.options
        )
        subject = f"{mail.envelope_from} {mail.recipients}"
        self._forget()
        action = self.server.fault("dot", subject)
        if action == "" or action == "wait" or action.startswith("accept+"):
            if action == "wait":
                self.server.gate.wait()
            self.server.accept_mail(mail)
            action = action.removeprefix("accept+").removeprefix("wait")
        if not action:
            self.say(f"250 2.0.0 queued as {len(self.server.mails)}")
        else:
            self._act(action)

    def do_noop(self, rest: str) -> None:
        self.say("250 2.0.0 ok")

    def do_rset(self, rest: str) -> None:
        self._forget()
        self.say("250 2.0.0 ok")

    def do_quit(self, rest: str) -> None:
        self.say("221 2.0.0 bye")
        raise _HangUp

    # --- logins -----------------------------------------------------------------------------------------

    def _plain(self, initial: str) -> str:
        _, user, password = base64.b64decode(initial or self.ask("")).decode().split("\0")
        return user if self.server.passwords.get(user) == password else ""

    def _login(self, initial: str) -> str:
        user = base64.b64decode(initial or self.ask("Username:")).decode()
        password = base64.b64decode(self.ask("Password:")).decode()
        return user if self.server.passwords.get(user) == password else ""

    def _xoauth2(self, initial: str) -> str:
        found = re.fullmatch(
            "user=(.*)\1auth=Bearer (.*)\1\1", base64.b64decode(initial or self.ask("")).decode()
        )
        if found and self.server.tokens.get(found[1]) == found[2]:
            return found[1]
        if self.ask('{"status":"401"}') != "":
            raise _HangUp
        return ""

    def ask(self, challenge: str) -> str:
        self.say(f"334 {base64.b64encode(challenge.encode()).decode()}")
        answer = self.line()
        self.server.heard(answer, self.encrypted)
        return answer

    # --- bytes ------------------------------------------------------------------------------------------

    def say(self, line: str) -> None:
        self.sock.sendall(line.encode() + b"\r\n")

    def line(self) -> str:
        while b"\r\n" not in self.buffer:
            self._receive()
        line, _, self.buffer = self.buffer.partition(b"\r\n")
        return line.decode("utf-8", "replace")

    def _receive(self) -> None:
        chunk = self.sock.recv(65536)
        if not chunk:
            raise _HangUp
        self.buffer += chunk

    def _body(self) -> bytes | None:
        """The mail as it came, dots still doubled; None if a fault has ended it."""
        received = bytearray(b"\r\n" + self.buffer)  # so that a mail of no lines ends like any other
        self.buffer = b""
        faulted, searched = False, 0
        try:
            while (end := received.find(b"\r\n.\r\n", searched)) < 0:
                searched = max(len(received) - 4, 0)
                self._receive()
                received += self.buffer
                self.buffer = b""
                if not faulted:
                    faulted = True
                    if self._faulty("body", f"{self.envelope_from} {self.recipients}", then_silence=True):
                        return None
        except (_HangUp, OSError):
            self.server.note_incomplete()
            raise
        self.buffer = bytes(received[end + 5 :])
        return bytes(received[2 : end + 2])

    def _secure(self) -> None:
        self.sock = self.server.secure(self.sock)
        self.buffer, self.encrypted = b"", True

    def _forget(self) -> None:
        self.envelope_from, self.options, self.recipients = None, "", []

    # --- faults -----------------------------------------------------------------------------------------

    def _faulty(self, stage: str, subject: str, then_silence: bool = False) -> bool:
        """Act if a fault is due; True if the command is dealt with."""
        action = self.server.fault(stage, subject) if stage in STAGES else ""
        if action == "wait":
            self.server.gate.wait()
            return False
        if action:
            self._act(action)
            if then_silence:
                self._silence()
        return bool(action)

    def _act(self, action: str) -> None:
        if action == "drop":
            raise _HangUp
        if action == "silence":
            self._silence()
        if action == "drip":
            self._pour(b"2", self.server.drip_seconds)
        if action == "flood":
            self._pour(b"250-blah\r\n" * 1000, 0)
        if action == "garbage":
            self.sock.sendall(b"\xff\xfe what?\r\n")
            return
        reply = action.removesuffix(" then-drop")
        self.say(reply)
        if reply != action or reply.startswith("421"):
            raise _HangUp

    def _silence(self) -> None:
        while self.sock.recv(65536):
            pass
        raise _HangUp

    def _pour(self, data: bytes, pause: float) -> None:
        while True:
            self.sock.sendall(data)
            with self.server.changed:
                self.server.changed.wait(pause)


# --- as a process ---------------------------------------------------------------------------------------


def _write(directory: Path, number: int, mail: AcceptedMail) -> None:
    envelope = {key: value for key, value in asdict(mail).items() if key != "source"}
    for name, data in (("eml", mail.source), ("json", json.dumps(envelope).encode())):
        part = directory / f"{number:04}.{name}.part"
        part.write_bytes(data)
        part.rename(directory / f"{number:04}.{name}")


def read_mails(directory: Path) -> Iterator[AcceptedMail]:
    """The mails that a server in another process has accepted so far, in order."""
    for path in sorted(directory.glob("*.json")):
        envelope = json.loads(path.read_bytes())
        envelope["recipients"] = tuple(envelope["recipients"])
        yield AcceptedMail(source=path.with_suffix(".eml").read_bytes(), **envelope)


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m tests.support.smtp_server", description="A scriptable SMTP server."
    )
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--directory", type=Path, required=True, help="takes the accepted mails and ca.pem")
    parser.add_argument("--fault", action="append", default=[], help="STAGE[/MATCH][+SKIP][*TIMES]=ACTION")
    parser.add_argument("--implicit-tls", action="store_true")
    parser.add_argument("--user", default=USER)
    parser.add_argument("--password", default=PASSWORD)
    options = parser.parse_args()
    options.directory.mkdir(parents=True, exist_ok=True)
    ca = authority()
    ca.cert_pem.write_to_path(str(options.directory / "ca.pem"))
    with SmtpServer(
        port=options.port,
        implicit_tls=options.implicit_tls,
        passwords={options.user: options.password},
        faults=options.fault,
        directory=options.directory,
    ) as server:
        print(json.dumps({"port": server.port, "ca": str(options.directory / "ca.pem")}), flush=True)
        sys.stdin.read()


if __name__ == "__main__":
    main()
