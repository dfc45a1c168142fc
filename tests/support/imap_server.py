"""A small IMAP server for faults that a real one cannot be made to show on demand.

It speaks just enough of RFC 3501 for one user with one inbox and a folder for sent mail, and keeps every line
that a client sent (``commands``). A test replaces the answer to a command with a function:

    server.answers["UID FETCH"] = silence
    server.answers["SELECT"] = lambda session, tag, rest: session.send(f"{tag} NO [INUSE] later")

The function may call ``session.usual(tag, line)`` for the usual answer. Exceptions end the connection only.
"""

from __future__ import annotations

import base64
import contextlib
import queue
import re
import select
import socket
import socketserver
import ssl
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import trustme

from cleo_email.accounts import ImapAccount, Login
from tests.support.http_server import ThreadedServer

HOST = "127.0.0.1"
_CA = trustme.CA()
_CERTIFICATE = _CA.issue_cert("localhost", HOST)


HANG_UP = "hang up"


class HangUp(Exception):
    """Raised by an answer to end the connection without a word."""


@dataclass
class Message:
    source: bytes
    flags: set[str] = field(default_factory=set)
    date: str = '"24-Nov-2026 10:00:00 +0100"'
    uid: int = 0  # 0: its place in the folder


Answer = Callable[["Session", str, str], Any]


# --- ready-made faults ----------------------------------------------------------------------------------


def silence(session: Session, tag: str, rest: str) -> None:
    """Never answer, as the far end of a half-open connection."""
    session.server.stopping.wait()


def hang_up(session: Session, tag: str, rest: str) -> None:
    raise HangUp


def bye(text: str) -> Answer:
    def answer(session: Session, tag: str, rest: str) -> None:
        session.send(f"* BYE {text}")
        raise HangUp

    return answer


def says(text: str) -> Answer:
    """The tagged answer ``text`` (``NO [INUSE] …``), nothing before it."""
    return lambda session, tag, rest: session.send(f"{tag} {text}")


def first(fault: Answer, times: int = 1) -> Answer:
    """``fault`` the first ``times``, the usual answer afterwards."""
    left = iter(range(times))

    def answer(session: Session, tag: str, rest: str) -> None:
        if next(left, None) is None:
            session.usual(tag, rest)
        else:
            fault(session, tag, rest)

    return answer


