"""``CLEO_WORKFLOWS``: the TOML file of workflows, read once at the start, with a line for each fault."""

import re
import tomllib
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any
from zoneinfo import ZoneInfo

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, PlainValidator, ValidationError
from pydantic_core import ErrorDetails

from cleo_email.errors import InvalidField
from cleo_email.mail.address import validate_address
from cleo_email.mail.attachment import checked_filename, make_file
from cleo_email.mail.decoding import decode_base64_strict
from cleo_email.mail.model import Address, AttachedFile

EXPECTED = "a TOML file with a table [workflows.ID] for each workflow"
MAX_ID = 200  # characters
_CALLABLE = re.compile(r"[A-Za-z_]\w*(?:\.[A-Za-z_]\w*)*:[A-Za-z_]\w*(?:\.[A-Za-z_]\w*)*")


@dataclass(frozen=True)
class Supplied:
    """A file that a Python callable supplies when a mail is made. ``reference`` is ``module:callable``."""

    reference: str
    filename: str = ""
    content_type: str = ""


def _user(value: object) -> Address:
    try:
        return validate_address("users", str(value))
    except InvalidField as error:
        raise ValueError(str(error).rpartition("cannot be used: ")[2]) from None


def _cron(text: str) -> str:
    if not text.startswith("@") and len(text.split()) != 5:
        raise ValueError("not five fields")
    from croniter import croniter  # large, and few have a schedule

    try:
        times = croniter(text, datetime.now(UTC))
        times.get_next(datetime)
        times.get_prev(datetime)
    except (ValueError, KeyError, AttributeError):
        raise ValueError("it is never due") from None
    return text


def _zone(name: str) -> str:
    try:
        ZoneInfo(name)
    except (OSError, KeyError):  # ZoneInfoNotFoundError is a KeyError
        raise ValueError("no time zone") from None
    return name


def _attachment(entry: Any) -> AttachedFile | Supplied:
    if isinstance(entry, str):
        entry = {"callable": entry}
    if not isinstance(entry, dict) or not all(isinstance(value, str) for value in entry.values()):
        raise ValueError("no table of texts")
    if unknown := sorted(set(entry) - {"filename", "content", "content_type", "callable"}):
        raise ValueError(f"the unknown name {unknown[0][:60]!r}")
    if ("content" in entry) == ("callable" in entry):
        raise ValueError("not exactly one of content (base64) and callable")
    filename, content_type = entry.get("filename", ""), entry.get("content_type", "")
    if filename or "content" in entry:
        try:
            checked_filename("filename", filename)
        except InvalidField as error:
            raise ValueError(str(error)) from None
    if "content" in entry:
        return make_file(filename, decode_base64_strict(entry["content"]), content_type)
    if not _CALLABLE.fullmatch(entry["callable"]):
        raise ValueError(f"the callable {entry['callable'][:60]!r}, which is no package.module:callable")
    return Supplied(entry["callable"], filename, content_type)


def _plain(value: Any) -> Any:
    """Return TOML's dates and times as texts: the agent gets JSON."""
    if isinstance(value, dict):
        return {name: _plain(item) for name, item in value.items()}
    if isinstance(value, list):
        return [_plain(item) for item in value]
    return value if value is None or isinstance(value, (str, int, float)) else value.isoformat()


_Text = Annotated[
    str,
    Field(pattern=r"\S", max_length=1000, description="a text of at most 1000 characters"),
    AfterValidator(str.strip),
]


class Workflow(BaseModel):
    """One table of the file. ``schedule`` is a cron expression of five fields, in ``timezone``.

    A field's description is what the line of a fault expects.
    """

    model_config = ConfigDict(frozen=True, hide_input_in_errors=True)

    id: str
    subject: _Text = ""
    language: _Text = ""
    model: _Text = ""
    users: Annotated[
        tuple[Annotated[Address, PlainValidator(_user)], ...],
        AfterValidator(lambda users: tuple({user.key: user for user in users}.values())),
    ] = Field(default=(), description='addresses, such as ["anna@example.com"]')
    schedule: Annotated[_Text, AfterValidator(_cron)] = Field(
        default="", description='a cron expression of five fields, such as "0 8 * * mon-fri"'
    )
    timezone: Annotated[_Text, AfterValidator(_zone)] = Field(
        default="UTC", description="a name such as Europe/Berlin"
    )
    new_room: bool = Field(default=True, strict=True, description="true or false")
    workflow_data: Annotated[Any, AfterValidator(_plain)] = None
    attachments: tuple[Annotated[AttachedFile | Supplied, PlainValidator(_attachment)], ...] = Field(
        default=(), repr=False, description="tables with a filename and content (base64) or a callable"
    )


_KEYS = sorted(Workflow.model_fields.keys() - {"id"})


def read_workflows(path: str) -> tuple[dict[str, Workflow], list[str]]:
    """Return the workflows of the file, by id, and a line for each fault."""
    try:
        content = tomllib.loads(Path(path).read_text("utf-8"))
    except OSError as error:
        return {}, [f"found {path[:200]!r} ({error.strerror or 'unreadable'}), expected {EXPECTED}"]
    except (ValueError, RecursionError) as error:
        return {}, [f"found {path[:200]!r}, no TOML ({str(error)[:200]!r}), expected {EXPECTED}"]
    lines = [f"found {name!r} at its top, expected {EXPECTED}" for name in content if name != "workflows"]
    tables = content.get("workflows", {})
    if not isinstance(tables, dict):
        return {}, [*lines, f"found no table workflows, expected {EXPECTED}"]
    found = {}
    for id_, table in tables.items():
        workflow, faults = _read_table(id_, table)
        lines += [f"[workflows.{id_[:120]}]{fault}" for fault in faults]
        if workflow:
            found[id_] = workflow
    return found, lines


def _read_table(id_: str, table: Any) -> tuple[Workflow | None, list[str]]:
    if not isinstance(table, dict):
        return None, [": found no table, expected one"]
    known = f"expected one of {', '.join(_KEYS)}"
    faults = [f" {key}: found an unknown name, {known}" for key in table if key not in _KEYS]
    if not id_.strip() or len(id_) > MAX_ID or not id_.isprintable():
        faults.append(f": found the id {id_[:120]!r}, expected at most {MAX_ID} printable characters")
    if "schedule" in table and "users" not in table:
        faults.append(" users: found nothing beside a schedule, expected a list of addresses")
    try:
        return Workflow.model_validate({**table, "id": id_}), faults
    except ValidationError as error:
        return None, [*faults, *(_line(item) for item in error.errors())]


def _line(item: ErrorDetails) -> str:
    key, *rest = item["loc"]
    entry = f", entry {int(rest[0]) + 1}" if rest else ""
    reason = item.get("ctx", {}).get("error")
    found = "a table" if isinstance(item["input"], dict) else repr(item["input"])[:60]
    expected = Workflow.model_fields[str(key)].description
    return f" {key}{entry}: found {found}{f' ({reason})' if reason else ''}, expected {expected}"
