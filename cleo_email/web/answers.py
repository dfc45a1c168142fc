"""The shapes of our answers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from flask import Response, jsonify
from pydantic import ValidationError

from cleo_email.errors import CleoError


class Refused(CleoError):
    """A request that ends with this status; ``fields`` has a line per bad field."""

    def __init__(
        self,
        status: int,
        message: str,
        fields: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.fields = dict(fields or {})
        self.headers = dict(headers or {})


def error(
    status: int,
    message: str,
    fields: Mapping[str, str] | None = None,
    headers: Mapping[str, str] | None = None,
) -> Response:
    return answer(status, {"error": message, "fields": dict(fields or {})}, headers)


def answer(status: int, body: Mapping[str, Any], headers: Mapping[str, str] | None = None) -> Response:
    response = jsonify(body)
    response.status_code = status
    response.headers.update(headers or {})
    return response


def fields_of(fault: ValidationError) -> dict[str, str]:
    """A line per bad field, without what was sent."""
    lines: dict[str, str] = {}
    for item in fault.errors(include_url=False, include_input=False, include_context=False):
        name = ".".join(str(part) for part in item["loc"]) or "body"
        text = str(item["msg"]).removeprefix("Value error, ")
        lines.setdefault(name, text[:1].lower() + text[1:])
    return lines
