"""The entry points of the two processes: read the settings, say what is wrong with them, start.

Each loads its own half of the package: a worker has no use for Flask, nor the web process for IMAP and SMTP.
"""

from __future__ import annotations

import logging
import os
import sys
from typing import TYPE_CHECKING

from cleo_email.crashpoints import arm
from cleo_email.errors import SettingsError
from cleo_email.runtime import give_back_large_blocks, set_up_logging
from cleo_email.settings import Settings, export_dotenv, gather, misspelt, no_dotenv, read_settings

if TYPE_CHECKING:
    from flask import Flask

log = logging.getLogger(__name__)

# gunicorn ends on this status of a worker that fails at import; on any other it restarts it for ever.
BAD_SETTINGS = 3


def settings_or_exit() -> Settings:
    """The settings, or an end with one line per fault on standard error."""
    try:
        export_dotenv()
        return read_settings()
    except SettingsError as error:
        _say(error)
        raise SystemExit(BAD_SETTINGS) from None


def web() -> Flask:
    """The WSGI application from the environment."""
    from cleo_email.web.app import create_app

    set_up_logging()
    give_back_large_blocks()
    arm(os.environ)
    settings = settings_or_exit()
    if not settings.enabled:
        log.warning(
            "the email channel is not enabled (ENABLED_CLIENTS does not list email): no mail is taken"
        )
    return create_app(settings)


def worker() -> int:
    """Run the worker until SIGTERM; its exit status."""
    from cleo_email.worker.process import run_worker

    set_up_logging()
    give_back_large_blocks()
    try:
        settings = settings_or_exit()
        for line in misspelt(gather()):
            log.warning("%s", line)
        return run_worker(settings)
    except SettingsError as error:  # CLEO_AGENT names nobody
        _say(error)
        return BAD_SETTINGS


def _say(error: SettingsError) -> None:
    for fault in error.faults:
        print(f"cleo-email: {fault}{no_dotenv()}", file=sys.stderr)
