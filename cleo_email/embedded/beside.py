"""Finding the Redis of a ``cleo-email run`` in the same directory."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from dotenv import dotenv_values

from cleo_email.embedded.redis import EmbeddedRedis

DATA = Path("var")  # where ``run`` keeps its data, below the working directory


def find_embedded_redis() -> None:
    """Let REDIS_URL name the Redis of a running ``cleo-email run``, where nobody has set another one.

    ``run --data`` elsewhere needs REDIS_URL to be set.
    """
    redis = EmbeddedRedis(DATA / "redis")
    if not redis_is_given(os.environ) and redis.is_listening():
        os.environ["REDIS_URL"] = redis.url


def redis_is_given(environ: Mapping[str, str]) -> bool:
    """Whether the environment or ``.env`` names a Redis."""
    dotenv = dotenv_values(".env", interpolate=False) if Path(".env").is_file() else {}
    return bool(environ.get("REDIS_URL") or dotenv.get("REDIS_URL"))
