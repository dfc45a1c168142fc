"""IDLE (RFC 2177): the server tells of new mail by itself."""

import re
import select
import socket
import ssl
import time
from collections.abc import Callable

from cleo_email.accounts import ImapAccount
from cleo_email.errors import MailboxError, MailboxUnavailable, network_words
from cleo_email.imap.connection import KeptConnection
from cleo_email.imap.session import ImapConnection, RefusedForGood, RefusedForNow
from cleo_email.imap.special_use import DRAFTS
from cleo_email.imap.values import ANSWERED, REPLIED, ImapTimeouts
from cleo_email.scrub import Scrubber

# RFC 2177 wants it anew within 29 minutes. Whether the path is dead shows within REISSUE_S + ANSWER_S.
REISSUE_S = 45.0
ANSWER_S = 12.0
SHORT_S, MOST_SHORT = 0.5, 5  # a server that ends so many in a row so soon has no use for it
LONGEST_LINE = 65_536
_COUNT = re.compile(rb"\* (\d{1,10}) (EXISTS|EXPUNGE|FETCH)\b", re.IGNORECASE)
_ENDS = re.compile(rb"\S+ (OK|NO|BAD)\b ?(.*)", re.IGNORECASE)


class IdleRefused(MailboxError):
    """The server has no IDLE, or does not do what it says."""


