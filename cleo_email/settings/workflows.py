"""``CLEO_WORKFLOWS``: the TOML file of workflows, read once at the start; each fault is told."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

from croniter import croniter  # type: ignore[import-untyped]

from cleo_email.attaching import checked_filename, make_file
from cleo_email.errors import InvalidField
from cleo_email.mail.base64_text import decode_base64
from cleo_email.mail.envelope import validate_address
from cleo_email.mail.model import Address, Attachment

EXPECTED = "a TOML file with a table [workflows.ID] for each workflow"
MAX_ID = 200  # characters
_CALLABLE = re.compile(r"[A-Za-z_]\w*(?:\.[A-Za-z_]\w*)*:[A-Za-z_]\w*(?:\.[A-Za-z_]\w*)*")
_TEXTS = ("subject", "language", "model", "schedule", "timezone")
_KEYS = frozenset({*_TEXTS, "users", "attachments", "new_room", "workflow_data"})


@dataclass(frozen=True)
class Supplied:
    """A file that a Python callable supplies when a mail is made. ``reference`` is ``module:callable``."""

    reference: str
    filename: str = ""
    content_type: str = ""


@dataclass(frozen=True)
class Workflow:
    """One table of the file. ``schedule`` is a cron expression of five fields, in ``timezone``."""

    id: str
    subject: str = ""
    language: str = ""
    model: str = ""
    users: tuple[Address, ...] = ()
    schedule: str = ""
    timezone: str = "UTC"
    new_room: bool = True
    workflow_data: Any = None
    attachments: tuple[Attachment | Supplied, ...] = field(default=(), repr=False)


class WorkflowFaults(ValueError):
    """``lines``: one for each fault, without the name of the variable."""

    def __init__(self, lines: list[str]) -> None:
        super().__init__("; ".join(lines))
        self.lines = tuple(lines)


def read_workflows(value: object) -> object:
    """The workflows of the file at that path, by id. Raises WorkflowFaults."""
    if not isinstance(value, str):
        return value
    try:
        content = tomllib.loads(Path(value).read_text("utf-8"))
    except OSError as error:
        raise WorkflowFaults(
            [f"found {value[:200]!r} ({error.strerror or 'unreadable'}), expected {EXPECTED}"]
        ) from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as error:
        line = str(error).splitlines()[0][:200]
        raise WorkflowFaults(
            [f"found {value[:200]!r}, which is no TOML ({line}), expected {EXPECTED}"]
        ) from None
    lines = [f"found {name!r} at its top, expected {EXPECTED}" for name in content if name != "workflows"]
    tables = content.get("workflows", {})
    if not isinstance(tables, dict):
        raise WorkflowFaults([*lines, f"found no table workflows, expected {EXPECTED}"])
    found = {}
    for id_, table in tables.items():
        reader = _Table(id_, table)
        found[id_] = reader.workflow()
        lines += reader.faults
    if lines:
        raise WorkflowFaults(lines)
    return found


class _Table:
    """Reads one ``[workflows.ID]``; ``faults`` is complete after ``workflow``."""

    def __init__(self, id_: str, table: Any) -> None:
        self._id = id_
        self._table: Mapping[str, Any] = table if isinstance(table, dict) else {}
        self.faults: list[str] = []
        if not isinstance(table, dict):
            self._fault("", "no table", f"[workflows.{id_}]")
        if not id_.strip() or len(id_) > MAX_ID or not id_.isprintable():
            self._fault("", f"the id {id_[:120]!r}", f"at most {MAX_ID} printable characters")

    def workflow(self) -> Workflow:
        for name in self._table:
            if name not in _KEYS:
                self._fault(name, "an unknown name", f"one of {', '.join(sorted(_KEYS))}")
        texts = {name: self._text(name) for name in _TEXTS}
        zone = self._zone(texts["timezone"] or "UTC")
        users = self._users()
        if texts["schedule"]:
            self._check_schedule(texts["schedule"], zone)
            if not users and "users" not in self._table:
                self._fault("users", "nothing beside a schedule", "a list of addresses")
        new_room = self._table.get("new_room", True)
        if not isinstance(new_room, bool):
            self._fault("new_room", repr(new_room)[:60], "true or false")
        return Workflow(
            id=self._id,
            subject=texts["subject"],
            language=texts["language"],
            model=texts["model"],
            users=users,
            schedule=texts["schedule"],
            timezone=texts["timezone"] or "UTC",
            new_room=new_room is True,
            workflow_data=_plain(self._table.get("workflow_data")),
            attachments=tuple(self._attachments()),
        )

    def _fault(self, name: str, found: str, expected: str) -> None:
        place = f"[workflows.{self._id[:120]}]" + (f" {name}" if name else "")
        self.faults.append(f"{place}: found {found}, expected {expected}")

    def _text(self, name: str) -> str:
        value = self._table.get(name, "")
        if not isinstance(value, str) or (name in self._table and not value.strip()) or len(value) > 1000:
            self._fault(name, repr(value)[:60], "a text of at most 1000 characters")
            return ""
        return value.strip()

    def _zone(self, name: str) -> ZoneInfo | None:
        try:
            return ZoneInfo(name)
        except (ValueError, OSError, KeyError):  # ZoneInfoNotFoundError is a KeyError
            self._fault("timezone", ascii(name[:60]), "a name such as Europe/Berlin")
            return None

    def _check_schedule(self, text: str, zone: ZoneInfo | None) -> None:
        fits = text.startswith("@") or len(text.split()) == 5
        try:
            times = croniter(text, datetime.now(zone or UTC))
            times.get_next(datetime)
            times.get_prev(datetime)
        except (ValueError, KeyError, AttributeError):
            fits = False
        if not fits:
            expected = 'a cron expression of five fields, such as "0 8 * * mon-fri"'
            self._fault("schedule", ascii(text[:60]), expected)

    def _users(self) -> tuple[Address, ...]:
        users = self._table.get("users", [])
        if not isinstance(users, list) or not all(isinstance(user, str) for user in users):
            self._fault("users", "no list of texts", 'addresses, such as ["anna@example.com"]')
            return ()
        found: dict[str, Address] = {}
        for user in users:
            try:
                address = validate_address("users", user)
                found.setdefault(address.key, address)
            except InvalidField as error:
                self._fault("users", ascii(user[:60]), f"an address ({error})")
        return tuple(found.values())

    def _attachments(self) -> list[Attachment | Supplied]:
        entries = self._table.get("attachments", [])
        if not isinstance(entries, list):
            self._fault("attachments", "no list", "a list of tables with filename and content or callable")
            return []
        found = []
        for number, entry in enumerate(entries, 1):
            try:
                found.append(_attachment(entry))
            except ValueError as error:
                self._fault(f"attachments, entry {number}", str(error), "filename and content, or a callable")
            except InvalidField as error:
                self._fault(f"attachments, entry {number}", str(error), "a plain file name")
        return found


def _attachment(entry: Any) -> Attachment | Supplied:
    """Raises ValueError and InvalidField with what was found."""
    if isinstance(entry, str):
        entry = {"callable": entry}
    if not isinstance(entry, dict):
        raise ValueError("no table")  # noqa: TRY004 - a value of the file, as all the others here
    if unknown := sorted(set(entry) - {"filename", "content", "content_type", "callable"}):
        raise ValueError(f"the unknown name {unknown[0][:60]!r}")
    if not all(isinstance(value, str) for value in entry.values()):
        raise ValueError("a value that is no text")
    if ("content" in entry) == ("callable" in entry):
        raise ValueError("not exactly one of content (base64) and callable")
    filename, content_type = entry.get("filename", ""), entry.get("content_type", "")
    if filename or "content" in entry:
        filename = checked_filename("filename", filename)
    if "content" in entry:
        return make_file(filename, decode_base64(entry["content"]), content_type)
    if not _CALLABLE.fullmatch(entry["callable"]):
        raise ValueError(f"the callable {entry['callable'][:60]!r}, which is no package.module:callable")
    return Supplied(entry["callable"], filename, content_type)


def _plain(value: Any) -> Any:
    """TOML's dates and times as texts: the agent gets JSON."""
    if isinstance(value, dict):
        return {name: _plain(item) for name, item in value.items()}
    if isinstance(value, list):
        return [_plain(item) for item in value]
    return value if value is None or isinstance(value, (str, int, float)) else value.isoformat()
