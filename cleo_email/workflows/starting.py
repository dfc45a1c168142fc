"""A start of a workflow becomes durable: one record for each user, all of them or none."""

from __future__ import annotations

import hashlib
import json
import re
import secrets
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from cleo_email.backoff import DAY
from cleo_email.clock import Clock, now_ms
from cleo_email.errors import InvalidField, KeyReused, StoreUnavailable
from cleo_email.intake import Intake
from cleo_email.mail.model import Address, Attachment, JsonObject
from cleo_email.outbound import KEY_REMEMBERED_S, Outbound, digests, key_digest
from cleo_email.settings.workflows import Workflow
from cleo_email.store import Identity, Record, Start, State, Store, new_id
from cleo_email.store.threads import workflow_key

INGRESS = "workflow"
MAX_USERS = 500
# The workflow goes to the agent with each mail of its threads: it is context, not a way to carry files.
MAX_CONTEXT = 262_144  # bytes of JSON
MAX_CONTEXTS = 16_777_216  # of all users of one request, which are stored in one step
MAX_COPIES = 1 << 30  # bytes in Redis of the mails of one request: each is kept for some days
_SEPARATORS = re.compile(r"[\s_.-]+")


@dataclass(frozen=True)
class StartRequest:
    """What is to begin. ``workflow_data``, ``config_id`` and ``instance`` go to the agent as given.

    ``users`` maps each address to what the caller calls that user.
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
    attachments: Sequence[Attachment] = field(default=(), repr=False)


@dataclass(frozen=True)
class Started:
    id: str
    user_id: str
    thread_id: str


class Starting:
    """``configured`` is None without CLEO_WORKFLOWS: then any id is taken. ``max_bytes`` bounds a mail."""

    def __init__(
        self,
        store: Store,
        intake: Intake,
        outbound: Outbound,
        from_: Address,
        configured: Mapping[str, Workflow] | None,
        *,
        max_bytes: int,
        retention_days: int,
        clock: Clock = now_ms,
    ) -> None:
        self._store = store
        self._intake = intake
        self._outbound = outbound
        self._from = from_
        self._configured = configured
        self._max_bytes = max_bytes
        self._room_s = retention_days * DAY // 1000
        self._clock = clock

    def start(self, request: StartRequest, *, idempotency_key: str = "") -> list[Started]:
        """Store a start for each user. With a key, the same request within 24 hours is the same start.

        Raises InvalidField, KeyReused, StoreUnavailable (nothing was stored).
        """
        self._check(request)
        if not idempotency_key:
            return self._begin(request, f"workflow:{secrets.token_hex(16)}", KEY_REMEMBERED_S)
        name = f"workflow:{key_digest(idempotency_key)}"
        return self._begin(request, name, KEY_REMEMBERED_S, _digest(request))

    def start_scheduled(self, workflow: Workflow, at_ms: int) -> list[Started]:
        """The start that is due at that time, whoever else starts it too."""
        users = [(address.addr, address) for address in workflow.users]
        data = workflow.workflow_data
        request = StartRequest(workflow.id, users, new_room=workflow.new_room, workflow_data=data)
        name = hashlib.sha256(json.dumps([workflow.id, at_ms]).encode()).hexdigest()
        return self._begin(request, f"schedule:{name}", 30 * DAY // 1000) if users else []

    def _check(self, request: StartRequest) -> None:
        if self._configured is not None and request.workflow_id not in self._configured:
            raise InvalidField(
                "workflow_id", "there is no such workflow in the file that CLEO_WORKFLOWS names"
            )
        if not request.users:
            raise InvalidField("user_ids", "nobody to write to: give at least one address")
        if len(request.users) > MAX_USERS:
            raise InvalidField("user_ids", f"{len(request.users)} users, at most {MAX_USERS} in one request")
        # Base64 with its line ends (RFC 2045 section 6.8) takes 78 bytes for each 57.
        size = sum(file.size for file in request.attachments) * 78 // 57
        if size > self._max_bytes:
            limit = f"EMAIL_MAX_MESSAGE_BYTES ({self._max_bytes})"
            raise InvalidField("attachments", f"the files take {size} bytes in a mail, more than {limit}")
        if size * len(request.users) > MAX_COPIES:
            most = MAX_COPIES // size
            raise InvalidField(
                "user_ids", f"with files of {size} bytes in a mail at most {most} users at once"
            )

    def _begin(self, request: StartRequest, name: str, remember_s: int, digest: str = "") -> list[Started]:
        first: dict[str, tuple[str, Address]] = {}
        for given, address in request.users:
            first.setdefault(address.key, (given, address))
        users = list(first.values())
        known = self._store.messages.first_of(f"{name}:{users[0][1].key}")
        batch = hashlib.sha256(name.encode()).hexdigest() if request.attachments else ""
        starts = [self._start(request, given, one, name, remember_s, batch) for given, one in users]
        # Before anything is stored: another request may share some of the users with this one, or none.
        if digest and self._store.messages.first_value(name, digest, KEY_REMEMBERED_S) != digest:
            raise KeyReused("this Idempotency-Key was used for another request within the last 24 hours")
        files = () if known else request.attachments
        accepted = self._store.messages.accept_together(starts, batch=batch, files=files)
        for start, one in zip(starts, accepted, strict=True):
            if not one.duplicate:
                self._intake.wake(one.thread_id)
            elif files:  # the same request at the same moment: its first copy has the files already
                with suppress(StoreUnavailable):
                    self._store.files.done(batch, start.record.id)
        return [
            Started(one.id, given, one.thread_id) for one, (given, _) in zip(accepted, users, strict=True)
        ]

    def _start(
        self,
        request: StartRequest,
        given: str,
        user: Address,
        name: str,
        remember_s: int,
        batch: str,
    ) -> Start:
        now = self._clock()
        key = _room_key(request.workflow_id, user)
        latest = "" if request.new_room else self._store.threads.latest(key)
        thread = latest or self._outbound.new_message_id([user])
        context = self._context(request, given)
        plan = {
            "opens": not latest,
            "name": user.name,
            "files": batch,
            "size": sum(file.size for file in request.attachments),
        }
        record = Record(
            id=new_id(now),
            state=State.RECEIVED,
            thread_id=thread,
            received_at=now,
            updated_at=now,
            from_address=self._from.addr,
            to_address=user.addr,
            subject=context["subject"][:1000],
            ingress=INGRESS,
            workflow=json.dumps(context),
            outbound=json.dumps(plan),
        )
        keys = [(key, thread, self._room_s), (workflow_key(thread), record.workflow, 0)]
        return Start(record, Identity(f"{name}:{user.key}", remember_s=remember_s), [user.key], keys)

    def _context(self, request: StartRequest, user_id: str) -> JsonObject:
        """What the agent is told of the workflow, at its start and with each reply in its thread."""
        configured = (self._configured or {}).get(request.workflow_id, Workflow(id=request.workflow_id))
        context: JsonObject = {
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
            raise InvalidField(
                "workflow_data", f"the workflow takes {size} bytes as JSON, more than {MAX_CONTEXT}"
            )
        if size * len(request.users) > MAX_CONTEXTS:
            most = MAX_CONTEXTS // size
            raise InvalidField("user_ids", f"with a workflow of {size} bytes at most {most} users at once")
        return context


def default_subject(workflow_id: str) -> str:
    """``weekly_report`` is called "Weekly report"."""
    words = _SEPARATORS.sub(" ", workflow_id).strip()
    return (words[:1].upper() + words[1:])[:200] or "Message"


def _room_key(workflow_id: str, user: Address) -> str:
    """Under which key the latest thread of a user and a workflow is kept."""
    return "room:" + hashlib.sha256(json.dumps([workflow_id, user.key]).encode()).hexdigest()


def _digest(request: StartRequest) -> str:
    parts = [
        request.workflow_id,
        [(given, address.addr, address.name) for given, address in request.users],
        [request.subject, request.language, request.model, request.new_room],
        [request.config_id, request.instance, request.workflow_data],
        digests(request.attachments),
    ]
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()
