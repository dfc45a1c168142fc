"""Reading the environment and ``.env`` once, at an entry point.

Every fault is collected, so that one start shows all of them: one line each, with the variable, what was
found and what is expected. Neither a secret nor a line of ``.env`` is ever printed.
"""

import io
import os
import pwd
import re
import stat
from collections.abc import Mapping
from difflib import get_close_matches
from importlib.util import find_spec
from pathlib import Path

from dotenv.parser import parse_stream
from pydantic import ValidationError

from cleo_email.accounts import QUOTES, begins_and_ends_with_a_quote
from cleo_email.agents.spec import UrlSpec, parse_spec
from cleo_email.certificates import VARIABLES
from cleo_email.errors import SettingsError
from cleo_email.http.address import trust_store, web_address
from cleo_email.mail.address import is_own
from cleo_email.oauth.client import CLIENT_CREDENTIALS, GOOGLE, MICROSOFT, guess_grant
from cleo_email.settings.model import NAMED_TOKEN, Settings, read_address
from cleo_email.settings.providers import find_preset, presets
from cleo_email.settings.signature import read_signature, signature_files
from cleo_email.settings.workflows import read_workflows

_FIELDS = {str(field.alias): field for field in Settings.model_fields.values()}
_SECRET = {name for name, field in _FIELDS.items() if "SecretStr" in repr(field)}
Values = Mapping[str, str]  # by the names of variables
DOTENV = Path(".env")  # in the working directory
_PREFIXES = ("EMAIL_", "CLEO_")
# Variables with these prefixes of deploy/postfix-pipe, of the crash points and of the tests.
_ELSEWHERE = {"CLEO_URL", "CLEO_SECRET_FILE", "CLEO_CRASH_AT", "CLEO_CORPORA", "CLEO_REQUIRE_SERVERS"}
_ELSEWHERE |= {"CLEO_EXAMPLES"}  # where the tests find or make the environments of examples/


def read_settings(
    environ: Values | None = None, *, dotenv: Path | None = DOTENV, defaults: Values | None = None
) -> Settings:
    """Return the settings of the environment and ``.env`` in the working directory; the environment wins.

    ``environ`` is that of this process by default. ``defaults`` count where neither has a value. Raise
    SettingsError with a line per fault.
    """
    return make_settings(gather(environ, dotenv=dotenv, defaults=defaults))


def gather(
    environ: Values | None = None, *, dotenv: Path | None = DOTENV, defaults: Values | None = None
) -> dict[str, str]:
    """Return what ``read_settings`` reads, by name, without empty values. Raise SettingsError."""
    file, faults = read_dotenv(dotenv) if dotenv else ({}, [])
    if faults:
        raise SettingsError(faults)
    return merge(file, os.environ if environ is None else environ, defaults or {})


def merge(file: Values, environ: Values, defaults: Values) -> dict[str, str]:
    """Return the values that count, by name; a variable that is set but empty hides that of the file."""
    stripped = {name: value.strip() for name, value in {**file, **environ}.items()}
    return {**defaults, **{name: value for name, value in stripped.items() if value}}


def make_settings(given: Values) -> Settings:
    """Return the settings that such values make. Raise SettingsError with a line per fault."""
    values = dict(given)
    faults = _apply_provider(values)
    path = values.get("CLEO_WORKFLOWS")
    workflows, lines = read_workflows(path) if path else (None, [])
    signature, unread = read_signature(values.get("EMAIL_SIGNATURE", ""))
    read = {"CLEO_WORKFLOWS": workflows, "EMAIL_SIGNATURE": signature}
    settings = None
    try:
        settings = Settings.model_validate({**values, **read})
    except ValidationError as error:
        faults += dict.fromkeys(_line(str(item["loc"][0]), values) for item in error.errors())
    faults += [f"CLEO_WORKFLOWS: {line}" for line in lines]
    faults += [f"EMAIL_SIGNATURE: {line}" for line in unread]
    faults += [*_missing(values), *_oauth(values), *_trust(values), *_agent(values), *_events(values)]
    if settings is not None:
        faults += [*_handoff(settings), *_alerts(settings)]
    if settings is None or faults:
        raise SettingsError(faults)
    return settings


def fingerprint(given: Values) -> tuple[object, ...]:
    """Return a key that changes where ``make_settings`` could make other settings of the values.

    Comparing keys is much faster than making settings, which loads a trust store.
    """
    return (
        *((name, given[name]) for name in (*_FIELDS, *VARIABLES) if name in given),
        *(_stamp(given[name]) for name in ("CLEO_WORKFLOWS", *VARIABLES) if name in given),
        *((path, _stamp(str(path))) for path in signature_files(given.get("EMAIL_SIGNATURE", "")).values()),
    )


