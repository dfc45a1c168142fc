"""Pictures of the last days as SVG, each with a table that says the same."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from math import ceil, log10

from markupsafe import Markup

from cleo_email.store.figures import DAY_MS, DayFigures

WIDTH, HEIGHT, LEFT, BELOW, ABOVE = 640, 220, 72, 28, 10


@dataclass(frozen=True)
class Row:
    """What is drawn for one day: a number for each series of the picture, and how it reads."""

    date: str
    short: str
    values: tuple[float, ...]
    shown: tuple[str, ...]


def row(day: DayFigures, values: tuple[float, ...], shown: tuple[str, ...], short: str) -> Row:
    """Return the row of a day; ``short`` is how its date is written below a picture, as of strftime."""
    date = datetime.fromtimestamp(day.day * DAY_MS / 1000, UTC)
    return Row(date.strftime("%Y-%m-%d"), date.strftime(short), values, shown)


def bars(rows: Sequence[Row], label: str) -> Markup:
    """Draw one bar for each value of each day, side by side, from zero."""
    top = _round_up(max((value for row in rows for value in row.values), default=0))
    drawn = [_lines(top, f"{top:g}", f"{top / 2:g}")]
    step = (WIDTH - LEFT) / max(len(rows), 1)
    for number, row in enumerate(rows):
        wide = step * 0.7 / len(row.values)
        for place, value in enumerate(row.values):
            x, y = LEFT + step * (number + 0.15) + wide * place, _y(value / top)
            drawn.append(
                f'<rect class="s{place}" x="{x:.1f}" y="{y:.1f}" width="{wide:.1f}" '
                f'height="{HEIGHT - BELOW - y:.1f}"><title>{row.date}: {row.shown[place]}</title></rect>'
            )
    return _svg([*drawn, *_dates(rows, step)], label)


def dots(rows: Sequence[Row], label: str, scale: Sequence[tuple[float, str]]) -> Markup:
    """Draw a dot for each value above zero, joined to its neighbours, over a logarithmic ``scale``."""
    low, high = log10(scale[0][0]), log10(scale[-1][0])

    def at(value: float) -> float:
        return _y(min(max((log10(value) - low) / (high - low), 0), 1))

    drawn = [
        f'<line x1="{LEFT}" x2="{WIDTH}" y1="{at(value):.1f}" y2="{at(value):.1f}"/>'
        f'<text x="{LEFT - 6}" y="{at(value) + 4:.1f}" text-anchor="end">{name}</text>'
        for value, name in scale
    ]
    step = (WIDTH - LEFT) / max(len(rows), 1)
    for place in range(len(rows[0].values) if rows else 0):
        points = [
            (LEFT + step * (number + 0.5), at(row.values[place]), row)
            for number, row in enumerate(rows)
            if row.values[place] > 0
        ]
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y, _ in points)
        drawn.append(f'<polyline class="s{place}" points="{path}"/>')
        drawn += [
            f'<circle class="s{place}" cx="{x:.1f}" cy="{y:.1f}" r="4">'
            f"<title>{row.date}: {row.shown[place]}</title></circle>"
            for x, y, row in points
        ]
    return _svg([*drawn, *_dates(rows, step)], label)


def _y(share: float) -> float:
    return ABOVE + (HEIGHT - BELOW - ABOVE) * (1 - share)


def _round_up(value: float) -> float:
    """Return the next of 2, 4, 6, 10, 20 …, so that half of it is whole."""
    unit = 10 ** max(ceil(log10(max(value, 1))) - 1, 0)
    return float(next(step * unit for step in (2, 4, 6, 10) if step * unit >= value))


def _lines(top: float, high: str, middle: str) -> str:
    return "".join(
        f'<line x1="{LEFT}" x2="{WIDTH}" y1="{_y(share):.1f}" y2="{_y(share):.1f}"/>'
        f'<text x="{LEFT - 6}" y="{_y(share) + 4:.1f}" text-anchor="end">{name}</text>'
        for share, name in ((0, "0"), (0.5, middle), (1, high))
        if top
    )


def _dates(rows: Sequence[Row], step: float) -> list[str]:
    every = max(len(rows) // 5, 1)
    return [
        f'<text x="{LEFT + step * (number + 0.5):.1f}" y="{HEIGHT - 5}" text-anchor="middle">'
        f"{row.short}</text>"
        for number, row in enumerate(rows)
        if (len(rows) - 1 - number) % every == 0
    ]


def _svg(parts: Sequence[str], label: str) -> Markup:
    head = Markup('<svg class="chart" viewBox="0 0 {} {}" role="img" aria-label="{}">').format(
        WIDTH, HEIGHT, label
    )
    return head + Markup("".join(parts)) + Markup("</svg>")  # noqa: S704 - numbers, dates, our words  # nosec B704
