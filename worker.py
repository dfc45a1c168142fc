"""The worker's entry point: ``python worker.py``."""

from cleo_email.worker.process import main

if __name__ == "__main__":
    raise SystemExit(main())
