"""``cleo-email check``: test every part, and print a line for each with what to do about it."""

import contextlib
import json
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, replace

import click
from redis import Redis
from redis.exceptions import RedisError

from cleo_email.agents.build import EchoAgent, build_agent
from cleo_email.agents.openai import DEFAULT_BASE_URL
from cleo_email.agents.python import file_of
from cleo_email.agents.spec import CallableSpec, ModelSpec, parse_spec
from cleo_email.app import App
from cleo_email.cli.command import SettingsCommand, as_json, settings_here
from cleo_email.errors import CleoError, MailboxError, SettingsError, StoreUnavailable
from cleo_email.http.address import web_address
from cleo_email.http.client import HttpClient, TlsFailed, UntrustedCertificate
from cleo_email.imap.mailbox import Mailbox
from cleo_email.imap.special_use import DRAFTS, SENT
from cleo_email.monitoring.ways import ByApprise
from cleo_email.pipeline.workflows import load_suppliers, next_due
from cleo_email.runtime import DAY, CallFailed, Deadline, call_within, now_ms
from cleo_email.settings import DOTENV, Settings, doubts, gather, no_dotenv
from cleo_email.store import State, Store, iso
from cleo_email.store.clock import ServerClock
from cleo_email.store.connection import connect_web

CONNECT_S = 10.0  # to the agent
FAILED_DAYS = 7
LOOKED_AT = 1000  # failed messages
OLDEST_REDIS = (6, 2)
NEWEST_ACCEPTED = 50  # accepted mails that are compared with Redis: a header is fetched of each
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
@click.option("--alert", is_flag=True, help="Send a test to CLEO_ALERT_TO, too.")
def check(as_json: bool, alert: bool) -> int:
    """Test settings, Redis, IMAP, SMTP and the agent, a line each.

    Nothing is sent without --alert, and the agent is asked nothing, for an answer may cost money. The exit
    status is 1 where something is wrong.
    """
    results = examine()
    if alert and results[0].level == "ok":
        results += try_alerts(settings_here())
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
    with contextlib.suppress(OSError):
        if DOTENV.stat().st_mode & 0o077:
            text = f"{DOTENV} can be read by other users of this machine: chmod 600 {DOTENV}"
            warnings.append(CheckResult("settings", "warning", text))
    try:
        warnings += [CheckResult("settings", "warning", line) for line in doubts(gather())]
        settings = settings_here()
    except SettingsError as error:
        faults = [CheckResult("settings", "wrong", f"{fault}{no_dotenv()}") for fault in error.faults]
        return faults + warnings
    if not settings.enabled:
        text = "ENABLED_CLIENTS does not list email: set ENABLED_CLIENTS=email" + no_dotenv()
        return [CheckResult("settings", "wrong", text), *warnings]
    results = [CheckResult("settings", "ok", f"mail goes out as {settings.from_address.addr}"), *warnings]
    examiners = (examine_redis, _mail_servers, examine_agent, _workflows, examine_alerts, examine_events)
    for examiner in (*examiners, _access):
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
        Store(redis).health.try_writes()
    except StoreUnavailable as error:
        yield CheckResult("redis", "wrong", str(error))
        return
    yield from _server(redis)
    clock = ServerClock(redis)
    yield from _processes(redis, clock())
    if clock.ahead_ms:
        yield CheckResult("clock", "warning", clock.describe())


def _server(redis: Redis) -> Iterator[CheckResult]:
    try:
        info = {**redis.info("server"), **redis.info("persistence"), **redis.info("memory")}
    except RedisError as error:
        text = f"takes mail; what it keeps over a restart is unknown, since INFO failed: {error}"
        yield CheckResult("redis", "warning", text)
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


