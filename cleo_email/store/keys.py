"""The prefix of every key, and the scripts beside this file."""

from __future__ import annotations

from functools import cache
from importlib.resources import files

from redis import Redis
from redis.commands.core import Script

PREFIX = "cleo:"


@cache
def _source(name: str) -> str:
    return files(__package__).joinpath(f"{name}.lua").read_text("utf-8")


def script(redis: Redis, name: str) -> Script:
    return redis.register_script(_source(name))
