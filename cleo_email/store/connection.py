"""Connections to Redis: short-tempered in the web process, patient in the worker."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from redis import BlockingConnectionPool, Redis
from redis.backoff import ExponentialBackoff, NoBackoff
from redis.exceptions import RedisError
from redis.retry import Retry

from cleo_email.deadlines import (
    REDIS_ANSWER_S,
    REDIS_CONNECT_S,
    REDIS_PAUSE_S,
    REDIS_POOL_S,
    REDIS_RETRIES,
)
from cleo_email.errors import StoreUnavailable


def connect_web(url: str) -> Redis:
    """For a process that somebody waits for: a hung or absent Redis costs at most about 4 s."""
    return Redis.from_url(
        url,
        socket_connect_timeout=1,
        socket_timeout=2,
        retry=Retry(NoBackoff(), 1),
        health_check_interval=30,
    )


def connect_worker(url: str, *, connections: int) -> Redis:
    """For many threads that can wait; each operation of the store may be repeated without harm."""
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
def ours() -> Iterator[None]:
    """Foreign errors become ours at the edge."""
    try:
        yield
    except (RedisError, OSError) as error:
        text = str(error).splitlines()[0][:200] if str(error) else type(error).__name__
        raise StoreUnavailable(f"Redis (REDIS_URL) does not answer as it should: {text}") from error
