"""Header values on their way into a decision and into its reason."""

from __future__ import annotations

from collections.abc import Callable

MAX_VALUE = 500  # characters of a header that are looked at and quoted


def keyword(value: str) -> str:
    """The first word of a structured value in lower case, without comments and parameters (RFC 3834, 5)."""
    out: list[str] = []
    depth, escaped = 0, False
    for char in value[:MAX_VALUE]:
        if escaped:
            escaped = False
        elif char == "\\" and depth:
            escaped = True
        elif char == "(":
            depth += 1
        elif char == ")" and depth:
            depth -= 1
        elif not depth:
            if char == ";":
                break
            out.append(char)
    return " ".join("".join(out).split()).strip("\"'").lower()


def first_reason(*checks: Callable[[], str]) -> str:
    """What the first check says that says anything."""
    return next((reason for check in checks if (reason := check())), "")


def shown(value: str, length: int = 80) -> str:
    """``value`` on one printable line of at most ``length`` characters, for a record."""
    line = " ".join(value[:MAX_VALUE].split())
    line = "".join(char if char.isprintable() else "�" for char in line)
    return line if len(line) <= length else line[: length - 1] + "…"


def quoted(name: str, value: str) -> str:
    title = "-".join(word.capitalize() for word in name.split("-"))
    return f"`{shown(title)}: {shown(value)}`"
