"""The environment as one frozen value, and how each kind of value is read from its text.

A reader raises ValueError for a text that it cannot use; ``read`` makes the line of the fault.
"""

import base64
import ipaddress
import re
from collections.abc import Callable
from typing import Annotated, Any, Literal, Self
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, SecretStr

from cleo_email.accounts import ImapAccount, Login, SmtpAccount
from cleo_email.errors import InvalidField, SettingsError
from cleo_email.mail.address import ascii_address
from cleo_email.mail.closing import Closing
from cleo_email.mail.headers import parse_addresses
from cleo_email.mail.language import notices
from cleo_email.mail.model import Address
from cleo_email.oauth.client import OAuthClient, make_client
from cleo_email.runtime import is_loopback
from cleo_email.settings.providers import Preset, find_preset, preset_of_host
from cleo_email.settings.signature import EXPECTED as SIGNATURE
from cleo_email.settings.workflows import EXPECTED, Workflow


def env(name: str, expected: str, default: Any = None) -> Any:
    """Declare a setting: its variable, the expected value as an error names it, and its default."""
    return Field(default=default, alias=name, description=expected)


def _list(read: Callable[[str], object] = str) -> BeforeValidator:
    """Return the reader of values separated by commas, each of which ``read`` checks."""

    def parts(text: str) -> tuple[object, ...]:
        return tuple(read(part.strip()) for part in text.split(",") if part.strip())

    return BeforeValidator(parts)


def read_address(text: str) -> Address:
    """Read one mailbox, its domain in ASCII."""
    found = parse_addresses(text)
    if len(found) != 1:
        raise ValueError("not one address")
    try:
        return ascii_address("the address", found[0])
    except InvalidField as error:
        raise ValueError(str(error)) from None


def _alert_target(text: str) -> Address | SecretStr:
    """Read an address, or a URL for apprise, which mostly holds a token."""
    if "://" not in text:
        return read_address(text)
    if not re.fullmatch(r"[a-z0-9]+://[\x21-\x7e]+", text, re.IGNORECASE):
        raise ValueError("no URL")
    return SecretStr(text)


def _host(text: str) -> str:
    """Accept a name or an IP address: no URL, and no port behind it (that has a setting of its own)."""
    if ":" in text:
        ipaddress.ip_address(text)
    elif re.search(r"[\x00-\x20/@,;]", text):
        raise ValueError("no host")
    return text


def _matching(pattern: str) -> Callable[[str], str]:
    def read(text: str) -> str:
        if not re.fullmatch(pattern, text, re.ASCII | re.DOTALL):
            raise ValueError("another form")
        return text

    return read


def _redis_url(text: str) -> str:
    parts = urlsplit(text)
    if parts.scheme != "unix" and ("#" in text or "@" in parts.path + parts.query):
        raise ValueError("the password has a # / or ?, and the URL ends there for whoever reads it")
    if parts.scheme not in {"redis", "rediss", "unix"} or not (parts.netloc or parts.path.strip("/")):
        raise ValueError("scheme")
    if parts.scheme != "unix" and not re.fullmatch(r"/?|/\d+", parts.path):
        raise ValueError("the database is no number")
    from redis.connection import parse_url

    # Raises ValueError on nonsense in the port, the database or an option.
    parse_url(text)  # type: ignore[no-untyped-call]
    return text


def _https_url(text: str) -> str:
    """Accept http:// within this machine only: tokens and secrets travel there."""
    parts = urlsplit(text)
    _ = parts.port  # raises ValueError on nonsense
    plain = parts.scheme == "http" and is_loopback(parts.hostname or "")
    if not parts.hostname or not (parts.scheme == "https" or plain) or any(ord(c) < 33 for c in text):
        raise ValueError("no https")
    return text


def _public_url(text: str) -> str:
    """Accept a host, with a port or without, and a path to what is mounted there: links carry a login."""
    parts = urlsplit(_https_url(text))
    if parts.query or parts.fragment or "@" in parts.netloc:
        raise ValueError("more than a host and a path")
    return text.rstrip("/")


def _fernet_key(text: str) -> str:
    if len(base64.b64decode(text.replace("-", "+").replace("_", "/"), validate=True)) != 32:
        raise ValueError("not 32 bytes")
    return text


def _svix_secret(text: str) -> str:
    if not base64.b64decode(text.removeprefix("whsec_"), validate=True):
        raise ValueError("empty")
    return text


