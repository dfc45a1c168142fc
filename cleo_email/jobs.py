"""The functions that RQ calls, by name. Each is an outermost edge: what it raises would reach nobody.

A worker of this package hands its services over with ``use``; under any other RQ worker (``rq worker``) the
first job builds them from the environment.
"""

from __future__ import annotations

import logging
import os
import threading

from cleo_email.crashpoints import arm, crashpoint
from cleo_email.errors import MailboxError, NotFound, StoreUnavailable
from cleo_email.services import Services, build_services
from cleo_email.settings import export_dotenv, read_settings

log = logging.getLogger(__name__)

_guard = threading.Lock()
_services: list[Services] = []


def use(services: Services) -> None:
    """Serve the jobs of this process with these collaborators."""
    with _guard:
        _services[:] = [services]


def _current() -> Services:
    with _guard:
        if not _services:
            arm(os.environ)
            export_dotenv()
            _services.append(build_services(read_settings()))
        return _services[0]


def answer(thread_id: str) -> None:
    """Handle what is due in one conversation."""
    crashpoint("job-after-take")
    try:
        _current().answering.handle(thread_id)
    except StoreUnavailable as error:
        log.warning("a conversation waits for Redis: %s", error)
    except NotFound:
        log.warning("a message is gone that was being answered: was Redis emptied? see: cleo-email recover")


def poll() -> str:
    """Read the mailbox once; harmless however often and by whomever it is asked for."""
    polling = _current().polling
    if polling is None:
        return "EMAIL_IMAP_HOST is not set: there is no mailbox to poll"
    try:
        return str(polling.run())
    except (MailboxError, StoreUnavailable) as error:
        return f"failed: {error}"


def chores() -> str:
    """Set flags, file into Sent, settle uncertain sends."""
    services = _current()
    if services.polling is None:
        return "EMAIL_IMAP_HOST is not set: there is no mailbox"
    try:
        done = services.polling.chores()
        return "busy" if done is None else f"{done} done"
    except (MailboxError, StoreUnavailable) as error:
        return f"failed: {error}"
