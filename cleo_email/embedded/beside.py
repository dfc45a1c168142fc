"""Finding the Redis of a ``cleo-email run`` in the same directory."""

from __future__ import annotations

from pathlib import Path

from cleo_email.embedded.redis import EmbeddedRedis

DATA = Path("var")  # where ``run`` keeps its data, below the working directory


def embedded_redis() -> dict[str, str]:
    """REDIS_URL of a running ``cleo-email run``: a default for settings that name no other. Else empty.

    ``run --data`` elsewhere needs REDIS_URL to be set.
    """
    redis = EmbeddedRedis(DATA / "redis")
    return {"REDIS_URL": redis.url} if redis.is_listening() else {}
