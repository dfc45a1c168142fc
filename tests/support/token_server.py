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
import itertools
import json
import threading
import time
from typing import Any
from urllib.parse import parse_qs, urlsplit

from tests.support.http_server import Handler, HttpServer

DEVICE_GRANT = "urn:ietf:params:oauth:grant-type:device_code"
# A refresh token for the settings. No log or path holds such a text by chance, nor those issued here.
FIRST = "refresh-token-first-7f3a9c"


class _Handler(Handler):
    timeout = 20
    server: TokenServer

    def do_POST(self) -> None:
        form = {name: values[0] for name, values in parse_qs(self.body().decode()).items()}
        path, status, answer = urlsplit(self.path).path, 404, b"{}"
        if path == "/token":
            status, answer = self.server.token(form)
        elif path == "/device":
            status, answer = self.server.device(form)
        elif path == "/introspect":
            status, answer = self.server.introspect(form.get("token", ""))
        self.answer(status, answer, Content_Type="application/json")


class TokenServer(HttpServer):
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
        super().__init__(_Handler)

    def __exit__(self, *exception: object) -> None:
        if self.gate is not None:
            self.gate.set()
        super().__exit__(*exception)

    def url(self, path: str) -> str:
        return f"{self.origin}{path}"

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

    def token(self, form: dict[str, str]) -> tuple[int, bytes]:
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

    def introspect(self, token: str) -> tuple[int, bytes]:
        """RFC 7662, with the attribute that Dovecot is told to look at."""
        self.introspected += 1
        if not self.is_alive(token):
            return 200, b'{"active": false}'
        return 200, json.dumps({"active": True, "email": self.user}).encode()

    def device(self, form: dict[str, str]) -> tuple[int, bytes]:
        self.device_forms.append(form)
        answer = {
            "device_code": "the-device-code",
            "user_code": "ABCD-EFGH",
            "verification_uri": "https://login.example/device",
            "expires_in": 900,
            "interval": 1,
        }
        return 200, json.dumps(answer).encode()


def _error(code: str, status: int = 400) -> tuple[int, bytes]:
    text = f"AADSTS70000: the grant was refused. Trace {code}"
    return status, json.dumps({"error": code, "error_description": text}).encode()