def _processes(redis: Redis, now: int) -> Iterator[CheckResult]:
    try:
        health, failing = Store(redis).health.read(), Store(redis).health.upkeep_faults()
    except StoreUnavailable as error:
        yield CheckResult("redis", "wrong", str(error))
        return
    if health.submission_fault:
        yield CheckResult("sending", "wrong", f"stopped: {health.submission_fault}")
    if health.poll_fault:
        yield CheckResult("polling", "warning", f"the worker's last poll failed: {health.poll_fault}")
    yield from (CheckResult("upkeep", "warning", fault) for fault in failing)
    if health.worker_is_away(now):
        text = "none has been seen in the last 90 s: start cleo-email run, or python worker.py"
        yield CheckResult("worker", "warning", text)
    else:
        yield CheckResult("worker", "ok", "at work")
    yield from _failures(redis)
    yield from _waiting(redis)


def _waiting(redis: Redis) -> Iterator[CheckResult]:
    """Say how much of the newest mail waits for what the agent, or somebody whom it asked, says later."""
    try:
        records, _ = Store(redis).messages.page(state=State.ANSWERING, limit=LOOKED_AT)
    except StoreUnavailable:
        return
    waiting = [one for one in records if one.waits_until]
    if waiting:
        count = f"{len(waiting)}{'+' if len(records) == LOOKED_AT else ''}"
        next_ = min(waiting, key=lambda one: one.waits_until)
        text = f"{count} wait for a later answer of the agent; the first: {next_.id}, {next_.reason}"
        yield CheckResult("agent", "ok", text)


def _failures(redis: Redis) -> Iterator[CheckResult]:
    """Say how much of the newest mail failed or bounced in the last days."""
    try:
        records, _ = Store(redis).messages.page(state=State.FAILED, limit=LOOKED_AT)
    except StoreUnavailable:
        return  # the line before says so
    recent = [one for one in records if now_ms() - one.updated_at < FAILED_DAYS * DAY]
    if recent:
        bounced = sum(bool(one.bounced) for one in recent)
        count = f"{len(recent)}{'+' if len(recent) == LOOKED_AT else ''}"
        text = f"{count} failed in the last {FAILED_DAYS} days, {bounced} of them bounced"
        yield CheckResult("messages", "warning", f"{text}; see: cleo-email messages list --state failed")


# --- the mail servers -------------------------------------------------------------------------------------


def _mail_servers(settings: Settings) -> Iterator[CheckResult]:
    """Say what the provider wants, and whether IMAP and SMTP let the agent in."""
    preset, app = settings.preset, App(settings)
    if preset and settings.oauth is None:
        yield CheckResult("provider", "ok", f"{preset.title}: {preset.needs}")
    if app.mailbox is None:
        yield CheckResult("imap", "ok", "EMAIL_IMAP_HOST is not set: mail comes by webhook only")
        yield from examine_people(settings, None)
    else:
        with app.mailbox as mailbox:
            found = _with_needs(settings, _tried("imap", lambda: _inbox(mailbox)))
            yield found
            if found.level == "ok":
                yield _tried("idle", lambda: _idle(app, mailbox))
                yield from _accepted_elsewhere(app)
                yield from examine_people(settings, mailbox)
    with app.submitter as submitter:
        yield _with_needs(settings, _tried("smtp", submitter.check))


def _accepted_elsewhere(app: App) -> Iterator[CheckResult]:
    """Warn of mail that another Redis accepted and nobody answered: nothing here would ever look at it."""
    days = app.settings.retention_days
    assert app.recoverer
    try:
        found = app.recoverer.overlooked(days=days, most=NEWEST_ACCEPTED)
    except (MailboxError, StoreUnavailable):  # Redis has a line of its own
        return
    if count := found.taken_up + found.held:
        yield CheckResult(
            "imap",
            "warning",
            f"{count} of the newest {NEWEST_ACCEPTED} mails that were accepted and not answered are unknown "
            "to this Redis: another one accepted them, such as that of a trial. Take it along: cleo-email "
            f"recover --from its folder, such as var. If it is lost: cleo-email recover --days {days}",
        )


