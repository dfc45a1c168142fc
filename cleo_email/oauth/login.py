"""A person's login: by a code on any device (RFC 8628), or with the browser of this machine (RFC 8252).

The server redirects the browser to an address of this machine with an authorization code, which PKCE (RFC
7636) ties to this process.
"""

import base64
import hashlib
import hmac
import http.server
import secrets
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Self
from urllib.parse import parse_qs, urlencode, urlsplit

from cleo_email.errors import TokenError, TokenUnavailable
from cleo_email.oauth.client import GOOGLE, OAuthClient
from cleo_email.oauth.endpoint import Endpoint, Refused, Tokens, visible
from cleo_email.scrub import one_line

# --- by a code on any device ------------------------------------------------------------------------------

DEVICE_GRANT = "urn:ietf:params:oauth:grant-type:device_code"
INTERVAL_S = 5  # where the server names none (RFC 8628 section 3.2)
SLOWER_S = 5  # what slow_down adds (section 3.5)
EXPIRES_S = 900
LONGEST_S = 3600


def log_in_by_code(
    client: OAuthClient,
    device: Endpoint,
    token: Endpoint,
    say: Callable[[str], None],
    *,
    sleep: Callable[[float], None] = time.sleep,
    monotonic: Callable[[], float] = time.monotonic,
) -> Tokens:
    """Ask for a code, ``say`` where to enter it, and wait until the person has done so.

    Raise TokenError (refused, or not in time) and TokenUnavailable.
    """
    offer = device.ask({"client_id": client.client_id, "scope": client.scope})
    code, user_code = visible(offer.get("device_code")), visible(offer.get("user_code"))
    place = visible(offer.get("verification_uri") or offer.get("verification_url"))
    if not code or not user_code or not place.startswith(("https://", "http://")):
        raise TokenUnavailable(f"{device} sent no code to log in with")
    say(f"Open {one_line(place)} in a browser, on any device, and enter the code {one_line(user_code, 40)}")
    interval = _seconds(offer.get("interval"), INTERVAL_S)
    until = monotonic() + _seconds(offer.get("expires_in"), EXPIRES_S)
    form = {"grant_type": DEVICE_GRANT, "device_code": code} | client.identity
    while monotonic() + interval < until:
        sleep(interval)
        try:
            return token.tokens(form)
        except Refused as refusal:
            if refusal.code == "slow_down":
                interval += SLOWER_S
            elif refusal.code in ("access_denied", "authorization_declined"):
                raise TokenError("the login was declined in the browser") from None
            elif refusal.code == "expired_token":
                break
            elif refusal.code != "authorization_pending":
                raise
        except TokenUnavailable:
            interval += SLOWER_S  # RFC 8628 section 3.5: a lost connection is asked again, more slowly
    raise TokenError("the code was not entered in time; try again")


def _seconds(value: object, usual: int) -> int:
    return min(value, LONGEST_S) if isinstance(value, int) and value > 0 else usual


# --- with the browser of this machine ---------------------------------------------------------------------

LONGEST_ADDRESS = 8192
_DONE = b"<!doctype html><title>cleo-email</title><p>The login has arrived. You may close this window."
_NOT_OURS = b"<!doctype html><title>cleo-email</title><p>This is not the login that is waited for."


@dataclass(frozen=True)
class BrowserLogin:
    """One login: ``state`` ties the answer to the question, ``verifier`` the code to this process."""

    redirect_uri: str
    state: str = field(default_factory=lambda: secrets.token_urlsafe(24), repr=False)
    verifier: str = field(default_factory=lambda: secrets.token_urlsafe(48), repr=False)

    def url(self, client: OAuthClient, user: str) -> str:
        """Return the URL that the person opens."""
        digest = hashlib.sha256(self.verifier.encode()).digest()
        query = {
            "client_id": client.client_id,
            "redirect_uri": self.redirect_uri,
            "response_type": "code",
            "scope": client.scope,
            "state": self.state,
            "code_challenge": base64.urlsafe_b64encode(digest).rstrip(b"=").decode("ascii"),
            "code_challenge_method": "S256",
            "login_hint": user,
        }
        if client.provider == GOOGLE.name:
            # Without these Google gives a refresh token for the first login of a client only.
            query |= {"access_type": "offline", "prompt": "consent"}
        start = client.authorization_url
        return f"{start}{'&' if '?' in start else '?'}{urlencode(query)}"

    def is_answer(self, address: str) -> bool:
        """Return whether this redirect belongs to this login (RFC 6749 section 10.12)."""
        state = _query(address).get("state", "")
        return hmac.compare_digest(state.encode("utf-8", "replace"), self.state.encode())

    def tokens(self, client: OAuthClient, endpoint: Endpoint, address: str) -> Tokens:
        """Exchange the code in the redirect ``address`` for tokens. Raise TokenError, TokenUnavailable."""
        query = _query(address)
        if not self.is_answer(address):
            raise TokenError("this address does not belong to this login: use the newest one")
        if not (code := query.get("code")):
            why = one_line(query.get("error", "no code in it"), 80)
            raise TokenError(f"the login was not granted ({why})")
        form = {"grant_type": "authorization_code", "code": code, "code_verifier": self.verifier}
        return endpoint.tokens(form | {"redirect_uri": self.redirect_uri} | client.identity)


def _query(address: str) -> dict[str, str]:
    try:
        found = parse_qs(urlsplit(address.strip()[:LONGEST_ADDRESS]).query, max_num_fields=50)
    except ValueError:
        return {}
    return {name: values[0] for name, values in found.items()}


class _Handler(http.server.BaseHTTPRequestHandler):
    timeout = 10
    server_version = "cleo-email"
    sys_version = ""

    def do_GET(self) -> None:
        assert isinstance(self.server, RedirectListener)
        ours = self.server.take(self.path)
        self.send_response(200 if ours else 404)
        self.send_header("Content-Type", "text/html; charset=utf-8")
        self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(_DONE if ours else _NOT_OURS)

    def log_message(self, format: str, *args: object) -> None:
        """Write nothing: the request line holds the code."""


class RedirectListener(http.server.ThreadingHTTPServer):
    """Waits on 127.0.0.1 for the browser. ``port`` 0 takes any free one. Raises TokenError if it is taken."""

    def __init__(self, port: int = 0) -> None:
        self._address = ""
        self._arrived = threading.Event()
        try:
            super().__init__(("127.0.0.1", port), _Handler)
        except OSError as error:
            raise TokenError(f"port {port} of 127.0.0.1 cannot be used: {error.strerror}") from None
        self.login = BrowserLogin(f"http://127.0.0.1:{self.server_port}/")

    def __enter__(self) -> Self:
        threading.Thread(target=self.serve_forever, name="login", daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.shutdown()
        self.server_close()

    def wait(self, seconds: float) -> str:
        """Return the address that the browser was sent to. Raise TokenError when none came in time."""
        if not self._arrived.wait(seconds):
            raise TokenError("the browser did not come back in time; try again")
        return self._address

    def take(self, path: str) -> bool:
        """Return whether this is the redirect with our state; other local programs can connect too."""
        if len(path) > LONGEST_ADDRESS or not self.login.is_answer(path):
            return False
        self._address = path
        self._arrived.set()
        return True
