"""The functions that RQ calls, by name. Each catches every error, because no caller would see it.

A worker of this package has built its app before the first job; under any other RQ worker (``rq worker``) the
first job builds it from the environment.
"""

import logging
import os
from collections.abc import Callable

from cleo_email.app import App, shared_app
from cleo_email.crashpoints import arm, crashpoint
from cleo_email.errors import MailboxError, NotFound, StoreUnavailable
from cleo_email.pipeline.poll import Poller
from cleo_email.settings import export_dotenv, read_settings

log = logging.getLogger(__name__)


def _app() -> App:
    def build() -> App:
        arm(os.environ)
        export_dotenv()
        return App.for_worker(read_settings())

    return shared_app("worker", None, build)


def answer(thread_id: str) -> None:
    """Handle the due message of one conversation."""
    crashpoint("job-after-take")
    try:
        _app().answerer.handle(thread_id)
    except StoreUnavailable as error:
        log.warning("a conversation waits for Redis: %s", error)
    except NotFound:
        log.warning("a message is gone that was being answered: was Redis emptied? see: cleo-email recover")


def poll() -> str:
    """Read the mailbox once; it does no harm to ask for this often."""
    return _at_the_mailbox(lambda poller: str(poller.run()))


def chores() -> str:
    """Do the upkeep of the mailbox. The old name stays, since jobs in Redis carry it."""
    return _at_the_mailbox(lambda poller: f"filed: {poller.run_upkeep()}")


def _at_the_mailbox(work: Callable[[Poller], str]) -> str:
    poller = _app().poller
    if poller is None:
        return "EMAIL_IMAP_HOST is not set: there is no mailbox"
    try:
        return work(poller)
    except (MailboxError, StoreUnavailable) as error:
        return f"failed: {error}"
