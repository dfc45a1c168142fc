"""How ``CLEO_AGENT`` is read.

1. ``echo``.
2. A value that starts with ``http://`` or ``https://`` is a URL.
3. A value that starts with ``openai:`` is a model of a chat completions server, and so is one with two
   or more colons: ``provider:model:reasoning``. The last part is the reasoning effort only if it is one of
   :data:`EFFORTS`; else it belongs to the model's name (``openai:llama3:8b``).
4. With one colon, ``left:right`` is a Python callable if ``left`` has a dot (``package.module:callable``) or
   is the name of a module that can be found, and ``right`` is a Python name. Everything else with one colon
   is ``provider:model``.
"""

import importlib.util
import re
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path

from cleo_email.errors import SettingsError

EFFORTS = ("none", "minimal", "low", "medium", "high", "xhigh")
# Why mail is held where CLEO_AGENT is not set.
NO_AGENT = (
    "nobody is there to answer: set CLEO_AGENT and start the worker again; "
    "then cleo-email messages release has this mail answered"
)
EXPECTED = "echo, http(s)://..., openai:MODEL, provider:model:reasoning or package.module:callable"

_PROVIDER = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*")


@dataclass(frozen=True)
class UrlSpec:
    """A URL as written; it may hold secrets."""

    url: str


@dataclass(frozen=True)
class ModelSpec:
    """A model of a chat completions server; ``effort`` is empty where the server is to choose."""

    provider: str
    model: str
    effort: str = ""


@dataclass(frozen=True)
class CallableSpec:
    """A Python callable; ``name`` may be dotted (``Class.method``)."""

    module: str
    name: str


def agent_fault(found: str, expected: str = EXPECTED) -> SettingsError:
    """Return the exception for a value of ``CLEO_AGENT`` that cannot be used."""
    return SettingsError([f"CLEO_AGENT: found {found}, expected {expected}"])


def parse_spec(spec: str) -> UrlSpec | ModelSpec | CallableSpec | None:
    """Return the agent that a value of ``CLEO_AGENT`` describes; None is ``echo``.

    :raises SettingsError: it is none of the forms.
    """
    spec = spec.strip()
    if spec.lower() == "echo":
        return None
    if spec.lower().startswith(("http://", "https://")):
        return UrlSpec(spec)
    left, colon, right = spec.partition(":")
    # A value of another scheme may carry a password: it is not shown.
    if not colon or not left or not right.strip() or "://" in spec:
        found = "a URL of another scheme" if "://" in spec else repr(spec[:80])
        raise agent_fault(found, EXPECTED + _module_here(left))
    if left.lower() in ("http", "https", "echo"):  # http:host is a slip, not a model called host
        raise agent_fault(repr(spec[:80]))
    if ":" not in right and left.lower() != "openai" and _is_callable(left, right):
        return CallableSpec(left, right)
    if not _PROVIDER.fullmatch(left) or any(c.isspace() or not c.isprintable() for c in right):
        raise agent_fault(repr(spec[:80]))
    model, effort = split_effort(right)
    return ModelSpec(left.lower(), model, effort)


def split_effort(model: str) -> tuple[str, str]:
    """Split ``gpt-x:high`` into model and effort; ``llama3:8b`` is a model alone."""
    name, colon, effort = model.rpartition(":")
    return (name, effort.lower()) if colon and name and effort.lower() in EFFORTS else (model, "")


def _is_callable(left: str, right: str) -> bool:
    """Apply rule 4 of this module."""
    if not all(part.isidentifier() for part in (*left.split("."), *right.split("."))):
        return False
    try:
        return "." in left or importlib.util.find_spec(left) is not None
    except ValueError:  # a module that was loaded without a spec, such as __main__
        return True


def no_module(name: str) -> str:
    """Return that a module was not found, where it was looked for, and a file there of nearly its name."""
    here = Path.cwd()
    near = get_close_matches(name.removesuffix(".py"), [file.stem for file in here.glob("*.py")], 1, 0.75)
    hint = f" (did you mean {near[0]}?)" if near else ""
    return f"there is no module {name!r} in {here} or among the installed packages{hint}"


def _module_here(text: str) -> str:
    """Return a hint where a file of the working directory was named, and no function in it."""
    module = text.removesuffix(".py")
    if not module.isidentifier() or not Path(f"{module}.py").is_file():
        return ""
    return f"; {module}.py is here: {module}:FUNCTION"
