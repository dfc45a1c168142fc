"""From the record of a start to what the agent is asked, and from its answer to the mail of the thread."""

from __future__ import annotations

import importlib
import json
import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from cleo_email.agents import AgentMessage, AgentRequest, HistoryTurn
from cleo_email.agents.calling import CallFailed, call_within
from cleo_email.agents.python import with_working_directory
from cleo_email.attaching import Attachment as Given
from cleo_email.attaching import make_file, read_content
from cleo_email.deadlines import COMPOSING_TURN_S, Deadline
from cleo_email.errors import AgentError, AgentUnavailable, InvalidField, SettingsError, place_of
from cleo_email.mail.filenames import safe_filename
from cleo_email.mail.model import Address, Answer, Attachment, JsonObject, OutboundEmail
from cleo_email.memory import LargeWork
from cleo_email.outbound import Draft, Outbound
from cleo_email.settings.workflows import Supplied, Workflow
from cleo_email.store import Record, Store

log = logging.getLogger(__name__)

Supplier = Callable[[dict[str, Any]], object]


class Opening:
    """``suppliers`` are the callables of the configured attachments, by reference; all those of one mail
    together have ``timeout`` seconds."""

    def __init__(
        self,
        store: Store,
        outbound: Outbound,
        configured: Mapping[str, Workflow],
        suppliers: Mapping[str, Supplier],
        *,
        timeout: float = 300.0,
    ) -> None:
        self._store = store
        self._outbound = outbound
        self._configured = configured
        self._suppliers = suppliers
        self._timeout = timeout
        self._large = LargeWork(1)

    def question(self, record: Record) -> AgentRequest:
        """No mail has come in: the agent gets the workflow, and whom it is about to write to."""
        workflow = json.loads(record.workflow)
        history = self._store.threads.history(record.thread_id, but=record.id)
        return AgentRequest(
            id=record.id,
            thread_id=record.thread_id,
            message=AgentMessage(to_address=record.to_address, subject=record.subject),
            history=tuple(HistoryTurn(role=turn.role, content=turn.content) for turn in history),
            workflow=workflow,
            language=workflow["language"],
            model=workflow["model"],
        )

    def compose(self, record: Record, answer: Answer) -> OutboundEmail:
        """The mail to the user. Raises InvalidField, AgentUnavailable (a supplier failed), AgentError."""
        plan = json.loads(record.outbound)
        # Before our turn with large things comes: a supplier may take its time, and the others would wait.
        more = [*self._configured_files(record), *answer.attachments]
        size = plan["size"] + sum(file.size for file in more)
        with self._large.turn(size, patience=COMPOSING_TURN_S) as now:
            if not now:
                raise AgentUnavailable("other large mails are being composed")
            return self._compose(record, plan, answer.text, more)

    def _compose(
        self, record: Record, plan: JsonObject, text: str, more: Sequence[Attachment]
    ) -> OutboundEmail:
        draft = Draft(
            to=[Address(record.to_address, plan["name"])],
            subject=json.loads(record.workflow)["subject"],
            body=text,
            attachments=[*self._requested(plan["files"]), *more],
            thread_id="" if plan["opens"] else record.thread_id,
        )
        message_id = record.thread_id if plan["opens"] else ""
        return self._outbound.compose(draft, message_id=message_id)[0]

    def done(self, record: Record) -> None:
        """The answer is kept, or there will be none: the files of the request are needed no more."""
        if batch := json.loads(record.outbound)["files"]:
            self._store.files.done(batch, record.id)

    def _requested(self, batch: str) -> tuple[Attachment, ...]:
        if not batch:
            return ()
        files = self._store.files.get(batch)
        if files is None:
            raise InvalidField("attachments", "the files of the start were dropped after 30 days")
        return files

    def _configured_files(self, record: Record) -> Iterable[Attachment]:
        context = json.loads(record.workflow)
        workflow = self._configured.get(context["workflow_id"])
        limit = Deadline(self._timeout)
        for entry in workflow.attachments if workflow else ():
            if isinstance(entry, Attachment):
                yield entry
            else:
                yield from _supplied(entry, self._suppliers[entry.reference], context, limit)


class _NoAttachment(Exception):
    """What a callable gave is no file; the text is ours."""


def load_suppliers(configured: Mapping[str, Workflow]) -> dict[str, Supplier]:
    """Every callable that the workflows name. Raises SettingsError with a line for each that is none."""
    references = {
        entry.reference: workflow.id
        for workflow in configured.values()
        for entry in workflow.attachments
        if isinstance(entry, Supplied)
    }
    found: dict[str, Supplier] = {}
    faults = []
    if references:
        with_working_directory()
    for reference, id_ in references.items():
        try:
            found[reference] = _load(reference)
        except (Exception, SystemExit) as error:  # noqa: BLE001 - a stranger's module can raise anything
            faults.append(
                f"CLEO_WORKFLOWS: [workflows.{id_}] attachments: found {reference!a}, expected "
                f"a callable that can be imported ({type(error).__name__}: {str(error)[:200]})"
            )
    if faults:
        raise SettingsError(faults)
    return found


def _load(reference: str) -> Supplier:
    module, _, names = reference.partition(":")
    target: object = importlib.import_module(module)
    for name in names.split("."):
        target = getattr(target, name)
    if not callable(target):
        raise TypeError(f"it is a {type(target).__name__}")
    return target


def _supplied(entry: Supplied, supplier: Supplier, context: JsonObject, limit: Deadline) -> list[Attachment]:
    """What the callable gives: bytes, a binary file, an Attachment of ours, or a list of these."""

    def files(_abandoned: Callable[[], bool]) -> list[Attachment]:
        given = supplier(json.loads(json.dumps(context)))
        items = given if isinstance(given, (list, tuple)) else [given]
        try:
            return [_file(entry, item, number) for number, item in enumerate(items, 1)]
        except (TypeError, InvalidField) as error:
            raise _NoAttachment(str(error)) from None

    try:
        return call_within(limit, files, name="supplier-call")
    except CallFailed as failed:
        error = failed.error
    if isinstance(error, _NoAttachment):
        raise AgentError(f"{entry.reference} supplied no attachment: {error}")
    # A stranger's callable: a later try may find what it needs. Its text may hold what nobody else may see.
    said = limit.said if error is None else f"it failed with {place_of(error)}"
    raise AgentUnavailable(f"{entry.reference}: {said}") from error


def _file(entry: Supplied, item: object, number: int) -> Attachment:
    if isinstance(item, Given):
        return item.file()
    name = entry.filename or getattr(item, "name", "")
    name = safe_filename(name if isinstance(name, str) else "", entry.content_type, number)
    return make_file(name, read_content(item), entry.content_type)
