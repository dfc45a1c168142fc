"""What every provider's ingress has in common: a request is proved, named, and made a mail of.

``verify`` -> ``event`` -> ``extract``; :mod:`cleo_email.ingress.receiving` calls them in this order and hands
what comes out to the intake. Nothing here knows of the web framework.
"""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, ClassVar

from cleo_email.errors import CleoError
from cleo_email.ingress.forms import Form, read_form
from cleo_email.intake import Arrival


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
    """Proved, but no mail can be made of it and sending it again would not help."""


class NotNow(CleoError):
    """It could not be taken at this moment, or not until the operator acts; it is to be sent again."""

    retry_helps = True


@dataclass(frozen=True)
class Posted:
    """One request: header names in lower case, ``now`` in seconds since 1970."""

    headers: Mapping[str, str] = field(repr=False)
    query: Mapping[str, str] = field(repr=False)
    now: float
    body: bytes = field(default=b"", repr=False)

    def header(self, name: str) -> str:
        return self.headers.get(name, "")

    def with_body(self, body: bytes) -> Posted:
        return replace(self, body=body)

    @cached_property
    def form(self) -> Form:
        """The fields of a form; none where the body is no form."""
        return read_form(self.header("content-type"), self.body)

    @cached_property
    def json(self) -> dict[str, Any]:
        """The object that the body is. Raises Unusable."""
        return json_object(self.body, "the request")


@dataclass(frozen=True)
class Extracted:
    """The mails of a request, usually one; ``note`` says why there is none."""

    arrivals: tuple[Arrival, ...] = ()
    note: str = ""


class Ingress(ABC):
    """One provider. ``gives_up_with`` is the status on which it stops sending a request that is of no use.

    ``unset_status`` answers while its secret is not set, which is our fault: 503, or another one on which it
    tries again for hours. Most drop or bounce the mail on any 4xx.
    ``signs_body``: the proof covers the body, which is therefore read first. ``remember_s``: for how long the
    provider may repeat a request, in seconds.
    """

    name: ClassVar[str]
    gives_up_with: ClassVar[int] = 422
    unset_status: ClassVar[int] = 503
    signs_body: ClassVar[bool] = True
    remember_s: ClassVar[int]

    @property
    @abstractmethod
    def is_set_up(self) -> bool:
        """Whether there is a secret; without one ``verify`` raises NotSetUp."""

    @property
    @abstractmethod
    def unset(self) -> str:
        """What to tell while there is none: the setting, and that no mail is taken."""

    def verify(self, posted: Posted) -> None:
        """Raises NotSetUp or Unproven, or NotNow where the proof cannot be checked at this moment."""
        if not self.is_set_up:
            raise NotSetUp(self.unset)
        self.prove(posted)

    @abstractmethod
    def prove(self, posted: Posted) -> None:
        """Look at the proof; there is a secret. Raises Unproven, NotNow."""

    @abstractmethod
    def event(self, posted: Posted) -> str:
        """What names this request among all of the provider's, '' for nothing. Raises Unusable."""

    @abstractmethod
    def extract(self, posted: Posted) -> Extracted:
        """The mails in a proved request. Raises Unusable or NotNow."""


def json_object(data: bytes | str, what: str) -> dict[str, Any]:
    """Raises Unusable for anything but a JSON object."""
    try:
        value = json.loads(data)
    except (ValueError, RecursionError):
        raise Unusable(f"{what} is no JSON, or nested too deeply") from None
    if not isinstance(value, dict):
        raise Unusable(f"{what} is no JSON object")
    return value


def text_of(value: object) -> str:
    """A string as it is, anything else as ''."""
    return value if isinstance(value, str) else ""


def object_of(value: object) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def list_of(value: object) -> list[Any]:
    return value if isinstance(value, list) else []


def return_path(headers: Iterable[tuple[str, str]]) -> str | None:
    """The envelope sender from the topmost Return-Path, which the last server wrote (RFC 5321 section 4.4):
    '' for the null sender, None where there is no such header."""
    paths = (value for name, value in headers if name.lower() == "return-path")
    path = next(paths, None)
    return path.strip().strip("<>").strip()[:320] if path is not None else None


def as_bytes(text: str) -> bytes:
    """Mail that travelled as text. Lone surrogates, which no byte stands for, become question marks."""
    return text.encode("utf-8", "replace")
