"""``python -m cleo_email.worker``: the same as ``python worker.py``."""

from cleo_email.worker.process import main

raise SystemExit(main())
