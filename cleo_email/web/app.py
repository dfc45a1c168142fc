"""The Flask application factory."""

import logging

from flask import Flask, Response, request
from werkzeug.exceptions import HTTPException, MethodNotAllowed

from cleo_email.app import App, start_process
from cleo_email.errors import NotFound, StoreUnavailable, WrongState, place_of
from cleo_email.settings import Settings
from cleo_email.web import answers, messages, routes
from cleo_email.web.auth import OWN_CALLERS
from cleo_email.web.bodies import RequestRefused, drain, error
from cleo_email.web.operator import operator_pages
from cleo_email.webhooks.base import Fetch

log = logging.getLogger(__name__)

AGAIN = {"Retry-After": "30"}
NOT_ENABLED = "the email channel is not enabled: ENABLED_CLIENTS does not list email"
# The answers are no web pages: no browser may show, embed, cache or guess their type.
SECURITY_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
}


def from_environment(*, own_callers: bool = False) -> Flask:
    """Return the WSGI application, or end the process with a line for each fault of the settings.

    ``own_callers``: CLEO_API_TOKEN was made for this process, and programs of its user need not show it.
    """
    settings = start_process()
    if not settings.enabled:
        log.warning("no mail is taken: %s", NOT_ENABLED)
    else:
        opens = {
            "EMAIL_WEBHOOK_SECRET": (settings.webhook_secrets, "/email/incoming and /email/incoming/raw"),
            "CLEO_API_TOKEN": (
                settings.api_tokens,
                "/email/send, /email/messages, /email/threads, /workflows",
            ),
        }
        for name, (secrets, paths) in opens.items():
            if not secrets:
                log.info("%s is not set: %s answer only this machine itself", name, paths)
        if settings.operators and not settings.public_url:
            log.warning(
                "CLEO_PUBLIC_URL is not set: links to log in are mailed to browsers on this machine only"
            )
    app = create_app(settings)
    app.config[OWN_CALLERS] = own_callers
    return app


def create_app(settings: Settings, *, fetch: Fetch | None = None) -> Flask:
    """Return the WSGI application; ``fetch`` replaces the HTTPS client of the webhook providers (tests)."""
    app = Flask("cleo_email")
    app.extensions["cleo_email"] = App(settings, fetch=fetch)
    enabled = settings.enabled
    app.json.sort_keys = False  # type: ignore[attr-defined]
    app.register_blueprint(routes.bp)
    app.register_blueprint(messages.bp)
    app.register_blueprint(answers.bp)
    app.register_blueprint(operator_pages())
    app.register_error_handler(Exception, _answer_to)

    @app.before_request
    def only_where_enabled() -> None:
        """Answer 404 with the reason where the channel is off, before any other check."""
        if not enabled and (request.path.startswith("/email/") or request.path.startswith("/workflows")):
            raise RequestRefused(404, NOT_ENABLED)

    @app.after_request
    def finish(response: Response) -> Response:
        if response.status_code >= 400:
            drain()
        for name, value in SECURITY_HEADERS.items():
            response.headers.setdefault(name, value)
        return response

    return app


def _answer_to(fault: Exception) -> Response:
    match fault:
        case RequestRefused():
            return error(fault.status, fault.message, fault.fields, fault.headers)
        case StoreUnavailable():
            log.error("%s", fault)
            return error(503, "Redis did not answer: nothing was stored; try again", headers=AGAIN)
        case NotFound():
            return error(404, str(fault))
        case WrongState():
            return error(409, str(fault))
        case HTTPException():
            allowed = (fault.valid_methods or ()) if isinstance(fault, MethodNotAllowed) else ()
            headers = {"Allow": ", ".join(allowed)} if allowed else {}
            return error(fault.code or 500, fault.description or fault.name, headers=headers)
        case _:  # any other error is caught here; its text may hold what a stranger sent
            log.error("unexpected %s", place_of(fault))
            return error(500, "an internal fault; it is in the log")
