"""An agent behind an HTTP URL, and JSON asked and answered over HTTP."""

import re
import time
from collections.abc import Mapping
from contextlib import suppress
from urllib.parse import urljoin

from pydantic_core import to_json

from cleo_email.agents.base import LATER, AgentRequest, final_answer
from cleo_email.errors import AgentError, AgentUnavailable, SettingsError
from cleo_email.http.address import web_address
from cleo_email.http.client import AnswerTooLarge, HttpAnswer, HttpClient, NotHttp, UntrustedCertificate
from cleo_email.mail.model import Answer
from cleo_email.runtime import Deadline
from cleo_email.scrub import JsonObject, one_line, read_json

OF_A_PROXY = frozenset({502, 503, 504, 524})
PATIENT_S = 25.0  # no proxy gives up earlier
# Up to how many seconds it may have been which proxy's limit.
_PROXIES = (
    (45.0, "Heroku's router gives up after 30 s"),
    (90.0, "nginx gives up after 60 s"),
    (float("inf"), "Cloudflare gives up after 100 s"),
)


def proxy_limit(status: int, seconds: float) -> str:
    """Return which proxy may have given up after so long, and what helps; '' where none is likely."""
    if status not in OF_A_PROXY or seconds < PATIENT_S:
        return ""
    whose = next(words for until, words in _PROXIES if seconds < until)
    return (
        f"that was after {seconds:.0f} s, perhaps the limit of a proxy in between ({whose}): "
        "an agent that takes so long answers 202 and calls back, see docs/agents.md"
    )


class JsonService:
    """One URL that takes and gives JSON; SettingsError where it, the key or ``environ`` cannot be used.

    ``variable`` and ``key_variable`` name the settings of ``url`` (``path`` is added to it) and ``key``.
    """

    def __init__(
        self, variable: str, url: str, key_variable: str, key: str, environ: Mapping[str, str], path: str = ""
    ) -> None:
        address = web_address(variable, url, path)
        fault = ""
        if key and not re.fullmatch(r"[!-~]+", key):
            fault = f"{key_variable}: found a character that no header carries, expected printable ASCII"
        elif key and address.basic:
            fault = f"{variable}: found a user and password beside {key_variable}, expected one of the two"
        if fault:
            raise SettingsError([fault])
        authorization = f"Bearer {key}" if key else address.basic
        self._client = HttpClient(address, environ, authorization=authorization)
        self._variable, self._path, self._key_variable = variable, path, key_variable
        # Secrets that no error may show if the server repeats them; the longest first: "Bearer x" before "x".
        self._secrets = sorted((authorization, key, *address.secrets), key=len, reverse=True)

    def __str__(self) -> str:
        return str(self._client.address)

    def ask(
        self, body: bytes, request_id: str, deadline: Deadline, *, accepted: object | None = None
    ) -> object:
        """Return the JSON value of the answer to ``body``, or raise as an agent does.

        With ``accepted`` that is returned where the server answers 202 (RFC 9110 section 15.3.3).
        """
        begun = time.monotonic()
        answer = self._post(body, request_id, deadline)
        if answer.status == 202 and accepted is not None:
            return accepted
        if not 200 <= answer.status < 300:
            error = None  # an error in another form than JSON is not shown
            with suppress(ValueError):
                error = JsonObject.of(read_json(answer.body)).get("error")
            fault = self.refusal(answer.status, error, answer.headers)
            limit = proxy_limit(answer.status, time.monotonic() - begun) if accepted is not None else ""
            raise AgentUnavailable(f"{fault}; {limit}") if limit else fault
        return self._json(answer)

    def _post(self, body: bytes, request_id: str, deadline: Deadline) -> HttpAnswer:
        headers = {"Content-Type": "application/json", "Idempotency-Key": request_id}
        try:
            return self._client.post(body, headers, deadline)
        except UntrustedCertificate as error:
            why = f"its certificate is not trusted ({one_line(str(error), 80)})"
            raise AgentError(f"{self}: {why}; {error.advice}") from None
        except (AnswerTooLarge, NotHttp) as error:
            raise AgentError(f"{self}: {error}") from None
        except OSError as error:
            why = self._shown(error.strerror or str(error))
            way = f" through the proxy {self._client.proxy}" if self._client.proxy else ""
            where = "" if why == deadline.said else f" ({self._variable})"  # the agent thinks for too long
            raise AgentUnavailable(f"{self}{way}: {why}{where}") from None

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
            return read_json(answer.body)
        except ValueError as error:
            raise AgentError(f"{self} answered {answer.status} with {size}: {error}") from None

    def refusal(self, status: int, error: object, headers: Mapping[str, str] | None = None) -> AgentError:
        """Return the exception for a status that is no success; ``error`` is a text or has a ``message``."""
        # The path is shown only if it may be wrong; the query never, as it often holds a key.
        path = self._shown(self._client.address.path) if status in (404, 405) else ""
        reason = f"{self}{path} answered {status}"
        if 300 <= status < 400:
            target, hint = self._redirect((headers or {}).get("location", "").strip())
            return AgentError(f"{reason}, a redirect{target}, which is not followed{hint}")
        if status in (401, 403):
            reason += f" (look at {self._key_variable})"
        text = error.get("message") if isinstance(error, Mapping) else error
        if isinstance(text, str) and (shown := self._shown(text)):
            reason += f": {shown}"
        return AgentUnavailable(reason) if status == 429 or status >= 500 else AgentError(reason)

    def _redirect(self, location: str) -> tuple[str, str]:
        """Return the target of a redirect, without secrets, and a hint what to do about it."""
        own = self._client.address
        if not location:
            return "", ""
        try:
            target = web_address("Location", urljoin(f"{own}{own.path}", location))
        except (SettingsError, ValueError):
            return "", ""
        without = f" without {self._path}" if self._path else ""
        return f" to {self._shown(f'{target}{target.path}')}", f"; set {self._variable} to it{without}"

    def _shown(self, text: str) -> str:
        return one_line(text, without=self._secrets)


class HttpAgent:
    """POSTs each request to one URL, and keeps no state between calls."""

    may_answer_later = True

    def __init__(self, service: JsonService) -> None:
        self._service = service

    def __repr__(self) -> str:
        return str(self._service)

    def answer(self, request: AgentRequest, *, deadline: float) -> Answer:
        limit = Deadline(deadline)
        # Straight to bytes: a request with attachments is large, and each copy of it counts fifty times.
        given = self._service.ask(to_json(request), request.id, limit, accepted=LATER)
        return Answer(later=True) if given is LATER else final_answer(given)
