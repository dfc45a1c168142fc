"""What the webhooks of all mail providers have in common.

A request is verified, named (so that a repeated one is recognised) and its mails are extracted:
:mod:`cleo_email.webhooks.handler` calls ``verify``, ``event`` and ``extract`` in this order and stores the
mails. Nothing here depends on the web framework.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, ClassVar, Protocol

from pydantic import SecretStr

from cleo_email.errors import CleoError, UnreadableMessage
from cleo_email.mail.address import a_label, distinct, split_address
from cleo_email.mail.decoding import decode_base64_strict
from cleo_email.mail.model import InboundEmail
from cleo_email.mail.parse import parse
from cleo_email.pipeline.receive import IncomingMail
from cleo_email.scrub import JsonObject, read_json
from cleo_email.webhooks.forms import Form, read_form

HOUR_S = 3600
FUTURE_S = 300  # by how much a provider's clock may run ahead of ours
MAX_ADDRESS = 320
BASIC_CHALLENGE = 'Basic realm="cleo_email", charset="UTF-8"'


class Unproven(CleoError):
    """The request does not prove that it comes from the provider; the text names the setting.

    ``challenge`` is the ``WWW-Authenticate`` that makes it a 401 instead of a 403.
    """

    def __init__(self, message: str, *, challenge: str = "") -> None:
        super().__init__(message)
        self.challenge = challenge


class NotSetUp(Unproven):
    """The secret of this provider is not configured, so that nothing can be proved."""


class Unusable(CleoError):
    """The request is proved, but holds no mail, and sending it again would not help."""


class TooMuch(Unusable):
    """The answer to a fetch has more bytes than ``max_bytes``."""


class NotNow(CleoError):
    """The request cannot be taken now, or not until the operator acts; the provider should repeat it."""

    retry_helps = True


class NoMail(CleoError):
    """The request is proved and valid, but is not about an incoming mail; the text says what it is about."""


class Fetch(Protocol):
    """An HTTPS client for data that a request refers to; see :class:`cleo_email.webhooks.fetch.Https`."""

    def __call__(self, url: str, *, headers: Mapping[str, str], max_bytes: int) -> bytes:
        """Return the body that a GET of ``url`` gives. Raise NotNow, TooMuch or Unusable."""


@dataclass(frozen=True)
class WebhookRequest:
    """One request of a provider: header names in lower case, ``now`` in seconds since 1970."""

    headers: Mapping[str, str] = field(repr=False)
    query: Mapping[str, str] = field(repr=False)
    now: float
    body: bytes = field(default=b"", repr=False)

    def header(self, name: str) -> str:
        return self.headers.get(name, "")

    @cached_property
    def form(self) -> Form:
        """Return the fields of a form; there are none where the body is no form."""
        return read_form(self.header("content-type"), self.body)

    def short_fields(self, *names: str) -> Form:
        """Return only these fields of a form, and only short ones: nothing else is decoded."""
        return read_form(self.header("content-type"), self.body, only=names)

    @cached_property
    def json(self) -> JsonObject:
        """Return the object that the body is, or raise Unusable."""
        return json_object(self.body, "the request")


Mails = Sequence[IncomingMail]


class WebhookProvider(ABC):
    """A mail provider with all its valid ``secrets``; ``setting`` is the variable that they come from.

    ``gives_up_with`` is the status on which the provider stops sending a request that can never be used.
    ``unset_status`` is the answer while no secret is set: 503, or another status on which the provider tries
    again for hours, as most drop or bounce the mail on any 4xx.
    ``signs_body``: the proof covers the body, which must therefore be read before ``verify``.
    ``fresh_s``: for how many seconds a signature counts. ``remember_s``: for how many seconds the provider
    may repeat a request. ``same_for_s`` is that of :class:`IncomingMail`. ``max_body``: octets of a request
    that is read before anything is proved and is never as large as a mail, None for any other.
    """

    name: ClassVar[str]
    setting: ClassVar[str]
    gives_up_with: ClassVar[int] = 422
    unset_status: ClassVar[int] = 503
    signs_body: ClassVar[bool] = True
    fresh_s: ClassVar[int] = 300
    remember_s: ClassVar[int]
    same_for_s: ClassVar[int | None] = None
    max_body: ClassVar[int | None] = None

    def __init__(
        self, secrets: Sequence[SecretStr], fetch: Fetch, api_key: SecretStr | None = None, max_bytes: int = 0
    ) -> None:
        """``max_bytes`` bounds what is fetched of one mail, for which ``api_key`` may be needed."""
        self._secrets = [secret.get_secret_value().encode() for secret in secrets]
        self._fetch = fetch
        self._api_key = api_key.get_secret_value() if api_key else ""
        self._max_bytes = max_bytes

    @property
    def is_set_up(self) -> bool:
        return bool(self._secrets)

    def require_secret(self) -> None:
        """Raise NotSetUp where nothing can be proved, so that nothing need be read."""
        if not self.is_set_up:
            raise NotSetUp(f"no {self.setting} is set: mail by {self.name} is not taken")

    def verify(self, request: WebhookRequest) -> None:
        """Raise NotSetUp or Unproven, or NotNow where the proof cannot be checked at this moment."""
        self.require_secret()
        self.prove(request)

    @abstractmethod
    def prove(self, request: WebhookRequest) -> None:
        """Check the proof against the secrets, of which there is one at least. Raise Unproven or NotNow."""

    def event(self, request: WebhookRequest) -> str:
        """Return an id of this request, unique for the provider, '' for none. Raise Unusable."""
        return hashlib.sha256(request.body).hexdigest()

    @abstractmethod
    def extract(self, request: WebhookRequest) -> Mails:
        """Return the mails in a proved request. Raise NoMail, Unusable or NotNow."""

    def unsigned(self) -> Unproven:
        """Return the exception for a request whose signature is not right."""
        return Unproven(f"the signature is missing or wrong ({self.setting})")

    def mail(self, source: bytes, sender: object, recipient: str, **facts: Any) -> IncomingMail:
        """Return a mail; a ``sender`` that is no text counts as unknown. ``facts`` are further fields."""
        path = bare_path(sender) if isinstance(sender, str) else None
        facts |= {"envelope_from": path, "envelope_to": bare_path(recipient)}
        return IncomingMail(source, self.name, same_for_s=self.same_for_s, **facts)


class BasicProvider(WebhookProvider):
    """A provider that logs in with ``user:password`` on every request (RFC 7617)."""

    signs_body = False

    def prove(self, request: WebhookRequest) -> None:
        scheme, _, written = request.header("authorization").strip().partition(" ")
        given = self.credentials(scheme.lower(), written.strip())
        if given is None or not equals_one(given, self._secrets):
            text = f"user, password or token is missing or wrong ({self.setting})"
            raise Unproven(text, challenge=BASIC_CHALLENGE)

    def credentials(self, scheme: str, written: str) -> bytes | None:
        """Return ``user:password`` as an ``Authorization`` header has it, None where there is none."""
        return decoded(written) if scheme == "basic" else None


# --- proofs: every comparison in constant time, every valid secret tried ----------------------------------


def equals_one(given: bytes, secrets: Iterable[bytes]) -> bool:
    """Return whether ``given`` is one of ``secrets``, in a time that does not depend on which one."""
    return sum(hmac.compare_digest(given, secret) for secret in secrets) > 0


def decoded(text: str) -> bytes | None:
    """Return the bytes of strict base64, None for anything else."""
    try:
        return decode_base64_strict(text)
    except ValueError:
        return None


def require_fresh(timestamp: str, now: float, *, past_s: int) -> None:
    """Raise Unproven unless ``timestamp`` (seconds since 1970) is at most ``past_s`` old, FUTURE_S ahead."""
    if re.fullmatch(r"[0-9]{1,12}", timestamp) is None or not -past_s <= int(timestamp) - now <= FUTURE_S:
        raise Unproven("the signature is too old, or this machine's clock is wrong")


@dataclass(frozen=True)
class WebhookSignature:
    """``X-Cleo-Signature: t=TIME,v1=HEX`` of a caller that proves it knows the secret without sending it.

    HEX is HMAC-SHA256 over ``TIME.BODY`` (TIME in whole seconds since 1970) with one of EMAIL_WEBHOOK_SECRET.
    There may be several ``v1`` while a secret is being changed.
    """

    HEADER: ClassVar[str] = "X-Cleo-Signature"
    FRESH_S: ClassVar[int] = 300
    REMEMBER_S: ClassVar[int] = 600
    WRONG: ClassVar[str] = "X-Cleo-Signature is missing or wrong (EMAIL_WEBHOOK_SECRET)"
    time: str
    values: tuple[str, ...]

    @classmethod
    def read(cls, header: str, now: float) -> WebhookSignature:
        """Raise Unproven for what is malformed or out of time, before any body is read."""
        pairs = [part.strip().partition("=") for part in header.split(",")[:12]]
        times = [value for name, _, value in pairs if name == "t"]
        values = [value for name, _, value in pairs if name == "v1" and re.fullmatch("[0-9a-f]{64}", value)]
        if len(times) != 1 or not 0 < len(values) <= 10:
            raise Unproven(f"{cls.WRONG}: expected t=SECONDS,v1=HEX")
        require_fresh(times[0], now, past_s=cls.FRESH_S)
        return cls(times[0], tuple(values))

    def verify(self, body: bytes, secrets: Sequence[str]) -> str:
        """Return an id of this signed request that does not depend on the header's form. Raise Unproven."""
        message = f"{self.time}.".encode("ascii") + body
        wanted = [hmac.digest(secret.encode(), message, "sha256").hex().encode() for secret in secrets]
        if not any(equals_one(value.encode("ascii"), wanted) for value in self.values):
            raise Unproven(self.WRONG)
        return f"signature:{hashlib.sha256(message).hexdigest()}"


