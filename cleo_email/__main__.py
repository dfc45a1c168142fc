"""``python -m cleo_email``: the command line, where the package itself is not installed."""

from cleo_email.cli import main

raise SystemExit(main())
