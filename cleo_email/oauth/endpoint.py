"""An OAuth 2.0 client and its requests to the token endpoint (RFC 6749)."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlencode

from cleo_email.errors import TokenError, TokenUnavailable
from cleo_email.http import (
    AnswerTooLarge,
    HttpAnswer,
    HttpClient,
    UntrustedCertificate,
    proxy_address,
    trust_store,
    web_address,
)
from cleo_email.runtime import TOKEN_REQUEST_S, Deadline
from cleo_email.scrub import one_line

REFRESH = "refresh_token"
CLIENT_CREDENTIALS = "client_credentials"
GRANTS = (REFRESH, CLIENT_CREDENTIALS)
_MICROSOFT = "https://login.microsoftonline.com/{tenant}/oauth2/v2.0/"
# Whose mailboxes a Microsoft login may be for where the operator names no tenant: those of any organisation.
ANY_ORGANISATION = "organizations"


@dataclass(frozen=True)
class Provider:
    """``scope`` is asked for when a person logs in, ``app_scope`` when the client acts by itself."""

    name: str
    token_url: str
    authorization_url: str
    device_url: str
    scope: str
    app_scope: str = ""


# Google's device flow does not allow the mail scope; its flow by way of a loopback address does (RFC 8252).
GOOGLE = Provider(
    "google",
    token_url="https://oauth2.googleapis.com/token",  # noqa: S106 - an address
    authorization_url="https://accounts.google.com/o/oauth2/v2/auth",
    device_url="",
    scope="https://mail.google.com/",
)
MICROSOFT = Provider(
    "microsoft",
    token_url=_MICROSOFT + "token",
    authorization_url=_MICROSOFT + "authorize",
    device_url=_MICROSOFT + "devicecode",
    scope="https://outlook.office.com/IMAP.AccessAsUser.All https://outlook.office.com/SMTP.Send "
    "offline_access",
    app_scope="https://outlook.office365.com/.default",
)
PROVIDERS = {provider.name: provider for provider in (GOOGLE, MICROSOFT)}


@dataclass(frozen=True)
class OAuthClient:
    """Everything that asking for tokens takes. ``provider`` is '' for explicit addresses.

    ``grant`` is ``refresh_token`` (a person has logged in once) or ``client_credentials`` (the client acts by
    itself, RFC 6749 section 4.4). ``refresh_token`` is the one of the environment, '' for none.
    """

    provider: str
    grant: str
    token_url: str
    client_id: str
    client_secret: str = field(default="", repr=False)
    refresh_token: str = field(default="", repr=False)
    scope: str = ""
    scope_is_explicit: bool = False
    authorization_url: str = ""
    device_url: str = ""

    @property
    def seed(self) -> str:
        """Changes when the operator sets another refresh token: the one saved from the old one is void."""
        return _digest(self.refresh_token)

    @property
    def settings_digest(self) -> str:
        """Changes with whatever could end a fault: the fault is then not believed any longer."""
        return _digest(self.client_id, self.client_secret, self.refresh_token, self.scope, self.token_url)

    def name_for(self, user: str) -> str:
        """What the saved tokens are kept under: of this user, by this client, at this server."""
        return _digest(user.lower(), self.client_id, self.token_url, self.grant)[:32]

    @property
    def login_command(self) -> str:
        return f"cleo-email login {self.provider}".rstrip()


def make_client(
    *,
    provider: str,
    grant: str,
    tenant: str,
    token_url: str,
    authorization_url: str,
    device_url: str,
    client_id: str,
    client_secret: str,
    refresh_token: str,
    scope: str,
) -> OAuthClient:
    """The client with the provider's addresses and scope wherever the operator gave none ('')."""
    known = PROVIDERS.get(provider)
    grant = grant or guess_grant(provider, client_secret=client_secret, refresh_token=refresh_token)
    usual = ""
    if known is not None:
        usual = known.app_scope if grant == CLIENT_CREDENTIALS else known.scope
        tenant = tenant or ANY_ORGANISATION
        token_url = token_url or known.token_url.format(tenant=tenant)
        authorization_url = authorization_url or known.authorization_url.format(tenant=tenant)
        device_url = device_url or known.device_url.format(tenant=tenant)
    return OAuthClient(
        provider,
        grant,
        token_url,
        client_id,
        client_secret,
        refresh_token,
        scope or usual,
        bool(scope),
        authorization_url,
        device_url,
    )


def guess_grant(provider: str, *, client_secret: str, refresh_token: str) -> str:
    """``client_credentials`` for a client that has a secret and no person's login; Google has no such."""
    if provider != GOOGLE.name and client_secret and not refresh_token:
        return CLIENT_CREDENTIALS
    return REFRESH


