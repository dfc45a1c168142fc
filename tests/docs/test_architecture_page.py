"""The pages for developers name what is there, and every room of the package is on the picture."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
PACKAGE = ROOT / "cleo_email"
ARCHITECTURE = (ROOT / "docs" / "architecture.md").read_text("utf-8")
CONTRIBUTING = (ROOT / "CONTRIBUTING.md").read_text("utf-8")


def named(text: str) -> set[str]:
    """Every path in backticks; what is written in capitals is to be filled in."""
    found = re.findall(r"`((?:[a-z_]+/)*(?:[a-z_]+/|[a-z_]+\.(?:py|json|cfg|txt|md)))`", text)
    return set(found)


def exists(path: str) -> bool:
    """A path of the project, or of the package; a file alone may stand in the stage of a message's life."""
    places = (ROOT, PACKAGE, PACKAGE / "pipeline")
    return any((place / path).exists() for place in places)


def test_every_path_that_is_named_exists() -> None:
    missing = {path for path in named(ARCHITECTURE) | named(CONTRIBUTING) if not exists(path)}
    assert missing == set()


def test_every_room_of_the_package_stands_on_a_floor() -> None:
    floors = ARCHITECTURE.split("## The floors")[1].split("## The walk")[0]
    packages = {f"{path.parent.name}/" for path in PACKAGE.glob("*/__init__.py")}
    modules = {path.name for path in PACKAGE.glob("*.py") if not path.name.startswith("__")}
    assert {room for room in packages | modules if f"`{room}`" not in floors} == set()


def test_the_index_has_every_page() -> None:
    index = (ROOT / "docs" / "README.md").read_text("utf-8")
    pages = {str(path.relative_to(ROOT / "docs")) for path in (ROOT / "docs").rglob("*.md")} - {"README.md"}
    assert {page for page in pages if f"({page})" not in index} == set()


def test_the_site_has_the_pages_of_the_index_for_the_same_readers_in_its_order() -> None:
    index = (ROOT / "docs" / "README.md").read_text("utf-8")
    (_, *parts) = index.split("\n## ")
    indexed = {
        part.partition(":")[0]: [
            page.relative_to(ROOT).as_posix()
            for link in re.findall(r"\]\(([^)#]+\.md)\)", part)
            if (page := (ROOT / "docs" / link).resolve()) != ROOT / "README.md"
        ]
        for part in parts
    }
    navigation = tomllib.loads((ROOT / "zensical.toml").read_text("utf-8"))["project"]["nav"]
    assert {name: pages for part in navigation for name, pages in part.items() if name != "Start"} == indexed


def test_the_hook_runs_what_lint_runs_and_fetches_nothing() -> None:
    text = (ROOT / ".pre-commit-config.yaml").read_text("utf-8")
    assert re.findall(r"repo: *(\S+)", text) == ["local"]
    assert re.findall(r"entry: *(\S+)", text) == ["script/lint"]
    assert re.findall(r"language: *(\S+)", text) == ["system"]