class Session(socketserver.StreamRequestHandler):
    """One connection."""

    server: FakeImapServer

    def handle(self) -> None:
        with contextlib.suppress(HangUp, OSError, ValueError):
            self._talk()

    def _talk(self) -> None:
        if self.server.tls == "implicit":
            self.wrap()
        self.selected: list[Message] | None = None
        if self.server.greeting is None:
            self.server.stopping.wait()
            return
        self.send(self.server.greeting)
        while line := self.rfile.readline():
            text = line.decode("utf-8", "replace").rstrip("\r\n")
            self.server.commands.append(text)
            tag, _, rest = text.partition(" ")
            self.answer(tag, rest)

    def wrap(self) -> None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        _CERTIFICATE.configure_cert(context)
        self.request = context.wrap_socket(self.request, server_side=True)
        self.rfile = self.request.makefile("rb")
        self.wfile = self.request.makefile("wb", buffering=0)

    def send(self, *lines: str | bytes) -> None:
        for line in lines:
            self.wfile.write((line.encode() if isinstance(line, str) else line) + b"\r\n")

    def answer(self, tag: str, rest: str) -> None:
        special = self.server.answers.get(_command(rest))
        if special is None:
            self.usual(tag, rest)
        else:
            special(self, tag, rest)

    def usual(self, tag: str, rest: str) -> None:
        method = getattr(self, "do_" + _command(rest).lower().replace(" ", "_"), None)
        if method is None:
            self.send(f"{tag} BAD unknown command")
        else:
            method(tag, rest)

    # --- the usual answers ------------------------------------------------------------------------------

    def do_capability(self, tag: str, rest: str) -> None:
        self.send(f"* CAPABILITY IMAP4rev1 {self.server.capabilities}", f"{tag} OK done")

    def do_starttls(self, tag: str, rest: str) -> None:
        self.send(f"{tag} OK go ahead")
        self.wrap()

    def do_login(self, tag: str, rest: str) -> None:
        self.send(f"{tag} OK welcome")

    def do_authenticate(self, tag: str, rest: str) -> None:
        self.send("+ ")
        line = self.rfile.readline().strip()
        self.server.commands.append(line.decode())
        self.server.sasl.append(base64.b64decode(line))
        self.send(f"{tag} OK welcome")

    def do_id(self, tag: str, rest: str) -> None:
        self.send('* ID ("name" "fake")', f"{tag} OK done")

    def do_noop(self, tag: str, rest: str) -> None:
        self.send(f"{tag} OK done")

    def do_idle(self, tag: str, rest: str) -> None:
        news: queue.SimpleQueue[str] = queue.SimpleQueue()
        heard, told = socket.socketpair()
        with heard, told:
            self.server.idling[self] = (news, told)
            try:
                self.send("+ idling")
                while True:
                    ready, _, _ = select.select([self.request, heard], [], [])
                    if heard in ready:
                        heard.recv(1)
                        if (line := news.get()) == HANG_UP:
                            raise HangUp
                        self.send(line.replace("TAG", tag))
                        if line.startswith("TAG"):
                            return
                    if self.request in ready:
                        break
            finally:
                del self.server.idling[self]
        line = self.rfile.readline().decode().strip()
        self.server.commands.append(line)
        if not line:
            raise HangUp
        self.server.done_idle.release()
        self.answer_done(tag)

    def answer_done(self, tag: str) -> None:
        if self.server.answers_done:
            self.send(f"{tag} OK idled")

    def do_logout(self, tag: str, rest: str) -> None:
        self.send("* BYE see you", f"{tag} OK done")
        raise HangUp

    def do_list(self, tag: str, rest: str) -> None:
        for name in self.server.folders:
            attribute = "\\Sent" if name == self.server.sent_mark else "\\HasNoChildren"
            self.send(f'* LIST ({attribute}) "{self.server.delimiter}" "{name}"')
        self.send(f"{tag} OK done")

    def do_create(self, tag: str, rest: str) -> None:
        self.server.folders.setdefault(_quoted(rest), [])
        self.send(f"{tag} OK done")

    def do_subscribe(self, tag: str, rest: str) -> None:
        self.send(f"{tag} OK done")

    def do_append(self, tag: str, rest: str) -> None:
        size = int(re.search(r"\{(\d+)\}$", rest)[1])  # type: ignore[index]
        if _quoted(rest) not in self.server.folders:
            self.send(f"{tag} NO [TRYCREATE] no such mailbox")
            return
        self.send("+ go on")
        source = self.rfile.read(size)
        self.rfile.readline()
        self.server.folders[_quoted(rest)].append(Message(source, set(re.findall(r"\\\w+", rest))))
        self.send(f"{tag} OK done")

    def do_select(self, tag: str, rest: str) -> None:
        self._select(tag, rest, "READ-ONLY" if self.server.read_only else "READ-WRITE")

    def do_examine(self, tag: str, rest: str) -> None:
        self._select(tag, rest, "READ-ONLY")

    def _select(self, tag: str, rest: str, mode: str) -> None:
        self.selected = self.server.folders.get(_quoted(rest))
        if self.selected is None:
            self.send(f"{tag} NO [NONEXISTENT] no such mailbox")
            return
        self.send(f"* {len(self.selected)} EXISTS", "* 0 RECENT", "* FLAGS (\\Seen \\Answered)")
        if self.server.permanent_flags is not None:
            self.send(f"* OK [PERMANENTFLAGS ({self.server.permanent_flags})] kept")
        if self.server.uidvalidity:
            self.send(f"* OK [UIDVALIDITY {self.server.uidvalidity}] valid")
        if (uidnext := self.server.uidnext) is not None:
            self.send(f"* OK [UIDNEXT {uidnext or len(self.selected) + 1}] next")
        self.send(f"{tag} OK [{mode}] done")

    def do_uid_search(self, tag: str, rest: str) -> None:
        assert self.selected is not None
        if "{" in rest:
            size = int(re.search(r"\{(\d+)\}$", rest)[1])  # type: ignore[index]
            self.send("+ go on")
            self.server.commands.append(self.rfile.read(size).decode())
            self.rfile.readline()
        wanted = re.search(r'HEADER Message-ID "(.*)"', rest)
        without = {"\\Seen"} if "UNSEEN" in rest else set()
        without.update(re.findall(r"UNKEYWORD (\S+)", rest))
        from_uid = int(found[1]) if (found := re.search(r"UID (\d+):\*", rest)) else 0
        since = (
            datetime.strptime(found[1], "%d-%b-%Y") if (found := re.search(r"SINCE (\S+)", rest)) else None
        )
        numbered = self.numbered()
        highest = max((uid for uid, _ in numbered), default=0)
        numbers = [
            str(uid)
            for uid, message in numbered
            if not message.flags & without
            and (not wanted or wanted[1].encode() in message.source)
            and (uid >= from_uid or uid == highest)  # n:* holds the highest in any case
            and (since is None or datetime.strptime(message.date[1:12].strip(), "%d-%b-%Y") >= since)
        ]
        self.send(" ".join(["* SEARCH", *numbers]), f"{tag} OK done")

    def do_uid_fetch(self, tag: str, rest: str) -> None:
        for uid, message in self._chosen(rest):
            self.send_message(uid, message, rest)
        self.send(f"{tag} OK done")

    def send_message(self, uid: int, message: Message, rest: str) -> None:
        parts = [f"UID {uid}".encode()]
        if "RFC822.SIZE" in rest:
            parts.append(f"RFC822.SIZE {len(message.source)} INTERNALDATE {message.date}".encode())
        if "FLAGS" in rest:
            parts.append(f"FLAGS ({' '.join(sorted(message.flags))})".encode())
        if "ENVELOPE" in rest:
            anna = b'(("Anna" NIL "anna" "example.test"))'
            parts.append(
                b'ENVELOPE (NIL "Question %d" %b %b %b NIL NIL NIL NIL NIL)' % (uid, anna, anna, anna)
            )
        if "BODY.PEEK[]" in rest:
            parts.append(b"BODY[] {%d}\r\n%b" % (len(message.source), message.source))
        if found := re.search(r"BODY\.PEEK\[(HEADER.*?)\](<0)?", rest):
            header = message.source.partition(b"\r\n\r\n")[0] + b"\r\n\r\n"
            origin = b"<0>" if found[2] else b""
            parts.append(b"BODY[%b]%b {%d}\r\n%b" % (found[1].encode(), origin, len(header), header))
        self.send(b"* %d FETCH (%b)" % (uid, b" ".join(parts)))

    def do_uid_store(self, tag: str, rest: str) -> None:
        flags = re.search(r"FLAGS \((.*)\)", rest)[1].split()  # type: ignore[index]
        for uid, message in self._chosen(rest):
            (message.flags.difference_update if "-FLAGS" in rest else message.flags.update)(flags)
            self.send(f"* {uid} FETCH (UID {uid} FLAGS ({' '.join(sorted(message.flags))}))")
        self.send(f"{tag} OK done")

    def _chosen(self, rest: str) -> list[tuple[int, Message]]:
        assert self.selected is not None
        uids: set[int] = set()
        for part in rest.split()[2].split(","):
            low, _, high = part.partition(":")
            uids.update(range(int(low), int(high or low) + 1))
        return [(uid, message) for uid, message in self.numbered() if uid in uids]

    def numbered(self) -> list[tuple[int, Message]]:
        assert self.selected is not None
        return [(message.uid or place, message) for place, message in enumerate(list(self.selected), 1)]