def _events_secret(text: str) -> str:
    """Accept a secret of Standard Webhooks, of a length that it asks for."""
    prefix, _, secret = text.partition("_")
    if prefix != "whsec" or not 24 <= len(base64.b64decode(secret, validate=True)) <= 64:
        raise ValueError("no secret of this kind")
    return text


def _public_key(text: str) -> str:
    # Costs tens of milliseconds to load: only where there is a key to look at.
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.hazmat.primitives.serialization import load_der_public_key

    try:
        key = load_der_public_key(base64.b64decode(text, validate=True))
    except UnsupportedAlgorithm:
        raise ValueError("no key") from None
    if not isinstance(key, ec.EllipticCurvePublicKey):
        raise ValueError("another kind of key")  # noqa: TRY004  (pydantic wants a ValueError)
    return text


def _api_token(text: str) -> str:
    """Refuse ``anna:``, whose secret would be that word, and a name by which records mean somebody else."""
    name, colon, secret = text.partition(":")
    if colon and (not name or not secret or name.lower() in NO_NAMES):
        raise ValueError("no name, or no secret")
    return text


# No count and no time is as large as 10**9, and no arithmetic overflows with it.
Whole = Annotated[int, Field(ge=1), AfterValidator(lambda number: min(number, 10**9))]
Days = Annotated[int, Field(ge=1, le=36500)]
Port = Annotated[int, Field(ge=1, le=65535)]
Lower = BeforeValidator(str.lower)


def _notice(value: str) -> str:
    """Refuse what is meant as a switch or a file, and would stand below mail as it is."""
    if value.startswith("@") or value.lower() in _SWITCHES or (value.isdigit() and value not in ("0", "1")):
        raise ValueError
    return value


_SWITCHES = frozenset("true false yes no on off ja nein none".split())
Csv = Annotated[tuple[str, ...], _list()]
# Lower case and not casefold: that takes "straße.de" to "strasse.de", which is another domain.
Patterns = Annotated[tuple[str, ...], _list(_matching("[^ @*]*@[^ @*]+")), Lower]
Addresses = Annotated[tuple[Address, ...], _list(read_address)]
AlertTargets = Annotated[tuple[Address | SecretStr, ...], _list(_alert_target)]
OneAddress = Annotated[Address | None, BeforeValidator(read_address)]
Host = Annotated[str, AfterValidator(_host)]
Word = Annotated[str, Field(pattern=r"^[^\x00-\x20;]+$")]
HttpsUrl = Annotated[str, AfterValidator(_https_url)]
PublicUrl = Annotated[str, AfterValidator(_public_url)]
RedisUrl = Annotated[SecretStr, BeforeValidator(_redis_url)]
_TOPIC = r"arn:aws(-cn|-us-gov)?:sns:[a-z0-9-]{3,32}:\d{12}:[A-Za-z0-9_.-]{1,260}"
# Several are valid while one is being replaced. A list that is set but empty would switch a check off.
_SEVERAL = Field(min_length=1)
Secrets = Annotated[tuple[SecretStr, ...], _SEVERAL, _list()]
Tokens = Annotated[tuple[SecretStr, ...], _SEVERAL, _list(_api_token)]
SecretKeys = Annotated[tuple[SecretStr, ...], _SEVERAL, _list(_fernet_key)]
Pairs = Annotated[tuple[SecretStr, ...], _SEVERAL, _list(_matching("[^:]+:.+"))]
SvixSecrets = Annotated[tuple[SecretStr, ...], _SEVERAL, _list(_svix_secret)]
EventsSecrets = Annotated[tuple[SecretStr, ...], _SEVERAL, _list(_events_secret)]
PublicKeys = Annotated[tuple[str, ...], _SEVERAL, _list(_public_key)]
Topics = Annotated[tuple[str, ...], _SEVERAL, _list(_matching(_TOPIC))]

