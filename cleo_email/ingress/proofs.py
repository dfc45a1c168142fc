"""Checks that a request knows a secret: every comparison in constant time, every live secret tried."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import re
from collections.abc import Iterable

FUTURE_S = 300  # by how much a provider's clock may run ahead of ours


def equals_one(given: bytes, secrets: Iterable[bytes]) -> bool:
    """Whether ``given`` is one of ``secrets``; takes as long for the first as for none."""
    found = False
    for secret in secrets:
        found |= hmac.compare_digest(given, secret)
    return found


def basic_pair(authorization: str) -> bytes | None:
    """``user:password`` of a Basic ``Authorization`` (RFC 7617), None where it is none."""
    scheme, _, coded = authorization.strip().partition(" ")
    if scheme.lower() != "basic":
        return None
    return decoded(coded.strip())


def decoded(text: str) -> bytes | None:
    """Strict base64, None for anything else."""
    try:
        return base64.b64decode(text.encode("ascii"), validate=True)
    except (UnicodeEncodeError, binascii.Error, ValueError):
        return None


def hmac_sha256(secret: bytes, message: bytes) -> bytes:
    return hmac.new(secret, message, hashlib.sha256).digest()


def is_fresh(timestamp: str, now: float, *, past_s: int, future_s: int = FUTURE_S) -> bool:
    """Whether whole seconds since 1970 lie between ``past_s`` ago and ``future_s`` ahead."""
    if not re.fullmatch(r"[0-9]{1,12}", timestamp, re.ASCII):
        return False
    return -past_s <= int(timestamp) - now <= future_s
