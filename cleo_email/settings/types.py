"""The kinds of values that the environment holds, and how each is read."""

from __future__ import annotations

import base64
import binascii
import ipaddress
import re
from email.utils import getaddresses
from typing import Annotated, Any
from urllib.parse import urlsplit

from pydantic import BeforeValidator, Field, SecretStr
from redis.connection import parse_url

from cleo_email.mail.model import Address


def read_csv(value: object) -> object:
    if isinstance(value, str):
        return tuple(part.strip() for part in value.split(",") if part.strip())
    return value


def read_secrets(value: object) -> object:
    """Several, while one is replaced; what holds none at all is no way to switch a check off."""
    parts = read_csv(value)
    if isinstance(value, str) and not parts:
        raise ValueError("no secret")
    return parts


def read_address(value: object) -> object:
    if not isinstance(value, str):
        return value
    found = getaddresses([value])
    if len(found) != 1:
        raise ValueError("not one address")
    name, addr = found[0]
    local, _, domain = addr.rpartition("@")
    if not local or not domain or any(ord(c) < 33 or ord(c) > 126 for c in addr) or "\n" in value:
        raise ValueError("no address")
    return Address(addr, name)


def read_host(value: object) -> object:
    """A name or an address: no URL, no port behind it (that has a setting of its own)."""
    if isinstance(value, str):
        if ":" in value:
            ipaddress.ip_address(value)  # raises ValueError
        if any(ord(c) < 33 or c in "/@,;" for c in value):
            raise ValueError("no host")
    return value


def read_word(value: object) -> object:
    if isinstance(value, str) and any(ord(c) < 33 or c == ";" for c in value):
        raise ValueError("more than a word")
    return value


def read_flag(value: object) -> object:
    words = {"1": True, "true": True, "yes": True, "0": False, "false": False, "no": False}
    if isinstance(value, str):
        if value.lower() not in words:
            raise ValueError(value)
        return words[value.lower()]
    return value


def read_patterns(value: object) -> object:
    parts = read_csv(value)
    if isinstance(parts, tuple):
        for part in parts:
            local, at, domain = part.rpartition("@")
            if not at or not domain or " " in part or "@" in local or "*" in part:
                raise ValueError(part)
        # Not casefold: it takes "straße.de" to "strasse.de", which belongs to somebody else.
        return tuple(part.lower() for part in parts)
    return parts


def read_redis_url(value: object) -> object:
    if isinstance(value, str):
        parts = urlsplit(value)
        if parts.scheme not in {"redis", "rediss", "unix"} or not (parts.netloc or parts.path.strip("/")):
            raise ValueError("scheme")
        if parts.scheme != "unix" and not re.fullmatch(r"/?|/\d+", parts.path):
            raise ValueError("the database is no number")
        # Raises ValueError on nonsense, in the port, the database or an option.
        parse_url(value)  # type: ignore[no-untyped-call]
    return value


def read_secret_keys(value: object) -> object:
    """Fernet keys: 32 bytes in URL-safe base64; several, separated by commas, while one is replaced."""
    parts = read_csv(value)
    if isinstance(value, str) and isinstance(parts, tuple):
        for part in parts:
            try:
                key = base64.b64decode(part.replace("-", "+").replace("_", "/"), validate=True)
            except (binascii.Error, ValueError):
                raise ValueError("no base64") from None
            if len(key) != 32:
                raise ValueError("not 32 bytes")
    return parts


def read_https_url(value: object) -> object:
    """Tokens and secrets travel there: in clear only within this machine."""
    if isinstance(value, str):
        parts = urlsplit(value)
        _ = parts.port  # raises ValueError on nonsense
        plain = parts.scheme == "http" and _is_loopback(parts.hostname or "")
        if not parts.hostname or not (parts.scheme == "https" or plain) or any(ord(c) < 33 for c in value):
            raise ValueError("no https")
    return value


def _is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def read_lower(value: object) -> object:
    return value.lower() if isinstance(value, str) else value


PORT = "a whole number from 1 to 65535"
Port = Annotated[int, Field(ge=1, le=65535)]
Csv = Annotated[tuple[str, ...], BeforeValidator(read_csv)]
Secrets = Annotated[tuple[SecretStr, ...], BeforeValidator(read_secrets)]
Patterns = Annotated[tuple[str, ...], BeforeValidator(read_patterns)]
Flag = Annotated[bool, BeforeValidator(read_flag)]
SecretKeys = Annotated[tuple[SecretStr, ...], BeforeValidator(read_secret_keys)]
HttpsUrl = Annotated[str, BeforeValidator(read_https_url)]
Host = Annotated[str, BeforeValidator(read_host)]
Word = Annotated[str, BeforeValidator(read_word)]
Positive = Annotated[int, Field(ge=1, le=2**53)]
WHOLE = "a whole number from 1"
FLAG = "0 or 1"
HTTPS = "a URL that begins with https://"
A_KEY = (
    "32 random bytes in URL-safe base64, made with: python3 -c 'import base64, os; "
    "print(base64.urlsafe_b64encode(os.urandom(32)).decode())'"
)
LIST = (
    "addresses and @domains, separated by commas, such as anna@example.com,@example.org "
    "(everybody at firma.de is @firma.de, without a *)"
)


def env(name: str, expected: str, default: Any = None) -> Any:
    return Field(default=default, alias=name, description=expected)
