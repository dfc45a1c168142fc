"""The Flask application factory."""

import logging
import os
import threading
import time

from flask import Flask, request

from cleo_email.app import App, start_process
from cleo_email.errors import StoreUnavailable, place_of
from cleo_email.settings import Settings, read_settings
from cleo_email.web import answers, messages, routes
from cleo_email.web.auth import OWN_CALLERS
from cleo_email.web.bodies import RequestRefused, answer_to, finish
from cleo_email.web.operator import first_page, operator_pages
from cleo_email.webhooks.base import Fetch

log = logging.getLogger(__name__)

WATCH_S = 15.0
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
                "/email/send, /email/messages, /email/threads, /workflows, /metrics",
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
    if settings.enabled and settings.alert_to:
        watch = _WorkerWatch(settings)
        app.before_request(watch.start)
        os.register_at_fork(after_in_child=watch.start)  # by gunicorn, where the application was loaded first
    return app


class _WorkerWatch:
    """Sends the alerts while no worker does, whether or not anybody calls: that is an alert itself."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._process = 0

    def start(self) -> None:
        """Begin with it, once in each process: no thread outlives a fork."""
        if self._process != os.getpid():
            self._process = os.getpid()
            threading.Thread(target=self._watch, name="cleo-worker-watch", daemon=True).start()

    def _watch(self) -> None:
        app = App(self._settings)
        while app.alerts is not None:
            time.sleep(WATCH_S)
            try:
                if app.store.ticks.tick("worker-watch", round(WATCH_S * 1000)):
                    app.alerts.look_for_worker()
            except StoreUnavailable as error:
                log.debug("%s", error)
            except Exception as error:  # noqa: BLE001 - the thread's outermost edge
                log.error("alerts: unexpected %s", place_of(error))


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
    app.register_blueprint(answers.bp)
    app.register_blueprint(operator_pages())
    app.register_blueprint(first_page())
    app.register_error_handler(Exception, answer_to)
    app.after_request(finish)

    @app.before_request
    def only_where_enabled() -> None:
        """Answer 404 with the reason where the channel is off, before any other check."""
        if not enabled and request.path.startswith(("/email/", "/workflows", "/metrics")):
            raise RequestRefused(404, NOT_ENABLED)

    return app
