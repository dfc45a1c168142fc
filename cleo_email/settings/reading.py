"""Reading the environment once, at an entry point.

Every fault is collected, so that one start tells all of them: one line each, with the variable, what was
found and what is expected. Secrets are never printed.
"""

from __future__ import annotations

import os
import ssl
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from cleo_email.agents.spec import UrlSpec, parse_spec
from cleo_email.errors import SettingsError
from cleo_email.http import web_address
from cleo_email.oauth.client import CLIENT_CREDENTIALS, GOOGLE, MICROSOFT, guess_grant
from cleo_email.settings.dotenv_file import read_dotenv
from cleo_email.settings.model import Settings
from cleo_email.settings.providers import find_preset
from cleo_email.settings.types import read_address
from cleo_email.settings.workflows import WorkflowFaults

# REDIS_URL and whatever else is declared as a secret is told of without its value.
_SECRET = {field.alias for field in Settings.model_fields.values() if "SecretStr" in repr(field)}
NAMES = frozenset(field.alias for field in Settings.model_fields.values() if field.alias)
DOTENV = Path(".env")  # in the working directory


def read_settings(
    environ: Mapping[str, str] | None = None,
    *,
    dotenv: Path | None = DOTENV,
    defaults: Mapping[str, str] | None = None,
) -> Settings:
    """Read the environment and ``.env`` in the working directory; the environment wins.

    ``environ`` is that of this process where it is not given. ``defaults`` count where neither says anything,
    and EMAIL_PROVIDER's servers where nobody names others. Changes nothing. Raises SettingsError with a line
    per fault.
    """
    return make_settings(gather(environ, dotenv=dotenv, defaults=defaults))


def gather(
    environ: Mapping[str, str] | None = None,
    *,
    dotenv: Path | None = DOTENV,
    defaults: Mapping[str, str] | None = None,
    foreign: bool = False,
) -> dict[str, str]:
    """What ``read_settings`` reads, by name and without what is empty. Raises SettingsError on the file.

    ``foreign``: the file belongs to an application that calls us, and may hold lines that we cannot read.
    """
    file = read_dotenv(dotenv, foreign=foreign) if dotenv else {}
    given = {**file, **(os.environ if environ is None else environ)}
    stripped = {name: value.strip() for name, value in given.items()}
    return {**(defaults or {}), **{name: value for name, value in stripped.items() if value}}


def make_settings(given: Mapping[str, str]) -> Settings:
    """The settings that such values make. Raises SettingsError with a line per fault."""
    values = dict(given)
    faults = _apply_provider(values)
    settings = None
    try:
        settings = Settings.model_validate(values)
    except ValidationError as error:
        faults.extend(dict.fromkeys(line for item in error.errors() for line in _lines(item, values)))
    faults.extend(_missing(values))
    faults.extend(_oauth(values))
    faults.extend(_trust(values))
    faults.extend(_agent(values))
    if faults or settings is None:
        raise SettingsError(faults)
    return settings


def export_dotenv(dotenv: Path = DOTENV) -> None:
    """Put what ``.env`` holds beside our settings into this process's environment, where it is not set yet.

    OpenSSL reads SSL_CERT_FILE there, and an agent its own variables. Our own settings, passwords among them,
    stay out of it: every subprocess would inherit them. For processes that are ours alone. What is wrong with
    the file ``read_settings`` tells.
    """
    with suppress(SettingsError):
        for name, value in read_dotenv(dotenv).items():
            if name not in NAMES:
                os.environ.setdefault(name, value)


def _lines(item: ErrorDetails, values: Mapping[str, str]) -> list[str]:
    name = str(item["loc"][0])
    cause = item.get("ctx", {}).get("error")
    if isinstance(cause, WorkflowFaults):
        return [f"{name}: {line}" for line in cause.lines]
    return [_line(name, values)]


def _line(name: str, values: Mapping[str, str]) -> str:
    expected = {field.alias: field.description for field in Settings.model_fields.values()}
    hint = _unquoted_comma(values.get(name, "")) if name == "EMAIL_FROM_ADDRESS" else ""
    return f"{name}: found {_found(name, values)}, expected {expected.get(name, 'another value')}{hint}"


def _unquoted_comma(value: str) -> str:
    """What to do about ``Müller, Jürgen <agent@example.com>``, which RFC 5322 reads as two addresses."""
    name, _, rest = value.partition("<")
    if "," not in name or '"' in name or "@" in name or not rest.endswith(">"):
        return ""
    shown = f'"{name.strip()}" <{rest}'
    return f"; put the name into double quotes: {shown}" if shown.isprintable() and len(shown) < 120 else ""


