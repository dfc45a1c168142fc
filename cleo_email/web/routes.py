"""The endpoints but those of messages: mail by webhook, mail to send, the process, the description."""

import json
import logging
import re
from base64 import b64encode
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import cache
from hashlib import sha256
from importlib.resources import files

from flask import Blueprint, Response, request, url_for

from cleo_email.app import App
from cleo_email.crashpoints import crashpoint
from cleo_email.errors import InvalidField, KeyReused, NotFound, StoreUnavailable
from cleo_email.pipeline.receive import IncomingMail
from cleo_email.runtime import now_ms
from cleo_email.store import Accepted
from cleo_email.web.auth import is_ours, proved_body, require_api_token, unproven_refused
from cleo_email.web.bodies import (
    RequestRefused,
    answer,
    answers_in_json,
    bad_fields,
    current,
    error,
    parse_json,
    read_body,
    read_bytes,
    read_form,
    validated,
)
from cleo_email.web.models import IncomingFields, SendFields, WorkflowFields
from cleo_email.webhooks.base import NotNow, NotSetUp, Unusable, WebhookRequest, bare_path
from cleo_email.webhooks.forms import MULTIPART
from cleo_email.webhooks.handler import described

log = logging.getLogger(__name__)

bp = answers_in_json(Blueprint("routes", __name__))

AGAIN = {"Retry-After": "60"}
KEY_PATTERN = r"[!-~]{1,255}"

# --- mail by webhook --------------------------------------------------------------------------------------


@bp.post("/email/incoming")
def incoming() -> Response:
    """Take a mail as JSON fields."""
    with proved_body("application/json") as body:
        # Where mail is verified its bytes tell that it is repeated, and every version makes the same.
        arrival = parse_json(body, IncomingFields).arrival(encoded=current().settings.verify_dkim)
        accepted = current().receiver.accept(arrival)
        if accepted.duplicate and arrival.form and not accepted.is_same:  # another version may have taken it
            accepted = current().receiver.accept(parse_json(body, IncomingFields).arrival())
        return _taken(accepted)


@bp.post("/email/incoming/raw")
def incoming_raw() -> Response:
    """Take a mail as it is, from an MTA's pipe or a mail worker at the edge."""
    with proved_body("message/rfc822") as source:
        if not source.strip():
            raise bad_fields({"body": "expected a mail (RFC 5322), found nothing"})
        sender = request.headers.get("X-Envelope-From")
        arrival = IncomingMail(
            source,
            "raw",
            envelope_from=bare_path(sender) if sender is not None else None,
            envelope_to=bare_path(request.headers.get("X-Envelope-To", "")),
        )
        return _taken(current().receiver.accept(arrival))


@bp.post("/email/incoming/<name>")
def incoming_from(name: str) -> Response:
    """Take what a mail provider posts, and answer with the status codes that it understands."""
    handler = current().webhooks
    found = handler.find(name)
    given = {key.lower(): value for key, value in request.headers.items()}
    asked = WebhookRequest(given, request.args.to_dict(), now_ms() / 1000)
    with unproven_refused():
        try:
            found.require_secret()
            if not found.signs_body:  # check the password before the body is read
                found.verify(asked)
            most = found.max_body or handler.max_request_bytes
            body = read_bytes(most, status=found.gives_up_with)
            return answer(200, handler.handle(found, replace(asked, body=body)))  # some accept 200 only
        except NotSetUp as fault:
            handler.warn_unset(found, fault)
            headers = AGAIN if found.unset_status == 503 else {}  # the provider should try again later
            raise RequestRefused(found.unset_status, str(fault), headers=headers) from None
        except Unusable as fault:
            log.warning("a request of %s is of no use: %s", name, fault)
            raise RequestRefused(found.gives_up_with, str(fault)) from None
        except NotNow as fault:
            log.warning("a request of %s is to come again: %s", name, fault)
            raise RequestRefused(503, str(fault), headers=AGAIN) from None


def _taken(accepted: Accepted) -> Response:
    """Say that the mail is durable: 202, and 200 for a duplicate."""
    crashpoint("web-before-answer")
    return answer(200 if accepted.duplicate else 202, described(accepted))


# --- mail that answers no other ---------------------------------------------------------------------------


@bp.post("/email/send")
def send() -> Response:
    """Send a mail from the agent's address; 202 once it is durable."""
    require_api_token()
    if request.mimetype == MULTIPART:
        fields = validated(read_form(), SendFields)
    else:
        fields = parse_json(read_body("application/json", MULTIPART), SendFields)
    draft = fields.draft()
    del fields
    with _faults_answered():
        sent = current().sender.send(draft, idempotency_key=_key())
    crashpoint("web-before-answer")
    return answer(202, {"id": sent.id, "message_id": sent.message_id, "thread_id": sent.thread_id})


