"""Real messages that are not part of the project, for tests that read all of them."""

from __future__ import annotations

from pathlib import Path

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
