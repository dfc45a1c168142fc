"""Reading the environment once, at a door.

Every fault is collected, so that one start tells all of them: one line each, with the variable, what was
found and what is expected. Secrets are never printed.
"""

from __future__ import annotations

import os
import ssl
from collections.abc import Mapping
from pathlib import Path

from dotenv import dotenv_values
from pydantic import ValidationError

from cleo_email.errors import SettingsError
from cleo_email.settings.model import Settings
from cleo_email.settings.types import read_address

# REDIS_URL and whatever else is declared as a secret is told of without its value.
_SECRET = {field.alias for field in Settings.model_fields.values() if "SecretStr" in repr(field)}


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
            read_address(values["EMAIL_USER"])
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
