"""Workflows: the agent starts a conversation, by a program's request or on a schedule."""

import hashlib
import json
import logging
import re
import secrets
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import KW_ONLY, dataclass, field
from datetime import UTC, datetime
from functools import partial
from typing import Any
from zoneinfo import ZoneInfo

from cleo_email import errors
from cleo_email.agents.base import AgentMessage, AgentRequest, HistoryTurn
from cleo_email.agents.python import NotLoaded, load_function
from cleo_email.errors import InvalidField
from cleo_email.mail.address import person, validate_address
from cleo_email.mail.attachment import make_file, safe_filename
from cleo_email.mail.message_id import Signer
from cleo_email.mail.model import Address, Answer, AttachedFile, OutboundEmail, Turn
from cleo_email.pipeline.send import KEY_REMEMBERED_S, NewMail, Sender, digests, key_digest, read_content
from cleo_email.pipeline.send import Attachment as Given
from cleo_email.runtime import (
    COMPOSING_TURN_S,
    DAY,
    CallFailed,
    Clock,
    Deadline,
    LargeWork,
    call_within,
    now_ms,
)
from cleo_email.settings.workflows import Supplied, Workflow
from cleo_email.store import Identity, Record, Start, State, Store, new_id
from cleo_email.store.messages import FINAL, SOURCE_AFTER_FINAL_S
from cleo_email.store.queue import WakeQueue
from cleo_email.store.threads import workflow_key

log = logging.getLogger(__name__)

INGRESS = "workflow"
MAX_USERS = 500
# The workflow goes to the agent with each mail of its threads: it is context, not a way to carry files.
MAX_CONTEXT = 262_144  # bytes of JSON
MAX_CONTEXTS = 16_777_216  # of all users of one request, which are stored in one step
MAX_COPIES = 1 << 30  # bytes in Redis of the mails of one request: each is kept for some days

Supplier = Callable[[dict[str, Any]], object]


@dataclass(frozen=True)
class StartRequest:
    """A request to start a workflow. ``workflow_data``, ``config_id``, ``instance`` go to the agent as given.

    ``users`` holds the caller's id and the address of each user.
    """

    workflow_id: str
    users: Sequence[tuple[str, Address]]
    subject: str = ""
    language: str = ""
    model: str = ""
    new_room: bool = True
    config_id: Any = None
    instance: Any = None
    workflow_data: Any = None
    attachments: Sequence[AttachedFile] = field(default=(), repr=False)


@dataclass(frozen=True)
class Started:
    """A start that is stored, for one user."""

    id: str
    user_id: str
    thread_id: str


