"""A token server for tests: refresh, client credentials, device and code grants, and introspection.

    with TokenServer(user="agent@cleo.test") as server:
        server.refresh_tokens.add(FIRST)
        ... EMAIL_OAUTH_TOKEN_URL=server.url("/token") ...
        server.faults.append((503, "busy"))   # the next call of /token: status, and body or error code

Tokens that it has issued and that are alive are in ``alive``; ``rotate`` lets each refresh token work once.
"""

from __future__ import annotations

import base64
import hashlib
import http.server
import itertools
import json
import threading
import time
from types import TracebackType
from typing import Any, Self
from urllib.parse import parse_qs, urlsplit

DEVICE_GRANT = "urn:ietf:params:oauth:grant-type:device_code"
# A refresh token for the settings. No log or path holds such a text by chance, nor those issued here.
FIRST = "refresh-token-first-7f3a9c"


class TokenServer:
    def __init__(
        self, *, user: str = "agent@cleo.test", lifetime: object = 3600, rotate: bool = True
    ) -> None:
        self.user = user
        self.lifetime = lifetime
        self.rotate = rotate
        self.client = ("client-1", "s3cret-of-the-client")
        self.refresh_tokens: set[str] = set()
        self.codes: dict[str, str] = {}  # authorization code to PKCE challenge
        self.device_answers: list[str] = []  # error codes before the device grant succeeds
        self.alive: dict[str, float] = {}  # access token to the end of its life
        self.faults: list[tuple[int, str]] = []
        self.forms: list[dict[str, str]] = []  # of /token, in order
        self.device_forms: list[dict[str, str]] = []
        self.introspected = 0
        self.gate: threading.Event | None = None  # /token waits for it
        self.entered = threading.Event()  # a call of /token has begun
        self.in_flight = 0
        self.most_in_flight = 0
        self._guard = threading.Lock()
        self._numbers = itertools.count(1)
        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._server.daemon_threads = True

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.gate is not None:
            self.gate.set()
        self._server.shutdown()
        self._server.server_close()

    def url(self, path: str) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}{path}"

    def env(self, **more: str) -> dict[str, str]:
        """What a mailbox with this server needs in its environment."""
        return {
            "EMAIL_OAUTH_TOKEN_URL": self.url("/token"),
            "EMAIL_OAUTH_DEVICE_URL": self.url("/device"),
            "EMAIL_OAUTH_AUTHORIZATION_URL": self.url("/authorize"),
            "EMAIL_OAUTH_CLIENT_ID": self.client[0],
            "CLEO_SECRET_KEY": base64.urlsafe_b64encode(bytes(range(32))).decode(),
            **more,
        }

    def revoke(self) -> None:
        """Every access token ends at once, as after a change of the password."""
        with self._guard:
            self.alive.clear()

    def is_alive(self, token: str) -> bool:
        return self.alive.get(token, 0) > time.time()

    # --- answers ------------------------------------------------------------------------------------------

    def _token(self, form: dict[str, str]) -> tuple[int, bytes]:
        with self._guard:
            self.forms.append(form)
            self.in_flight += 1
            self.most_in_flight = max(self.most_in_flight, self.in_flight)
        self.entered.set()
        try:
            if self.gate is not None:
                self.gate.wait(20)
            with self._guard:
                return self._decide(form)
        finally:
            with self._guard:
                self.in_flight -= 1

    def _decide(self, form: dict[str, str]) -> tuple[int, bytes]:
        if self.faults:
            status, body = self.faults.pop(0)
            if body.isidentifier():
                return _error(body, status)
            return status, body.encode()
        grant = form.get("grant_type", "")
        if form.get("client_id") != self.client[0]:
            return _error("invalid_client", 401)
        if grant == "refresh_token":
            if form.get("refresh_token") not in self.refresh_tokens:
                return _error("invalid_grant")
            if self.rotate:
                self.refresh_tokens.discard(form["refresh_token"])
            return self._issue(refresh=self.rotate)
        if grant == "client_credentials":
            if form.get("client_secret") != self.client[1]:
                return _error("invalid_client", 401)
            return self._issue(refresh=False)
        if grant == DEVICE_GRANT:
            if self.device_answers:
                return _error(self.device_answers.pop(0))
            return self._issue(refresh=True)
        if grant == "authorization_code":
            challenge = self.codes.pop(form.get("code", ""), None)
            digest = hashlib.sha256(form.get("code_verifier", "").encode()).digest()
            if challenge is None or base64.urlsafe_b64encode(digest).rstrip(b"=").decode() != challenge:
                return _error("invalid_grant")
            return self._issue(refresh=True)
        return _error("unsupported_grant_type")

    def _issue(self, *, refresh: bool) -> tuple[int, bytes]:
        number = next(self._numbers)
        token = f"access-{number}-" + "x" * 40
        self.alive[token] = time.time() + (self.lifetime if isinstance(self.lifetime, int) else 3600)
        answer: dict[str, Any] = {"access_token": token, "token_type": "Bearer", "expires_in": self.lifetime}
        if refresh:
            answer["refresh_token"] = f"refresh-token-{number}-7f3a9c"
            self.refresh_tokens.add(f"refresh-token-{number}-7f3a9c")
        return 200, json.dumps(answer).encode()

    def _introspect(self, token: str) -> tuple[int, bytes]:
        """RFC 7662, with the attribute that Dovecot is told to look at."""
        self.introspected += 1
        if not self.is_alive(token):
            return 200, b'{"active": false}'
        return 200, json.dumps({"active": True, "email": self.user}).encode()

    def _device(self, form: dict[str, str]) -> tuple[int, bytes]:
        self.device_forms.append(form)
        answer = {
            "device_code": "the-device-code",
            "user_code": "ABCD-EFGH",
            "verification_uri": "https://login.example/device",
            "expires_in": 900,
            "interval": 1,
        }
        return 200, json.dumps(answer).encode()

    def _handler(self) -> type[http.server.BaseHTTPRequestHandler]:
        server = self

        class Handler(http.server.BaseHTTPRequestHandler):
            timeout = 20

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length", 0))).decode()
                form = {name: values[0] for name, values in parse_qs(body).items()}
                path = urlsplit(self.path).path
                if path == "/token":
                    self._answer(*server._token(form))
                elif path == "/device":
                    self._answer(*server._device(form))
                elif path == "/introspect":
                    self._answer(*server._introspect(form.get("token", "")))
                else:
                    self._answer(404, b"{}")

            def _answer(self, status: int, body: bytes) -> None:
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *args: object) -> None:
                """Tests are quiet."""

        return Handler


def _error(code: str, status: int = 400) -> tuple[int, bytes]:
    text = f"AADSTS70000: the grant was refused. Trace {code}"
    return status, json.dumps({"error": code, "error_description": text}).encode()
