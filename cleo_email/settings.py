"""The environment, read once at a door into one frozen ``Settings``.

Every fault is collected, so that one start tells all of them: one line each, with the variable, what was
found and what is expected. Secrets are never printed.
"""

from __future__ import annotations

import os
import ssl
from collections.abc import Mapping
from email.utils import parseaddr
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import urlsplit

from dotenv import dotenv_values
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, SecretStr, ValidationError

from cleo_email.accounts import ImapAccount, Login, SmtpAccount
from cleo_email.errors import SettingsError
from cleo_email.mail.model import Address


def _csv(value: object) -> object:
    if isinstance(value, str):
        return tuple(part.strip() for part in value.split(",") if part.strip())
    return value


def _address(value: object) -> object:
    if not isinstance(value, str):
        return value
    name, addr = parseaddr(value)
    local, _, domain = addr.rpartition("@")
    if not local or not domain or any(ord(c) < 33 or ord(c) > 126 for c in addr) or "\n" in value:
        raise ValueError("no address")
    return Address(addr, name)


def _flag(value: object) -> object:
    words = {"1": True, "true": True, "yes": True, "0": False, "false": False, "no": False}
    if isinstance(value, str):
        if value.lower() not in words:
            raise ValueError(value)
        return words[value.lower()]
    return value


def _patterns(value: object) -> object:
    parts = _csv(value)
    if isinstance(parts, tuple):
        for part in parts:
            local, at, domain = part.rpartition("@")
            if not at or not domain or " " in part or "@" in local:
                raise ValueError(part)
        return tuple(part.casefold() for part in parts)
    return parts


def _redis_url(value: object) -> object:
    if isinstance(value, str):
        parts = urlsplit(value)
        if parts.scheme not in {"redis", "rediss", "unix"} or not (parts.netloc or parts.path.strip("/")):
            raise ValueError("scheme")
        _ = parts.port  # raises ValueError on nonsense
    return value


_PORT = "a whole number from 1 to 65535"
Port = Annotated[int, Field(ge=1, le=65535)]
Csv = Annotated[tuple[str, ...], BeforeValidator(_csv)]
Secrets = Annotated[tuple[SecretStr, ...], BeforeValidator(_csv)]
Patterns = Annotated[tuple[str, ...], BeforeValidator(_patterns)]
Flag = Annotated[bool, BeforeValidator(_flag)]
Positive = Annotated[int, Field(ge=1, le=2**53)]
_WHOLE = "a whole number from 1"
_FLAG = "0 or 1"
_LIST = "addresses and @domains, separated by commas, such as anna@example.com,@example.org"


def _env(name: str, expected: str, default: Any = None) -> Any:
    return Field(default=default, alias=name, description=expected)


class Settings(BaseModel):
    """All of the contract's environment. Aliases are the variables' names; see ``docs`` and the README."""

    model_config = ConfigDict(
        frozen=True, extra="ignore", hide_input_in_errors=True, arbitrary_types_allowed=True
    )

    enabled_clients: Csv = _env("ENABLED_CLIENTS", "names separated by commas, such as email", ())
    smtp_host: str = _env("EMAIL_SMTP_HOST", "the submission server's name, such as smtp.example.com", "")
    smtp_port: Port = _env("EMAIL_SMTP_PORT", _PORT, 587)
    user: str = _env("EMAIL_USER", "the login of the mailbox, usually its address", "")
    password: SecretStr = _env("EMAIL_PASSWORD", "the password of EMAIL_USER", SecretStr(""))
    from_: Annotated[Address | None, BeforeValidator(_address)] = _env(
        "EMAIL_FROM_ADDRESS", "an address, or Name <address>; required where EMAIL_USER is no address"
    )
    imap_host: str | None = _env("EMAIL_IMAP_HOST", "the IMAP server's name, such as imap.example.com")
    imap_port: Port = _env("EMAIL_IMAP_PORT", _PORT, 993)
    poll_interval: Annotated[int, Field(ge=1, le=86400)] = _env(
        "EMAIL_POLL_INTERVAL_SECONDS", "a whole number of seconds from 1 to 86400", 60
    )
    redis_url: Annotated[SecretStr, BeforeValidator(_redis_url)] = _env(
        "REDIS_URL",
        "a URL that begins with redis://, rediss:// or unix://",
        SecretStr("redis://localhost:6379/0"),
    )
    agent: str = _env("CLEO_AGENT", "echo, http(s)://…, openai:MODEL or package.module:callable", "echo")
    agent_token: SecretStr | None = _env("CLEO_AGENT_TOKEN", "the agent's bearer token")
    agent_timeout: Annotated[float, Field(gt=0, le=86400)] = _env(
        "CLEO_AGENT_TIMEOUT_SECONDS", "a number of seconds above 0", 300.0
    )
    api_token: SecretStr | None = _env("CLEO_API_TOKEN", "a bearer token")
    webhook_secrets: Secrets = _env("EMAIL_WEBHOOK_SECRET", "secrets separated by commas", ())
    allowed_senders: Patterns = _env("EMAIL_ALLOWED_SENDERS", _LIST, ())
    allowed_robots: Patterns = _env("EMAIL_ALLOWED_ROBOTS", _LIST, ())
    authserv_id: str | None = _env(
        "EMAIL_TRUSTED_AUTHSERV_ID", "the authserv-id of your own mail server, such as mx.example.com"
    )
    max_message_bytes: Positive = _env("EMAIL_MAX_MESSAGE_BYTES", _WHOLE, 26_214_400)
    max_attachment_bytes: Positive = _env("EMAIL_MAX_ATTACHMENT_BYTES", _WHOLE, 10_485_760)
    concurrency: Annotated[int, Field(ge=1, le=1000)] = _env(
        "EMAIL_CONCURRENCY", "a whole number from 1 to 1000", 50
    )
    max_replies_per_thread: Positive = _env("EMAIL_MAX_REPLIES_PER_THREAD", _WHOLE, 20)
    max_replies_per_sender: Positive = _env("EMAIL_MAX_REPLIES_PER_SENDER", _WHOLE, 60)
    max_sends_per_hour: Positive = _env("EMAIL_MAX_SENDS_PER_HOUR", _WHOLE, 500)
    max_age_days: Annotated[int, Field(ge=1, le=36500)] = _env("EMAIL_MAX_AGE_DAYS", _WHOLE, 7)
    retention_days: Annotated[int, Field(ge=1, le=36500)] = _env("EMAIL_RETENTION_DAYS", _WHOLE, 90)
    save_sent: Flag = _env("EMAIL_SAVE_SENT", _FLAG, True)
    reply_all: Flag = _env("EMAIL_REPLY_ALL", _FLAG, False)

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
            own.add(self.user.casefold())
        return frozenset(own)

    @property
    def login(self) -> Login:
        return Login(self.user, self.password.get_secret_value())

    @property
    def smtp(self) -> SmtpAccount:
        return SmtpAccount(self.smtp_host, self.smtp_port, self.login)

    @property
    def imap(self) -> ImapAccount | None:
        return ImapAccount(self.imap_host, self.imap_port, self.login) if self.imap_host else None


