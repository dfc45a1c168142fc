"""The worker process: answers, polls on schedule, sweeps, and ends itself when something hangs."""

from cleo_email.worker.process import run_worker

__all__ = ["run_worker"]
