"""What every endpoint has at hand: the parts of this process, and the two forms of an answer."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

from flask import Response, current_app, jsonify

from cleo_email.app import App
from cleo_email.errors import CleoError

Strings = Mapping[str, str]


class RequestRefused(CleoError):
    """The request ends with this status; ``fields`` has a line for each bad field."""

    def __init__(
        self, status: int, message: str, fields: Strings | None = None, headers: Strings | None = None
    ) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.fields = dict(fields or {})
        self.headers = dict(headers or {})


def current() -> App:
    """Return the parts of this process."""
    return cast("App", current_app.extensions["cleo_email"])


def answer(status: int, body: Mapping[str, Any], headers: Strings | None = None) -> Response:
    return current_app.make_response((jsonify(body), status, dict(headers or {})))


def error(
    status: int, message: str, fields: Strings | None = None, headers: Strings | None = None
) -> Response:
    return answer(status, {"error": message, "fields": dict(fields or {})}, headers)
