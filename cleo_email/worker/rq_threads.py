"""An RQ worker that performs many jobs at once, each in a thread of its own.

An answer is mostly waiting for an agent: a process for each would cost 20 to 30 MB, a thread 0.25 MB. RQ's
``perform_job`` is re-entrant for threads since RQ 3.0; the rest of the worker runs in the dequeuing thread.
A blocked socket cannot be interrupted by a timer, so RQ's death penalty is none here: every call has a
deadline of its own, and a watchdog ends the process when a job outlives its timeout by a minute.
"""

import logging
import math
import os
import threading
import time
from collections.abc import Callable

from redis import Redis
from redis.client import Pipeline
from redis.exceptions import RedisError
from rq.executions import Execution
from rq.job import Job
from rq.queue import Queue
from rq.timeouts import BaseDeathPenalty
from rq.worker import SimpleWorker

from cleo_email.errors import StoreUnavailable, place_of
from cleo_email.runtime import AtWork, SeldomLog, stuck_calls
from cleo_email.store.faults import explain
from cleo_email.store.queue import OURS, PlainJob, PlainSerializer, QueueReader, queue

log = logging.getLogger(__name__)

HEARTBEAT_S = 10  # between two signs of a job that RQ keeps account of
WORKER_S = 30.0  # between two signs of life of the worker
MAINTENANCE_S = 600
DEQUEUE_S = 15  # the longest wait for a job, which a stop request cuts
DEQUEUED_S = 30.0  # a worker whose last look at its queue is older does not dequeue; more than DEQUEUE_S
WATCH_S = 5.0  # between two looks at the jobs
OVERTIME_S = 60
FAULT_S = 1.0  # of rest after a fault of Redis
CROWDED_S = 1.0  # the longest wait for room: what is at work may wait itself, for a slow mail server


class NoDeathPenalty(BaseDeathPenalty):
    """Sets no timer for a job, since a timer cannot interrupt a blocked socket."""

    def setup_death_penalty(self) -> None:
        """Set no timer."""

    cancel_death_penalty = setup_death_penalty


