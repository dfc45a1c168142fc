"""A person logs in on another device: the device authorization grant (RFC 8628), which Microsoft offers."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

from cleo_email.agents.words import one_line
from cleo_email.errors import TokenError, TokenUnavailable
from cleo_email.oauth.client import OAuthClient
from cleo_email.oauth.endpoint import Endpoint, Refused, Tokens

GRANT = "urn:ietf:params:oauth:grant-type:device_code"
INTERVAL_S = 5  # where the server names none (RFC 8628 section 3.2)
SLOWER_S = 5  # and what slow_down adds (section 3.5)
LONGEST_S = 3600


def log_in(
    client: OAuthClient,
    device: Endpoint,
    token: Endpoint,
    say: Callable[[str], None],
    *,
    sleep: Callable[[float], None] = time.sleep,
    monotonic: Callable[[], float] = time.monotonic,
) -> Tokens:
    """Ask for a code, ``say`` where it is to be entered, wait until that has happened.

    Raises TokenError (refused, or not in time) and TokenUnavailable.
    """
    offer = device.ask({"client_id": client.client_id, "scope": client.scope})
    code, user_code, place = (_text(offer, name) for name in ("device_code", "user_code", "verification_uri"))
    place = place or _text(offer, "verification_url")
    if not code or not user_code or not place.startswith(("https://", "http://")):
        raise TokenUnavailable(f"{device} sent no code to log in with")
    say(f"Open {one_line(place)} in a browser, on any device, and enter the code {one_line(user_code, 40)}")
    interval = _seconds(offer, "interval", INTERVAL_S)
    until = monotonic() + _seconds(offer, "expires_in", 900)
    form = {
        "grant_type": GRANT,
        "device_code": code,
        "client_id": client.client_id,
        "client_secret": client.client_secret,
    }
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
    raise TokenError("nobody entered the code in time; try again")


def _text(offer: Mapping[str, Any], name: str) -> str:
    value = offer.get(name)
    return value if isinstance(value, str) and value.isascii() and value.isprintable() else ""


def _seconds(offer: Mapping[str, Any], name: str, usual: int) -> int:
    value = offer.get(name)
    return min(value, LONGEST_S) if isinstance(value, int) and value > 0 else usual
