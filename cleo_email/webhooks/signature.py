"""``X-Cleo-Signature: t=TIME,v1=HEX``: a webhook that shows that it knows the secret without sending it.

HEX is HMAC-SHA256 over ``TIME.BODY`` (TIME in whole seconds since 1970) with one of EMAIL_WEBHOOK_SECRET.
Several ``v1`` may stand there, while a secret is being changed.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass

from cleo_email.webhooks.base import Unproven, equals_one, hmac_sha256, is_fresh

HEADER = "X-Cleo-Signature"
FRESH_S = 300
REMEMBER_S = 600
_MOST = 10
_WRONG = f"{HEADER} is missing or wrong (EMAIL_WEBHOOK_SECRET)"
_TIME = re.compile(r"[0-9]{1,12}", re.ASCII)
_HEX = re.compile(r"[0-9a-f]{64}", re.ASCII)


@dataclass(frozen=True)
class WebhookSignature:
    """The header of one request; ``read`` checks its form and time, ``verify`` the body."""

    time: str
    values: tuple[str, ...]

    @classmethod
    def read(cls, header: str, now: float) -> WebhookSignature:
        """Raises Unproven for what is malformed or out of time, before any body is looked at."""
        pairs = [part.strip().partition("=") for part in header.split(",")[: _MOST + 2]]
        times = [value for name, _, value in pairs if name == "t"]
        values = tuple(value for name, _, value in pairs if name == "v1" and _HEX.fullmatch(value))
        if len(times) != 1 or not _TIME.fullmatch(times[0]) or not 0 < len(values) <= _MOST:
            raise Unproven(f"{_WRONG}: expected t=SECONDS,v1=HEX")
        if not is_fresh(times[0], now, past_s=FRESH_S, future_s=FRESH_S):
            raise Unproven(f"{HEADER} is more than {FRESH_S} s away from this machine's time")
        return cls(times[0], values)

    def verify(self, body: bytes, secrets: Sequence[str]) -> str:
        """What names this signed request, however its header is spelled. Raises Unproven."""
        message = f"{self.time}.".encode("ascii") + body
        wanted = [hmac_sha256(secret.encode(), message).hex().encode("ascii") for secret in secrets]
        if not any(equals_one(value.encode("ascii"), wanted) for value in self.values):
            raise Unproven(_WRONG)
        return f"signature:{hashlib.sha256(message).hexdigest()}"
