"""What schemathesis has to be told: how a mail is put into a request."""

from __future__ import annotations

from typing import Any

import schemathesis


@schemathesis.serializer("message/rfc822")
def mail(_context: Any, value: Any) -> bytes:
    """The text as it is; of other values, which are no mail, nothing."""
    return value.encode("utf-8", "replace") if isinstance(value, str) else b""