def examine_people(settings: Settings, mailbox: Mailbox | None) -> Iterator[CheckResult]:
    """Say where people's own answers are looked for, where answers lie that wait, and who gets hand-overs."""
    try:
        if mailbox is not None:
            yield _sent(settings, *mailbox.look_up(SENT))
        yield _drafts(settings, mailbox)
    except MailboxError as error:
        yield CheckResult("drafts", "warning", f"Sent and Drafts cannot be looked at: {error}")
    told = ", ".join(address.addr for address in settings.handoff_to)
    told = f"{told} (EMAIL_HANDOFF_TO)" if told else "nobody, since EMAIL_HANDOFF_TO is not set"
    yield CheckResult("handover", "ok", f"who gets a mail when the agent hands a thread over: {told}")


def _sent(settings: Settings, name: str, writable: bool) -> CheckResult:
    place = repr(name) if name else "no folder yet (Sent is made for the first copy)"
    kept = "a copy of each answer goes there" if settings.save_sent else "no copies go there"
    taken = {
        "thread": "whoever answers a mail from the mailbox has its thread",
        "mail": "a mail that a person answers from the mailbox is left alone",
        "off": "what people answer from the mailbox counts for nothing",
    }
    told = f"{place}: {kept} (EMAIL_SAVE_SENT={int(settings.save_sent)}); {taken[settings.takeover]} "
    told += f"(EMAIL_TAKEOVER={settings.takeover})"
    if name and not writable and settings.save_sent:
        text = f"{name!r} is read-only: give EMAIL_USER the right to write, or set EMAIL_SAVE_SENT=0; {told}"
        return CheckResult("sent", "warning", text)
    return CheckResult("sent", "ok", told)


def _drafts(settings: Settings, mailbox: Mailbox | None) -> CheckResult:
    """Say which answers wait for a person, and where. Raise MailboxError."""
    waits = {
        "never": "an answer waits for a person only where the agent asks for it",
        "first": "the first answer to somebody waits for a person",
        "always": "every answer waits for a person",
    }
    told = f"{waits[settings.review]} (EMAIL_REVIEW={settings.review})"
    if mailbox is None or not settings.drafts:
        why = "EMAIL_DRAFTS=0" if mailbox else "EMAIL_IMAP_HOST is not set"
        return CheckResult("drafts", "ok", f"{told}, without a draft ({why})")
    name, writable = mailbox.look_up(DRAFTS)
    if name and not writable:
        text = f"{name!r} is read-only: give EMAIL_USER the right to write, or set EMAIL_DRAFTS=0; {told}"
        return CheckResult("drafts", "warning", text)
    place = f"in {name!r}, which is writable" if name else "in Drafts, which is made for the first one"
    return CheckResult("drafts", "ok", f"{told}, {place}")


def _inbox(mailbox: Mailbox) -> str:
    """Check the mailbox. Raise MailboxError if it cannot be polled."""
    text = mailbox.check()
    if mailbox.open().read_only:
        raise MailboxError(f"{text}; give EMAIL_USER the right to write to its INBOX")
    return text


def _idle(app: App, mailbox: Mailbox) -> str:
    """Say whether the server tells of new mail by itself, and a worker listens. Raise MailboxError."""
    waits = f"new mail waits for the poll, at most {app.settings.poll_interval} s"
    if not mailbox.offers("IDLE"):
        return f"the server has no IDLE: {waits}"
    if not app.settings.idle:
        return f"the server has IDLE, which EMAIL_IDLE=0 switches off: {waits}"
    try:
        health = app.store.health.read()
    except StoreUnavailable:
        return "the server has IDLE"
    if health.idle_since:
        since = iso(health.idle_since)
        return f"the server has IDLE, and a worker listens since {since}: new mail is read at once"
    return f"the server has IDLE, and no worker listens: {health.idle_fault or 'none has begun'}; {waits}"


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
    if not settings.agent:
        text = "CLEO_AGENT is not set: mail is held, and nobody is answered; set CLEO_AGENT (docs/agents.md)"
        yield CheckResult("agent", "warning", text)
        return
    token = settings.agent_token.get_secret_value() if settings.agent_token else None
    try:
        agent = build_agent(settings.agent, token=token, environ=os.environ)
    except SettingsError as error:
        yield from (CheckResult("agent", "wrong", fault) for fault in error.faults)
        return
    if isinstance(agent, EchoAgent):
        yield CheckResult("agent", "warning", "CLEO_AGENT is echo: mail is answered with its own text")
    elif isinstance(wanted := parse_spec(settings.agent), ModelSpec):
        url = os.environ.get("OPENAI_BASE_URL", "").strip() or DEFAULT_BASE_URL
        yield _tried("agent", lambda: _connected("OPENAI_BASE_URL", url, f"key and model {wanted.model!r}"))
    elif isinstance(wanted, CallableSpec):
        yield CheckResult("agent", "ok", f"{settings.agent} is in {file_of(wanted.module)}")
    else:
        yield _tried("agent", lambda: _connected("CLEO_AGENT", settings.agent, "path and token"))


