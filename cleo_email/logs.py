"""Log lines for people: one line each, no body, no secret."""

from __future__ import annotations

import logging
import re
import sys

# SendGrid can show a secret only in its URL, which an access log would repeat.
_IN_URL = re.compile(r"([?&]secret=)[^&\s\"']+")


class WithoutSecrets(logging.Filter):
    """Takes ``secret=…`` of a URL out of every line."""

    def filter(self, record: logging.LogRecord) -> bool:
        try:
            text = record.getMessage()
        except (TypeError, ValueError):  # a format that does not fit: logging tells of it
            return True
        if "secret=" in text:
            record.msg, record.args = _IN_URL.sub(r"\1…", text), ()
        return True


def set_up_logging(level: int = logging.INFO) -> None:
    """To standard error. RQ tells each wake-up three times at INFO; our own lines tell each message once."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    handler.addFilter(WithoutSecrets())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    for name in ("gunicorn.access", "gunicorn.error"):  # they have handlers of their own
        logging.getLogger(name).addFilter(WithoutSecrets())
    root.setLevel(logging.WARNING)
    logging.getLogger("cleo_email").setLevel(level)
    # Set before RQ looks: it sets INFO where nobody has set a level.
    for name in ("rq.worker", "rq.job", "rq.queue", "rq.registry"):
        logging.getLogger(name).setLevel(logging.WARNING)
    logging.getLogger("rq.worker").propagate = True
