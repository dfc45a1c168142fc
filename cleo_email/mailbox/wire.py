"""One live IMAP connection: commands in, values out, every fault one of ours.

A NO is an answer: the connection stays. Any other fault ends the connection, because the position in the
stream is then unknown (``alive`` turns false). Only UID commands are used; a FETCH response that carries no
UID was not caused by them (RFC 3501 section 6.4.8) and is never believed to speak of a UID of ours.
"""

from __future__ import annotations

import contextlib
import imaplib
import re
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

from imapclient.imap_utf7 import encode as encode_utf7  # type: ignore[import-untyped]
from imapclient.response_parser import parse_response  # type: ignore[import-untyped]

from cleo_email.accounts import ImapAccount
from cleo_email.errors import MailboxError, MailboxUnavailable

from .connection import connect, discard, log_in
from .faults import CONVERSATION_FAULTS, RefusedForNow, refusal, unreachable
from .values import Timeouts
from .words import Words, is_bad, response_code

Answer = tuple[str, list[Any]]


class Wire:
    """A logged-in connection. Raises MailboxError and its subclasses, nothing else."""

    def __init__(
        self, account: ImapAccount, context: ssl.SSLContext | None, timeouts: Timeouts, words: Words
    ) -> None:
        self._prefix = f"{account.host}:{account.port}"
        self._timeouts = timeouts
        self._words = words
        self._client = connect(account, context, timeouts, words)
        self._imap: imaplib.IMAP4 = self._client._imap
        self.alive = True
        self.heard = time.monotonic()  # when the server last answered
        self.selected: tuple[str, bool] | None = None  # (folder, read-only)
        try:
            with self._deadline(timeouts.command):
                self.capabilities = log_in(self._client, account.login, self._prefix, words)
        except BaseException:
            self.discard()
            raise
        self.heard = time.monotonic()

    # --- mailboxes --------------------------------------------------------------------------------------

    def noop(self, seconds: float) -> None:
        """Ask for a sign of life within ``seconds``."""
        sock = self._client.socket()
        with self.conversation("NOOP"):
            sock.settimeout(seconds)
            self._answered("NOOP", self._imap.noop())
            sock.settimeout(self._timeouts.read)

    def select(self, folder: str, *, read_only: bool = False) -> dict[bytes, Any]:
        """SELECT, or EXAMINE where asked for or where the server gives no more; the answer's data by name."""
        self.selected = None
        with self.conversation(f"SELECT {folder}"):
            try:
                data = self._select(folder, read_only=read_only)
            except imaplib.IMAP4.readonly:  # imaplib's own idea of a READ-ONLY answer; an abort by class only
                read_only = True
                data = self._select(folder, read_only=True)
        self.selected = (folder, read_only)
        return {**data, b"READ-ONLY": read_only or b"READ-ONLY" in data}

    def _select(self, folder: str, *, read_only: bool) -> dict[bytes, Any]:
        answer = self._imap.select(quoted(folder), read_only)
        self._answered(f"SELECT {folder}", answer)
        data: dict[bytes, Any] = self._client._process_select_response(self._imap.untagged_responses)
        return data

    def status(self, folder: str, item: str) -> int:
        """One number of STATUS, or 0."""
        said = self._run("STATUS", lambda: self._imap.status(quoted(folder), f"({item})"))
        found = re.search(rf"{item} (\d+)", _joined(said), re.IGNORECASE)
        return int(found.group(1)) if found else 0

    def folders(self) -> list[tuple[frozenset[str], str, str]]:
        """Every folder as (attributes in lower case, delimiter, name)."""
        said: list[Any] = []
        if "SPECIAL-USE" in self.capabilities:  # some servers tell only on request (RFC 6154 section 3)
            with contextlib.suppress(RefusedForNow):
                said = self._run("LIST", lambda: self._imap.list('""', '"*" RETURN (SPECIAL-USE)'))
        if not any(said):
            said = self._run("LIST", lambda: self._imap.list('""', '"*"'))
        with self.conversation("LIST"):
            return [
                (frozenset(_text(flag).lower() for flag in flags), _text(delimiter or b""), name)
                for flags, delimiter, name in self._client._proc_folder_list(said)
            ]

    def namespace(self) -> str | None:
        """The prefix of the personal namespace (RFC 2342), or None where the server tells none."""
        if "NAMESPACE" not in self.capabilities:
            return None
        with self.conversation("NAMESPACE"):
            personal = self._client.namespace().personal
        return personal[0][0] if personal else None

    def create(self, folder: str) -> None:
        self._run(f"CREATE {folder}", lambda: self._imap.create(quoted(folder)))
        with contextlib.suppress(RefusedForNow):  # most clients show subscribed folders only
            self._run(f"SUBSCRIBE {folder}", lambda: self._imap.subscribe(quoted(folder)))

    def append(self, folder: str, flags: str, date: Any, source: bytes) -> None:
        self._run(
            f"APPEND to {folder}",
            lambda: self._append(quoted(folder), flags, date, source),
            seconds=self._timeouts.command + len(source) / 100_000,
        )

    def _append(self, folder: str, flags: str, date: Any, source: bytes) -> tuple[str, list[Any]]:
        """imaplib's own looks for other line ends, at five times the memory of the mail; ours are right."""
        imap: Any = self._imap
        imap.literal = source
        said: tuple[str, list[Any]] = imap._simple_command(
            "APPEND", folder, f"({flags})", imaplib.Time2Internaldate(date)
        )
        return said

    # --- messages of the selected mailbox ---------------------------------------------------------------

    def search(self, *criteria: str, literal: bytes | None = None) -> list[int]:
        """UIDs that match, ascending. ``literal`` is the last argument, where it cannot be quoted."""
        with self.conversation("SEARCH"):
            self._imap.response("SEARCH")  # forget what came unasked
            self._client._imap.literal = literal  # sent by imaplib after the last argument
            said = self._answered("SEARCH", self._imap.uid("SEARCH", *criteria))
            # A server may split its answer (one list of numbers each); a MODSEQ may follow (RFC 7162).
            numbers = " ".join(_text(line).partition("(")[0] for line in said if line)
            return sorted({int(number) for number in numbers.split()})

    def fetch(self, uid_set: str, items: str) -> dict[int, dict[bytes, Any]]:
        """What the server tells of each message, by UID and upper-case item name."""
        return self._messages("FETCH", uid_set, items)

    def store(self, uid_set: str, flags: str) -> dict[int, dict[bytes, Any]]:
        """Add flags; the resulting FLAGS of each message that the server speaks of."""
        return self._messages("STORE", uid_set, "+FLAGS", flags)

    def _messages(self, command: str, *arguments: str) -> dict[int, dict[bytes, Any]]:
        with self.conversation(command):
            self._imap.response("FETCH")  # forget what came unasked
            kind, said = self._imap.uid(command, *arguments)
            if kind == "NO" and response_code(said) == "EXPUNGEISSUED":
                # Messages have gone meanwhile; what was told of the others stands (RFC 2180 section 4.1).
                kind, said = "OK", self._imap.response("FETCH")[1]
            said = self._answered(command, (kind, said))
            found: dict[int, dict[bytes, Any]] = {}
            parsed = list(parse_response(said))
            for items in parsed[1::2]:  # sequence number, items, sequence number, items …
                named = {
                    bytes(name).upper(): value for name, value in zip(items[::2], items[1::2], strict=True)
                }
                if isinstance(named.get(b"UID"), int):
                    found.setdefault(named[b"UID"], {}).update(named)
            return found

    # --- the conversation -------------------------------------------------------------------------------

    def _run(self, what: str, command: Callable[[], Any], *, seconds: float | None = None) -> list[Any]:
        with self.conversation(what, seconds):
            return self._answered(what, command())

    def _answered(self, what: str, answer: Any) -> list[Any]:
        kind, said = answer
        self.heard = time.monotonic()
        if kind != "OK":
            raise refusal(f"{self._prefix}: {what} refused", said, self._words)
        return list(said)

    @contextlib.contextmanager
    def conversation(self, what: str, seconds: float | None = None) -> Iterator[None]:
        """Everything that is said to the server is said in here."""
        prefix = f"{self._prefix}: {what} failed"
        if not self.alive:
            raise MailboxUnavailable(f"{prefix}: the connection is closed")
        seconds = seconds or self._timeouts.command
        try:
            with self._deadline(seconds) as expired:
                yield
        except MailboxError:
            raise
        except CONVERSATION_FAULTS as exc:
            if is_bad(exc) and not isinstance(exc, imaplib.IMAP4.abort):
                raise RefusedForNow(f"{prefix}: the server says: {self._words.line(exc)}", "BAD") from None
            self.discard()
            if expired.is_set():
                raise MailboxUnavailable(f"{prefix}: not done after {seconds:g} s") from None
            raise unreachable(prefix, exc, self._words) from None  # the original may show mail
        except BaseException:
            self.discard()
            raise

    @contextlib.contextmanager
    def _deadline(self, seconds: float) -> Iterator[threading.Event]:
        """Cut the connection after ``seconds``: a socket's own timeout starts anew with every byte."""
        expired = threading.Event()

        def cut() -> None:
            expired.set()
            with contextlib.suppress(OSError):
                # Not SSLSocket.shutdown: it would take the TLS state away from under the reading thread.
                socket.socket.shutdown(self._client.socket(), socket.SHUT_RDWR)

        timer = threading.Timer(seconds, cut)
        timer.daemon = True
        timer.start()
        try:
            yield expired
        finally:
            timer.cancel()

    def log_out(self) -> None:
        """Say good-bye, waiting a second at most, and close."""
        try:
            with self.conversation("LOGOUT"):
                self._client.socket().settimeout(1)
                self._imap.logout()
        except MailboxError:
            pass  # it is gone either way
        self.discard()

    def discard(self) -> None:
        self.alive = False
        self.selected = None
        discard(self._client)


def quoted(folder: str) -> str:
    """A mailbox name as a quoted string in modified UTF-7 (RFC 3501 sections 4.3 and 5.1.3)."""
    name: str = encode_utf7(folder).decode("ascii")
    return '"' + name.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _text(part: Any) -> str:
    return part.decode("utf-8", "replace") if isinstance(part, bytes) else str(part)


def _joined(said: list[Any]) -> str:
    return " ".join(_text(part) for part in said if part is not None)