def _stamp(path: str) -> tuple[int, ...]:
    try:
        found = Path(path).stat()
    except OSError:
        return ()
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns


def read_dotenv(path: Path) -> tuple[dict[str, str], list[str]]:
    """Return the values in the file, by name, and a line for each fault; neither where there is no file."""
    found = None
    try:
        found = path.stat()
        if stat.S_ISDIR(found.st_mode):
            return {}, [".env: found a directory, expected a file with lines NAME=value"]
        text = path.read_text("utf-8") if stat.S_ISREG(found.st_mode) else ""
    except (FileNotFoundError, NotADirectoryError):
        return {}, []
    except PermissionError:
        what = "a directory"
        if found:
            what = f"a file of {_user(found.st_uid)} (mode {stat.S_IMODE(found.st_mode):o})"
        us = f"{_user(os.geteuid())}, the user of this process,"
        return {}, [f".env: found {what} that {us} may not read, expected one that this user may read"]
    except (OSError, UnicodeDecodeError) as error:
        return {}, [f".env: found a file that cannot be read ({type(error).__name__}), expected UTF-8 text"]
    values, faults = {}, []
    for binding in parse_stream(io.StringIO(text)):
        if binding.error:
            # The parser counts from the blank lines in front of what it could not read.
            blank = re.match(r"\s*", binding.original.string)
            line = binding.original.line + len(re.findall(r"\r\n|\n|\r", blank[0] if blank else ""))
            faults.append(f".env line {line}: cannot be read as NAME=value (is a quote not closed?)")
        elif binding.key and binding.value is not None:
            values[binding.key] = binding.value
    return values, faults


