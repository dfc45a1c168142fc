"""What every provider's webhook has in common: a request is proved, named, and made a mail of.

``verify`` -> ``event`` -> ``extract``: :mod:`cleo_email.webhooks.handler` calls them in this order and hands
the mails on. Nothing here knows of the web framework.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import json
import re
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, ClassVar

from cleo_email.errors import CleoError
from cleo_email.mail.decoding import decode_base64_strict
from cleo_email.pipeline.receive import IncomingMail
from cleo_email.webhooks.forms import Form, read_form

HOUR_S = 3600
FUTURE_S = 300  # by how much a provider's clock may run ahead of ours
MAX_ADDRESS = 320
BASIC_CHALLENGE = 'Basic realm="cleo_email", charset="UTF-8"'


class Unproven(CleoError):
    """The request does not show that it comes from the provider; the text names the setting.

    ``challenge`` is the ``WWW-Authenticate`` that makes it a 401 instead of a 403.
    """

    def __init__(self, message: str, *, challenge: str = "") -> None:
        super().__init__(message)
        self.challenge = challenge


class NotSetUp(Unproven):
    """The secret of this provider is not configured: nothing can be proved."""


class Unusable(CleoError):
    """The request is proved, but holds no mail, and sending it again would not help."""


class NotNow(CleoError):
    """The request cannot be taken at this moment, or not until the operator acts; it is to be sent again."""

    retry_helps = True


@dataclass(frozen=True)
class WebhookRequest:
    """One request of a provider: header names in lower case, ``now`` in seconds since 1970."""

    headers: Mapping[str, str] = field(repr=False)
    query: Mapping[str, str] = field(repr=False)
    now: float
    body: bytes = field(default=b"", repr=False)

    def header(self, name: str) -> str:
        return self.headers.get(name, "")

    def with_body(self, body: bytes) -> WebhookRequest:
        return replace(self, body=body)

    @cached_property
    def form(self) -> Form:
        """The fields of a form; none where the body is no form."""
        return read_form(self.header("content-type"), self.body)

    @cached_property
    def json(self) -> JsonObject:
        """The object that the body is. Raises Unusable."""
        return json_object(self.body, "the request")

    @cached_property
    def digest(self) -> str:
        """A name for the request where the provider gives none: its body."""
        return hashlib.sha256(self.body).hexdigest()


@dataclass(frozen=True)
class Extracted:
    """The mails of a request, usually one; ``note`` says why there is none."""

    arrivals: tuple[IncomingMail, ...] = ()
    note: str = ""


class WebhookProvider(ABC):
    """A mail provider, with all its live ``secrets``; ``setting`` is the variable that they come from.

    ``gives_up_with`` is the status on which the provider stops sending a request that is of no use.
    ``unset_status`` answers while there is no secret, which is our fault: 503, or another one on which the
    provider tries again for hours. Most drop or bounce the mail on any 4xx.
    ``signs_body``: the proof covers the body, which is therefore read first. ``remember_s``: for how long the
    provider may repeat a request, in seconds.
    """

    name: ClassVar[str]
    setting: ClassVar[str]
    gives_up_with: ClassVar[int] = 422
    unset_status: ClassVar[int] = 503
    signs_body: ClassVar[bool] = True
    remember_s: ClassVar[int]

    def __init__(self, secrets: Sequence[str]) -> None:
        self._secrets = [secret.encode() for secret in secrets]

    @property
    def is_set_up(self) -> bool:
        """Whether there is a secret; without one ``verify`` raises NotSetUp."""
        return bool(self._secrets)

    def verify(self, request: WebhookRequest) -> None:
        """Raises NotSetUp or Unproven, or NotNow where the proof cannot be checked at this moment."""
        if not self.is_set_up:
            raise NotSetUp(f"no {self.setting} is set: mail by {self.name} is not taken")
        self.prove(request)

    @abstractmethod
    def prove(self, request: WebhookRequest) -> None:
        """Look at the proof; there is a secret. Raises Unproven, NotNow."""

    @abstractmethod
    def event(self, request: WebhookRequest) -> str:
        """What names this request among all of the provider's, '' for nothing. Raises Unusable."""

    @abstractmethod
    def extract(self, request: WebhookRequest) -> Extracted:
        """The mails in a proved request. Raises Unusable or NotNow."""


