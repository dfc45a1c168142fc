"""docs/settings.md has every variable, default and limits; no document names one that does not exist."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from pydantic import SecretStr
from pydantic.fields import FieldInfo

from cleo_email.errors import SettingsError
from cleo_email.settings import Settings, read_settings

ROOT = Path(__file__).resolve().parent.parent.parent
PAGE = ROOT / "docs" / "settings.md"
TEXTS = [
    *sorted(ROOT.glob("*.md")),
    *sorted((ROOT / "docs").rglob("*.md")),
    ROOT / "tests/crash/measurements.md",
]
OTHERS = {"OPENAI_BASE_URL", "OPENAI_API_KEY"}
OTHERS |= {"SSL_CERT_FILE", "SSL_CERT_DIR", "HTTPS_PROXY", "PORT", "WEB_CONCURRENCY"}
# Of deploy/postfix-pipe, of a worker at the edge, of the tests, of Heroku.
ELSEWHERE = {
    "CLEO_REDIS",
    "CLEO_REDIS_URL",
    "CLEO_URL",
    "CLEO_SECRET_FILE",
    "CLEO_SECRET",
    "CLEO_CRASH_AT",
    "CLEO_CORPORA",
    "CLEO_EXAMPLES",
    "CLEO_REQUIRE_SERVERS",
}
FIELDS: dict[str, FieldInfo] = {str(field.alias): field for field in Settings.model_fields.values()}


def rows() -> list[list[str]]:
    """The cells of every row below a head."""
    lines = [line for line in PAGE.read_text("utf-8").splitlines() if line.startswith("| `")]
    return [[cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in lines]


def test_every_variable_stands_in_it_once_and_nothing_else_does() -> None:
    names = [row[0].strip("`") for row in rows()]
    assert len(names) == len(set(names))
    assert set(names) == FIELDS.keys() | OTHERS


def test_each_row_has_a_name_a_default_and_a_meaning() -> None:
    assert all(len(row) == 3 and all(row) for row in rows())


@pytest.mark.parametrize("name", FIELDS)
def test_the_default_is_the_models(name: str) -> None:
    (shown,) = [row[1] for row in rows() if row[0] == f"`{name}`"]
    default = FIELDS[name].default
    value = default.get_secret_value() if isinstance(default, SecretStr) else default
    if value in ((), None, ""):  # what is then done the words say
        assert not shown.isdigit()
    elif isinstance(value, bool | int | float):
        assert shown == str(int(value))
    else:
        assert shown == f"`{value}`"


@pytest.mark.parametrize("name", FIELDS)
def test_the_limits_are_the_models(name: str) -> None:
    """The bounds of the model are those of the table, of a fault's line and of what is refused."""
    (meaning,) = [row[2] for row in rows() if row[0] == f"`{name}`"]
    bounds = {
        key: getattr(item, key)
        for item in FIELDS[name].metadata
        for key in ("ge", "gt", "le")
        if hasattr(item, key)
    }
    low, high = bounds.get("ge", bounds.get("gt")), bounds.get("le")
    told = re.search(r"\b(\d+) to (\d+)\b|\bat most (\d+)\b|\bfrom (\d+)\b", meaning)
    first, last, most, least = (
        (int(number) if number else None for number in told.groups()) if told else [None] * 4
    )
    assert (last or most) == high
    assert first in (None, low)
    assert least in (None, low)
    assert high is None or str(high) in str(FIELDS[name].description)
    for unusable in ([] if low is None else [low - 1]) + ([] if high is None else [high + 1]):
        with pytest.raises(SettingsError, match=f"^{name}: found "):
            read_settings({name: str(unusable)}, dotenv=None)
    if low is not None and high is None:
        read_settings({name: str(10**30)}, dotenv=None)


@pytest.mark.parametrize("path", TEXTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_text_names_a_variable_that_does_not_exist(path: Path) -> None:
    named = set(re.findall(r"\b(?:EMAIL|CLEO)_[A-Z_]*[A-Z]\b", path.read_text("utf-8")))
    assert named - FIELDS.keys() - ELSEWHERE == set()


@pytest.mark.parametrize("path", TEXTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_lead_somewhere(path: Path) -> None:
    for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", path.read_text("utf-8")):
        assert (path.parent / target).exists(), target
