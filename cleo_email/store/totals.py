"""The totals since the beginning, and what is so now: what ``/metrics`` shows and alerts look at."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

from redis.exceptions import ResponseError

from cleo_email.store.connection import PREFIX, StorePart
from cleo_email.store.health import LISTENS, PULSE, TOTALS, WORKER_MS, WORKERS, Health, load_health


@dataclass(frozen=True)
class Snapshot:
    """What was read at one moment. Memory is None where Redis does not say.

    ``totals`` are by the names that the scripts give them. ``waiting`` has of each state how many records are
    in it, and when (ms) the oldest of them arrived, 0 for none.
    """

    totals: Mapping[str, int]
    waiting: Mapping[str, tuple[int, int]]
    health: Health
    workers: int
    memory_used: int | None = None
    memory_limit: int | None = None

    def count(self, *names: str) -> int:
        """Return the sum of these totals; a name that ends with a colon stands for all that begin so."""
        whole = sum(self.totals.get(name, 0) for name in names)
        begins = tuple(name for name in names if name.endswith(":"))
        return whole + sum(value for name, value in self.totals.items() if begins and name.startswith(begins))


class Totals(StorePart):
    """Reads everything in one round trip, however many records there are."""

    def read(self, states: Sequence[str], now: int) -> Snapshot:
        with self._redis.pipeline(transaction=False) as pipe:
            pipe.hgetall(TOTALS)
            pipe.hgetall(PULSE)
            pipe.exists(LISTENS)
            pipe.zcount(WORKERS, now - WORKER_MS, "+inf")
            pipe.info("memory")
            for state in states:
                pipe.zcard(f"{PREFIX}index:state:{state}")
                pipe.zrange(f"{PREFIX}index:state:{state}", 0, 0)
            # A hosted Redis may refuse INFO, and that alone.
            totals, pulse, listens, workers, info, *rest = pipe.execute(raise_on_error=False)
        for answer in (totals, pulse, listens, workers, *rest):
            if isinstance(answer, Exception):
                raise answer
        memory: dict[str, Any] = {} if isinstance(info, ResponseError) else info
        used, health = memory.get("used_memory"), load_health(pulse, listens)
        return Snapshot(
            {name.decode("utf-8", "replace"): int(value) for name, value in totals.items()},
            {
                state: (int(count), _arrived(cast("list[bytes]", first)))
                for state, count, first in zip(states, rest[::2], rest[1::2], strict=True)
            },
            health,
            # One of a version that does not tell itself from the others may be at work alone.
            int(workers) or int(not health.worker_is_away(now)),
            None if used is None else int(used),
            int(memory["maxmemory"]) if "maxmemory" in memory else None,
        )


def _arrived(first: list[bytes]) -> int:
    """Return the time in the id of a record, with which it begins."""
    try:
        return int(first[0][:12], 16) if first else 0
    except ValueError:
        return 0
