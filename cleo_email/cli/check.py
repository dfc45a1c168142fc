"""``cleo-email check``: test every part, and print a line for each with what to do about it."""

import json
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, replace

import click
from redis import Redis
from redis.exceptions import RedisError

from cleo_email.agents.build import build_agent
from cleo_email.agents.openai import DEFAULT_BASE_URL, OpenAIAgent
from cleo_email.app import App
from cleo_email.cli.command import SettingsCommand, as_json, settings_here
from cleo_email.errors import CleoError, MailboxError, SettingsError, StoreUnavailable
from cleo_email.http.address import web_address
from cleo_email.http.client import HttpClient, TlsFailed, UntrustedCertificate
from cleo_email.imap.mailbox import Mailbox
from cleo_email.pipeline.workflows import load_suppliers, next_due
from cleo_email.runtime import Deadline, now_ms
from cleo_email.settings import Settings, gather, misspelt, no_dotenv
from cleo_email.store import Store
from cleo_email.store.connection import connect_web

CONNECT_S = 10.0  # to the agent
OLDEST_REDIS = (6, 2)
# Under "appendonly yes" alone a Redis that starts does not load its snapshot: it would come up empty.
APPENDONLY = (
    "on the running Redis: redis-cli config set appendonly yes, then redis-cli config rewrite; "
    "never by a restart with the setting alone, which starts empty"
)


@dataclass(frozen=True)
class CheckResult:
    """``level`` is ``ok``, ``warning`` or ``wrong``; ``text`` says what to do unless it is ok."""

    what: str
    level: str
    text: str


@click.command(cls=SettingsCommand)
@as_json
def check(as_json: bool) -> int:
    """Test settings, Redis, IMAP, SMTP and the agent, a line each.

    Nothing is sent, and the agent is asked nothing, for an answer may cost money. The exit status is 1 where
    something is wrong.
    """
    results = examine()
    if as_json:
        print(json.dumps([asdict(result) for result in results], indent=1))
    else:
        for result in results:
            mark = "WRONG" if result.level == "wrong" else result.level
            print(f"{mark:7}  {result.what:9} {result.text}")
    return int(any(result.level == "wrong" for result in results))


def examine() -> list[CheckResult]:
    """Return all that can be known without sending a mail."""
    warnings: list[CheckResult] = []
    try:
        warnings += [CheckResult("settings", "warning", line) for line in misspelt(gather())]
        settings = settings_here()
    except SettingsError as error:
        faults = [CheckResult("settings", "wrong", f"{fault}{no_dotenv()}") for fault in error.faults]
        return faults + warnings
    if not settings.enabled:
        text = "ENABLED_CLIENTS does not list email: set ENABLED_CLIENTS=email" + no_dotenv()
        return [CheckResult("settings", "wrong", text), *warnings]
    results = [CheckResult("settings", "ok", f"mail goes out as {settings.from_address.addr}"), *warnings]
    for examiner in (examine_redis, _mail_servers, examine_agent, _workflows, _access):
        results += examiner(settings)
    return results


def _tried(what: str, action: Callable[[], str]) -> CheckResult:
    try:
        return CheckResult(what, "ok", action())
    except CleoError as error:
        return CheckResult(what, "wrong", str(error))


# --- Redis, and the worker's heartbeat in it --------------------------------------------------------------


def examine_redis(settings: Settings) -> Iterator[CheckResult]:
    """Say whether Redis answers, keeps what it accepts, and whether a worker is at work on it."""
    redis = connect_web(settings.redis_url.get_secret_value())
    try:
        info = {**redis.info("server"), **redis.info("persistence"), **redis.info("memory")}
    except (RedisError, OSError) as error:
        text = f"REDIS_URL: no answer ({type(error).__name__}); start Redis, or: cleo-email run"
        yield CheckResult("redis", "wrong", text)
        return
    found = str(info.get("redis_version", "0"))
    version = str(info.get("valkey_version") or found)
    if tuple(int(part) for part in found.split(".")[:2]) < OLDEST_REDIS:
        yield CheckResult("redis", "wrong", f"version {version}: 6.2 or newer is needed")
    else:
        yield CheckResult("redis", "ok", f"{info.get('server_name', 'redis')} {version}")
    yield _persistence(redis, info)
    policy = str(info.get("maxmemory_policy", "noeviction"))
    if policy != "noeviction" and info.get("maxmemory"):
        text = f"maxmemory-policy is {policy}: records may vanish; set it to noeviction"
        yield CheckResult("redis", "wrong", text)
    yield from _processes(redis)


def _persistence(redis: Redis, info: Mapping[str, object]) -> CheckResult:
    """Check persistence, without which a restart of Redis loses accepted mail."""
    if info.get("aof_enabled"):
        fsync = _redis_setting(redis, "appendfsync")
        return CheckResult("redis", "ok", f"appendonly is on, appendfsync {fsync}")
    if _redis_setting(redis, "save") not in ("", "?"):
        text = (
            f"only snapshots are kept: what came since the last one is lost in a crash. Mend it {APPENDONLY}"
        )
    else:
        text = f"nothing is kept over a restart. Mend it {APPENDONLY}. Hosted: choose a plan with persistence"
    return CheckResult("redis", "warning", text)


def _redis_setting(redis: Redis, name: str) -> str:
    """Return a setting of the server, or ``?`` where a hosted one does not tell."""
    try:
        return str(redis.config_get(name).get(name, "?"))
    except RedisError:
        return "?"


