"""What one look of ``cleo-email check`` has brought."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Finding:
    """``level`` is ``ok``, ``warning`` or ``wrong``; ``text`` says what to do unless it is ok."""

    what: str
    level: str
    text: str