# --- values, which a provider or a stranger wrote ---------------------------------------------------------


def json_object(data: bytes | str, what: str) -> JsonObject:
    """Return the JSON object in ``data``; raise Unusable, which names it ``what``, for anything else."""
    try:
        value = read_json(data)
    except ValueError as error:
        raise Unusable(f"{what}: {error}") from None
    if not isinstance(value, dict):
        raise Unusable(f"{what} is no JSON object")
    return JsonObject(value)


def base64_content(text: str, what: str) -> bytes:
    """Return the decoded ``text``; raise Unusable, which names it ``what``, where it is no base64."""
    if (data := decoded(text)) is None:
        raise Unusable(f"{what} is no base64")
    return data


def bare_path(value: str) -> str:
    """Return an address of the envelope without its angle brackets; '' is the null sender."""
    return value.strip().strip("<>").strip()[:MAX_ADDRESS]


def return_path(headers: Iterable[tuple[str, str]]) -> str | None:
    """Return the topmost Return-Path, which the last server wrote (RFC 5321 section 4.4), None for none."""
    return next((value for name, value in headers if name.lower() == "return-path"), None)


# --- the sender's domain ----------------------------------------------------------------------------------
#
# The provider's verdict on the sender becomes ``IncomingMail.authenticated``: True if it says that the domain
# of the one From mailbox sent this mail (a pass that DMARC would accept, RFC 7489 section 3.1), False if it
# says the contrary, None without a verdict. A pass in the mail's own headers is ignored: they may be forged.


def header_of(source: bytes) -> bytes:
    """Return the header block of a mail, with its blank line."""
    end = re.search(rb"\r\n\r\n|\n\n", source)
    return source[: end.end()] if end else source


def read_header(source: bytes) -> InboundEmail:
    """Return a mail's header alone, an empty one where it is too large (such mail is quarantined later)."""
    try:
        return parse(header_of(source))
    except UnreadableMessage:
        return InboundEmail()


def from_domain(source: bytes) -> str:
    """Return the domain of the one From mailbox in A-labels; '' with two mailboxes or two From headers."""
    mail = read_header(source)
    writers = distinct([address.addr for address in mail.from_])
    parts = split_address(writers[0]) if len(writers) == 1 else None
    return parts[1] if parts and len(mail.header_all("from")) == 1 else ""


def aligned(source: bytes, passed: Iterable[str]) -> bool | None:
    """Return True if one of the domains that passed SPF or DKIM is the sender's, else None: no proof.

    A sub-domain is another domain, as only the public suffix list says who owns it.
    """
    domain = from_domain(source)
    return True if domain and domain in {a_label(one) for one in passed} else None
