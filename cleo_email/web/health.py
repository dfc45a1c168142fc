"""``/healthz``: the process serves; ``/readyz``: mail flows."""

from __future__ import annotations

from flask import Blueprint, Response

from cleo_email.app import App
from cleo_email.errors import StoreUnavailable
from cleo_email.runtime import now_ms
from cleo_email.web.base import answer, current, error

bp = Blueprint("health", __name__)


@bp.get("/healthz")
def healthz() -> Response:
    return answer(200, {"status": "ok"})


@bp.get("/readyz")
def readyz() -> Response:
    """Answer 200 only while mail can come in, be answered and go out; else 503 with the reason."""
    reason = why_not_ready(current(), now_ms())
    return error(503, reason) if reason else answer(200, {"status": "ready"})


def why_not_ready(app: App, now: int) -> str:
    """Return the first thing that is wrong, with what to do about it, or ''."""
    settings = app.settings
    if not settings.enabled:
        return "the email channel is not enabled: ENABLED_CLIENTS does not list email"
    try:
        health = app.store.health.read()
    except StoreUnavailable as fault:
        return str(fault)
    if health.worker_is_away(now):
        return "no worker has been seen in the last 90 s: start python worker.py"
    if health.submission_fault:
        return health.submission_fault
    if settings.imap_host and now - health.polled > 3 * settings.poll_interval * 1000:
        return (
            health.poll_fault or "no poll has succeeded in the last 3 intervals (EMAIL_POLL_INTERVAL_SECONDS)"
        )
    return ""
