"""One HTTP call under one total deadline.

libcurl makes it, because its time-out is one for the whole call: the usual Python clients start theirs anew
with every byte that comes in, so that a server that drips keeps its caller for ever. No redirect is followed,
no cookie kept and no connection used again.
"""

import errno
import os
import re
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field

import pycurl

from cleo_email.certificates import certificate_advice
from cleo_email.http.address import WebAddress, proxy_address, trust_store
from cleo_email.runtime import Deadline

CONNECT_SECONDS = 10.0  # name, connection, proxy and TLS together
MAX_ANSWER_BYTES = 64 * 2**20
MAX_ERROR_BYTES = 64 * 2**10  # of an answer that is not 2xx
ERROR_BODY_SECONDS = 5.0
# Options of libcurl that pycurl has no names for.
_SUPPRESS_CONNECT_HEADERS = 265
_QUICK_EXIT = 322


_STATUS_LINE = re.compile(r"HTTP/[0-9.]+ +([0-9]{3})(?: |\Z)")


class AnswerTooLarge(OSError):
    """The server sends more than the caller takes."""


class NotHttp(OSError):
    """What came back is not HTTP."""


class TlsFailed(OSError):
    """No TLS session came about. ``plain``: the other side does not speak TLS at all."""

    plain = False


class UntrustedCertificate(TlsFailed):
    """The certificate is another host's, expired, or of an authority that is not in the trust store.

    ``advice`` says what to do about it.
    """

    def __init__(self, fault: str, advice: str) -> None:
        super().__init__(fault)
        self.advice = advice


@dataclass(frozen=True)
class HttpAnswer:
    """The answer of a server; ``headers`` has lower-case names."""

    status: int
    headers: Mapping[str, str] = field(repr=False)
    body: bytes = field(repr=False)


class HttpClient:
    """Calls one address. It is safe to use from many threads.

    An answer of more than ``max_bytes`` (0: ``MAX_ANSWER_BYTES``) is not read to its end. ``environ`` has
    ``*_PROXY`` and ``SSL_CERT_*``; SettingsError where they cannot be used.
    """

    def __init__(
        self, address: WebAddress, environ: Mapping[str, str], *, authorization: str = "", max_bytes: int = 0
    ) -> None:
        self.address = address
        self.proxy = proxy_address(address, environ)
        self.max_bytes = max_bytes
        self.environ = environ
        self.trust = trust_store(environ) if address.tls else ("", "")
        self._authorization = authorization

    def post(self, body: bytes | None, headers: Mapping[str, str], deadline: Deadline) -> HttpAnswer:
        """Post ``body`` and read the whole answer.

        Raise OSError where there is no connection or a broken one; also AnswerTooLarge, NotHttp, TlsFailed,
        UntrustedCertificate and, out of time, TimeoutError.
        """
        call = _Call(self, deadline)
        if body is not None:
            call.set(pycurl.POSTFIELDS, body)
        own = {"User-Agent": "cleo-email", "Accept": "application/json", "Connection": "close"}
        own["Accept-Encoding"] = "identity"
        if self._authorization:
            own["Authorization"] = self._authorization
        # "Expect:" without a value: a large body does not wait for the server to agree to it.
        call.set(pycurl.HTTPHEADER, [*_header_lines({**own, **headers}), b"Expect:"])
        return call.perform()

    def get(self, headers: Mapping[str, str], deadline: Deadline) -> HttpAnswer:
        """Do as :meth:`post` does, without a body."""
        return self.post(None, headers, deadline)

    def reach(self, deadline: Deadline) -> None:
        """Connect, through the proxy and TLS, and ask nothing. Raise as :meth:`post` does."""
        call = _Call(self, deadline)
        call.set(pycurl.CONNECT_ONLY, 1)
        call.perform()


def _header_lines(headers: Mapping[str, str]) -> list[bytes]:
    lines = [f"{name}: {value}" for name, value in headers.items()]
    if any(char in line for line in lines for char in "\r\n\0"):
        raise ValueError("a header with a line break in it")
    return [line.encode("latin-1") for line in lines]