def _processes(redis: Redis) -> Iterator[CheckResult]:
    try:
        health, failing = Store(redis).health.read(), Store(redis).health.upkeep_faults()
    except StoreUnavailable as error:
        yield CheckResult("redis", "wrong", str(error))
        return
    if health.submission_fault:
        yield CheckResult("sending", "wrong", f"stopped: {health.submission_fault}")
    yield from (CheckResult("upkeep", "warning", fault) for fault in failing)
    if health.worker_is_away(now_ms()):
        text = "none has been seen in the last 90 s: start cleo-email run, or python worker.py"
        yield CheckResult("worker", "warning", text)
    else:
        yield CheckResult("worker", "ok", "at work")


# --- the mail servers -------------------------------------------------------------------------------------


def _mail_servers(settings: Settings) -> Iterator[CheckResult]:
    """Say what the provider wants, and whether IMAP and SMTP let the agent in."""
    preset, app = settings.preset, App(settings)
    if preset and settings.oauth is None:
        yield CheckResult("provider", "ok", f"{preset.title}: {preset.needs}")
    if app.mailbox is None:
        yield CheckResult("imap", "ok", "EMAIL_IMAP_HOST is not set: mail comes by webhook only")
    else:
        with app.mailbox as mailbox:
            yield _with_needs(settings, _tried("imap", lambda: _inbox(mailbox)))
    with app.submitter as submitter:
        yield _with_needs(settings, _tried("smtp", submitter.check))


def _inbox(mailbox: Mailbox) -> str:
    """Check the mailbox. Raise MailboxError if it cannot be polled."""
    text = mailbox.check()
    if mailbox.open().read_only:
        raise MailboxError(f"{text}; give EMAIL_USER the right to write to its INBOX")
    return text


def _with_needs(settings: Settings, result: CheckResult) -> CheckResult:
    """Add what the provider asks for: a login is mostly refused where that is lacking."""
    preset = settings.preset
    refused = result.level == "wrong" and "login" in result.text.lower()
    if not refused or preset is None or "cleo-email login" in result.text:
        return result
    needs = preset.needs if settings.oauth is None else preset.oauth_needs
    return replace(result, text=f"{result.text}. {preset.title}: {needs}") if needs else result


# --- the agent --------------------------------------------------------------------------------------------


def examine_agent(settings: Settings) -> Iterator[CheckResult]:
    """Say whether the agent can be reached or loaded; it is asked nothing."""
    token = settings.agent_token.get_secret_value() if settings.agent_token else None
    try:
        agent = build_agent(settings.agent, token=token, environ=os.environ)
    except SettingsError as error:
        yield from (CheckResult("agent", "wrong", fault) for fault in error.faults)
        return
    if settings.agent == "echo":
        yield CheckResult("agent", "warning", "CLEO_AGENT is echo: mail is answered with its own text")
    elif isinstance(agent, OpenAIAgent):
        url = os.environ.get("OPENAI_BASE_URL", "").strip() or DEFAULT_BASE_URL
        yield _tried("agent", lambda: _connected("OPENAI_BASE_URL", url, "key and model"))
    elif "://" in settings.agent:
        yield _tried("agent", lambda: _connected("CLEO_AGENT", settings.agent, "path and token"))
    else:
        yield CheckResult("agent", "ok", f"{settings.agent} was found")


def _connected(variable: str, url: str, untested: str) -> str:
    """Say that a server answers at ``url``, which ``variable`` names. Raise CleoError."""
    address = web_address(variable, url)
    client = HttpClient(address, os.environ)
    place = f"{address.host}:{address.port}"
    way = f" through the proxy {client.proxy.host}:{client.proxy.port}" if client.proxy else ""
    try:
        client.reach(Deadline(CONNECT_S))
    except UntrustedCertificate as error:
        raise CleoError(f"{place}: {error} (a private CA: SSL_CERT_FILE)") from None
    except OSError as error:
        plain = isinstance(error, TlsFailed) and error.plain
        fault = "does not speak TLS: http://?" if plain else f"cannot be reached{way}: {error}"
        raise CleoError(f"{place} {fault} ({variable})") from None
    return f"{place} answers{way}; {untested} are tested by the first mail"


# --- the rest ---------------------------------------------------------------------------------------------


def _workflows(settings: Settings) -> Iterator[CheckResult]:
    workflows = settings.workflows or {}
    try:
        load_suppliers(workflows)
    except SettingsError as error:
        yield from (CheckResult("workflows", "wrong", fault) for fault in error.faults)
        return
    for one in workflows.values():
        text = f"{one.id}: started by POST /workflows"
        if one.schedule:
            due = next_due(one.schedule, one.timezone, now_ms())
            many = "" if len(one.users) == 1 else "s"
            text = f"{one.id}: next {due:%a %Y-%m-%d %H:%M %Z}, to {len(one.users)} user{many}"
        yield CheckResult("workflows", "ok", text)


def _access(settings: Settings) -> Iterator[CheckResult]:
    if not settings.webhook_secrets:
        text = "EMAIL_WEBHOOK_SECRET is not set: webhooks are taken only from this machine itself"
        yield CheckResult("webhook", "ok", text)
    if not settings.api_tokens:
        text = "CLEO_API_TOKEN is not set: /email/send and /email/messages answer only this machine itself"
        yield CheckResult("api", "ok", text)
