"""Log lines for people: one line each, no body, no secret."""

from __future__ import annotations

import logging
import sys


def set_up_logging(level: int = logging.INFO) -> None:
    """To standard error. RQ tells each wake-up three times at INFO; our own lines tell each message once."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.WARNING)
    logging.getLogger("cleo_email").setLevel(level)
    # Set before RQ looks: it sets INFO where nobody has set a level.
    for name in ("rq.worker", "rq.job", "rq.queue", "rq.registry"):
        logging.getLogger(name).setLevel(logging.WARNING)
    logging.getLogger("rq.worker").propagate = True