def _user(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"user {uid}"


def export_dotenv(dotenv: Path = DOTENV) -> None:
    """Put what ``.env`` holds beside our settings into this process's environment, where it is not set yet.

    OpenSSL reads SSL_CERT_FILE there, and an agent its own variables. Our own settings, passwords among them,
    stay out of it: every subprocess would inherit them. Faults of the file are left to ``read_settings``.
    """
    for name, value in read_dotenv(dotenv)[0].items():
        if name not in _FIELDS:
            os.environ.setdefault(name, value)


def no_dotenv() -> str:
    """Return a hint for a command that was given in the wrong directory, else nothing."""
    if DOTENV.exists() or os.environ.get("ENABLED_CLIENTS", "").strip():
        return ""
    return f" (there is no .env in {Path.cwd()})"


def doubts(given: Values) -> list[str]:
    """Return a line for each value that works otherwise than its author may think; no secret is shown."""
    lines = misspelt(given)
    # .env takes quotes off; what reads other files (docker run --env-file) and some web forms keep them.
    lines += [
        f"{name}: {QUOTES}"
        for name in sorted(_FIELDS.keys() & given.keys())
        if begins_and_ends_with_a_quote(given[name])
    ]
    tokens = [part.strip() for part in given.get("CLEO_API_TOKEN", "").split(",")]
    if any(":" in token and not NAMED_TOKEN.fullmatch(token) for token in tokens):
        lines.append(
            "CLEO_API_TOKEN: what stands before a colon is no name (at most 40 letters, digits, '.', '_' and "
            "'-'), so the whole value is the secret, and its name is token"
        )
    file = read_dotenv(DOTENV)[0]
    for name in VARIABLES:
        wanted, used = file.get(name, "").strip(), os.environ.get(name)
        if wanted and used is not None and used.strip() != wanted:
            lines.append(f"{name}: {used!r} of the environment is in force, and not {wanted!r} of .env")
    return lines


def misspelt(given: Values) -> list[str]:
    """Return a line for each name that begins like our settings but is none of them; no value is shown."""
    ours = [name for name in _FIELDS if name.startswith(_PREFIXES)]
    lines = []
    for name in sorted(given):
        if name.upper().startswith(_PREFIXES) and name not in _ELSEWHERE and name not in _FIELDS:
            # 0.75: two letters changed places, one is missing, a word was forgotten.
            near = get_close_matches(name.upper(), ours, 1, 0.75)
            hint = f": did you mean {near[0]}?" if near else ""
            lines.append(f"{name[:80]} is no setting and has no effect{hint}")
    return lines


def _line(name: str, values: Values, expected: str | None = None) -> str:
    value = values.get(name)
    if value is None:
        found = "nothing"
    elif name in _SECRET:
        found = "a value that is not shown"
    else:  # repr and not ascii: an umlaut is shown, what is invisible or turns the line around is escaped
        found = repr(value if len(value) <= 60 else value[:57] + "...")
    hint = ""
    if name == "REDIS_URL" and "@" in (value or ""):
        from cleo_email.store.faults import ESCAPES

        hint = f"; {ESCAPES}"
    if name in ("EMAIL_SMTP_HOST", "EMAIL_IMAP_HOST"):
        hint = _port_apart(name, value or "")
    return f"{name}: found {found}, expected {expected or _FIELDS[name].description}{hint}"


def _port_apart(name: str, value: str) -> str:
    """Return what to do about ``smtp.example.com:465`` or ``smtps://smtp.example.com``."""
    found = re.fullmatch(
        r"(?:[a-z0-9+]+://)?([a-z0-9.-]{1,253}|\[[0-9a-f:.]+\])(?::([0-9]{1,5}))?/?", value.lower()
    )
    if not found:
        return ""
    port = f" {name.replace('HOST', 'PORT')}={found[2]}" if found[2] else ""
    return f"; set {name}={found[1].strip('[]')}{port and ' and'}{port}"


def _missing(values: Values) -> list[str]:
    """Return a line for each setting that is missing while the channel is enabled."""
    if "email" not in {part.strip().lower() for part in values.get("ENABLED_CLIENTS", "").split(",")}:
        return []
    wanted = ["EMAIL_SMTP_HOST", "EMAIL_USER", *([] if _has_oauth(values) else ["EMAIL_PASSWORD"])]
    names = [name for name in wanted if name not in values]
    if "EMAIL_USER" in values and "EMAIL_FROM_ADDRESS" not in values:
        try:
            is_address = read_address(values["EMAIL_USER"]).addr == values["EMAIL_USER"]
        except ValueError:
            is_address = False
        if not is_address:
            user = _line("EMAIL_USER", values, "an address where EMAIL_FROM_ADDRESS is not set")
            return [_line(name, values) for name in [*names, "EMAIL_FROM_ADDRESS"]] + [user]
    return [_line(name, values) for name in names]


def _apply_provider(values: dict[str, str]) -> list[str]:
    """Fill in the servers of EMAIL_PROVIDER; a host that is set keeps the port that belongs to it."""
    if "EMAIL_PROVIDER" not in values:
        return []
    preset = find_preset(values["EMAIL_PROVIDER"])
    if preset is None:
        return [_line("EMAIL_PROVIDER", values, f"one of {', '.join(presets())}")]
    for kind, host, port in (("SMTP", preset.smtp_host, preset.smtp_port), ("IMAP", preset.imap_host, 993)):
        if f"EMAIL_{kind}_HOST" not in values:
            values[f"EMAIL_{kind}_HOST"] = host
            values.setdefault(f"EMAIL_{kind}_PORT", str(port))
    return []


def _has_oauth(values: Values) -> bool:
    return any(f"EMAIL_OAUTH_{name}" in values for name in ("PROVIDER", "TOKEN_URL", "CLIENT_ID"))


def _oauth(values: Values) -> list[str]:
    """Return a line for each OAuth setting that is missing or does not fit the others."""
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


def _handoff(settings: Settings) -> list[str]:
    """Return a line where a hand-over would come back to the agent's own mailbox."""
    own = [one.addr for one in settings.handoff_to if is_own(one.addr, settings.own_addresses)]
    return [
        f"EMAIL_HANDOFF_TO: found {one!r}, which is this mailbox, expected addresses of people" for one in own
    ]


def _alerts(settings: Settings) -> list[str]:
    """Return a line where an alert would come back to this mailbox, and where apprise is not installed."""
    own = [one.addr for one in settings.alert_addresses if is_own(one.addr, settings.own_addresses)]
    faults = [
        f"CLEO_ALERT_TO: found {one!r}, which is this mailbox, expected addresses of people" for one in own
    ]
    if settings.alert_urls and find_spec("apprise") is None:
        faults.append(
            "CLEO_ALERT_TO: found a URL, which needs the package apprise: pip install 'cleo-email[alerts]'"
        )
    return faults


def _agent(values: Values) -> list[str]:
    """Check the form of CLEO_AGENT only; the agent itself is looked for where it is built."""
    if "CLEO_AGENT" not in values:
        return []
    try:
        wanted = parse_spec(values["CLEO_AGENT"])
        if isinstance(wanted, UrlSpec):
            web_address("CLEO_AGENT", wanted.url)
    except SettingsError as error:
        return list(error.faults)
    return []


def _events(values: Values) -> list[str]:
    """Check the form of CLEO_EVENTS_URL. An event that is not signed could come from anybody."""
    if "CLEO_EVENTS_URL" not in values:
        return []
    faults = [] if "CLEO_EVENTS_SECRET" in values else [_line("CLEO_EVENTS_SECRET", values)]
    try:
        web_address("CLEO_EVENTS_URL", values["CLEO_EVENTS_URL"])
    except SettingsError as error:
        faults += error.faults
    return faults


def _trust(values: Values) -> list[str]:
    """Check a private CA now: later a bad one would look like a certificate error of every server."""
    try:
        trust_store(values)
    except SettingsError as error:
        return list(error.faults)
    return []