class FakeImapServer(ThreadedServer):
    """``tls``: ``implicit``, or ``starttls`` for a server that begins in clear (see ``capabilities``)."""

    block_on_close = False
    allow_reuse_address = True

    def __init__(self, *sources: bytes, tls: str = "implicit") -> None:
        self.tls = tls
        self.greeting: str | None = "* OK ready"
        self.capabilities = "AUTH=PLAIN LOGINDISABLED ID"
        self.permanent_flags: str | None = "\\Seen \\Answered \\*"
        self.read_only = False
        self.uidvalidity = 7
        self.uidnext: int | None = 0  # 0: the true one, None: the server does not say
        self.delimiter = "/"
        self.sent_mark = "Sent"
        self.folders: dict[str, list[Message]] = {"INBOX": [Message(s) for s in sources], "Sent": []}
        self.answers: dict[str, Answer] = {}
        self.commands: list[str] = []
        self.sasl: list[bytes] = []
        # Each session that idles: what is to be sent to it (a tagged line begins with TAG), and its bell.
        self.idling: dict[Session, tuple[queue.SimpleQueue[str], socket.socket]] = {}
        self.done_idle = threading.Semaphore(0)
        self.answers_done = True
        self.stopping = threading.Event()
        super().__init__((HOST, 0), Session)

    @property
    def inbox(self) -> list[Message]:
        return self.folders["INBOX"]

    @property
    def port(self) -> int:
        return int(self.server_address[1])

    def account(self, user: str = "ann", password: str = "secret", **login: Any) -> ImapAccount:
        return ImapAccount("localhost", self.port, Login(user, password, **login))

    def ssl_context(self) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        _CA.configure_trust(context)
        return context

    def sent(self, command: str) -> list[str]:
        """What clients have sent of that command, without the tags."""
        lines = [line.partition(" ")[2] for line in self.commands]
        return [line for line in lines if _command(line) == command]

    def announce(self, *lines: str) -> None:
        """Send lines to every client that idles; HANG_UP ends its connection."""
        for news, bell in list(self.idling.values()):
            for line in lines:
                news.put(line)
                bell.send(b"x")

    def get_request(self) -> tuple[socket.socket, Any]:
        request, address = super().get_request()
        request.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return request, address

    def __exit__(self, *exception: object) -> None:
        self.stopping.set()
        super().__exit__(*exception)


def _command(rest: str) -> str:
    words = rest.upper().split(" ")
    return " ".join(words[:2]) if words[0] == "UID" else words[0]


def _quoted(rest: str) -> str:
    return re.search(r'"(.*?)"', rest)[1]  # type: ignore[index]
