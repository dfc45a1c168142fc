"""Replies in the formats of the mail clients, with the new part marked by lines of brackets."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

FOLDER = Path(__file__).with_name("replies")


class Reply(NamedTuple):
    name: str
    full: str
    new: str


def replies() -> list[Reply]:
    return [reply for path in sorted(FOLDER.glob("*.txt")) for reply in _read(path)]


def _read(path: Path) -> list[Reply]:
    cases = path.read_text(encoding="utf-8").split("### ")[1:]
    return [_case(path.stem, *case.split("\n", 1)) for case in cases]


def _case(language: str, name: str, body: str) -> Reply:
    lines = body.split("\n")
    begin, end = lines.index("⟦"), lines.index("⟧")
    full = "\n".join(line for line in lines if line not in ("⟦", "⟧"))
    return Reply(f"{language}: {name}", full, "\n".join(lines[begin + 1 : end]).strip("\n"))
