"""An agent behind an HTTP URL, and JSON asked and answered over HTTP."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from urllib.parse import urljoin

from pydantic_core import to_json

from cleo_email.agents.base import AgentRequest, final_answer
from cleo_email.errors import AgentError, AgentUnavailable, SettingsError
from cleo_email.http import (
    MAX_ANSWER_BYTES,
    AnswerTooLarge,
    HttpAnswer,
    HttpClient,
    NotHttp,
    TlsFailed,
    UntrustedCertificate,
    web_address,
)
from cleo_email.mail.model import Answer
from cleo_email.runtime import Deadline
from cleo_email.scrub import one_line

_CERTIFICATE = "its certificate is not trusted ({}); SSL_CERT_FILE names a CA of one's own"


class JsonService:
    """One URL that takes and gives JSON.

    :param secrets: strings that no reason may show, should the other side repeat them.
    :param key_variable: the setting to look at when the server says 401 or 403.
    :param url_variable: the setting that has its URL, without ``url_without`` at the end of that.
    """

    def __init__(
        self,
        client: HttpClient,
        *,
        secrets: Iterable[str],
        key_variable: str,
        url_variable: str,
        url_without: str = "",
    ) -> None:
        self._client = client
        # The longest first: "Bearer x" before "x".
        self._secrets = sorted({secret for secret in secrets if secret}, key=len, reverse=True)
        self._key_variable = key_variable
        self._url_variable, self._url_without = url_variable, url_without

    def __str__(self) -> str:
        return str(self._client.address)

    def ask(self, body: bytes, request_id: str, deadline: Deadline) -> object:
        """The JSON value that ``body`` is answered with.

        :raises AgentUnavailable: asking again can help.
        :raises AgentError: it cannot.
        """
        answer = self._post(body, request_id, deadline)
        if not 200 <= answer.status < 300:
            raise self.refusal(answer.status, _error_text(answer), answer.headers)
        return self._json(answer)

    def refusal(self, status: int, text: str, headers: Mapping[str, str] | None = None) -> AgentError:
        """The error for an HTTP status that is no success; ``text`` is what the server says about it."""
        # A path is shown where it is what is wrong; a query never, it is the usual place of a key.
        path = self.shown(self._client.address.path) if status in (404, 405) else ""
        reason = f"{self}{path} answered {status}"
        if 300 <= status < 400:
            whereto, hint = self._whereto(headers or {})
            return AgentError(f"{reason}, a redirect{whereto}, which is not followed{hint}")
        if status in (401, 403):
            reason += f" (look at {self._key_variable})"
        if said := self.shown(text):
            reason += f": {said}"
        temporary = status == 429 or status >= 500
        return AgentUnavailable(reason) if temporary else AgentError(reason)

    def _whereto(self, headers: Mapping[str, str]) -> tuple[str, str]:
        """Where a redirect leads to, without what is secret in it, and what to do about it."""
        location, own = headers.get("location", "").strip(), self._client.address
        if not location:
            return "", ""
        try:
            target = web_address("Location", urljoin(f"{own}{own.path}", location))
        except (SettingsError, ValueError):
            return "", ""
        without = f" without {self._url_without}" if self._url_without else ""
        return f" to {self.shown(f'{target}{target.path}')}", f"; set {self._url_variable} to it{without}"

    def shown(self, text: str) -> str:
        """Foreign text as a reason may show it."""
        return one_line(text, without=self._secrets)

    def _post(self, body: bytes, request_id: str, deadline: Deadline) -> HttpAnswer:
        headers = {"Content-Type": "application/json", "Idempotency-Key": request_id}
        try:
            return self._client.post(body, headers, deadline)
        except AnswerTooLarge:
            raise AgentError(f"{self} sent more than {MAX_ANSWER_BYTES // 2**20} MiB") from None
        except UntrustedCertificate as error:
            raise AgentError(f"{self}: {_CERTIFICATE.format(one_line(str(error), 80))}") from None
        except NotHttp as error:
            raise AgentError(f"{self}: {error}") from None
        except TlsFailed as error:
            raise AgentUnavailable(f"{self}: TLS failed ({self.shown(str(error))})") from None
        except OSError as error:
            raise AgentUnavailable(f"{self}: {self.shown(error.strerror or str(error))}") from None

    def _json(self, answer: HttpAnswer) -> object:
        kind = one_line(answer.headers.get("content-type", "").split(";")[0], 40) or "no type"
        size = f"{len(answer.body)} bytes of {kind}"
        encoding = one_line(answer.headers.get("content-encoding", ""), 20)
        if encoding.lower() not in ("", "identity"):
            raise AgentError(f"{self} answered in the encoding {encoding}, which was not asked for")
        if not answer.body.strip():
            raise AgentError(f"{self} answered {answer.status} with an empty body, expected JSON")
        if answer.body.lstrip()[:1] == b"<":
            raise AgentError(f"{self} answered {answer.status} with a web page ({size}), expected JSON")
        try:
            return parsed(answer.body)
        except ValueError as error:
            raise AgentError(f"{self} answered {answer.status} with {size}: {error}") from None


def parsed(body: bytes) -> object:
    """A JSON value.

    :raises ValueError: it is none, or nested too deep; the text says which and shows nothing of it.
    """
    try:
        value: object = json.loads(body)
    except RecursionError:
        raise ValueError("JSON nested too deep") from None
    except ValueError:  # UnicodeDecodeError is one
        raise ValueError("no valid JSON") from None
    return value


def _error_text(answer: HttpAnswer) -> str:
    """``{"error": "text"}`` or ``{"error": {"message": "text"}}``; anything else is not shown."""
    try:
        value = parsed(answer.body)
    except ValueError:
        return ""
    return error_text(value.get("error")) if isinstance(value, Mapping) else ""


def error_text(error: object) -> str:
    if isinstance(error, Mapping):
        error = error.get("message")
    return error if isinstance(error, str) else ""


class HttpAgent:
    """POSTs each request to one URL. Keeps no state between calls."""

    def __init__(self, service: JsonService) -> None:
        self._service = service

    def __repr__(self) -> str:
        return str(self._service)

    def answer(self, request: AgentRequest, *, deadline: float) -> Answer:
        """See :class:`~cleo_email.agents.protocol.Agent`."""
        limit = Deadline(deadline)
        # Straight to bytes: a request with attachments is large, and each copy of it counts fifty times.
        return final_answer(self._service.ask(to_json(request), request.id, limit))
