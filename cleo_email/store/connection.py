"""Connections to Redis (short time-outs in the web process, long ones in a worker), scripts, large values."""

from __future__ import annotations

import io
import json
import time
from collections.abc import Callable
from contextlib import ContextDecorator, suppress
from functools import cache
from importlib.resources import files
from inspect import isfunction
from typing import Any, TypeVar, cast

from redis import BlockingConnectionPool, ConnectionPool, Redis
from redis.backoff import ExponentialBackoff, NoBackoff
from redis.commands.core import Script
from redis.connection import Connection
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import NoScriptError, RedisError, ResponseError
from redis.exceptions import TimeoutError as RedisTimeout
from redis.retry import Retry
from redis.utils import str_if_bytes

from cleo_email.errors import SettingsError, StoreUnavailable
from cleo_email.runtime import REDIS_ANSWER_S, REDIS_CONNECT_S, REDIS_PAUSE_S, REDIS_POOL_S, REDIS_RETRIES
from cleo_email.scrub import no_surrogates
from cleo_email.store.faults import UnsupportedServer, explain, is_of_a_failover

PREFIX = "cleo:"
_ENCODER = json.JSONEncoder(ensure_ascii=False)  # dumps() would make one each time


Result = TypeVar("Result")
# After a time-out the web process does not ask Redis again for so long.
HUNG_S = 2.0


class FailoverRetry(Retry):
    """A retry policy that also leaves a server which, after a failover, does not lead any more.

    Such a server keeps the connections and refuses what is written; a new connection to the same address
    leads to the new primary, through a proxy, a virtual IP or DNS. What it refused it has not done.
    """

    pool: ConnectionPool

    def __deepcopy__(self, memo: object) -> FailoverRetry:
        return self  # redis-py copies this for each connection; all must share one state

    def call_with_retry(self, do: Callable[[], Result], *args: Any, **kwargs: Any) -> Result:
        def attempt() -> Result:
            try:
                return do()
            except RedisTimeout:
                self.pool.disconnect(inuse_connections=False)  # else each idle one would wait in its turn
                raise
            except ResponseError as error:
                if isinstance(error, NoScriptError) or not is_of_a_failover(error):
                    raise
                # The idle ones lead there too, and what they would read is old.
                self.pool.disconnect(inuse_connections=False)
                raise RedisConnectionError(str(error)) from error  # is tried again, on a new connection

        return super().call_with_retry(attempt, *args, **kwargs)


class AskedOnce(FailoverRetry):
    """A retry policy: after a time-out it refuses other callers at once for a while, so that none waits."""

    _resume = 0.0

    def call_with_retry(self, do: Callable[[], Result], *args: Any, **kwargs: Any) -> Result:
        if time.monotonic() < self._resume:
            raise RedisTimeout("it did not answer a moment ago")
        try:
            return super().call_with_retry(do, *args, **kwargs)
        except (RedisTimeout, TimeoutError):
            self._resume = time.monotonic() + HUNG_S
            raise


def connect_web(url: str, **options: Any) -> Redis:
    """Return a connection for requests that a caller waits for: a hung or absent Redis costs about 4 s.

    There is no health check, as it would wait for a hung Redis twice; the one retry is for stale connections.
    ``options`` are redis-py's; those of the URL win.
    """
    retry = AskedOnce(NoBackoff(), 1)
    pool = ConnectionPool.from_url(
        url,
        socket_connect_timeout=1,
        socket_timeout=2,
        retry=retry,
        redis_connect_func=_greet,
        health_check_interval=0,
        **options,
    )
    retry.pool = pool
    return Redis.from_pool(pool)


def connect_worker(url: str, *, connections: int) -> Redis:
    """Return connections for many threads that can wait; each operation is retried, and safe to repeat."""
    retry = FailoverRetry(ExponentialBackoff(cap=REDIS_PAUSE_S, base=0.05), REDIS_RETRIES)
    pool = BlockingConnectionPool.from_url(
        url,
        max_connections=connections,
        timeout=REDIS_POOL_S,
        socket_connect_timeout=REDIS_CONNECT_S,
        socket_timeout=REDIS_ANSWER_S,
        retry=retry,
        redis_connect_func=_greet,
        health_check_interval=30,
    )
    retry.pool = pool
    return Redis(connection_pool=pool)


