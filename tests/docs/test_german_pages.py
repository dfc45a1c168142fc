"""The German pages keep step with the English ones: the same sections, commands and settings."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from cleo_email.settings import Settings, read_settings

ROOT = Path(__file__).resolve().parent.parent.parent
GERMAN = ROOT / "docs" / "de"
# The German page says all that the English one does.
PAIRS = {
    "README.md": ROOT / "README.md",
    "people.md": ROOT / "docs" / "people.md",
    "operator.md": ROOT / "docs" / "operator.md",
    "operation.md": ROOT / "docs" / "operation.md",
}
# Settings that only the English page names, by page.
LEFT_OUT: dict[str, set[str]] = {}
FIELDS = {str(field.alias) for field in Settings.model_fields.values()}
TRANSLATED = pytest.mark.parametrize("name", PAIRS)


def both(name: str) -> tuple[str, str]:
    return PAIRS[name].read_text("utf-8"), (GERMAN / name).read_text("utf-8")


def blocks(text: str) -> list[tuple[str, str]]:
    """The language and the text of every block of code."""
    return re.findall(r"^ *```(\w*)\n(.*?)^ *```$", text, re.MULTILINE | re.DOTALL)


def headings(text: str) -> list[int]:
    """The level of each heading."""
    outside = re.sub(r"^ *```.*?^ *```$", "", text, flags=re.MULTILINE | re.DOTALL)
    return [len(marks) for marks in re.findall(r"^(#+) ", outside, re.MULTILINE)]


def commands(text: str) -> list[str]:
    """What is typed, line by line: comments, and what is in quotes and has a blank, may be translated."""

    def without_prose(quoted: re.Match[str]) -> str:
        return "''" if " " in quoted[0] else quoted[0]

    found = []
    for language, block in blocks(text):
        if not language:  # a picture, or what a command prints
            continue
        bare = re.sub(r"(?:^|(?<=\s))# .*$", "", block, flags=re.MULTILINE)
        told = re.sub(r"'[^']*'", without_prose, bare)
        found += [line.rstrip() for line in told.splitlines() if line.strip()]
    return found


def settings(text: str) -> set[str]:
    return {name for name in re.findall(r"\b[A-Z][A-Z_]+[A-Z]\b", text) if name in FIELDS}


def tables(text: str) -> list[int]:
    """The number of rows of each table."""
    return [table.count("\n") for table in re.findall(r"(?:^\|.*\n)+", text, re.MULTILINE)]


@TRANSLATED
def test_it_has_the_same_sections_in_the_same_order(name: str) -> None:
    english, german = both(name)
    assert headings(german) == headings(english)


@TRANSLATED
def test_every_command_is_the_same(name: str) -> None:
    english, german = both(name)
    assert commands(german) == commands(english)


@TRANSLATED
def test_every_setting_that_the_english_page_names_is_named(name: str) -> None:
    english, german = both(name)
    assert settings(english) - settings(german) == LEFT_OUT.get(name, set())


@TRANSLATED
def test_every_table_has_as_many_rows(name: str) -> None:
    english, german = both(name)
    if name == "operation.md":  # its list of metrics is in English alone
        english = re.sub(r"^\| metric .*\n(?:\|.*\n)+", "", english, flags=re.MULTILINE)
    assert tables(german) == tables(english)


def test_the_first_dotenv_of_the_first_steps_is_enough_to_start(tmp_path: Path) -> None:
    page = (GERMAN / "first-steps.md").read_text("utf-8")
    (file,) = re.findall(r"cat > \.env\) <<'END'\n(.*?)END\n", page, re.DOTALL)
    (tmp_path / ".env").write_text(file, "utf-8")
    found = read_settings({}, dotenv=tmp_path / ".env")
    assert (found.enabled, found.imap_host, found.agent) == (True, "imap.gmx.net", "echo")


def test_what_check_says_is_what_the_first_steps_quote() -> None:
    page = (GERMAN / "first-steps.md").read_text("utf-8")
    source = (ROOT / "cleo_email" / "cli" / "check.py").read_text("utf-8")
    rows = page.split("| `check` sagt |")[1].split("\n\n")[0].splitlines()[2:]
    quoted = [text for row in rows for text in re.findall(r"`([^`]*)`", row.split("|")[1]) if " " in text]
    assert len(quoted) >= 7
    assert [text for text in quoted if text not in source] == []
