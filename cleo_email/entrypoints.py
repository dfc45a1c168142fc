"""The entry points of the two processes: read the settings, say what is wrong with them, start.

Each loads its own half of the package: a worker has no use for Flask, nor the web process for IMAP and SMTP.
"""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

from cleo_email.crashpoints import arm
from cleo_email.errors import SettingsError
from cleo_email.logs import set_up_logging
from cleo_email.memory import give_back_large_blocks
from cleo_email.settings import Settings, export_dotenv, read_settings

if TYPE_CHECKING:
    from flask import Flask

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
    from cleo_email.web import create_app

    set_up_logging()
    give_back_large_blocks()
    arm(os.environ)
    return create_app(settings_or_exit())


def worker() -> int:
    """Run the worker until SIGTERM; its exit status."""
    from cleo_email.worker import run_worker

    set_up_logging()
    give_back_large_blocks()
    try:
        return run_worker(settings_or_exit())
    except SettingsError as error:  # CLEO_AGENT names nobody
        _say(error)
        return BAD_SETTINGS


def _say(error: SettingsError) -> None:
    for fault in error.faults:
        print(f"cleo-email: {fault}", file=sys.stderr)
