"""The start and the end of the worker process (``python worker.py``)."""

import logging
import os
import signal
import socket
import threading
import time

from cleo_email.agents.spec import UrlSpec, parse_spec
from cleo_email.app import App, print_faults, shared_app, start_process
from cleo_email.errors import BAD_SETTINGS, SettingsError, StoreUnavailable
from cleo_email.http.address import web_address
from cleo_email.runtime import AtWork
from cleo_email.settings import Settings, doubts, gather, no_dotenv
from cleo_email.store.connection import connect_worker
from cleo_email.store.queue import ANSWERS, MAILBOX
from cleo_email.worker.listener import Listener
from cleo_email.worker.rq_threads import ThreadWorker, all_dequeue, watch, work_until_stopped
from cleo_email.worker.ticker import Ticker

log = logging.getLogger(__name__)

END_S = 3.0  # for what Python does at its end
DRAIN_S = 25.0  # Heroku kills 30 s after SIGTERM, Docker after 10 s; other workers take over unfinished jobs


def main() -> int:
    """Run the worker by the environment's settings until SIGTERM. Return the exit status."""
    settings = start_process()
    try:
        for line in doubts(gather()):
            log.warning("%s", line)
        status = run_worker(settings)
    except SettingsError as error:  # CLEO_AGENT names no agent
        print_faults(error)
        return BAD_SETTINGS
    # Python waits at its end for threads that the agent's code has started, however long they take.
    last = threading.Timer(END_S, os._exit, [status])
    last.daemon = True
    last.start()
    return status


def run_worker(settings: Settings) -> int:
    """Run until SIGTERM or SIGINT. Return the exit status."""
    stop = threading.Event()
    signals = _Signals(stop)
    if not settings.enabled:
        text = "the email channel is not enabled (ENABLED_CLIENTS does not list email): nothing to do%s"
        log.warning(text, no_dotenv())
        signals.wait()
        return 0
    app = shared_app("worker", None, lambda: App.for_worker(settings))
    # Build what a job uses before the first job comes, so that a fault in a setting shows at once.
    _ = (app.answerer, app.poller, app.sweeper, app.workflow_starter, app.event_sender)
    _announce(app)
    app.store.locks.is_steady()  # from here on it counts how long Redis has been within reach
    holders = [_start_worker(app, ANSWERS, settings.concurrency, stop, app.at_work)]
    if app.poller is not None:
        holders.append(_start_worker(app, MAILBOX, 1, stop))
    listener = Listener(app, app.idle) if app.idle else None
    if listener:
        listener.start()
    Ticker(app, stop, dequeues=lambda: all_dequeue(holders)).start()
    if app.event_sender is not None:
        threading.Thread(target=app.event_sender.run, args=(stop,), name="cleo-events", daemon=True).start()
    threading.Thread(target=watch, args=(holders, stop), name="cleo-watchdog", daemon=True).start()
    signals.wait()
    log.info("stopping: taking no more work, finishing for at most %d s", DRAIN_S)
    if listener:
        listener.end()
    _drain(holders)
    app.store.locks.release_all()
    app.submitter.close()
    return 0


def _start_worker(
    app: App, name: str, slots: int, stop: threading.Event, at_work: AtWork | None = None
) -> list[ThreadWorker]:
    """Keep an RQ worker at work on a queue in a thread. Return its holder."""
    url = app.settings.redis_url.get_secret_value()
    holder: list[ThreadWorker] = []

    def build() -> ThreadWorker:
        # Connections of its own: RQ stretches their time-outs for its blocking reads.
        return ThreadWorker(connect_worker(url, connections=8), name, slots=slots, at_work=at_work)

    args = (build, holder, stop)
    threading.Thread(target=work_until_stopped, args=args, name=name, daemon=True).start()
    return holder


def _announce(app: App) -> None:
    settings = app.settings
    if settings.agent.lower() == "echo":
        log.warning("CLEO_AGENT is echo: every mail is answered with its own text (for trying out only)")
    try:
        app.store.health.fresh_start()
    except StoreUnavailable as error:
        log.warning("%s; trying again", error)
    if settings.agent:
        log.info("%s", _whose_mail(settings))
    else:
        log.warning(
            "CLEO_AGENT is not set: mail is accepted and held, and nobody is answered; set CLEO_AGENT"
        )
    inbox = f"polls every {settings.poll_interval} s" if app.poller else "takes mail by webhook only"
    log.info("worker started: up to %d conversations at once, %s", settings.concurrency, inbox)


def _whose_mail(settings: Settings) -> str:
    """Return a line that names mailbox and agent; of a URL only the origin, since the rest may be secret."""
    whose = settings.from_address.addr
    if settings.imap_host:
        own = settings.user.lower() == whose.lower()
        whose = f"{settings.user} at {settings.imap_host}" + ("" if own else f" as {whose}")
    agent = parse_spec(settings.agent)
    called = str(web_address("CLEO_AGENT", agent.url)) if isinstance(agent, UrlSpec) else settings.agent
    allowed = f"{len(settings.allowed_senders)} allowed" if settings.allowed_senders else "everybody"
    return f"answers the mail of {whose} (agent: {called}; senders: {allowed})"


def _drain(holders: list[list[ThreadWorker]]) -> None:
    until = time.monotonic() + DRAIN_S
    workers = [worker for holder in holders for worker in holder]
    for worker in workers:
        worker.stop()
    left = sum(worker.drain(max(0.0, until - time.monotonic())) for worker in workers)
    if left:
        log.warning("%d jobs did not finish in time; other workers take their messages over", left)


class _Signals:
    """SIGTERM and SIGINT set ``stop``, whichever thread the system chooses to interrupt.

    Python runs handlers in the main thread only. A signal that another thread got does not wake it from an
    Event, but a byte that the interpreter writes (``set_wakeup_fd``) does.
    """

    def __init__(self, stop: threading.Event) -> None:
        self._stop = stop
        self._awake, self._waking = socket.socketpair()
        self._waking.setblocking(False)
        signal.set_wakeup_fd(self._waking.fileno(), warn_on_full_buffer=False)
        signal.signal(signal.SIGTERM, self._request)
        signal.signal(signal.SIGINT, self._request)

    def _request(self, signum: int, _frame: object) -> None:
        self._stop.set()

    def wait(self) -> None:
        """Wait for a signal; to be called in the main thread."""
        while not self._stop.is_set():
            self._awake.recv(64)
