"""All of the contract's environment as one frozen value."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BeforeValidator, ConfigDict, Field, SecretStr

from cleo_email.accounts import ImapAccount, Login, SmtpAccount
from cleo_email.mail.model import Address
from cleo_email.oauth.client import OAuthClient, make_client
from cleo_email.settings.providers import NAMES, Preset, find_preset, preset_of_host
from cleo_email.settings.types import (
    A_KEY,
    FLAG,
    HTTPS,
    LIST,
    PORT,
    WHOLE,
    Csv,
    Flag,
    Host,
    HttpsUrl,
    Patterns,
    Port,
    Positive,
    SecretKeys,
    Secrets,
    Word,
    env,
    read_address,
    read_lower,
    read_redis_url,
)
from cleo_email.settings.webhooks import WebhookSettings
from cleo_email.settings.workflows import EXPECTED, Workflow, read_workflows


class Settings(WebhookSettings):
    """All of the contract's environment. Aliases are the variables' names; see ``docs`` and the README."""

    model_config = ConfigDict(
        frozen=True, extra="ignore", hide_input_in_errors=True, arbitrary_types_allowed=True
    )

    enabled_clients: Csv = env("ENABLED_CLIENTS", "names separated by commas, such as email", ())
    smtp_host: Host = env("EMAIL_SMTP_HOST", "the submission server's name, such as smtp.example.com", "")
    smtp_port: Port = env("EMAIL_SMTP_PORT", PORT, 587)
    user: str = env("EMAIL_USER", "the login of the mailbox, usually its address", "")
    password: SecretStr = env("EMAIL_PASSWORD", "the password of EMAIL_USER", SecretStr(""))
    from_: Annotated[Address | None, BeforeValidator(read_address)] = env(
        "EMAIL_FROM_ADDRESS", "an address, or Name <address>; required where EMAIL_USER is no address"
    )
    imap_host: Host | None = env("EMAIL_IMAP_HOST", "the IMAP server's name, such as imap.example.com")
    imap_port: Port = env("EMAIL_IMAP_PORT", PORT, 993)
    poll_interval: Annotated[int, Field(ge=1, le=10**9)] = env(
        "EMAIL_POLL_INTERVAL_SECONDS", "a whole number of seconds from 1", 60
    )
    redis_url: Annotated[SecretStr, BeforeValidator(read_redis_url)] = env(
        "REDIS_URL",
        "a URL such as redis://host:6379/0, rediss://… or unix:///path?db=0",
        SecretStr("redis://localhost:6379/0"),
    )
    agent: str = env("CLEO_AGENT", "echo, http(s)://…, openai:MODEL or package.module:callable", "echo")
    agent_token: SecretStr | None = env("CLEO_AGENT_TOKEN", "the agent's bearer token")
    agent_timeout: Annotated[float, Field(gt=0, le=86400)] = env(
        "CLEO_AGENT_TIMEOUT_SECONDS", "a number of seconds above 0, at most 86400", 300.0
    )
    api_tokens: Secrets = env("CLEO_API_TOKEN", "bearer tokens separated by commas", ())
    allowed_senders: Patterns = env("EMAIL_ALLOWED_SENDERS", LIST, ())
    refused_senders: Literal["held", "ignored"] = env("EMAIL_REFUSED_SENDERS", "held or ignored", "held")
    allowed_robots: Patterns = env("EMAIL_ALLOWED_ROBOTS", LIST, ())
    authserv_id: Word | None = env(
        "EMAIL_TRUSTED_AUTHSERV_ID", "the authserv-id of your own mail server, such as mx.example.com"
    )
    verify_dkim: Flag = env("EMAIL_VERIFY_DKIM", FLAG, False)
    max_message_bytes: Annotated[int, Field(ge=1, le=67_108_864)] = env(
        "EMAIL_MAX_MESSAGE_BYTES", "a whole number from 1 to 67108864 (64 MiB)", 26_214_400
    )
    max_attachment_bytes: Positive = env("EMAIL_MAX_ATTACHMENT_BYTES", WHOLE, 10_485_760)
    concurrency: Annotated[int, Field(ge=1, le=1000)] = env(
        "EMAIL_CONCURRENCY", "a whole number from 1 to 1000", 50
    )
    max_replies_per_thread: Positive = env("EMAIL_MAX_REPLIES_PER_THREAD", WHOLE, 20)
    max_replies_per_sender: Positive = env("EMAIL_MAX_REPLIES_PER_SENDER", WHOLE, 60)
    max_sends_per_hour: Positive = env("EMAIL_MAX_SENDS_PER_HOUR", WHOLE, 500)
    max_age_days: Annotated[int, Field(ge=1, le=36500)] = env("EMAIL_MAX_AGE_DAYS", WHOLE, 7)
    retention_days: Annotated[int, Field(ge=1, le=36500)] = env("EMAIL_RETENTION_DAYS", WHOLE, 90)
    save_sent: Flag = env("EMAIL_SAVE_SENT", FLAG, True)
    workflows: Annotated[dict[str, Workflow] | None, BeforeValidator(read_workflows)] = env(
        "CLEO_WORKFLOWS", EXPECTED
    )
    reply_all: Flag = env("EMAIL_REPLY_ALL", FLAG, False)

    # Logins without a password, and the key that keeps them.
    provider: str = env("EMAIL_PROVIDER", f"one of {NAMES}", "")
    secret_keys: SecretKeys = env("CLEO_SECRET_KEY", A_KEY, ())
    oauth_provider: Annotated[Literal["", "google", "microsoft"], BeforeValidator(read_lower)] = env(
        "EMAIL_OAUTH_PROVIDER", "google or microsoft", ""
    )
    oauth_grant: Annotated[
        Literal["", "refresh_token", "client_credentials"], BeforeValidator(read_lower)
    ] = env("EMAIL_OAUTH_GRANT", "refresh_token or client_credentials", "")
    oauth_tenant: Annotated[str, Field(pattern=r"^[A-Za-z0-9.-]*$")] = env(
        "EMAIL_OAUTH_TENANT", "the id or a domain of the Microsoft 365 organisation", ""
    )
    oauth_token_url: HttpsUrl = env("EMAIL_OAUTH_TOKEN_URL", HTTPS, "")
    oauth_authorization_url: HttpsUrl = env("EMAIL_OAUTH_AUTHORIZATION_URL", HTTPS, "")
    oauth_device_url: HttpsUrl = env("EMAIL_OAUTH_DEVICE_URL", HTTPS, "")
    oauth_client_id: str = env("EMAIL_OAUTH_CLIENT_ID", "the id of the client that you registered", "")
    oauth_client_secret: SecretStr = env(
        "EMAIL_OAUTH_CLIENT_SECRET", "the secret of that client", SecretStr("")
    )
    oauth_refresh_token: SecretStr = env("EMAIL_OAUTH_REFRESH_TOKEN", "a refresh token", SecretStr(""))
    oauth_scope: str = env("EMAIL_OAUTH_SCOPE", "scopes, separated by blanks", "")

    @property
    def enabled(self) -> bool:
        return "email" in {name.lower() for name in self.enabled_clients}

    @property
    def from_address(self) -> Address:
        """From of outgoing mail: ``EMAIL_FROM_ADDRESS``, else ``EMAIL_USER``."""
        return self.from_ or Address(self.user)

    @property
    def own_addresses(self) -> frozenset[str]:
        """Casefolded addresses whose mail is our own and never answered."""
        own = {self.from_address.key}
        if "@" in self.user:
            own.add(self.user.lower())
        return frozenset(own)

    @property
    def oauth(self) -> OAuthClient | None:
        """The OAuth client that logs in, or None where EMAIL_PASSWORD does."""
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
        """The provider named by EMAIL_PROVIDER, else the one whose servers are set."""
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
