"""The Flask application factory."""

import logging

from flask import Flask, request

from cleo_email.app import App, start_process
from cleo_email.settings import Settings, read_settings
from cleo_email.web import messages, routes
from cleo_email.web.auth import OWN_CALLERS
from cleo_email.web.bodies import RequestRefused, answer_to, finish
from cleo_email.web.operator import operator_pages
from cleo_email.webhooks.base import Fetch

log = logging.getLogger(__name__)

NOT_ENABLED = "the email channel is not enabled: ENABLED_CLIENTS does not list email"


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


def create_app(settings: Settings | None = None, *, fetch: Fetch | None = None) -> Flask:
    """Return the WSGI application, alone or to be mounted in another one under a path.

    Nothing of the process is changed: neither its log nor its environment.

    :param settings: by default those of the environment and ``.env``, as they are at the call.
    :param fetch: replaces the HTTPS client of the webhook providers (tests).
    :raises SettingsError: the environment holds missing or nonsensical values.
    """
    app = Flask("cleo_email")
    settings = read_settings() if settings is None else settings
    app.extensions["cleo_email"] = App(settings, fetch=fetch)
    enabled = settings.enabled
    app.json.sort_keys = False  # type: ignore[attr-defined]
    app.register_blueprint(routes.bp)
    app.register_blueprint(messages.bp)
    app.register_blueprint(operator_pages())
    app.register_error_handler(Exception, answer_to)
    app.after_request(finish)

    @app.before_request
    def only_where_enabled() -> None:
        """Answer 404 with the reason where the channel is off, before any other check."""
        if not enabled and (request.path.startswith("/email/") or request.path.startswith("/workflows")):
            raise RequestRefused(404, NOT_ENABLED)

    return app
