"""The submitter: a small pool of kept-alive SMTP sessions, safe to use from many threads."""

import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Self

from cleo_email.accounts import LoginMemory, SmtpAccount
from cleo_email.errors import (
    SubmissionError,
    SubmissionLoginRefused,
    SubmissionUnavailable,
    SubmissionUncertain,
)
from cleo_email.mail.model import OutboundEmail, Receipt
from cleo_email.runtime import Deadline
from cleo_email.smtp.session import LinkLost, SmtpConnection, SmtpTimeouts, open_session, transact

# A refusal on a kept session is tried once more on a new one. Where that was in vain, not again for so long:
# each costs a login.
DOUBT_PAUSE_S = 120.0


class Submitter:
    """Sends mail through one account. Thread-safe; create it after a fork and close it at the end.

    At most ``max_connections`` sessions at once; one that has been idle for ``idle_seconds`` is closed, and
    one that has carried ``mails_per_connection`` mails is replaced. ``context`` is for tests; by default
    certificates are verified against the system's trust store, which SSL_CERT_FILE and SSL_CERT_DIR change.
    """

    def __init__(
        self,
        account: SmtpAccount,
        *,
        context: ssl.SSLContext | None = None,
        timeouts: SmtpTimeouts | None = None,
        max_connections: int = 4,
        idle_seconds: float = 20.0,
        mails_per_connection: int = 100,
    ) -> None:
        self._account = account
        self._context = context or ssl.create_default_context()
        self._timeouts = timeouts or SmtpTimeouts()
        self._idle_seconds = idle_seconds
        self._mails_per_connection = mails_per_connection
        self._slots = threading.BoundedSemaphore(max_connections)
        self._lock = threading.Lock()  # guards what follows
        self._idle: list[SmtpConnection] = []
        self._reaper: threading.Timer | None = None
        self._closed = False
        self._memory = LoginMemory()
        self._doubt_from = 0.0  # monotonic
        self._turn = threading.Lock()  # guards what follows, and lets one thread at a time try to log in
        self._let_in = False  # the last login succeeded
        self._fault: SubmissionError | None = None
        self._fault_at = 0.0  # monotonic

    def submit(self, mail: OutboundEmail, *, before_end_of_data: Callable[[], None]) -> Receipt:
        """Hand ``mail`` to the server; return once the server has accepted it.

        ``before_end_of_data`` is called once, when everything but the final dot is sent: it records durably
        that the outcome may be uncertain from now on. If it raises, the connection is dropped, the server has
        accepted nothing, and its exception goes on to the caller.

        Raise SubmissionUnavailable and SubmissionLoginRefused (certainly not accepted, try again later),
        SubmissionError (certainly not accepted, will not be), SubmissionUncertain (accepted or not). Return
        or raises within ``timeouts.total`` seconds (name look-ups, which have no time-out, aside).
        """
        with self._slot() as deadline:
            connection = self._idle_session(deadline)
            if connection is None:
                return self._transact(self._open(deadline), mail, before_end_of_data)
            doubted = connection.doubted = time.monotonic() >= self._doubt_from
            try:
                return self._transact(connection, mail, before_end_of_data)
            except LinkLost:
                pass  # stale; nothing was accepted, and before_end_of_data has not been called
            fresh = self._open(deadline)
            receipt = None
            try:
                receipt = self._transact(fresh, mail, before_end_of_data)
            finally:
                if doubted and (receipt is None or receipt.refused or receipt.deferred):
                    self._doubt_from = time.monotonic() + DOUBT_PAUSE_S
            return receipt

    def check(self) -> str:
        """Log in afresh and say NOOP; return a line that describes the server. Raise as ``submit`` does."""
        with self._slot() as deadline:
            connection = self._open(deadline)
            try:
                reply = connection.command("NOOP")
            except OSError as error:
                connection.close()
                raise SubmissionUnavailable(connection.scrub.line(f"NOOP: {error}")) from None
            if not reply.accepted:
                connection.leave()
                raise connection.refusal("NOOP", reply)
            line = connection.scrub.line(self._description(connection))
            self._keep(connection)
            return line

    def close(self) -> None:
        """Close the idle sessions; those in use close after their mail. May be called twice."""
        with self._lock:
            self._closed = True
            idle, self._idle = self._idle, []
            if self._reaper is not None:
                self._reaper.cancel()
        for connection in idle:
            connection.leave()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # --- one session ------------------------------------------------------------------------------------

    def _transact(self, connection: SmtpConnection, mail: OutboundEmail, hook: Callable[[], None]) -> Receipt:
        try:
            receipt = transact(connection, mail, hook)
        except BaseException as error:
            broken = isinstance(error, LinkLost | SubmissionUncertain | SubmissionLoginRefused)
            if isinstance(error, SubmissionError) and not broken:
                self._keep_if_reset(connection)
            else:
                connection.close()
            raise
        self._keep(connection)
        return receipt

    def _description(self, connection: SmtpConnection) -> str:
        account = self._account
        assert isinstance(connection.sock, ssl.SSLSocket)  # nothing travels in clear
        has_login = account.login.password or account.login.access_token
        login = f"logged in as {account.login.user}" if has_login else "no login"
        limit = connection.esmtp_features.get("size", "").strip()
        size = f", mail up to {int(limit)} bytes" if limit.isdecimal() and int(limit) else ""
        return f"{account.host}:{account.port}, {connection.sock.version()}, {login}{size}"

    # --- the pool ---------------------------------------------------------------------------------------

    @contextmanager
    def _slot(self) -> Iterator[Deadline]:
        """Wait until a connection is free; yield the deadline for all work with it."""
        deadline = Deadline(self._timeouts.total - self._timeouts.end_of_data)
        if not self._slots.acquire(timeout=deadline.cap(self._timeouts.total)):
            raise SubmissionUnavailable("no connection to the SMTP server became free in time")
        try:
            yield deadline
        finally:
            self._slots.release()

    def _open(self, deadline: Deadline) -> SmtpConnection:
        """Log in. Until that has succeeded one thread tries, for all that wait meanwhile: some servers lock
        an account after a few refusals."""
        if self._let_in:
            return self._log_in(deadline)
        begun = time.monotonic()
        if not self._turn.acquire(timeout=max(deadline.end - begun, 0.0)):
            raise SubmissionUnavailable("no connection to the SMTP server became free in time")
        try:
            if self._fault is not None and self._fault_at >= begun:
                raise self._fault.with_traceback(None)
            return self._log_in(deadline)
        finally:
            self._turn.release()

    def _log_in(self, deadline: Deadline) -> SmtpConnection:
        try:
            session = open_session(self._account, self._context, self._timeouts, deadline, self._memory)
        except SubmissionError as error:
            self._fault, self._fault_at, self._let_in = error, time.monotonic(), False
            raise
        self._let_in = True
        return session

    def _idle_session(self, deadline: Deadline) -> SmtpConnection | None:
        """Return the session that was used last and is still good, if there is one."""
        while True:
            with self._lock:
                connection = self._idle.pop() if self._idle else None
            if connection is None:
                return None
            connection.deadline = deadline
            if self._is_expired(connection):
                connection.leave()
            elif connection.unasked() is None:
                return connection
            else:  # it has hung up or announced that it will
                connection.close()

    def _keep_if_reset(self, connection: SmtpConnection) -> None:
        """Send RSET after a refusal, so that nothing of the refused mail is left for the next one."""
        with suppress(OSError):
            if connection.command("RSET").accepted:
                self._keep(connection)
                return
        connection.leave()

    def _keep(self, connection: SmtpConnection) -> None:
        connection.idle_since = time.monotonic()
        with self._lock:
            if not self._closed and connection.mails < self._mails_per_connection:
                self._idle.append(connection)
                self._wake_reaper()
                return
        connection.leave()

    def _is_expired(self, connection: SmtpConnection) -> bool:
        return time.monotonic() - connection.idle_since >= self._idle_seconds

    def _wake_reaper(self) -> None:
        if self._reaper is None:
            self._reaper = threading.Timer(self._idle_seconds, self._reap)
            self._reaper.daemon = True
            self._reaper.start()

    def _reap(self) -> None:
        with self._lock:
            expired = [connection for connection in self._idle if self._is_expired(connection)]
            self._idle = [connection for connection in self._idle if connection not in expired]
            self._reaper = None
            if self._idle and not self._closed:
                self._wake_reaper()
        for connection in expired:
            connection.leave()