def _connected(variable: str, url: str, untested: str) -> str:
    """Say that a server answers at ``url``, which ``variable`` names. Raise CleoError."""
    address = web_address(variable, url)
    client = HttpClient(address, os.environ)
    limit = Deadline(CONNECT_S)
    place = f"{address.host}:{address.port}"
    way = f" through the proxy {client.proxy.host}:{client.proxy.port}" if client.proxy else ""
    error: BaseException | None = None
    try:
        # In a thread, because Ctrl-C would not end libcurl's waiting in this one.
        call_within(limit, lambda _: client.reach(limit))
    except CallFailed as failed:
        error = failed.error or TimeoutError(limit.said)
    if isinstance(error, UntrustedCertificate):
        raise CleoError(f"{place}: its certificate is not trusted ({error}); {error.advice}")
    if isinstance(error, OSError):
        plain = isinstance(error, TlsFailed) and error.plain
        why = error.strerror or error
        fault = "does not speak TLS: http://?" if plain else f"cannot be reached{way}: {why}"
        raise CleoError(f"{place} {fault} ({variable})")
    if error:
        raise error
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


def examine_alerts(settings: Settings) -> Iterator[CheckResult]:
    """Say who is told that something waits or has stopped."""
    alerts = App(settings).alerts
    if alerts is None:
        yield CheckResult("alerts", "ok", "nobody is told, since CLEO_ALERT_TO is not set")
        return
    for way in alerts.ways:
        if isinstance(way, ByApprise):
            try:
                way.sender()
            except CleoError as error:
                yield CheckResult("alerts", "wrong", str(error))
                continue
        yield CheckResult("alerts", "ok", f"{way.name}; to send a test: cleo-email check --alert")


def try_alerts(settings: Settings) -> Iterator[CheckResult]:
    """Send a test by every way."""
    app = App(settings)
    with app.submitter:
        for way, fault in app.alerts.try_ways() if app.alerts else ():
            level, said = ("wrong", f"not sent: {fault}") if fault else ("ok", "a test was sent")
            yield CheckResult("alerts", level, f"{way.name}: {said}")


def _access(settings: Settings) -> Iterator[CheckResult]:
    if not settings.webhook_secrets:
        text = "EMAIL_WEBHOOK_SECRET is not set: webhooks are taken only from this machine itself"
        yield CheckResult("webhook", "ok", text)
    if not settings.api_tokens:
        text = (
            "CLEO_API_TOKEN is not set: gunicorn lets programs of its own user on this machine call "
            "/email/send, /email/messages, /email/threads, /workflows and /metrics, and nobody else; "
            "cleo-email run makes a token"
        )
        yield CheckResult("api", "ok", text)


def examine_events(settings: Settings) -> Iterator[CheckResult]:
    """Say whether the receiver of events can be reached, and what waits for it; it is told nothing."""
    url = settings.events_url.get_secret_value()
    if not url:
        return
    yield _tried("events", lambda: _connected("CLEO_EVENTS_URL", url, "path and signature"))
    try:
        status = App(settings).store.event_log.status()
    except StoreUnavailable:  # said above
        return
    if status.fault:
        since = iso(status.failing_since)
        text = f"{status.fault}; events of {status.messages} messages wait, and it has failed since {since}"
        yield CheckResult("events", "warning", text)
    if status.dropped or status.given_up:
        text = (
            f"{status.given_up} were given up, {status.dropped} not kept: cleo-email events resend --since …"
        )
        yield CheckResult("events", "warning", text)
