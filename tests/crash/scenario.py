"""What a crash test is: a name, the way the mail comes, what is done to it, and what may become of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tests.crash.rig import CrashRig, Tally

LIMIT_S = 60.0  # within which work goes on at default settings


@dataclass(frozen=True)
class Scenario:
    """``play`` acts and counts. ``uncertain`` and ``failed``: how many mails must and may end so.

    ``limit``: seconds until work must have gone on.
    """

    group: str
    name: str
    ingress: str
    play: Callable[[CrashRig], Tally]
    rig: Callable[[Path], CrashRig] = CrashRig
    uncertain: tuple[int, int] = (0, 0)
    failed: int = 0
    limit: float = LIMIT_S

    def run(self, directory: Path) -> Tally:
        with self.rig(directory) as rig:
            tally = self.play(rig)
            tally.problems += self.complaints(tally)
            if tally.problems:
                (directory / "problems").write_text("\n".join(tally.problems))
        return tally

    def complaints(self, tally: Tally) -> list[str]:
        found = []
        least, most = self.uncertain
        if not least <= tally.uncertain <= most:
            found.append(f"{tally.uncertain} uncertain, expected {least} to {most}")
        if tally.failed != self.failed:
            found.append(f"{tally.failed} failed, expected {self.failed}")
        if tally.seconds > self.limit:
            found.append(f"work went on after {tally.seconds:.0f} s, expected at most {self.limit:.0f}")
        return found