def _found(name: str, values: Mapping[str, str]) -> str:
    value = values.get(name)
    if value is None:
        return "nothing"
    if name in _SECRET:
        return "a value that is not shown"
    # repr and not ascii: an umlaut is shown, what is invisible or turns the line around is escaped.
    return repr(value if len(value) <= 60 else value[:57] + "...")


def _missing(values: Mapping[str, str]) -> list[str]:
    """What the channel cannot do without; asked for only where it is switched on."""
    if "email" not in {part.strip().lower() for part in values.get("ENABLED_CLIENTS", "").split(",")}:
        return []
    wanted = ["EMAIL_SMTP_HOST", "EMAIL_USER", *([] if _has_oauth(values) else ["EMAIL_PASSWORD"])]
    names = [name for name in wanted if name not in values]
    if "EMAIL_USER" in values and "EMAIL_FROM_ADDRESS" not in values:
        try:
            read_address(values["EMAIL_USER"])
        except ValueError:
            names.append("EMAIL_FROM_ADDRESS")
    return [_line(name, values) for name in names]


def _apply_provider(values: dict[str, str]) -> list[str]:
    """Fill in the servers of EMAIL_PROVIDER; a host that is set keeps the port that belongs to it."""
    if "EMAIL_PROVIDER" not in values:
        return []
    preset = find_preset(values["EMAIL_PROVIDER"])
    if preset is None:
        return [_line("EMAIL_PROVIDER", values)]
    own = {kind for kind in ("EMAIL_SMTP", "EMAIL_IMAP") if f"{kind}_HOST" in values}
    for name, value in preset.values().items():
        if name.rpartition("_")[0] not in own:
            values.setdefault(name, value)
    return []


def _has_oauth(values: Mapping[str, str]) -> bool:
    return any(
        name in values for name in ("EMAIL_OAUTH_PROVIDER", "EMAIL_OAUTH_TOKEN_URL", "EMAIL_OAUTH_CLIENT_ID")
    )


def _oauth(values: Mapping[str, str]) -> list[str]:
    """What OAuth cannot do without, beyond what each value must look like."""
    if not _has_oauth(values):
        return []
    provider = values.get("EMAIL_OAUTH_PROVIDER", "").lower()
    names = [name for name in ("EMAIL_OAUTH_CLIENT_ID", "CLEO_SECRET_KEY") if name not in values]
    if not provider and "EMAIL_OAUTH_TOKEN_URL" not in values:
        names.append("EMAIL_OAUTH_TOKEN_URL")
    secret = values.get("EMAIL_OAUTH_CLIENT_SECRET", "")
    refresh = values.get("EMAIL_OAUTH_REFRESH_TOKEN", "")
    grant = values.get("EMAIL_OAUTH_GRANT", "").lower()
    grant = grant or guess_grant(provider, client_secret=secret, refresh_token=refresh)
    if not secret and (provider == GOOGLE.name or grant == CLIENT_CREDENTIALS):
        names.append("EMAIL_OAUTH_CLIENT_SECRET")
    by_tenant = provider == MICROSOFT.name and grant == CLIENT_CREDENTIALS
    if by_tenant and not {"EMAIL_OAUTH_TENANT", "EMAIL_OAUTH_TOKEN_URL"} & values.keys():
        names.append("EMAIL_OAUTH_TENANT")
    faults = [_line(name, values) for name in names]
    if provider == GOOGLE.name and grant == CLIENT_CREDENTIALS and "EMAIL_OAUTH_TOKEN_URL" not in values:
        faults.append(
            "EMAIL_OAUTH_GRANT: found 'client_credentials', expected refresh_token: Google has no other "
            "grant for mailboxes; run: cleo-email login google"
        )
    return faults


def _agent(values: Mapping[str, str]) -> list[str]:
    """Whether CLEO_AGENT names somebody at all; whether that one is there shows where the agent is built."""
    try:
        wanted = parse_spec(values.get("CLEO_AGENT", "echo"))
        if isinstance(wanted, UrlSpec):
            web_address("CLEO_AGENT", wanted.url)
    except SettingsError as error:
        return list(error.faults)
    return []


def _trust(values: Mapping[str, str]) -> list[str]:
    """A private CA that cannot be read would only show later, as a certificate fault of every server."""
    lines = []
    file, folder = values.get("SSL_CERT_FILE"), values.get("SSL_CERT_DIR")
    if file:
        try:
            ssl.create_default_context(cafile=file)
        except (OSError, ssl.SSLError):
            lines.append(f"SSL_CERT_FILE: found {file!r}, expected a readable file of PEM certificates")
    if folder and not all(Path(part).is_dir() for part in folder.split(os.pathsep)):
        lines.append(f"SSL_CERT_DIR: found {folder!r}, expected a directory of PEM certificates")
    return lines
