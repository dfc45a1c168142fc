"""The worker process: answers, polls on schedule, sweeps, and ends itself when something hangs."""