class _Call:
    """One libcurl handle, used once."""

    def __init__(self, client: HttpClient, deadline: Deadline) -> None:
        self._deadline = deadline
        self._environ = client.environ
        self._most = client.max_bytes or MAX_ANSWER_BYTES
        self._coming = 0  # the status in the head that is being read
        self._status = 0  # that of the answer, once its head is complete
        self._head: dict[str, str] = {}
        self._body = bytearray()
        self._error_ends = 0.0
        self._fault: BaseException | None = None
        self._curl = pycurl.Curl()
        self.set = self._curl.setopt
        self._set_limits()
        self._set_address(client)

    def _set_limits(self) -> None:
        self.set(pycurl.NOSIGNAL, 1)  # signals are the main thread's
        self.set(pycurl.TIMEOUT_MS, _milliseconds(self._deadline.left()))
        self.set(pycurl.CONNECTTIMEOUT_MS, _milliseconds(self._deadline.cap(CONNECT_SECONDS)))
        with suppress(pycurl.error):  # libcurl before 7.87
            # A look-up of a name that hangs is left behind; otherwise closing the handle waits for it.
            self.set(_QUICK_EXIT, 1)
        self.set(pycurl.HTTP_VERSION, pycurl.CURL_HTTP_VERSION_1_1)
        self.set(pycurl.SSLVERSION, pycurl.SSLVERSION_TLSv1_2)  # or later
        self.set(pycurl.BUFFERSIZE, 64 * 1024)
        # An agent may think for minutes: this keeps a firewall from forgetting the connection, and finds out
        # that the other machine has gone.
        self.set(pycurl.TCP_KEEPALIVE, 1)
        self.set(pycurl.TCP_KEEPIDLE, 30)
        self.set(pycurl.TCP_KEEPINTVL, 15)
        self.set(pycurl.HEADERFUNCTION, self._on_header)
        self.set(pycurl.WRITEFUNCTION, self._on_body)
        self.set(pycurl.XFERINFOFUNCTION, self._on_progress)
        self.set(pycurl.NOPROGRESS, 0)

    def _set_address(self, client: HttpClient) -> None:
        self.set(pycurl.URL, f"{client.address}{client.address.target}")
        self.set(pycurl.PATH_AS_IS, 1)
        proxy = client.proxy
        # An empty text keeps libcurl from looking at the environment by itself.
        self.set(pycurl.NOPROXY, "")
        self.set(pycurl.PROXY, f"http://{proxy.authority}" if proxy else "")
        self.set(_SUPPRESS_CONNECT_HEADERS, 1)
        # Headers for the proxy do not go through the tunnel, and the others do not go to the proxy.
        self.set(pycurl.HEADEROPT, pycurl.HEADER_SEPARATE)
        if proxy is not None and proxy.basic:
            self.set(pycurl.PROXYHEADER, _header_lines({"Proxy-Authorization": proxy.basic}))
        for option, place in zip((pycurl.CAINFO, pycurl.CAPATH), client.trust, strict=True):
            if place:
                self.set(option, place)
            else:  # also not where libcurl was built to look
                self._curl.unsetopt(option)

    def perform(self) -> HttpAnswer:
        try:
            self._curl.perform()
        except pycurl.error as error:
            # For a refusal the status is enough, even if its text is incomplete.
            if self._fault is not None or not (self._is_whole if self._succeeded else self._status):
                raise self._fault or self._fault_of(int(error.args[0]), self._curl.errstr()) from None
        finally:
            self._curl.close()
        body = self._body if self._succeeded else self._body[:MAX_ERROR_BYTES]
        return HttpAnswer(self._status, self._head, bytes(body))

    @property
    def _is_whole(self) -> bool:
        """Whether the answer came, although the server did not wait for the end of the request."""
        return self._head.get("content-length", "") == str(len(self._body))

    @property
    def _succeeded(self) -> bool:
        return 200 <= self._status < 300

    def _on_header(self, line: bytes) -> int | None:
        text = line.decode("latin-1").strip()
        name, colon, value = text.partition(":")
        if found := _STATUS_LINE.match(text):
            self._head, self._coming = {}, int(found[1])
        elif colon:
            self._head[name.strip().lower()] = value.strip()
        elif not text and self._coming >= 200:
            self._status = self._coming
            self._error_ends = time.monotonic() + ERROR_BODY_SECONDS
            length = self._head.get("content-length", "")
            if self._succeeded and length.isdecimal() and int(length) > self._most:
                return self._too_large()
        return None

    def _on_body(self, piece: bytes) -> int | None:
        self._body += piece
        if self._succeeded:
            return self._too_large() if len(self._body) > self._most else None
        return self._stop() if len(self._body) >= MAX_ERROR_BYTES else self._on_progress() or None

    def _on_progress(self, *_: int) -> int:
        """Return whether to go on, which libcurl asks at least once a second."""
        if self._status and not self._succeeded and time.monotonic() >= self._error_ends:
            return self._stop()
        return 0

    def _too_large(self) -> int:
        return self._stop(AnswerTooLarge(f"sent more than {self._most // 2**20} MiB"))

    def _stop(self, fault: BaseException | None = None) -> int:
        self._fault = fault
        return -1

    def _fault_of(self, code: int, line: str) -> OSError:
        """Return libcurl's error as one of Python's or ours; ``line`` is libcurl's own line."""
        if code == pycurl.E_OPERATION_TIMEDOUT:
            return TimeoutError(self._waited_for(line))
        if code == pycurl.E_PEER_FAILED_VERIFICATION:
            fault = line.rpartition(": ")[2]
            return UntrustedCertificate(fault, certificate_advice(fault, environ=self._environ))
        if code in (pycurl.E_SSL_CONNECT_ERROR, pycurl.E_SSL_CACERT_BADFILE):
            plain = "wrong version number" in line or "http request" in line
            failed = TlsFailed(f"TLS failed ({'the server does not speak it: http://?' if plain else line})")
            failed.plain = plain
            return failed
        if code in (pycurl.E_UNSUPPORTED_PROTOCOL, pycurl.E_FTP_WEIRD_SERVER_REPLY):
            return NotHttp("what came back is not HTTP")
        if code in (pycurl.E_COULDNT_RESOLVE_HOST, pycurl.E_COULDNT_RESOLVE_PROXY):
            return OSError("no server of this name is known: look for a typo, or whether DNS works")
        if code == pycurl.E_COULDNT_CONNECT and (number := int(self._curl.getinfo(pycurl.OS_ERRNO))):
            refused = "refused: nothing listens there, or a firewall is between"
            return OSError(number, refused if number == errno.ECONNREFUSED else os.strerror(number))
        return OSError(line or "no connection")

    def _waited_for(self, line: str) -> str:
        seconds = f"{min(round(self._deadline.seconds, 2), CONNECT_SECONDS):g} s"
        if line.startswith("Resolving"):
            return f"no answer from DNS within {seconds}"
        if not self._curl.getinfo(pycurl.CONNECT_TIME):
            return f"no connection within {seconds}"
        if not self._curl.getinfo(pycurl.PRETRANSFER_TIME):  # a handshake, or a proxy that does not answer
            return f"no answer within {seconds}"
        return self._deadline.said


def _milliseconds(seconds: float) -> int:
    return max(1, round(seconds * 1000))  # 0 would be no limit