def _greet(connection: Connection) -> None:
    """Log in on a new connection, and ask what kind of server it is. Raise UnsupportedServer."""
    connection.on_connect_check_health(check_health=False)
    said: Any = connection.handshake_metadata
    if said is None:  # under ?protocol=2 redis-py does not ask
        connection.send_command("HELLO", check_health=False)  # type: ignore[no-untyped-call]
        with suppress(ResponseError):
            flat = connection.read_response()
            said = dict(zip(flat[::2], flat[1::2], strict=False))
    mode = {str_if_bytes(key): str_if_bytes(value) for key, value in (said or {}).items()}.get("mode")
    if mode in ("cluster", "sentinel"):
        raise UnsupportedServer(mode)


def refuse_unsupported(url: str) -> None:
    """Raise SettingsError where the URL leads to a Redis Cluster or a Sentinel.

    Any other fault, an absent Redis included, may pass without a new start, and is left to the first use.
    """
    with connect_web(url) as redis:
        try:
            redis.ping()
        except UnsupportedServer as error:
            raise SettingsError([explain(error)]) from None
        except (RedisError, OSError):
            return


class _RedisErrors(ContextDecorator):
    def __enter__(self) -> None:
        """Do nothing; a generator would take several times as long, and this surrounds every call."""

    def __exit__(self, _kind: object, error: BaseException | None, _trace: object) -> None:
        if isinstance(error, RedisError | OSError):
            raise StoreUnavailable(explain(error)) from error


def redis_errors() -> _RedisErrors:
    """Turn errors of Redis into StoreUnavailable."""
    return _RedisErrors()


class StorePart:
    """Base of the store's parts: their public methods raise StoreUnavailable where Redis does not answer."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis
        self._scripts: dict[str, Script] = {}

    def __init_subclass__(cls) -> None:
        for name, member in list(vars(cls).items()):
            if isfunction(member) and not name.startswith("_"):
                setattr(cls, name, redis_errors()(member))

    def _run(self, name: str, *, args: list[Any], keys: list[str] | None = None, pipe: Any = None) -> Any:
        """Run the script in ``name``.lua beside this file; on ``pipe``, which has loaded it, when that is
        executed.

        Strings of an arrival are made fit for UTF-8 here; JSON among them is made by ``json_text``.
        """
        clean = [no_surrogates(arg) if isinstance(arg, str) and not arg.isascii() else arg for arg in args]
        script = self._script(name)
        if pipe is not None:
            return pipe.evalsha(script.sha, len(keys or ()), *(keys or ()), *clean)
        return script(keys=keys, args=clean)

    def _load_script(self, name: str, pipe: Any) -> None:
        """Let the pipe begin with the script: it may be executed again on a server without our scripts."""
        pipe.script_load(self._script(name).script)

    def _script(self, name: str) -> Script:
        if name not in self._scripts:
            self._scripts[name] = self._redis.register_script(_source(name))
        return self._scripts[name]


def json_text(value: object) -> str:
    """Return JSON that every script can decode: ``cjson`` refuses the escape of a lone surrogate."""
    return _ENCODER.encode(value)


@cache
def _source(name: str) -> str:
    text = files(__package__).joinpath(f"{name}.lua").read_text("utf-8")
    for shared, call in (("keep", "keep("), ("event", "add_event("), ("put", "put_job(")):
        if call in text and name != shared:
            text = f"{_source(shared)}\n{text}"
    return text


PIECE = 1 << 20  # bytes


def read_large(redis: Redis, key: str) -> bytes | None:
    """Return the string at ``key``, which must not change meanwhile, or None where there is none.

    In pieces: redis-py copies a large answer four times.
    """
    first = cast("bytes", redis.getrange(key, 0, PIECE - 1))
    if not first:
        return cast("bytes | None", redis.get(key))
    if len(first) < PIECE:
        return first
    whole = io.BytesIO()  # getvalue() makes no copy
    piece = first
    while piece:
        whole.write(piece)
        piece = cast("bytes", redis.getrange(key, whole.tell(), whole.tell() + PIECE - 1))
    return whole.getvalue()