class ThreadWorker(SimpleWorker):
    """Listens on one queue with ``slots`` threads. ``stop`` makes ``work`` return; jobs go on meanwhile."""

    death_penalty_class = NoDeathPenalty
    job_class = PlainJob
    max_connection_wait_time = 5.0
    log_result_lifespan = False

    def __init__(self, redis: Redis, name: str, *, slots: int, at_work: AtWork | None = None) -> None:
        super().__init__(
            [queue(redis, name)],
            connection=redis,
            serializer=PlainSerializer,
            job_class=PlainJob,
            maintenance_interval=MAINTENANCE_S,
            worker_ttl=60,
            job_monitoring_interval=HEARTBEAT_S,
            log_job_description=False,
        )
        self._slots = threading.Semaphore(slots)
        self._at_work = at_work or AtWork(slots)
        self._reader = QueueReader(redis, self.queues[0])
        self._running: dict[str, tuple[Job, Execution | None, float]] = {}
        self._guard = threading.Lock()
        self._idle = threading.Condition(self._guard)
        self._stopped = threading.Event()
        self._over = False
        self.dequeued_at = -math.inf  # by the monotonic clock; waiting for a free slot counts
        self._next_beat = 0.0
        threading.Thread(target=self._beat, name=f"{name}-heartbeat", daemon=True).start()

    @property
    def connection_timeout(self) -> int:
        return DEQUEUE_S + 10

    def _set_ip_address(self, connection: Redis) -> None:
        """Do not ask: redis-py cannot read CLIENT INFO where the path of a Unix socket has a blank."""
        self.ip_address = "unknown"

    def _install_signal_handlers(self) -> None:
        """Leave signals to the process."""

    def procline(self, message: str) -> None:
        """Leave the title of the process alone."""

    def subscribe(self) -> None:
        """Take no commands by pub/sub: one connection and one thread less."""

    def unsubscribe(self) -> None:
        return None

    def heartbeat(self, timeout: int | None = None, pipeline: Pipeline | None = None) -> None:
        """Beat only as often as the TTL needs; RQ beats three times per job, by three commands each."""
        if pipeline is None and time.monotonic() < self._next_beat:
            return
        if pipeline is None:
            self._next_beat = time.monotonic() + WORKER_S
        super().heartbeat(timeout, pipeline)

    def set_state(self, state: str, pipeline: Pipeline | None = None) -> None:
        if pipeline is not None or state != self._state:
            super().set_state(state, pipeline)

    def stop(self) -> None:
        self._stop_requested = True
        self._stopped.set()
        self._reader.cut()

    def check_for_suspension(self, burst: bool) -> None:
        """Leave it to the taking of a job, which asks for it in the same step."""

    def dequeue_job_and_maintain_ttl(
        self, timeout: int | None, max_idle_time: int | None = None
    ) -> tuple[Job, Queue] | None:
        """Wait for a free slot, then for a job; None ends ``work``."""
        while not self._stop_requested:
            if not self._slots.acquire(timeout=DEQUEUE_S):
                self.dequeued_at = time.monotonic()
                self.heartbeat()
                continue
            job: Job | None = None
            try:
                job = self._next_job()
            except (StoreUnavailable, RedisError, OSError) as error:  # RQ would write a traceback each time
                why = explain(error) if isinstance(error, RedisError) else str(error)
                if not self._stop_requested and _faults.is_due(why):
                    log.error("no job can be taken: %s", why)
                self._stopped.wait(FAULT_S)
            finally:
                if job is None:
                    self._slots.release()
            if job is not None:
                return job, self.queues[0]
        return None

    def _next_job(self) -> Job | None:
        """Return the next job, after a wait where there is none; None where it is to be tried again."""
        self.heartbeat()
        if self.should_run_maintenance_tasks:
            self.run_maintenance_tasks()  # type: ignore[no-untyped-call]
        if self._reader.is_empty and not self._reader.wait(DEQUEUE_S):
            self.dequeued_at = time.monotonic()
            return None
        self._at_work.await_room(CROWDED_S)
        if self._stop_requested:
            return None
        kind, job = self._reader.take()
        self.dequeued_at = time.monotonic()
        if kind == "suspended":
            super().check_for_suspension(burst=False)
        return job

    def execute_job(self, job: Job, queue: Queue) -> None:
        """Perform the job in a thread. RQ keeps account of those of others; ours are wake-ups."""
        try:
            execution = None if job.id.startswith(OURS) else self.prepare_execution(job)
        except BaseException:
            self._slots.release()
            raise
        with self._guard:
            self._running[job.id] = (job, execution, time.monotonic())
        self._at_work.begin()
        args, name = (job, queue, execution), f"job-{job.id[:12]}"
        threading.Thread(target=self._perform, args=args, name=name, daemon=True).start()

    def _perform(self, job: Job, queue: Queue, execution: Execution | None) -> None:
        try:
            if execution is None:
                job.perform()
            else:
                self.perform_job(job, queue, execution)
        except (RedisError, OSError) as error:
            # The job's own work is recorded; only RQ's record of the job is missing.
            log.warning("the queue could not note the end of a job: %s", type(error).__name__)
        except Exception as error:  # noqa: BLE001 - the thread's outermost edge
            log.error("job %s failed: unexpected %s", job.id, place_of(error))
        finally:
            self._at_work.end()
            with self._idle:
                self._running.pop(job.id, None)
                if execution is not None:
                    self.executions.pop(execution.id, None)
                self._idle.notify_all()
            self._slots.release()

    @property
    def busy(self) -> bool:
        return bool(self._running)

    def drain(self, seconds: float) -> int:
        """Wait until no job runs, at most ``seconds``. Return how many still do."""
        until = time.monotonic() + seconds
        with self._idle:
            while self._running and (left := until - time.monotonic()) > 0:
                self._idle.wait(left)
            return len(self._running)

    def overdue(self) -> list[float]:
        """Return by how many seconds jobs have outlived their timeout, where that is more than OVERTIME_S."""
        now = time.monotonic()
        with self._guard:
            ages = [(now - since) - float(job.timeout or 0) for job, _, since in self._running.values()]
        return [age for age in ages if age > OVERTIME_S]

    def teardown(self) -> None:
        self._over = True
        super().teardown()  # type: ignore[no-untyped-call]

    def _beat(self) -> None:
        while True:
            time.sleep(HEARTBEAT_S)
            with self._guard:
                running = list(self._running.values())
            if self._over and not running:
                return
            for job, execution, _ in running:
                if execution is None:
                    continue
                try:
                    self.maintain_heartbeats(job, execution)
                except (RedisError, OSError):
                    break


_faults = SeldomLog()


def work_until_stopped(
    build: Callable[[], ThreadWorker], holder: list[ThreadWorker], stop: threading.Event
) -> None:
    """Start a new worker whenever RQ's loop ends, as it does on some Redis errors.

    ``holder`` has the current worker, and earlier ones as long as their jobs run: these are drained and
    watched too.
    """
    while not stop.is_set():
        try:
            worker = build()
            holder[:] = [*(earlier for earlier in holder if earlier.busy), worker]
            if not stop.is_set():
                worker.work(logging_level=None)
        except Exception as error:  # noqa: BLE001 - if this thread ended, nothing would be answered
            if _faults.is_due(type(error).__name__):  # while Redis is away it ends again and again
                why = explain(error) if isinstance(error, RedisError) else place_of(error)
                log.warning("the queue's worker ended (%s); it starts again", why)
        stop.wait(2)


def all_dequeue(holders: list[list[ThreadWorker]]) -> bool:
    """Return whether each queue has a worker that looked into it lately, without a fault."""
    since = time.monotonic() - DEQUEUED_S
    return all(any(worker.dequeued_at > since for worker in holder) for holder in holders)


def watch(holders: list[list[ThreadWorker]], stop: threading.Event) -> None:
    """End the process when a job or an agent's function hangs: nothing can interrupt it from inside."""
    while not stop.wait(WATCH_S):
        late = [age for holder in holders for worker in holder for age in worker.overdue()]
        late += [age for age in stuck_calls() if age > OVERTIME_S]
        if late:
            log.error("a job has outlived its deadline by %d s: this worker ends itself", max(late))
            logging.shutdown()
            os._exit(1)
