"""The Flask application factory."""

from __future__ import annotations

import logging

from flask import Flask, Response, request
from werkzeug.exceptions import HTTPException, MethodNotAllowed

from cleo_email.app import App, start_process
from cleo_email.errors import NotFound, StoreUnavailable, WrongState, place_of
from cleo_email.settings import Settings
from cleo_email.web import docs, health, incoming, messages, send
from cleo_email.web.base import RequestRefused, current, error
from cleo_email.web.bodies import drain
from cleo_email.webhooks.base import Fetch

log = logging.getLogger(__name__)

RETRY_AFTER_S = "30"
# Nothing here is a page: no browser is to show, embed, keep or guess at it.
SECURITY_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
}


def from_environment() -> Flask:
    """Return the WSGI application of this machine's settings, or end the process with their faults."""
    settings = start_process()
    if not settings.enabled:
        log.warning(
            "the email channel is not enabled (ENABLED_CLIENTS does not list email): no mail is taken"
        )
    return create_app(settings)


def create_app(settings: Settings, *, fetch: Fetch | None = None) -> Flask:
    """Return the WSGI application; ``fetch`` replaces the HTTPS client of the webhook providers (tests)."""
    app = Flask("cleo_email")
    app.extensions["cleo_email"] = App(settings, fetch=fetch)
    app.json.sort_keys = False  # type: ignore[attr-defined]
    app.register_blueprint(health.bp)
    app.register_blueprint(incoming.bp)
    app.register_blueprint(messages.bp)
    app.register_blueprint(send.bp)
    app.register_blueprint(docs.bp)
    _handle_errors(app)

    @app.before_request
    def only_where_enabled() -> None:
        """404 before anything else is looked at, with the reason."""
        on = current().settings.enabled
        if not on and (request.path.startswith("/email/") or request.path.startswith("/workflows")):
            raise RequestRefused(404, "the email channel is not enabled: ENABLED_CLIENTS does not list email")

    @app.after_request
    def finish(response: Response) -> Response:
        if response.status_code >= 400:
            drain()
        for name, value in SECURITY_HEADERS.items():
            response.headers.setdefault(name, value)
        return response

    return app


def _handle_errors(app: Flask) -> None:
    @app.errorhandler(RequestRefused)
    def refused(fault: RequestRefused) -> Response:
        return error(fault.status, fault.message, fault.fields, fault.headers)

    @app.errorhandler(StoreUnavailable)
    def unavailable(fault: StoreUnavailable) -> Response:
        log.error("%s", fault)
        return error(
            503, "Redis did not answer: nothing was stored; try again", headers={"Retry-After": RETRY_AFTER_S}
        )

    @app.errorhandler(NotFound)
    def missing(fault: NotFound) -> Response:
        return error(404, str(fault))

    @app.errorhandler(WrongState)
    def conflict(fault: WrongState) -> Response:
        return error(409, str(fault))

    @app.errorhandler(HTTPException)
    def http(fault: HTTPException) -> Response:
        allowed = (fault.valid_methods or ()) if isinstance(fault, MethodNotAllowed) else ()
        headers = {"Allow": ", ".join(allowed)} if allowed else {}
        return error(fault.code or 500, fault.description or fault.name, headers=headers)

    @app.errorhandler(Exception)
    def unexpected(fault: Exception) -> Response:
        # The request's outermost edge. The text of the exception may hold what a stranger sent.
        log.error("unexpected %s", place_of(fault))
        return error(500, "an internal fault; it is in the log")