@dataclass
class WorkflowStarter:
    """``configured`` is None without CLEO_WORKFLOWS: then any id is accepted. ``max_bytes`` bounds a mail."""

    store: Store
    wake: WakeQueue
    signer: Signer
    from_: Address
    configured: Mapping[str, Workflow] | None
    _: KW_ONLY
    max_bytes: int
    retention_days: int
    clock: Clock = now_ms

    def start(self, request: StartRequest, *, idempotency_key: str = "") -> list[Started]:
        """Store a start for each user. With a key, the same request within 24 hours is the same start.

        Raise InvalidField, KeyReused, StoreUnavailable (nothing was stored).
        """
        self._check(request)
        key = key_digest(idempotency_key) if idempotency_key else secrets.token_hex(16)
        digest = _digest(request) if idempotency_key else ""
        return self._begin(request, f"workflow:{key}", KEY_REMEMBERED_S, digest)

    def _start_scheduled(self, workflow: Workflow, at_ms: int) -> list[Started]:
        users = [(address.addr, address) for address in workflow.users]
        data = workflow.workflow_data
        request = StartRequest(workflow.id, users, new_room=workflow.new_room, workflow_data=data)
        name = hashlib.sha256(json.dumps([workflow.id, at_ms]).encode()).hexdigest()
        return self._begin(request, f"schedule:{name}", 30 * DAY // 1000)

    @property
    def scheduled(self) -> list[Workflow]:
        return [one for one in (self.configured or {}).values() if one.schedule and one.users]

    def start_due(self) -> None:
        """Start each workflow that has been due since it was last started. Raise StoreUnavailable.

        After a time without workers one start makes up for all missed ones. Several workers may call this at
        once: the start for a due time has the same identity in each of them.
        """
        for workflow in self.scheduled:
            now = self.clock()
            due = last_due(workflow.schedule, workflow.timezone, now)
            # A changed schedule is a new one: due times before the change are not made up for.
            parts = [workflow.id, workflow.schedule, workflow.timezone]
            name = hashlib.sha256(json.dumps(parts).encode()).hexdigest()
            if due <= self.store.ticks.scheduled(name, first=now):
                continue
            started: list[Started] = []
            try:
                started = self._start_scheduled(workflow, due)
            except errors.StoreUnavailable:
                raise
            except errors.CleoError as error:
                log.error("workflow %s could not be started: %s", workflow.id, error)
            # This comes last: if a worker dies before it, the next one starts the same identities again.
            self.store.ticks.set_scheduled(name, due)
            log.info("workflow %s was started for %d users by its schedule", workflow.id, len(started))

    def _check(self, request: StartRequest) -> None:
        if self.configured is not None and request.workflow_id not in self.configured:
            raise InvalidField("workflow_id", "the file that CLEO_WORKFLOWS names has no such workflow")
        if not request.users:
            raise InvalidField("user_ids", "nobody to write to: give at least one address")
        if len(request.users) > MAX_USERS:
            raise InvalidField("user_ids", f"{len(request.users)} users, at most {MAX_USERS} in one request")
        # Base64 with its line ends (RFC 2045 section 6.8) takes 78 bytes for each 57.
        size = sum(file.size for file in request.attachments) * 78 // 57
        if size > self.max_bytes:
            limit = f"EMAIL_MAX_MESSAGE_BYTES ({self.max_bytes})"
            raise InvalidField("attachments", f"the files take {size} bytes in a mail, more than {limit}")
        if size * len(request.users) > MAX_COPIES:
            most = MAX_COPIES // size
            raise InvalidField(
                "user_ids", f"with files of {size} bytes for each at most {most} users at once"
            )

    def _begin(self, request: StartRequest, name: str, remember_s: int, digest: str = "") -> list[Started]:
        first: dict[str, tuple[str, Address]] = {}
        for given, address in request.users:
            first.setdefault(address.key, (given, address))
        users = list(first.values())
        known = self.store.messages.first_of(Identity(f"{name}:{users[0][1].key}"))
        batch = hashlib.sha256(name.encode()).hexdigest() if request.attachments else ""
        starts = [self._start(request, given, one, name, remember_s, batch) for given, one in users]
        # This comes before anything is stored, since another request may be about other users.
        if digest and self.store.messages.first_value(name, digest, KEY_REMEMBERED_S) != digest:
            raise errors.KeyReused("this Idempotency-Key was used for another request in the last 24 hours")
        files = () if known else request.attachments
        accepted = self.store.messages.accept_together(starts, batch=batch, files=files)
        for start, one in zip(starts, accepted, strict=True):
            if not one.duplicate:
                self.wake.wake(one.thread_id)
            elif files:  # the same request came twice at once, and the files are stored already
                with suppress(errors.StoreUnavailable):
                    self.store.files.done(batch, start.record.id)
        return [Started(one.id, user, one.thread_id) for one, (user, _) in zip(accepted, users, strict=True)]

    def _start(
        self, request: StartRequest, given: str, user: Address, name: str, keep_s: int, batch: str
    ) -> Start:
        now = self.clock()
        # Where the latest thread of this user and workflow is kept.
        key = "room:" + hashlib.sha256(json.dumps([request.workflow_id, user.key]).encode()).hexdigest()
        latest = "" if request.new_room else self.store.threads.latest(key)
        thread = latest or self.signer.new([user])
        context = self._context(request, given)
        size = sum(file.size for file in request.attachments)
        plan = {"opens": not latest, "name": user.name, "files": batch, "size": size}
        record = Record(
            id=new_id(now),
            state=State.RECEIVED,
            thread_id=thread,
            received_at=now,
            updated_at=now,
            from_address=self.from_.addr,
            to_address=user.addr,
            subject=context["subject"][:1000],
            ingress=INGRESS,
            workflow=json.dumps(context),
            outbound=json.dumps(plan),
        )
        keys = [(key, thread, self.retention_days * DAY // 1000), (workflow_key(thread), record.workflow, 0)]
        return Start(record, Identity(f"{name}:{user.key}", remember_s=keep_s), [user.key], keys)

    def _context(self, request: StartRequest, user_id: str) -> dict[str, Any]:
        """Return what the agent gets of the workflow, at its start and with each reply in its thread."""
        configured = (self.configured or {}).get(request.workflow_id, Workflow(id=request.workflow_id))
        context: dict[str, Any] = {
            "workflow_id": request.workflow_id,
            "user_id": user_id,
            "config_id": request.config_id,
            "instance": request.instance,
            "language": request.language or configured.language or None,
            "model": request.model or configured.model or None,
            "new_room": request.new_room,
            "subject": request.subject or configured.subject or default_subject(request.workflow_id),
            "workflow_data": request.workflow_data,
            "attachments": [
                {"filename": file.filename, "content_type": file.content_type, "size": file.size}
                for file in request.attachments
            ],
        }
        size = len(json.dumps(context))
        if size > MAX_CONTEXT:
            raise InvalidField("workflow_data", f"the workflow has {size} bytes as JSON, over {MAX_CONTEXT}")
        if size * len(request.users) > MAX_CONTEXTS:
            most = MAX_CONTEXTS // size
            raise InvalidField("user_ids", f"with a workflow of {size} bytes at most {most} users at once")
        return context


def default_subject(workflow_id: str) -> str:
    """Return "Weekly report" for ``weekly_report``."""
    words = re.sub(r"[\s_.-]+", " ", workflow_id).strip()
    return (words[:1].upper() + words[1:])[:200] or "Message"


def _digest(request: StartRequest) -> str:
    parts = [
        request.workflow_id,
        [(given, address.addr, address.name) for given, address in request.users],
        [request.subject, request.language, request.model, request.new_room],
        [request.config_id, request.instance, request.workflow_data],
        digests(request.attachments),
    ]
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


@dataclass(frozen=True)
class Question:
    """A request to the agent, and the functions that handle its answer."""

    request: AgentRequest
    text: str  # what the thread's history keeps of the question
    compose: Callable[[Answer], tuple[OutboundEmail, str]]  # the mail and a note for the record


@dataclass
class ThreadOpener:
    """Asks the agent for the mail that begins a thread.

    ``suppliers`` are the callables of the configured attachments, by reference; all those of one mail
    together have ``timeout`` seconds.
    """

    store: Store
    sender: Sender
    configured: Mapping[str, Workflow]
    suppliers: Mapping[str, Supplier]
    _: KW_ONLY
    timeout: float = 300.0
    _large: LargeWork = field(init=False, default_factory=lambda: LargeWork(1))

    def question(self, record: Record) -> Question:
        """Return the request to the agent: without a mail it holds the workflow and the addressee."""
        among = [person(record.to_address)]
        history = self.store.threads.history(record.thread_id, but=record.id, among=among)
        message = AgentMessage(to_address=record.to_address, subject=record.subject)
        request = agent_request(record, message, history, json.loads(record.workflow))
        return Question(request, "", partial(self._compose, record))

    def _compose(self, record: Record, answer: Answer) -> tuple[OutboundEmail, str]:
        """Return the mail. Raise InvalidField, AgentUnavailable (a supplier failed), AgentError."""
        plan = json.loads(record.outbound)
        # This happens outside of the turn for large mails, as other mails would wait for a slow supplier.
        more = [*self._configured_files(record), *answer.attachments]
        size = plan["size"] + sum(file.size for file in more)
        with self._large.turn(size, patience=COMPOSING_TURN_S) as now:
            if not now:
                raise errors.AgentUnavailable("other large mails are being composed")
            files = self.store.files.get(plan["files"]) if plan["files"] else ()
            if files is None:
                raise InvalidField("attachments", "the files of the start were dropped after 30 days")
            draft = NewMail(
                to=[Address(record.to_address, plan["name"])],
                subject=json.loads(record.workflow)["subject"],
                body=answer.text,
                attachments=[*files, *more],
                thread_id="" if plan["opens"] else record.thread_id,
            )
            message_id = record.thread_id if plan["opens"] else ""
            language = json.loads(record.workflow)["language"] or ""
            reader = person(record.to_address)
            notice = bool(self.sender.closing.notices) and is_first_answer(self.store, record, [reader])
            mail, _ = self.sender.compose(draft, message_id=message_id, language=language, notice=notice)
            return mail, ""

    def release_files(self, record: Record) -> None:
        """Release the files of the request once the mail has left; until then the agent may be asked anew.

        Of an ignored one they are kept as long as its source, as people may release it.
        """
        batch = json.loads(record.outbound)["files"]
        if batch and record.state in FINAL:
            keep_s = SOURCE_AFTER_FINAL_S if record.state is State.IGNORED else 0
            self.store.files.done(batch, record.id, keep_s=keep_s)

    def _configured_files(self, record: Record) -> Iterable[AttachedFile]:
        context = json.loads(record.workflow)
        workflow = self.configured.get(context["workflow_id"])
        limit = Deadline(self.timeout)
        for entry in workflow.attachments if workflow else ():
            if isinstance(entry, AttachedFile):
                yield entry
            else:
                yield from _supplied(entry, self.suppliers[entry.reference], context, limit)


def own_workflow(workflow: dict[str, Any] | None, readers: Collection[str]) -> dict[str, Any] | None:
    """Return the thread's workflow if it is about the one who reads the answer: its data are private.

    ``readers`` are addresses as of ``mail.address.person``.
    """
    if workflow and set(readers) == {person(validate_address("user_id", workflow["user_id"]).addr)}:
        return workflow
    return None


def is_first_answer(store: Store, record: Record, readers: Collection[str]) -> bool:
    """Return whether one of the ``readers`` has had nothing of the agent's in this thread yet."""
    return not all(
        any(turn.by_agent for turn in store.threads.history(record.thread_id, but=record.id, among=[one]))
        for one in readers
    )


def agent_request(
    record: Record,
    message: AgentMessage,
    history: Sequence[Turn],
    workflow: dict[str, Any] | None,
    language: str = "",
) -> AgentRequest:
    """Return the request; ``language`` counts where the workflow has none."""
    return AgentRequest(
        id=record.id,
        thread_id=record.thread_id,
        message=message,
        history=tuple(HistoryTurn(role=turn.role, content=turn.content) for turn in history),
        workflow=workflow,
        language=(workflow or {}).get("language") or language or None,
        model=(workflow or {}).get("model"),
    )


def load_suppliers(configured: Mapping[str, Workflow]) -> dict[str, Supplier]:
    """Return the callables that the workflows name. Raise SettingsError with a line for each bad name."""
    references = {
        entry.reference: workflow.id
        for workflow in configured.values()
        for entry in workflow.attachments
        if isinstance(entry, Supplied)
    }
    found: dict[str, Supplier] = {}
    faults = []
    for reference, id_ in references.items():
        module, _, name = reference.partition(":")
        try:
            found[reference] = load_function(module, name)
        except NotLoaded as error:
            faults.append(
                f"CLEO_WORKFLOWS: [workflows.{id_}] attachments: found {reference!a}, expected "
                f"a callable that can be imported ({error})"
            )
    if faults:
        raise errors.SettingsError(faults)
    return found


def _supplied(
    entry: Supplied, supplier: Supplier, data: dict[str, Any], limit: Deadline
) -> list[AttachedFile]:
    """Return the files of a callable, which gives bytes, a binary file, an Attachment, or a list of these."""

    def files(_abandoned: Callable[[], bool]) -> list[AttachedFile]:
        given = supplier(json.loads(json.dumps(data)))
        items = given if isinstance(given, (list, tuple)) else [given]
        try:
            return [_file(entry, item, number) for number, item in enumerate(items, 1)]
        except (TypeError, InvalidField) as error:
            raise errors.AgentError(f"{entry.reference} supplied no attachment: {error}") from None

    try:
        return call_within(limit, files, name="supplier-call")
    except CallFailed as failed:
        error = failed.error
    if isinstance(error, errors.AgentError):
        raise error
    # A later call may succeed. The text of the error is not shown, as it may hold private data.
    reason = limit.said if error is None else f"it failed with {errors.place_of(error)}"
    raise errors.AgentUnavailable(f"{entry.reference}: {reason}") from error


def _file(entry: Supplied, item: object, number: int) -> AttachedFile:
    if isinstance(item, Given):
        return item.file()
    name = entry.filename or getattr(item, "name", "")
    name = safe_filename(name if isinstance(name, str) else "", entry.content_type, number)
    return make_file(name, read_content(item), entry.content_type)


def last_due(schedule: str, timezone: str, now_ms: int) -> int:
    """Return the latest time (ms since 1970 UTC) at or before ``now_ms`` when a cron expression is due."""
    from croniter import croniter  # large, and few have a schedule

    zone = ZoneInfo(timezone)
    # get_prev gives times before the one it is asked about; the due second itself counts.
    now = datetime.fromtimestamp(now_ms // 1000 + 1, UTC).astimezone(zone)
    due: datetime = croniter(schedule, now).get_prev(datetime)
    if due.fold and not schedule.startswith("@") and "*" not in schedule.split()[1]:
        # When summer time ends an hour comes twice: a schedule at a fixed hour starts once.
        due = due.replace(fold=0)
    return int(due.timestamp() * 1000)


def next_due(schedule: str, timezone: str, now_ms: int) -> datetime:
    """Return when a cron expression makes its next start, in its own time zone."""
    from croniter import croniter

    now = datetime.fromtimestamp(now_ms / 1000, UTC).astimezone(ZoneInfo(timezone))
    times = croniter(schedule, now)
    while True:
        due: datetime = times.get_next(datetime)
        at = int(due.timestamp() * 1000)
        if last_due(schedule, timezone, at) == at:  # not so in the second of two equal hours
            return due