def _digest(*parts: str) -> str:
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


CALL_SECONDS = TOKEN_REQUEST_S
# A server that does not say how long a token lives gets asked again soon.
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
    scope: str = ""


class Endpoint:
    """One URL of a token server. ``variable`` names the setting that it comes from."""

    def __init__(self, variable: str, url: str, environ: Mapping[str, str]) -> None:
        """Raises SettingsError for an address or a CA that cannot be used."""
        address = web_address(variable, url)
        self._client = HttpClient(
            address,
            proxy=proxy_address(address, environ),
            trust=trust_store(environ) if address.tls else None,
        )

    def __str__(self) -> str:
        return f"the token server {self._client.address}"

    def ask(self, form: Mapping[str, str]) -> Mapping[str, Any]:
        """The JSON object that the form is answered with.

        Raises Refused where the server names an error of RFC 6749 (but not that it is overloaded),
        TokenError for an untrusted certificate, TokenUnavailable for everything else that goes wrong.
        """
        secrets = [form[name] for name in _SECRETS if form.get(name)]
        answer = self._post(form)
        value = _object(answer.body)
        if 200 <= answer.status < 300:
            if value is None:
                raise TokenUnavailable(
                    f"{self} answered {answer.status} with something that is no JSON object"
                )
            return value
        raise self._refusal(answer.status, value or {}, secrets)

    def tokens(self, form: Mapping[str, str]) -> Tokens:
        """Ask for tokens; raises as ``ask`` does, and TokenUnavailable where the answer holds none."""
        value = self.ask(form)
        access = value.get("access_token")
        kind = value.get("token_type", "Bearer")
        if not _is_token(access) or not isinstance(kind, str) or kind.lower() != "bearer":
            raise TokenUnavailable(f"{self} answered without a bearer token that could be used")
        refresh = value.get("refresh_token")
        scope = value.get("scope")
        return Tokens(
            access_token=str(access),
            lifetime=_lifetime(value.get("expires_in")),
            refresh_token=str(refresh) if _is_token(refresh) else "",
            scope=scope if isinstance(scope, str) else "",
        )

    def _post(self, form: Mapping[str, str]) -> HttpAnswer:
        body = urlencode({name: value for name, value in form.items() if value}).encode("ascii")
        headers = {"Content-Type": "application/x-www-form-urlencoded"}
        try:
            return self._client.post(body, headers, Deadline(CALL_SECONDS))
        except UntrustedCertificate as error:
            why = one_line(str(error), 80)
            raise TokenError(f"{self}: its certificate is not trusted ({why}); see SSL_CERT_FILE") from None
        except TimeoutError:
            raise TokenUnavailable(f"{self} gave no answer within {CALL_SECONDS:g} s") from None
        except AnswerTooLarge:
            raise TokenUnavailable(f"{self} sent far more than an answer") from None
        except OSError as error:
            why = one_line(error.strerror or str(error), 80)
            raise TokenUnavailable(f"{self} cannot be reached ({why})") from None

    def _refusal(self, status: int, value: Mapping[str, Any], secrets: list[str]) -> TokenError:
        code, text = value.get("error"), value.get("error_description")
        words = f"{self} answered {status}"
        if not isinstance(code, str) or status >= 500 or status in (408, 429):
            return TokenUnavailable(f"{words} ({one_line(code, 60, without=secrets)})" if code else words)
        shown = one_line(code, 60, without=secrets)
        if isinstance(text, str) and text.strip():
            shown += f": {one_line(text, 200, without=secrets)}"
        if code in ("temporarily_unavailable", "server_error"):
            return TokenUnavailable(f"{words} ({shown})")
        return Refused(code, f"{words} ({shown})")


def _object(body: bytes) -> Mapping[str, Any] | None:
    try:
        value = json.loads(body)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def _is_token(value: object) -> bool:
    """RFC 6750 section 2.1 and RFC 6749 appendix A.12: visible ASCII."""
    return (
        isinstance(value, str) and 0 < len(value) <= LONGEST_TOKEN and value.isascii() and value.isprintable()
    )


def _lifetime(value: object) -> int:
    """Seconds; some servers send them as a string."""
    try:
        seconds = int(value) if isinstance(value, (int, float, str)) else UNKNOWN_LIFETIME_S
    except (ValueError, OverflowError):
        return UNKNOWN_LIFETIME_S
    return max(0, min(seconds, 10 * 365 * 86_400))
