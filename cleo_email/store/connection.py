"""Connections to Redis (short time-outs in the web process, long ones in a worker), scripts, large values."""

from __future__ import annotations

import io
import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from importlib.resources import files
from inspect import isfunction
from typing import Any, TypeVar, cast

from redis import BlockingConnectionPool, Redis
from redis.backoff import AbstractBackoff, ExponentialBackoff, NoBackoff
from redis.commands.core import Script
from redis.exceptions import RedisError
from redis.exceptions import TimeoutError as RedisTimeout
from redis.retry import Retry

from cleo_email.errors import StoreUnavailable
from cleo_email.runtime import REDIS_ANSWER_S, REDIS_CONNECT_S, REDIS_PAUSE_S, REDIS_POOL_S, REDIS_RETRIES
from cleo_email.scrub import no_surrogates

PREFIX = "cleo:"


Result = TypeVar("Result")
# After a time-out the web process does not ask Redis again for so long.
HUNG_S = 2.0


def connect_web(url: str, **options: Any) -> Redis:
    """Return a connection for requests that a caller waits for: a hung or absent Redis costs about 4 s.

    There is no health check, as it would wait for a hung Redis twice; the one retry is for stale connections.
    ``options`` are redis-py's; those of the URL win.
    """
    return Redis.from_url(
        url,
        socket_connect_timeout=1,
        socket_timeout=2,
        retry=AskedOnce(NoBackoff(), 1),
        health_check_interval=0,
        **options,
    )


class AskedOnce(Retry):
    """A retry policy: after a time-out it refuses other callers at once for a while, so that none waits."""

    def __init__(self, backoff: AbstractBackoff, retries: int) -> None:
        super().__init__(backoff, retries)
        self._resume = 0.0

    def __deepcopy__(self, memo: object) -> AskedOnce:
        return self  # redis-py copies this for each connection; all must share one state

    def call_with_retry(self, do: Callable[[], Result], *args: Any, **kwargs: Any) -> Result:
        if time.monotonic() < self._resume:
            raise RedisTimeout("it did not answer a moment ago")
        try:
            return super().call_with_retry(do, *args, **kwargs)
        except (RedisTimeout, TimeoutError):
            self._resume = time.monotonic() + HUNG_S
            raise


def connect_worker(url: str, *, connections: int) -> Redis:
    """Return connections for many threads that can wait; each operation is retried, and safe to repeat."""
    pool = BlockingConnectionPool.from_url(
        url,
        max_connections=connections,
        timeout=REDIS_POOL_S,
        socket_connect_timeout=REDIS_CONNECT_S,
        socket_timeout=REDIS_ANSWER_S,
        retry=Retry(ExponentialBackoff(cap=REDIS_PAUSE_S, base=0.05), REDIS_RETRIES),
        health_check_interval=30,
    )
    return Redis(connection_pool=pool)


@contextmanager
def redis_errors() -> Iterator[None]:
    """Turn errors of Redis into StoreUnavailable."""
    try:
        yield
    except (RedisError, OSError) as error:
        text = str(error).splitlines()[0][:200] if str(error) else type(error).__name__
        raise StoreUnavailable(f"Redis (REDIS_URL) does not answer as it should: {text}") from error


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
        """Run the script in ``name``.lua beside this file; on ``pipe``, when that is executed.

        Strings of an arrival are made fit for UTF-8 here; JSON among them is made by ``json_text``.
        """
        if name not in self._scripts:
            self._scripts[name] = self._redis.register_script(_source(name))
        clean = [no_surrogates(arg) if isinstance(arg, str) else arg for arg in args]
        return self._scripts[name](keys=keys, args=clean, client=pipe)


def json_text(value: object) -> str:
    """Return JSON that every script can decode: ``cjson`` refuses the escape of a lone surrogate."""
    return json.dumps(value, ensure_ascii=False)


@cache
def _source(name: str) -> str:
    return files(__package__).joinpath(f"{name}.lua").read_text("utf-8")


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