_SECRET = {"EMAIL_PASSWORD", "CLEO_AGENT_TOKEN", "CLEO_API_TOKEN", "EMAIL_WEBHOOK_SECRET", "REDIS_URL"}


def read_settings(
    environ: Mapping[str, str] | None = None, *, dotenv: Path | None = Path(".env")
) -> Settings:
    """Read the environment and ``.env`` in the working directory; the environment wins.

    Without ``environ`` the file's values also enter this process's environment: OpenSSL reads SSL_CERT_FILE
    there, and an agent its own variables. Raises SettingsError with a line per fault.
    """
    given: dict[str, str] = {}
    faults: list[str] = []
    if dotenv is not None and dotenv.is_file():
        try:
            given.update({k: v for k, v in dotenv_values(dotenv).items() if v is not None})
        except (OSError, UnicodeDecodeError) as error:
            faults.append(
                f".env: found a file that cannot be read ({type(error).__name__}), expected UTF-8 text"
            )
    if environ is None:
        for name, value in given.items():
            os.environ.setdefault(name, value)
        environ = os.environ
    given.update(environ)
    values = {name: value.strip() for name, value in given.items() if value.strip()}
    settings = None
    try:
        settings = Settings.model_validate(values)
    except ValidationError as error:
        names = dict.fromkeys(str(item["loc"][0]) for item in error.errors(include_input=False))
        faults.extend(_line(name, values) for name in names)
    faults.extend(_missing(values))
    faults.extend(_trust(values))
    if faults or settings is None:
        raise SettingsError(faults)
    return settings


def _line(name: str, values: Mapping[str, str]) -> str:
    expected = {field.alias: field.description for field in Settings.model_fields.values()}
    return f"{name}: found {_found(name, values)}, expected {expected.get(name, 'another value')}"


def _found(name: str, values: Mapping[str, str]) -> str:
    value = values.get(name)
    if value is None:
        return "nothing"
    if name in _SECRET:
        return "a value that is not shown"
    return ascii(value if len(value) <= 60 else value[:57] + "...")


def _missing(values: Mapping[str, str]) -> list[str]:
    """What the channel cannot do without; asked for only where it is switched on."""
    if "email" not in {part.strip().lower() for part in values.get("ENABLED_CLIENTS", "").split(",")}:
        return []
    names = [name for name in ("EMAIL_SMTP_HOST", "EMAIL_USER", "EMAIL_PASSWORD") if name not in values]
    if "EMAIL_USER" in values and "EMAIL_FROM_ADDRESS" not in values:
        try:
            _address(values["EMAIL_USER"])
        except ValueError:
            names.append("EMAIL_FROM_ADDRESS")
    return [_line(name, values) for name in names]


def _trust(values: Mapping[str, str]) -> list[str]:
    """A private CA that cannot be read would only show later, as a certificate fault of every server."""
    lines = []
    file, folder = values.get("SSL_CERT_FILE"), values.get("SSL_CERT_DIR")
    if file:
        try:
            ssl.create_default_context(cafile=file)
        except (OSError, ssl.SSLError):
            lines.append(f"SSL_CERT_FILE: found {file!a}, expected a readable file of PEM certificates")
    if folder and not all(Path(part).is_dir() for part in folder.split(os.pathsep)):
        lines.append(f"SSL_CERT_DIR: found {folder!a}, expected a directory of PEM certificates")
    return lines
