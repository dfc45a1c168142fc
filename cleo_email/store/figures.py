"""The figures of each day: counts that the scripts keep as records come and move on."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import cast

from cleo_email.store.connection import PREFIX, StorePart

DAY_MS = 86_400_000
MOST_REASONS = 60  # characters
_PARTICULAR = re.compile(r"[:;(].*|<[^<>]*>|\S*@\S*|\b[0-9a-f]{24}\b", re.DOTALL)


def figure_of(state: str, reason: str) -> str:
    """Return the name under which a state is counted: with its reason, without what is true of one mail."""
    return f"{state}:{' '.join(_PARTICULAR.sub('', reason).split())[:MOST_REASONS]}"


@dataclass(frozen=True)
class DayFigures:
    """The counts of one day (UTC), ``day`` since 1970. ``times`` counts answers by the time from arrival to
    reply: as 4 * log2 of milliseconds, rounded down. ``reasons`` counts (state, reason)."""

    day: int
    arrived: int = 0
    answered: int = 0
    times: Counter[int] = field(default_factory=Counter)
    reasons: Counter[tuple[str, str]] = field(default_factory=Counter)

    def quantile_ms(self, share: float) -> float:
        """Return the time within which this share of the answers left, to about a tenth; 0 without any."""
        wanted, seen = share * self.times.total(), 0
        for step in sorted(self.times):
            seen += self.times[step]
            if seen >= wanted:
                return float(2 ** ((step + 0.5) / 4))
        return 0.0


class Figures(StorePart):
    """Reads the figures. accept.lua and move.lua count; each day is kept for forty."""

    def read(self, days: Sequence[int]) -> list[DayFigures]:
        with self._redis.pipeline(transaction=False) as pipe:
            for day in days:
                pipe.hgetall(f"{PREFIX}figures:{day}")
            rows = cast("list[dict[bytes, bytes]]", pipe.execute())
        return [_day(day, row) for day, row in zip(days, rows, strict=True)]


def _day(day: int, raw: dict[bytes, bytes]) -> DayFigures:
    found = {name.decode("utf-8", "replace"): int(value) for name, value in raw.items()}
    plain = {name: found.pop(name, 0) for name in ("arrived", "answered")}
    times, reasons = Counter[int](), Counter[tuple[str, str]]()
    for name, value in found.items():
        state, _, rest = name.partition(":")
        if state == "time":
            times[int(rest)] += value
        else:
            reasons[state, rest] += value
    return DayFigures(day, **plain, times=times, reasons=reasons)
