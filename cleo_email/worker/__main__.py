"""``python -m cleo_email.worker``: the same as ``python worker.py``."""

from cleo_email.doors import worker

raise SystemExit(worker())
