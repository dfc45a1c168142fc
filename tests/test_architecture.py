"""The house, as docs/architecture.md draws it: floors by name, imports that go down only, and its size."""

from __future__ import annotations

import ast
import re
from collections import defaultdict
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parent.parent / "cleo_email"

# From the ground up. A room is a package or a module beside them; it imports from floors below its own only.
FLOORS = (
    "errors  accounts  certificates  crashpoints  scrub",
    "runtime  mail  imap  embedded",
    "http  screening  store  smtp",
    "agents  oauth",
    "settings",
    "pipeline  monitoring",
    "webhooks",
    "app",
    "jobs  library  web  worker  cli",
    "__main__",
)
FLOOR = {room: number for number, rooms in enumerate(FLOORS) for room in rooms.split()}

MOST_LINES = 33_800
MOST_LOOSE_MODULES = 10
MOST_ROOMS = 28
MOST_FLOORS = 10
MOST_MODULES_NAMED_BY_WHAT_THEY_DO = 3
TERMS_OF_THE_FIELD = set("polling threading routing screening scheduling logging incoming".split())

NO_IO = set("redis rq socket smtplib imaplib imapclient pycurl flask time threading".split())


def parsed() -> dict[str, ast.Module]:
    """Return each module by its name below the package, such as ``mail.parse``; the face is left out."""
    found = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        name = ".".join(path.relative_to(PACKAGE).with_suffix("").parts).removesuffix(".__init__")
        if name != "__init__":
            found[name] = ast.parse(path.read_text("utf-8"))
    return found


MODULES = parsed()


def room(module: str) -> str:
    return module.partition(".")[0]


def imports(tree: ast.Module) -> set[str]:
    """Return the absolute names of what a module imports, wherever in it."""
    found: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, "imports are absolute"
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def test_every_room_stands_on_a_floor() -> None:
    assert {room(module) for module in MODULES} == set(FLOOR)


def test_the_page_draws_the_same_floors() -> None:
    page = (PACKAGE.parent / "docs/architecture.md").read_text("utf-8")
    table = page.partition("## The floors")[2].partition("## The walk")[0]
    drawn = [
        row.split("|")[2] for row in table.splitlines() if row.startswith("|") and "`" in row.split("|")[2]
    ][1:]
    found = [set(re.findall(r"`(\w+)(?:/|\.py)`", cell)) for cell in drawn]
    assert found == [set(rooms.split()) for rooms in reversed(FLOORS[:-1])]


@pytest.mark.parametrize("module", MODULES)
def test_imports_go_down_only(module: str) -> None:
    own = room(module)
    for name in imports(MODULES[module]):
        other = room(name.removeprefix("cleo_email."))
        if name.startswith("cleo_email.") and other in FLOOR and other != own:  # not __version__
            assert FLOOR[other] < FLOOR[own], f"{module} imports {name}, which is not below it"


@pytest.mark.parametrize(
    "module", [name for name in MODULES if room(name) in ("mail", "screening") and name != "screening.dkim"]
)
def test_what_is_made_of_bytes_alone_knows_no_io_and_no_clock(module: str) -> None:
    """DKIM asks DNS; nothing else of these two rooms leaves the process."""
    assert not {name.split(".")[0] for name in imports(MODULES[module])} & NO_IO


def test_no_work_is_done_at_import() -> None:
    calls = [
        f"{module}:{node.lineno}"
        for module, tree in MODULES.items()
        for node in tree.body
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Call)
    ]
    assert calls == []


def test_modules_of_a_room_import_each_other_in_no_circle() -> None:
    below: dict[str, set[str]] = defaultdict(set)
    for module, tree in MODULES.items():
        for node in tree.body:  # what is imported in a function is imported later
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("cleo_email."):
                base = (node.module or "").removeprefix("cleo_email.")
                modules = {f"{base}.{alias.name}" for alias in node.names} & MODULES.keys()
                below[module] |= modules or {base}
    done: set[str] = set()

    def visit(module: str, path: tuple[str, ...]) -> None:
        assert module not in path, " > ".join((*path, module))
        if module not in done:
            for other in below[module] - {module}:
                visit(other, (*path, module))
            done.add(module)

    for module in MODULES:
        visit(module, ())


def test_the_house_stays_small() -> None:
    lines = sum(len(path.read_text("utf-8").splitlines()) for path in PACKAGE.rglob("*.py"))
    loose = [path.stem for path in PACKAGE.glob("*.py") if path.stem != "__init__"]
    rooms = {room(module) for module in MODULES}
    print(f"lines {lines}, loose modules {len(loose)}, rooms {len(rooms)}, floors {len(FLOORS)}")
    assert lines <= MOST_LINES
    assert len(loose) <= MOST_LOOSE_MODULES
    assert len(rooms) <= MOST_ROOMS
    assert len(FLOORS) <= MOST_FLOORS


def test_names_say_one_thing_each() -> None:
    places = defaultdict(list)
    for module, tree in MODULES.items():
        for node in tree.body:
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                places[node.name].append(module)
    assert {name: where for name, where in places.items() if len(where) > 1} == {}
    doing = {module.rpartition(".")[2] for module in MODULES if module.endswith("ing")} - TERMS_OF_THE_FIELD
    assert len(doing) <= MOST_MODULES_NAMED_BY_WHAT_THEY_DO, doing