class BasicProvider(WebhookProvider):
    """A provider that logs in with ``user:password`` on every request (RFC 7617)."""

    signs_body: ClassVar[bool] = False

    def prove(self, request: WebhookRequest) -> None:
        given = self.credentials(request.header("authorization"))
        if given is None or not equals_one(given, self._secrets):
            text = f"user, password or token is missing or wrong ({self.setting})"
            raise Unproven(text, challenge=BASIC_CHALLENGE)

    def credentials(self, authorization: str) -> bytes | None:
        """``user:password`` of an ``Authorization``, None where there is none."""
        scheme, _, coded = authorization.strip().partition(" ")
        return decoded(coded.strip()) if scheme.lower() == "basic" else None


# --- proofs: every comparison in constant time, every live secret tried -----------------------------------


def equals_one(given: bytes, secrets: Iterable[bytes]) -> bool:
    """Whether ``given`` is one of ``secrets``; takes as long for the first as for none."""
    found = False
    for secret in secrets:
        found |= hmac.compare_digest(given, secret)
    return found


def hmac_sha256(secret: bytes, message: bytes) -> bytes:
    return hmac.new(secret, message, hashlib.sha256).digest()


def decoded(text: str) -> bytes | None:
    """Strict base64, None for anything else."""
    try:
        return base64.b64decode(text.encode("ascii"), validate=True)
    except (UnicodeEncodeError, binascii.Error, ValueError):
        return None


def is_fresh(timestamp: str, now: float, *, past_s: int, future_s: int = FUTURE_S) -> bool:
    """Whether whole seconds since 1970 lie between ``past_s`` ago and ``future_s`` ahead."""
    if not re.fullmatch(r"[0-9]{1,12}", timestamp, re.ASCII):
        return False
    return -past_s <= int(timestamp) - now <= future_s


def require_fresh(timestamp: str, now: float, *, past_s: int) -> None:
    """Raises Unproven for a signature of another time."""
    if not is_fresh(timestamp, now, past_s=past_s):
        raise Unproven("the signature is too old, or this machine's clock is wrong")


# --- what a provider, or a stranger, wrote ----------------------------------------------------------------


class JsonObject(dict[str, Any]):
    """A JSON object in which a value of another type than the expected one counts as absent."""

    def text(self, name: str) -> str:
        value = self.get(name)
        return value if isinstance(value, str) else ""

    def list(self, name: str) -> list[Any]:
        value = self.get(name)
        return value if isinstance(value, list) else []

    def texts(self, name: str) -> Sequence[str]:
        return [item for item in self.list(name) if isinstance(item, str)]

    def object(self, name: str) -> JsonObject:
        value = self.get(name)
        return JsonObject(value) if isinstance(value, dict) else JsonObject()

    def objects(self, name: str) -> Sequence[JsonObject]:
        """The objects of a list that are not empty."""
        return [JsonObject(item) for item in self.list(name) if item and isinstance(item, dict)]


def json_object(data: bytes | str, what: str) -> JsonObject:
    """Raises Unusable for anything but a JSON object."""
    try:
        value = json.loads(data)
    except (ValueError, RecursionError):
        raise Unusable(f"{what} is no JSON, or nested too deeply") from None
    if not isinstance(value, dict):
        raise Unusable(f"{what} is no JSON object")
    return JsonObject(value)


def json_field(form: Form, name: str) -> JsonObject:
    """The JSON object in a field that only adds to the mail; an empty one where it is none."""
    try:
        return json_object(form.text(name), name)
    except Unusable:
        return JsonObject()


def base64_content(text: str, what: str) -> bytes:
    """Raises Unusable for what is no base64."""
    try:
        return decode_base64_strict(text)
    except ValueError:
        raise Unusable(f"{what} is no base64") from None


def bare_path(value: str) -> str:
    """An address of the envelope without its angle brackets; '' is the null sender."""
    return value.strip().strip("<>").strip()[:MAX_ADDRESS]


def return_path(headers: Iterable[tuple[str, str]]) -> str | None:
    """The envelope sender from the topmost Return-Path, which the last server wrote (RFC 5321 section 4.4):
    '' for the null sender, None where there is no such header."""
    paths = (value for name, value in headers if name.lower() == "return-path")
    path = next(paths, None)
    return bare_path(path) if path is not None else None


def as_bytes(text: str) -> bytes:
    """Mail that travelled as text. Lone surrogates, which no byte stands for, become question marks."""
    return text.encode("utf-8", "replace")
