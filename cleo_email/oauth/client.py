"""The OAuth 2.0 client that the settings describe, and the addresses and scopes of Google and Microsoft."""

import hashlib
import json
from dataclasses import dataclass, field, replace

REFRESH = "refresh_token"
CLIENT_CREDENTIALS = "client_credentials"
_MICROSOFT = "https://login.microsoftonline.com/{tenant}/oauth2/v2.0/"
# The Microsoft tenant where the operator names none: mailboxes of any organisation.
ANY_ORGANISATION = "organizations"


@dataclass(frozen=True)
class Provider:
    """``scope`` is asked for when a person logs in, ``app_scope`` when the client acts by itself."""

    name: str = ""
    token_url: str = ""
    authorization_url: str = ""
    device_url: str = ""
    scope: str = ""
    app_scope: str = ""


# Google's device flow does not allow the mail scope; its flow by way of a loopback address does (RFC 8252).
GOOGLE = Provider(
    "google",
    token_url="https://oauth2.googleapis.com/token",  # noqa: S106 - an address
    authorization_url="https://accounts.google.com/o/oauth2/v2/auth",
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
    """The data for token requests. ``provider`` is '' for explicit addresses.

    ``grant`` is ``refresh_token`` (a person has logged in once) or ``client_credentials`` (the client acts by
    itself, RFC 6749 section 4.4). ``refresh_token`` is the one of the environment, '' for none.
    """

    provider: str
    grant: str
    tenant: str
    token_url: str
    authorization_url: str
    device_url: str
    client_id: str
    client_secret: str = field(repr=False)
    refresh_token: str = field(repr=False)
    scope: str

    @property
    def seed(self) -> str:
        """Return a digest of the refresh token of the settings: with another one, what was saved is void."""
        return _digest(self.refresh_token)

    @property
    def settings_digest(self) -> str:
        """Return a digest of the settings: if it has changed since a refusal, the server is asked again."""
        return _digest(self.client_id, self.client_secret, self.refresh_token, self.scope, self.token_url)

    def name_for(self, user: str) -> str:
        """Return the name under which the tokens of this user, client and server are saved."""
        return _digest(user.lower(), self.client_id, self.token_url, self.grant)[:32]

    @property
    def identity(self) -> dict[str, str]:
        """Return the fields by which the client shows who it is in every form."""
        return {"client_id": self.client_id, "client_secret": self.client_secret}

    @property
    def login_command(self) -> str:
        return f"cleo-email login {self.provider}".rstrip()


def make_client(**given: str) -> OAuthClient:
    """Return the client of these fields, with the provider's usual value for each that is ''."""
    client = OAuthClient(**given)
    grant = client.grant or guess_grant(
        client.provider, client_secret=client.client_secret, refresh_token=client.refresh_token
    )
    usual, tenant = PROVIDERS.get(client.provider, Provider()), client.tenant or ANY_ORGANISATION
    return replace(
        client,
        grant=grant,
        token_url=client.token_url or usual.token_url.format(tenant=tenant),
        authorization_url=client.authorization_url or usual.authorization_url.format(tenant=tenant),
        device_url=client.device_url or usual.device_url.format(tenant=tenant),
        scope=client.scope or (usual.app_scope if grant == CLIENT_CREDENTIALS else usual.scope),
    )


def guess_grant(provider: str, *, client_secret: str, refresh_token: str) -> str:
    """Return ``client_credentials`` for a client with a secret and no refresh token; Google offers none."""
    if provider != GOOGLE.name and client_secret and not refresh_token:
        return CLIENT_CREDENTIALS
    return REFRESH


def _digest(*parts: str) -> str:
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()