class Idle(KeptConnection):
    """Listens to what the server says of the inbox; the inbox is only looked at.

    ``drafts``: let the server tell of changes in Drafts too, where it can (NOTIFY, RFC 5465).
    """

    def __init__(
        self,
        account: ImapAccount,
        *,
        drafts: bool = False,
        ssl_context: ssl.SSLContext | None = None,
        timeouts: ImapTimeouts | None = None,
        reissue_s: float = REISSUE_S,
        answer_s: float = ANSWER_S,
        timer: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__(account, ssl_context=ssl_context, timeouts=timeouts)
        self._place = f"{account.host}:{account.port}"
        self._drafts = drafts
        self._reissue_s, self._answer_s, self._timer = reissue_s, answer_s, timer
        self._scrub = Scrubber()
        self._sock: socket.socket | None = None
        self._buffer = b""
        self._known = 0  # mails in the inbox
        self._number = 0  # of the last command
        self._tag = b""
        self._idles = self._done = False
        self._due = self._issued = 0.0  # when the next step of ours is due; when IDLE was sent
        self._short = 0

    def begin(self) -> None:
        """Connect and listen. What came before the return may not be told any more: read the inbox then.

        Raise IdleRefused.
        """
        self.close()
        connection = self._connection()
        if not connection.offers("IDLE"):
            raise IdleRefused(f"{self._place}: the server has no IDLE")
        notify = self._notify(connection)
        told = connection.select("INBOX", read_only=True)
        self._known, self._short = int(told.get(b"EXISTS") or 0), 0
        self._sock, self._buffer = connection.hand_over()
        self._idles = self._done = False
        self._send(notify or b"IDLE")
        while not self._idles:
            self._step(self._due - self._timer(), None)

    def wait(self, seconds: float, wake: socket.socket | None = None) -> bool:
        """Return True when the server tells of something, False after ``seconds`` or by ``wake``.

        Raise MailboxUnavailable once the connection is lost, and IdleRefused.
        """
        until = self._timer() + seconds
        while (left := until - self._timer()) > 0:
            news = self._step(min(left, self._due - self._timer()), wake)
            if news is not None:
                return news
        return False

    def close(self) -> None:
        sock, self._sock = self._sock, None
        if sock is not None:
            self._write(sock, b"DONE\r\nZ LOGOUT\r\n", faults=False)
        super().close()

    # --- the conversation -------------------------------------------------------------------------------

    def _step(self, seconds: float, wake: socket.socket | None) -> bool | None:
        """Read what comes within ``seconds``, and do what is due. Return None where that is no news."""
        if seconds <= 0:
            self._go_on()
            return None
        assert self._sock is not None
        poller = select.poll()
        poller.register(self._sock, select.POLLIN)
        if wake is not None:
            poller.register(wake, select.POLLIN)
        # What the server sends together is read together, so nothing waits in the buffers of TLS.
        ready = {fd for fd, _ in poller.poll(max(seconds, 0.001) * 1000)} if b"\n" not in self._buffer else ()
        news = False
        for line in self._lines():
            try:
                news |= self._take(line)
            except MailboxError:
                if not news:  # else what was told before counts, and the next read finds the end
                    raise
                break
        if news:
            return True
        return False if wake is not None and wake.fileno() in ready else None

    def _go_on(self) -> None:
        """End an IDLE that is due for it; a server that owes an answer is gone."""
        if self._done or not self._idles:
            raise MailboxUnavailable(f"{self._place}: IDLE: no answer within {self._answer_s:g} s")
        assert self._sock is not None
        self._done, self._due = True, self._timer() + self._answer_s
        self._write(self._sock, b"DONE\r\n")

    def _send(self, command: bytes) -> None:
        assert self._sock is not None
        self._number += 1
        self._tag = b"I%d" % self._number
        self._idles = self._done = False
        self._issued = self._timer()
        self._due = self._issued + self._answer_s
        self._write(self._sock, b"%b %b\r\n" % (self._tag, command))

    def _write(self, sock: socket.socket, data: bytes, *, faults: bool = True) -> None:
        try:
            sock.settimeout(self._answer_s if faults else 0)
            sock.sendall(data)
            sock.settimeout(0)
        except (OSError, ValueError) as error:
            if faults:
                raise MailboxUnavailable(f"{self._place}: IDLE: {self._words(error)}") from None

    def _lines(self) -> list[bytes]:
        """Return the whole lines that have come."""
        assert self._sock is not None
        ended = ""
        try:
            while not ended:
                found = self._sock.recv(LONGEST_LINE)
                self._buffer += found
                if not found:
                    ended = "the server has closed the connection"
                elif len(self._buffer) > 16 * LONGEST_LINE:
                    ended = "the server's answer makes no sense to us"
        except (BlockingIOError, ssl.SSLWantReadError):
            pass
        except (OSError, ValueError) as error:
            ended = self._words(error)
        *lines, self._buffer = self._buffer.split(b"\n")
        if ended and not lines:
            raise MailboxUnavailable(f"{self._place}: IDLE: {ended}")
        return [line.rstrip(b"\r") for line in lines]

    def _take(self, line: bytes) -> bool:
        """Return whether the line tells of something that a poll is to look at."""
        if line.startswith(b"+"):
            self._idles, self._due = True, self._timer() + self._reissue_s
        elif line.startswith(self._tag + b" "):
            self._ended(line)
        elif line[:5].upper() == b"* BYE":
            said = self._scrub.line(line.decode("utf-8", "replace"))
            raise MailboxUnavailable(f"{self._place}: IDLE: the server says: {said}")
        else:
            return self._is_news(line)
        return False

    def _ended(self, line: bytes) -> None:
        """Listen again, whoever has ended it; RFC 2177 lets a server do so after a while."""
        found = _ENDS.match(line)
        refused = found is None or found[1].upper() != b"OK"
        if refused and not self._idles and not self._notifies:
            said = self._scrub.line(line.decode("utf-8", "replace"))
            raise IdleRefused(f"{self._place}: the server offers IDLE and refuses it: {said}")
        soon = not self._done and not self._notifies and self._timer() - self._issued < SHORT_S
        self._short = self._short + 1 if soon else 0
        if self._short > MOST_SHORT:
            raise IdleRefused(f"{self._place}: the server offers IDLE and ends it at once")
        self._notifies = False
        self._send(b"IDLE")

    def _is_news(self, line: bytes) -> bool:
        r"""Return whether there is new mail, ``\Answered`` set by somebody else, or a changed draft."""
        if line[:9].upper() == b"* STATUS ":
            return True  # which only NOTIFY brings
        found = _COUNT.match(line)
        if found is None:
            return False
        number, kind = int(found[1]), found[2].upper()
        if kind == b"FETCH":
            flags = line.lower()
            return ANSWERED.lower().encode() in flags and REPLIED.lower().encode() not in flags
        if kind == b"EXPUNGE":
            self._known = max(self._known - 1, 0)
            return False
        news = number > self._known
        self._known = number
        return news

    def _words(self, error: Exception) -> str:
        return self._scrub.line(network_words(error) if isinstance(error, OSError) else str(error))

    # --- Drafts -----------------------------------------------------------------------------------------

    _notifies = False  # the command that waits for its answer is NOTIFY

    def _notify(self, connection: ImapConnection) -> bytes:
        """Return the command by which the server tells of Drafts too, b"" where it cannot."""
        self._notifies = False
        if not self._drafts or not connection.offers("NOTIFY"):
            return b""
        try:
            folder = self._folder(DRAFTS, create=False)
        except (RefusedForNow, RefusedForGood):
            return b""
        if folder is None or re.search(rb'["\\\r\n]', folder):
            return b""
        self._notifies = True
        return (
            b"NOTIFY SET (selected (MessageNew MessageExpunge FlagChange))"
            b' (mailboxes "%b" (MessageNew MessageExpunge))' % folder
        )
