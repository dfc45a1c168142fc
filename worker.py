"""The worker's entry point: ``python worker.py``."""

from cleo_email.entrypoints import worker

if __name__ == "__main__":
    raise SystemExit(worker())