NAMED_TOKEN = re.compile(r"([\w.-]{1,40}):(.+)", re.DOTALL)
# Who decided, in records, without a token.
NO_NAMES = frozenset({"agent", "cli", "local", "mailbox"})
_NO_SECRET = SecretStr("")
_PORT = "a whole number from 1 to 65535"
_WHOLE = "a whole number from 1"
_DAYS = "a whole number of days from 1 to 36500"
_FLAG = "0 or 1"
_HTTPS = "a URL that begins with https://"
_PAIRS = "user:password, several separated by commas"
_PATTERNS = (
    "addresses and @domains, separated by commas, such as anna@example.com,@example.org "
    "(everybody at firma.de is @firma.de, without a *)"
)
_A_KEY = (
    "32 random bytes in URL-safe base64, made with: python3 -c 'import base64, os; "
    "print(base64.urlsafe_b64encode(os.urandom(32)).decode())'"
)
_SIGNS_EVENTS = (
    "whsec_ and 24 to 64 random bytes in base64 (several secrets separated by commas), made with: "
    "python3 -c 'import base64, os; print(\"whsec_\" + base64.b64encode(os.urandom(32)).decode())'"
)


class WebhookSettings(BaseModel):
    """The secrets of the webhooks. If a provider's setting is empty, all its requests are refused."""

    webhook_secrets: Secrets = env("EMAIL_WEBHOOK_SECRET", "secrets separated by commas", ())
    mailgun_keys: Secrets = env("EMAIL_MAILGUN_SIGNING_KEY", "signing keys separated by commas", ())
    postmark_auth: Pairs = env("EMAIL_POSTMARK_AUTH", _PAIRS, ())
    sendgrid_keys: PublicKeys = env("EMAIL_SENDGRID_PUBLIC_KEY", "base64 keys separated by commas", ())
    ses_topics: Topics = env(
        "EMAIL_SES_TOPIC_ARN", "topics such as arn:aws:sns:eu-west-1:123456789012:mail", ()
    )
    cloudmailin_auth: Pairs = env("EMAIL_CLOUDMAILIN_AUTH", _PAIRS, ())
    resend_secrets: SvixSecrets = env("EMAIL_RESEND_SIGNING_SECRET", "signing secrets such as whsec_…", ())
    resend_api_key: SecretStr | None = env("EMAIL_RESEND_API_KEY", "an API key that may read received mail")
    brevo_auth: Secrets = env("EMAIL_BREVO_AUTH", "user:password or bearer tokens, separated by commas", ())
    brevo_api_key: SecretStr | None = env("EMAIL_BREVO_API_KEY", "an API key, to fetch the files of mails")


