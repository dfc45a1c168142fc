"""Imports go down only: pure functions, edges, services, composition, entry points."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parent.parent / "cleo_email"

GROUND, EDGES, SERVICES, COMPOSITION, ENTRY_POINTS = range(5)
NAMES = {
    GROUND: "errors accounts clock backoff deadlines crashpoints mail",
    EDGES: "attaching memory settings mailbox submission store agents queue embedded logs oauth http "
    "screening",
    SERVICES: "intake recipients reading reading_pass asking polling chores filing settling fetching "
    "answering delivery sweeping outbound deciding recovering workflows budget bouncing webhooks",
    COMPOSITION: "front services",
    ENTRY_POINTS: "web jobs worker __main__ cli entrypoints wsgi sending",
}
LAYERS = {name: layer for layer, names in NAMES.items() for name in names.split()}
NO_IO = {
    "redis",
    "rq",
    "socket",
    "smtplib",
    "imaplib",
    "imapclient",
    "requests",
    "flask",
    "time",
    "threading",
}


def imports(path: Path) -> set[str]:
    """Absolute names of what a module imports, relative ones resolved."""
    found: set[str] = set()
    package = ("cleo_email", *path.relative_to(PACKAGE).parent.parts)
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = ".".join(package[: len(package) - node.level + 1]) if node.level else ""
            name = ".".join(part for part in (base, node.module) if part)
            found |= {f"{name}.{alias.name}" for alias in node.names}
    return found


MODULES = sorted(path for path in PACKAGE.rglob("*.py") if path != PACKAGE / "__init__.py")


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_go_down_only(path: Path) -> None:
    own = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
    assert own in LAYERS, f"say in which layer {own} is"
    for name in imports(path):
        if not name.startswith("cleo_email."):
            continue
        other = name.split(".")[1]
        if other == own or other not in LAYERS:  # __version__ and the like
            continue
        assert LAYERS[other] <= LAYERS[own], f"{own} reaches up to {other}"


# dkim asks DNS.
PURE = [p for p in MODULES if p.parent.name in ("mail", "screening") and p.name != "dkim.py"]


@pytest.mark.parametrize("path", PURE, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_pure_functions_know_no_io_and_no_clock(path: Path) -> None:
    assert not {name.split(".")[0] for name in imports(path)} & NO_IO


def test_no_work_is_done_at_import() -> None:
    """No module but the WSGI entry point calls anything of ours at import."""
    calls = [
        f"{path.name}:{node.lineno}"
        for path in MODULES
        for node in ast.parse(path.read_text("utf-8")).body
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Call)
    ]
    assert calls == []
