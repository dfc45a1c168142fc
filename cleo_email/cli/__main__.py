"""``python -m cleo_email.cli``."""

from cleo_email.cli import main

raise SystemExit(main())