@bp.post("/workflows")
def workflows() -> Response:
    """Start a workflow; 202 once it is durable for every user."""
    require_api_token()
    start = parse_json(read_body("application/json"), WorkflowFields).request()
    with _faults_answered():
        started = current().workflow_starter.start(start, idempotency_key=_key())
    crashpoint("web-before-answer")
    ids = [{"id": one.id, "user_id": one.user_id, "thread_id": one.thread_id} for one in started]
    return answer(202, {"ids": ids})


def _key() -> str:
    key = request.headers.get("Idempotency-Key")
    if key is None:
        return ""
    if not re.fullmatch(KEY_PATTERN, key):
        expected = "expected at most 255 printable ASCII characters without blanks, such as a UUID"
        raise bad_fields({"Idempotency-Key": expected})
    return key


@contextmanager
def _faults_answered() -> Iterator[None]:
    try:
        yield
    except NotFound as fault:
        raise RequestRefused(404, str(fault), {"thread_id": str(fault)}) from None
    except InvalidField as fault:
        raise bad_fields({fault.field: str(fault)}) from None
    except KeyReused as fault:
        raise RequestRefused(409, str(fault), {"Idempotency-Key": str(fault)}) from None


# --- /healthz: the process serves; /readyz: mail flows ----------------------------------------------------


@bp.get("/healthz")
def healthz() -> Response:
    return answer(200, {"status": "ok"})


@bp.get("/readyz")
def readyz() -> Response:
    """Answer 200 only while mail can come in, be answered and go out; else 503, the reason for our own."""
    if reason := why_not_ready(current(), current().clock()):
        return error(503, reason if is_ours() else "not ready; with CLEO_API_TOKEN the reason is told")
    return answer(200, {"status": "ready"})


def why_not_ready(app: App, now: int) -> str:
    """Return the first thing that is wrong, with what to do about it, or ''."""
    settings = app.settings
    if not settings.enabled:
        return "the email channel is not enabled: ENABLED_CLIENTS does not list email"
    try:
        app.store.health.try_writes()  # a replica, or a full Redis, reads well
        health = app.store.health.read()
    except StoreUnavailable as fault:
        return str(fault)
    if health.worker_is_away(now):
        return "no worker has been seen in the last 90 s: start python worker.py"
    if health.submission_fault:
        return health.submission_fault
    late = not health.polled or now - health.polled > 3 * settings.poll_interval * 1000
    if settings.imap_host and late:
        return (
            health.poll_fault or "no poll has succeeded in the last 3 intervals (EMAIL_POLL_INTERVAL_SECONDS)"
        )
    return ""


@bp.get("/metrics")
def metrics() -> Response:
    """Tell Prometheus what is counted, in the format that it asks for."""
    require_api_token()
    from cleo_email.monitoring.metrics import WAITING_STATES, exposition

    now = current().clock()
    snapshot = current().store.totals.read(WAITING_STATES, now)
    body, content_type = exposition(snapshot, now, request.headers.get("Accept", ""))
    return Response(body, content_type=content_type)


# --- the description --------------------------------------------------------------------------------------
#
# It is a file, which tests compare with the routes, models and answers. What depends on the settings (the
# providers, whether a token and a secret are required) is adapted for our own callers only. The page that
# shows it loads nothing from other hosts.


@bp.get("/openapi.json")
def openapi() -> Response:
    provider = "/email/incoming/{provider}"
    described = json.loads(_file("openapi.json"))
    if mounted := url_for(".openapi").removesuffix("/openapi.json"):
        described["servers"] = [{"url": mounted}]
    if not is_ours():  # a stranger need not know which doors there are
        return answer(200, described)
    settings, paths = current().settings, described["paths"]
    asked = {"api": settings.api_tokens, "webhook": settings.webhook_secrets, "callback": True}
    for operation in (one for methods in paths.values() for one in methods.values()):
        if not all(asked[name] for scheme in operation.get("security", ()) for name in scheme):
            del operation["security"]
    if providers := current().webhooks.set_up:
        paths[provider]["post"]["parameters"][0]["schema"]["enum"] = providers
    else:
        del paths[provider]  # the others only answer that they are not set up
    return answer(200, described)


@bp.get("/docs")
def docs() -> Response:
    """Serve the page with a policy that lets exactly its own style and script run."""
    page = _file("docs.html")
    policy = "default-src 'none'; connect-src 'self'; frame-ancestors 'none'"
    for kind, text in re.findall(r"(?s)<(style|script)>(.*?)</\1>", page):
        policy += f"; {kind}-src 'sha256-{b64encode(sha256(text.encode()).digest()).decode()}'"
    headers = {"Content-Security-Policy": policy}
    return Response(page, headers=headers, content_type="text/html; charset=utf-8")


@cache
def _file(name: str) -> str:
    return files(__package__).joinpath(name).read_text("utf-8")
