"""What ``cleo-email check`` says of Redis, and of what the worker has written there of itself."""

from __future__ import annotations

from redis import Redis
from redis.exceptions import RedisError

from cleo_email.cli.finding import Finding
from cleo_email.clock import now_ms
from cleo_email.errors import StoreUnavailable
from cleo_email.settings import Settings
from cleo_email.store import Store
from cleo_email.store.connection import connect_web

OLDEST_REDIS = (6, 2)
# Under "appendonly yes" alone a Redis that starts does not load its snapshot: it would come up empty.
APPENDONLY = (
    "on the running Redis: redis-cli config set appendonly yes, then redis-cli config rewrite; "
    "never by a restart with the setting alone, which starts empty"
)


def examine_redis(settings: Settings) -> list[Finding]:
    redis = connect_web(settings.redis_url.get_secret_value())
    try:
        info = {**redis.info("server"), **redis.info("persistence"), **redis.info("memory")}
    except (RedisError, OSError) as error:
        return [
            Finding(
                "redis",
                "wrong",
                f"REDIS_URL: no answer ({type(error).__name__}); start Redis, or: cleo-email run",
            )
        ]
    return [*_redis_server(info), *_redis_persistence(redis, info), *_processes(redis)]


def _processes(redis: Redis) -> list[Finding]:
    """What the worker has told of itself, and of the mail server."""
    try:
        health = Store.on(redis).pulse.health()
    except StoreUnavailable as error:
        return [Finding("redis", "wrong", str(error))]
    findings = []
    if health.submission_fault:
        findings.append(Finding("sending", "wrong", f"stopped: {health.submission_fault}"))
    if health.worker_is_away(now_ms()):
        text = "none has been seen in the last 90 s: start cleo-email run, or python worker.py"
        findings.append(Finding("worker", "warning", text))
    else:
        findings.append(Finding("worker", "ok", "at work"))
    return findings


def _redis_server(info: dict[str, object]) -> list[Finding]:
    name = str(info.get("server_name", "redis"))
    version = str(info.get("valkey_version") or info.get("redis_version", "0"))
    number = tuple(int(part) for part in str(info.get("redis_version", "0")).split(".")[:2])
    if number < OLDEST_REDIS:
        return [Finding("redis", "wrong", f"version {version}: 6.2 or newer is needed")]
    return [Finding("redis", "ok", f"{name} {version}")]


def _redis_persistence(redis: Redis, info: dict[str, object]) -> list[Finding]:
    """Without persistence a restart of Redis loses mail that was accepted."""
    findings = []
    if info.get("aof_enabled"):
        findings.append(
            Finding("redis", "ok", f"appendonly is on, appendfsync {_config(redis, 'appendfsync')}")
        )
    elif _config(redis, "save") not in ("", "?"):
        text = (
            f"only snapshots are kept: what came since the last one is lost in a crash. Mend it {APPENDONLY}"
        )
        findings.append(Finding("redis", "warning", text))
    else:
        text = f"nothing is kept over a restart. Mend it {APPENDONLY}. Hosted: choose a plan with persistence"
        findings.append(Finding("redis", "warning", text))
    policy = str(info.get("maxmemory_policy", "noeviction"))
    if policy != "noeviction" and info.get("maxmemory"):
        text = f"maxmemory-policy is {policy}: records may vanish; set it to noeviction"
        findings.append(Finding("redis", "wrong", text))
    return findings


def _config(redis: Redis, name: str) -> str:
    """A setting of the server, or ``?`` where a hosted one does not tell."""
    try:
        return str(redis.config_get(name).get(name, "?"))
    except RedisError:
        return "?"
