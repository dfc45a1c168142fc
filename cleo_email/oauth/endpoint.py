"""Requests to the endpoints of an OAuth 2.0 server (RFC 6749)."""

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from urllib.parse import urlencode

from cleo_email.errors import TokenError, TokenUnavailable
from cleo_email.http.address import web_address
from cleo_email.http.client import HttpAnswer, HttpClient, UntrustedCertificate
from cleo_email.runtime import TOKEN_REQUEST_S, Deadline
from cleo_email.scrub import JsonObject, one_line, read_json

# A token without a stated lifetime is renewed soon.
UNKNOWN_LIFETIME_S = 300
LONGEST_TOKEN = 32_768  # characters
_SECRETS = ("client_secret", "refresh_token", "code", "code_verifier", "device_code")


class Refused(TokenError):
    """The server's own error code of RFC 6749 section 5.2 or RFC 8628 section 3.5 is ``code``."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


@dataclass(frozen=True)
class Tokens:
    """``lifetime`` in seconds; ``refresh_token`` is '' where the server sends none."""

    access_token: str = field(repr=False)
    lifetime: int
    refresh_token: str = field(default="", repr=False)


class Endpoint:
    """One URL of a token server. ``variable`` names the setting that it comes from."""

    def __init__(self, variable: str, url: str, environ: Mapping[str, str]) -> None:
        """Raise SettingsError for an address, a proxy or a CA that cannot be used."""
        self._client = HttpClient(web_address(variable, url), environ)

    def __str__(self) -> str:
        return f"the token server {self._client.address}"

    def ask(self, form: Mapping[str, str]) -> JsonObject:
        """Return the JSON object of the answer to the form.

        Raise Refused where the server names an error of RFC 6749 (but not that it is overloaded), TokenError
        for an untrusted certificate, TokenUnavailable for everything else that goes wrong.
        """
        answer = self._post(form)
        value: object = None
        with suppress(ValueError):
            value = read_json(answer.body)
        if not 200 <= answer.status < 300:
            secrets = [form[name] for name in _SECRETS if form.get(name)]
            raise self._refusal(answer.status, JsonObject.of(value), secrets)
        if not isinstance(value, dict):
            raise TokenUnavailable(f"{self} answered {answer.status} with something that is no JSON object")
        return JsonObject(value)

    def tokens(self, form: Mapping[str, str]) -> Tokens:
        """Ask for tokens; raises as ``ask`` does, and TokenUnavailable where the answer holds none."""
        value = self.ask(form)
        access, refresh = visible(value.get("access_token")), visible(value.get("refresh_token"))
        kind = value.get("token_type", "Bearer")
        if not access or not isinstance(kind, str) or kind.lower() != "bearer":
            raise TokenUnavailable(f"{self} answered without a bearer token that could be used")
        return Tokens(access, _lifetime(value.get("expires_in")), refresh)

    def _post(self, form: Mapping[str, str]) -> HttpAnswer:
        body = urlencode({name: value for name, value in form.items() if value}).encode("ascii")
        headers = {"Content-Type": "application/x-www-form-urlencoded"}
        try:
            return self._client.post(body, headers, Deadline(TOKEN_REQUEST_S))
        except UntrustedCertificate as error:
            why = f"its certificate is not trusted ({one_line(str(error), 80)})"
            raise TokenError(f"{self}: {why}; {error.advice}") from None
        except OSError as error:
            why = one_line(error.strerror or str(error), 80)
            raise TokenUnavailable(f"{self} cannot be reached ({why})") from None

    def _refusal(self, status: int, value: JsonObject, secrets: list[str]) -> TokenError:
        code, text = value.text("error"), value.text("error_description")
        words = f"{self} answered {status}"
        if not code:
            return TokenUnavailable(words)
        shown = one_line(code, 60, without=secrets)
        if text.strip():
            shown += f": {one_line(text, 200, without=secrets)}"
        passing = status >= 500 or status in (408, 429) or code in ("temporarily_unavailable", "server_error")
        words += f" ({shown})"
        return TokenUnavailable(words) if passing else Refused(code, words)


def visible(value: object) -> str:
    """Return a text of visible ASCII (RFC 6749 appendix A.12), '' for anything else."""
    if not isinstance(value, str) or len(value) > LONGEST_TOKEN:
        return ""
    return value if value.isascii() and value.isprintable() else ""


def _lifetime(value: object) -> int:
    """Return the lifetime in seconds; some servers send it as a string."""
    try:
        seconds: int = int(value)  # type: ignore[call-overload]
    except (TypeError, ValueError, OverflowError):
        seconds = UNKNOWN_LIFETIME_S
    return max(0, min(seconds, 10 * 365 * 86_400))
