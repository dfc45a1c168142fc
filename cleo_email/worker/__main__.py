"""``python -m cleo_email.worker``: the same as ``python worker.py``."""

from cleo_email.entrypoints import worker

raise SystemExit(worker())