class Settings(WebhookSettings):
    """The whole environment. Aliases are the variables' names, which docs/settings.md explains.

    ``read.make_settings`` builds it, and checks that the values fit each other.
    """

    model_config = ConfigDict(
        frozen=True, extra="ignore", hide_input_in_errors=True, arbitrary_types_allowed=True
    )

    enabled_clients: Csv = env("ENABLED_CLIENTS", "names separated by commas, such as email", ())
    smtp_host: Host = env("EMAIL_SMTP_HOST", "the submission server's name, such as smtp.example.com", "")
    smtp_port: Port = env("EMAIL_SMTP_PORT", _PORT, 587)
    user: str = env("EMAIL_USER", "the login of the mailbox, usually its address", "")
    password: SecretStr = env("EMAIL_PASSWORD", "the password of EMAIL_USER", _NO_SECRET)
    from_: OneAddress = env(
        "EMAIL_FROM_ADDRESS", "an address, or Name <address>; required where EMAIL_USER is no address"
    )
    imap_host: Host | None = env("EMAIL_IMAP_HOST", "the IMAP server's name, such as imap.example.com")
    imap_port: Port = env("EMAIL_IMAP_PORT", _PORT, 993)
    poll_interval: Whole = env("EMAIL_POLL_INTERVAL_SECONDS", "a whole number of seconds from 1", 60)
    idle: bool = env("EMAIL_IDLE", _FLAG, True)
    redis_url: RedisUrl = env(
        "REDIS_URL",
        "a URL such as redis://host:6379/0, rediss://… or unix:///path?db=0",
        SecretStr("redis://localhost:6379/0"),
    )
    agent: str = env("CLEO_AGENT", "echo, http(s)://…, openai:MODEL or package.module:callable", "")
    agent_token: SecretStr | None = env("CLEO_AGENT_TOKEN", "the agent's bearer token")
    agent_timeout: Annotated[float, Field(gt=0, le=86400)] = env(
        "CLEO_AGENT_TIMEOUT_SECONDS", "a number of seconds above 0, at most 86400", 300.0
    )
    agent_deadline_hours: Annotated[float, Field(gt=0, le=8760)] = env(
        "CLEO_AGENT_DEADLINE_HOURS", "a number of hours above 0, at most 8760 (a year)", 24.0
    )
    ask_allowed: Patterns = env("EMAIL_ASK_ALLOWED", _PATTERNS, ())
    api_tokens: Tokens = env(
        "CLEO_API_TOKEN",
        "bearer tokens separated by commas, each as name:secret or as a secret alone "
        f"({', '.join(sorted(NO_NAMES))} are no names)",
        (),
    )
    review: Literal["never", "first", "always"] = env("EMAIL_REVIEW", "never, first or always", "never")
    takeover: Literal["thread", "mail", "off"] = env("EMAIL_TAKEOVER", "thread, mail or off", "thread")
    handoff_to: Addresses = env("EMAIL_HANDOFF_TO", "addresses separated by commas", ())
    colleagues: Patterns = env("EMAIL_COLLEAGUES", _PATTERNS, ())
    drafts: bool = env("EMAIL_DRAFTS", _FLAG, True)
    operators: Addresses = env("CLEO_OPERATORS", "addresses separated by commas", ())
    alert_to: AlertTargets = env(
        "CLEO_ALERT_TO", "addresses, and URLs that apprise understands, separated by commas", ()
    )
    public_url: PublicUrl = env(
        "CLEO_PUBLIC_URL",
        "a URL that begins with https:// and has no query, such as https://cleo.example.com",
        "",
    )
    events_url: SecretStr = env("CLEO_EVENTS_URL", "http(s)://…", _NO_SECRET)
    events_secrets: EventsSecrets = env("CLEO_EVENTS_SECRET", _SIGNS_EVENTS, ())
    allowed_senders: Patterns = env("EMAIL_ALLOWED_SENDERS", _PATTERNS, ())
    refused_senders: Literal["held", "ignored"] = env("EMAIL_REFUSED_SENDERS", "held or ignored", "held")
    allowed_robots: Patterns = env("EMAIL_ALLOWED_ROBOTS", _PATTERNS, ())
    authserv_id: Word | None = env("EMAIL_TRUSTED_AUTHSERV_ID", "your mail server's, such as mx.example.com")
    verify_dkim: bool = env("EMAIL_VERIFY_DKIM", _FLAG, False)
    max_message_bytes: Annotated[int, Field(ge=1, le=67_108_864)] = env(
        "EMAIL_MAX_MESSAGE_BYTES", "a whole number from 1 to 67108864 (64 MiB)", 26_214_400
    )
    max_attachment_bytes: Whole = env("EMAIL_MAX_ATTACHMENT_BYTES", _WHOLE, 10_485_760)
    concurrency: Annotated[int, Field(ge=1, le=1000)] = env(
        "EMAIL_CONCURRENCY", "a whole number from 1 to 1000", 200
    )
    max_replies_per_thread: Whole = env("EMAIL_MAX_REPLIES_PER_THREAD", _WHOLE, 20)
    max_replies_per_sender: Whole = env("EMAIL_MAX_REPLIES_PER_SENDER", _WHOLE, 60)
    max_sends_per_hour: Whole = env("EMAIL_MAX_SENDS_PER_HOUR", _WHOLE, 500)
    max_age_days: Days = env("EMAIL_MAX_AGE_DAYS", _DAYS, 7)
    retention_days: Days = env("EMAIL_RETENTION_DAYS", _DAYS, 90)
    save_sent: bool = env("EMAIL_SAVE_SENT", _FLAG, True)
    mark_unanswered: bool = env("EMAIL_MARK_UNANSWERED", _FLAG, False)
    workflows: dict[str, Workflow] | None = env("CLEO_WORKFLOWS", EXPECTED)
    reply_all: bool = env("EMAIL_REPLY_ALL", _FLAG, False)
    signature: dict[str, str] | None = env("EMAIL_SIGNATURE", SIGNATURE)
    ai_notice: Annotated[str, AfterValidator(_notice)] = env("EMAIL_AI_NOTICE", "0, 1 or a text", "0")

    # Logins without a password, and the key that keeps them.
    provider: str = env("EMAIL_PROVIDER", "the name of a mail provider, such as gmail", "")
    secret_keys: SecretKeys = env("CLEO_SECRET_KEY", _A_KEY, ())
    oauth_provider: Annotated[Literal["", "google", "microsoft"], Lower] = env(
        "EMAIL_OAUTH_PROVIDER", "google or microsoft", ""
    )
    oauth_grant: Annotated[Literal["", "refresh_token", "client_credentials"], Lower] = env(
        "EMAIL_OAUTH_GRANT", "refresh_token or client_credentials", ""
    )
    oauth_tenant: Annotated[str, Field(pattern=r"^[A-Za-z0-9.-]*$")] = env(
        "EMAIL_OAUTH_TENANT", "the id or a domain of the Microsoft 365 organisation", ""
    )
    oauth_token_url: HttpsUrl = env("EMAIL_OAUTH_TOKEN_URL", _HTTPS, "")
    oauth_authorization_url: HttpsUrl = env("EMAIL_OAUTH_AUTHORIZATION_URL", _HTTPS, "")
    oauth_device_url: HttpsUrl = env("EMAIL_OAUTH_DEVICE_URL", _HTTPS, "")
    oauth_client_id: str = env("EMAIL_OAUTH_CLIENT_ID", "the id of the client that you registered", "")
    oauth_client_secret: SecretStr = env("EMAIL_OAUTH_CLIENT_SECRET", "that client's secret", _NO_SECRET)
    oauth_refresh_token: SecretStr = env("EMAIL_OAUTH_REFRESH_TOKEN", "a refresh token", _NO_SECRET)
    oauth_scope: str = env("EMAIL_OAUTH_SCOPE", "scopes, separated by blanks", "")

    @property
    def enabled(self) -> bool:
        return "email" in {name.lower() for name in self.enabled_clients}

    def with_email(self) -> Self:
        """Return these settings. Raise SettingsError where the email channel is not enabled."""
        if not self.enabled:
            raise SettingsError(["ENABLED_CLIENTS: found no email, expected a list with it, such as email"])
        return self

    @property
    def from_address(self) -> Address:
        """Return the From of outgoing mail: ``EMAIL_FROM_ADDRESS``, else ``EMAIL_USER``."""
        return self.from_ or Address(self.user)

    @property
    def own_addresses(self) -> frozenset[str]:
        """Return the addresses, in lower case, whose mail is our own and never answered."""
        return frozenset({self.from_address.key, *([self.user.lower()] if "@" in self.user else [])})

    @property
    def named_tokens(self) -> tuple[tuple[str, str], ...]:
        """Return the name and the secret of each API token; a secret alone is called ``token``."""
        given = (token.get_secret_value() for token in self.api_tokens)
        found = ((NAMED_TOKEN.fullmatch(text), text) for text in given)
        return tuple((named[1], named[2]) if named else ("token", text) for named, text in found)

    @property
    def alert_addresses(self) -> tuple[Address, ...]:
        return tuple(one for one in self.alert_to if isinstance(one, Address))

    @property
    def alert_urls(self) -> tuple[str, ...]:
        return tuple(one.get_secret_value() for one in self.alert_to if isinstance(one, SecretStr))

    @property
    def closing(self) -> Closing:
        """Return what is added below mail."""
        own = {"": self.ai_notice.replace("\\n", "\n")}
        return Closing(self.signature or {}, {"0": {}, "1": notices()}.get(self.ai_notice, own))

    @property
    def oauth(self) -> OAuthClient | None:
        """Return the OAuth client that logs in, or None where EMAIL_PASSWORD does."""
        if not (self.oauth_provider or self.oauth_token_url or self.oauth_client_id):
            return None
        return make_client(
            provider=self.oauth_provider,
            grant=self.oauth_grant,
            tenant=self.oauth_tenant,
            token_url=self.oauth_token_url,
            authorization_url=self.oauth_authorization_url,
            device_url=self.oauth_device_url,
            client_id=self.oauth_client_id,
            client_secret=self.oauth_client_secret.get_secret_value(),
            refresh_token=self.oauth_refresh_token.get_secret_value(),
            scope=self.oauth_scope,
        )

    @property
    def preset(self) -> Preset | None:
        """Return the provider that EMAIL_PROVIDER names, else the one whose servers are set."""
        named = find_preset(self.provider) if self.provider else None
        return named or preset_of_host(self.smtp_host, self.imap_host)

    @property
    def login(self) -> Login:
        return Login(self.user, self.password.get_secret_value())

    @property
    def smtp(self) -> SmtpAccount:
        return SmtpAccount(self.smtp_host, self.smtp_port, self.login)

    @property
    def imap(self) -> ImapAccount | None:
        return ImapAccount(self.imap_host, self.imap_port, self.login) if self.imap_host else None
