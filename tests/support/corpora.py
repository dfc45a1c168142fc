"""Real messages that are not part of the project, for tests and benchmarks that read all of them.

``tests/support/messages.py`` holds small ones of our own, which prove the same in every clone.
"""

from __future__ import annotations

import os
from pathlib import Path

CORPORA = Path(os.environ.get("CLEO_CORPORA") or Path(__file__).resolve().parents[3] / "shared" / "corpora")
MISSING = (
    "real messages of other projects' test suites, not part of this repository: nothing is wrong "
    "(CLEO_CORPORA may name a folder of them)"
)

_MESSAGES = (
    "sisimai-set-of-emails",
    "stalwart-mail-parser",
    "mail-gem",
    "webklex-php-imap",
    "cpython-test_email",
)
_TRIMMER = "email_reply_trimmer/test"


def raw_messages(root: Path) -> list[Path]:
    """Every file below ``root`` that holds a raw message."""
    files = (path for name in _MESSAGES for path in sorted((root / name).rglob("*")) if path.is_file())
    return [path for path in files if path.suffix not in (".json", ".md") and path.name != "SOURCE"]


def trimmer_cases(root: Path) -> list[tuple[str, str, str]]:
    """Name, text and expected new part of each case of discourse's email_reply_trimmer."""
    emails = sorted((root / _TRIMMER / "emails").iterdir())
    return [(path.name, _text(path), _text(root / _TRIMMER / "trimmed" / path.name)) for path in emails]


def _text(path: Path) -> str:
    return path.read_text(encoding="utf-8").replace("\r\n", "\n")
