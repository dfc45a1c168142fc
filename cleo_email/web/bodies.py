"""Read request bodies within limits, write JSON answers, and find the app of this process."""

import json
import logging
import socket
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from typing import Any, Self, TypeVar, cast

from flask import Blueprint, Response, current_app, jsonify, request
from gunicorn.http.errors import ParseException
from pydantic import BaseModel, ValidationError
from werkzeug.exceptions import ClientDisconnected, HTTPException, MethodNotAllowed
from werkzeug.http import parse_options_header

from cleo_email.app import App
from cleo_email.errors import CleoError, NotFound, SettingsError, StoreUnavailable, WrongState, place_of
from cleo_email.settings import read_settings
from cleo_email.webhooks.forms import FormPart, MalformedForm, TooManyParts, read_multipart

log = logging.getLogger(__name__)

Strings = Mapping[str, str]

AGAIN = {"Retry-After": "30"}
# The answers are no web pages: no browser may show, embed, cache or guess their type.
SECURITY_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
}


class RequestRefused(CleoError):
    """The request is refused with this status; ``fields`` has a line for each bad field."""

    def __init__(
        self, status: int, message: str, fields: Strings | None = None, headers: Strings | None = None
    ) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.fields = dict(fields or {})
        self.headers = dict(headers or {})


def current() -> App:
    """Return the app of this process.

    A blueprint of ours that somebody else's application has registered goes by the environment. Raise
    SettingsError where that does not enable the channel.
    """
    known = current_app.extensions
    if "cleo_email" not in known:
        known["cleo_email"] = App(read_settings().with_email())
    return cast("App", known["cleo_email"])


def answer(status: int, body: Mapping[str, Any], headers: Strings | None = None) -> Response:
    response = jsonify(body)
    response.status_code = status
    response.headers.update(headers or {})
    return response


def error(
    status: int, message: str, fields: Strings | None = None, headers: Strings | None = None
) -> Response:
    return answer(status, {"error": message, "fields": dict(fields or {})}, headers)


def answers_in_json(bp: Blueprint) -> Blueprint:
    """Let a blueprint answer faults and finish its answers by itself, in whatever application it stands."""
    bp.register_error_handler(Exception, answer_to)
    bp.after_request(finish)
    return bp


def answer_to(fault: Exception) -> Response:
    match fault:
        case RequestRefused():
            return error(fault.status, fault.message, fault.fields, fault.headers)
        case StoreUnavailable():
            log.error("%s", fault)
            return error(503, "Redis did not answer: nothing was stored; try again", headers=AGAIN)
        case SettingsError():  # it may tell a stranger how this machine is set up
            log.error("%s", fault)
            return error(503, "the email channel is not set up; the log says what is missing", headers=AGAIN)
        case NotFound():
            return error(404, str(fault))
        case WrongState():
            return error(409, str(fault))
        case HTTPException():
            allowed = (fault.valid_methods or ()) if isinstance(fault, MethodNotAllowed) else ()
            headers = {"Allow": ", ".join(allowed)} if allowed else {}
            return error(fault.code or 500, fault.description or fault.name, headers=headers)
        case _:  # any other error is caught here; its text may hold what a stranger sent
            log.error("unexpected %s", place_of(fault))
            return error(500, "an internal fault; it is in the log")


def finish(response: Response) -> Response:
    """Read what is left of a refused request, and forbid what no browser may do with an answer."""
    if response.status_code >= 400:
        drain()
    there = {name.lower() for name, _ in response.headers}
    more = [(name, value) for name, value in SECURITY_HEADERS.items() if name.lower() not in there]
    response.headers.extend(more)
    return response


# A refused body is still read up to this size, or the connection breaks before the caller has our answer.
DRAIN_BYTES = 64 * 1024 * 1024
# Reading ends when the caller is slow, so that no stranger occupies a thread.
BODY_S = 30.0
DRAIN_S = 2.0
WATCH_S = 0.25
MAX_PARTS = 300
FILES = "attachments"
SEVERAL = ("to", "cc")
# What reading a body raises when the caller hangs up or sends no valid chunks.
_BROKEN = (OSError, ValueError, ParseException)
Model = TypeVar("Model", bound=BaseModel)


# --- bytes -----------------------------------------------------------------------------------------------


def read_bytes(limit: int, *, status: int = 413) -> bytes:
    """Return the body; above ``limit`` octets it is refused with ``status``.

    400 for one that ends early or whose chunks are broken: half a mail must not be taken for the whole.
    """
    length = request.content_length
    data = _read_at_most(limit + 1) if (length or 0) <= limit else None
    if data is None or len(data) > limit:
        text = f"the body is larger than EMAIL_MAX_MESSAGE_BYTES allows ({limit} bytes)"
        raise RequestRefused(status, text)
    if length is not None and len(data) < length:
        raise RequestRefused(400, "the body ended before its announced length")
    return data


def require_type(*media_types: str) -> None:
    """Refuse with 415 another type than those named."""
    kind = request.mimetype
    if kind not in media_types and not (kind.endswith("+json") and "application/json" in media_types):
        raise RequestRefused(415, f"expected Content-Type: {' or '.join(media_types)}")


def read_body(*media_types: str) -> bytes:
    """Return the body: 413 above EMAIL_MAX_MESSAGE_BYTES, then 415 for another type than those named."""
    data = read_bytes(current().settings.max_message_bytes)
    require_type(*media_types)
    return data


def _read_at_most(limit: int) -> bytes:
    """Read in a loop: Werkzeug's own reading, under gunicorn, does not notice that a body ends early."""
    found = []
    size = 0
    with _Reading(BODY_S) as reading:
        try:
            while size < limit and (chunk := request.stream.read(min(limit - size, 1 << 18))):
                found.append(chunk)
                size += len(chunk)
        except (*_BROKEN, ClientDisconnected):
            if not reading.is_too_late:
                raise RequestRefused(400, "the body ended early, or its chunks are broken") from None
    if reading.is_too_late:
        raise RequestRefused(408, f"the body did not arrive within {BODY_S:.0f} seconds")
    return b"".join(found)


class _Reading:
    """Ends the reading of the request after so many seconds, whoever reads: it is too late then.

    A time-out of the socket does not do: it begins anew with each byte.
    """

    def __init__(self, seconds: float) -> None:
        self.end = time.monotonic() + seconds
        self.is_too_late = False
        self._connection: socket.socket | None = request.environ.get("gunicorn.socket")

    def __enter__(self) -> Self:
        _watch.add(self)
        return self

    def __exit__(self, *_error: object) -> None:
        _watch.remove(self)

    def stop(self) -> None:
        self.is_too_late = True
        with suppress(OSError):
            if self._connection is not None:
                self._connection.shutdown(socket.SHUT_RD)


class _Watch:
    """Stops readings that last too long. One thread does so for all: to start one costs more."""

    def __init__(self) -> None:
        self._readings: set[_Reading] = set()
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None
        self._rests = False

    def add(self, reading: _Reading) -> None:
        with self._changed:
            self._readings.add(reading)
            if self._thread is None or not self._thread.is_alive():  # it does not survive a fork
                self._thread = threading.Thread(target=self._run, name="cleo-bodies", daemon=True)
                self._thread.start()
            elif self._rests:
                self._changed.notify()

    def remove(self, reading: _Reading) -> None:
        with self._changed:
            self._readings.discard(reading)

    def _run(self) -> None:
        with self._changed:
            while True:
                self._rests = not self._readings
                if self._rests:
                    self._changed.wait()
                    self._rests = False
                self._changed.wait(WATCH_S)  # even if all is read by then: each request would wake it again
                for reading in [one for one in self._readings if one.end <= time.monotonic()]:
                    self._readings.discard(reading)
                    reading.stop()


_watch = _Watch()


def drain() -> None:
    """Read what is left of a refused body, as long as it comes quickly."""
    stream, length = request.environ.get("wsgi.input"), request.content_length
    if stream is None or (length is None and not request.environ.get("wsgi.input_terminated")):
        return
    left = DRAIN_BYTES if length is None else min(DRAIN_BYTES, length)
    with suppress(*_BROKEN), _Reading(DRAIN_S):
        while left > 0 and (chunk := stream.read(min(left, 1 << 16))):
            left -= len(chunk)


# --- JSON ------------------------------------------------------------------------------------------------


def parse_json(data: bytes, model: type[Model]) -> Model:
    """Return the body as a ``model``: 400 for what is no JSON, 422 for a bad field or what is no object."""
    try:
        # Each step frees its input, since a body may take a quarter of the process's memory.
        text = data.decode(json.detect_encoding(data), "surrogatepass")
        del data
        value: Any = json.loads(text, parse_constant=_no_constant)
        del text
    except (ValueError, RecursionError):
        raise RequestRefused(400, "the body is no JSON, or nested too deeply") from None
    if not isinstance(value, dict):
        raise RequestRefused(422, "expected a JSON object", {"body": "expected an object"})
    return validated(value, model)


def read_optional_json(model: type[Model]) -> Model:
    """Return the body as a ``model``; without one, whatever its type, no field is given."""
    data = read_bytes(current().settings.max_message_bytes)
    if not data.strip():
        return validated({}, model)
    require_type("application/json")
    return parse_json(data, model)


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is no JSON")  # RFC 8259 section 6


def validated(value: Any, model: type[Model]) -> Model:
    """Return ``value`` as a ``model``: 422 with a line for each bad field, without what was sent."""
    lines: dict[str, str] = {}
    try:
        return model.model_validate(value)
    except RecursionError:
        lines["body"] = "nested too deeply"
    except ValidationError as fault:
        for item in fault.errors(include_url=False, include_input=False, include_context=False):
            name = ".".join(str(part) for part in item["loc"]) or "body"
            text = str(item["msg"]).removeprefix("Value error, ")
            lines.setdefault(name, text[:1].lower() + text[1:])
    raise bad_fields(lines)


def bad_fields(lines: dict[str, str]) -> RequestRefused:
    """Return the refusal of fields; each has a line that says what was expected."""
    return RequestRefused(422, "bad fields: " + ", ".join(lines), lines)


# --- forms -----------------------------------------------------------------------------------------------


def read_form() -> dict[str, Any]:
    """Return the fields as JSON would have them: a file is ``{"filename", "content_type", "content"}``.

    Refuse with 413 above EMAIL_MAX_MESSAGE_BYTES or ``MAX_PARTS``, 400 for what is no such form, 422 for a
    field that is given twice and a file by another name.
    """
    data = read_bytes(current().settings.max_message_bytes)
    try:
        parts = read_multipart(request.headers.get("Content-Type", ""), data, MAX_PARTS)
    except TooManyParts as fault:
        raise RequestRefused(413, str(fault)) from None
    except MalformedForm:
        raise RequestRefused(400, "the body is no multipart/form-data, or ended early") from None
    if not all(part.name for part in parts):
        raise RequestRefused(400, "a part of the form has no name")
    fields: dict[str, Any] = {}
    files: list[dict[str, Any]] = []
    for part in parts:
        if part.filename is None:
            fields.setdefault(part.name, []).append(_text(part))
        elif part.name != FILES:
            raise bad_fields({part.name: f"files are taken as the field {FILES}"})
        elif part.filename:  # a browser sends an empty part without a name where no file was chosen
            file = {"filename": part.filename, "content_type": part.content_type, "content": part.content}
            files.append(file)
    for name, values in fields.items():
        if len(values) > 1 and name not in SEVERAL:
            raise bad_fields({name: "this field may be given once"})
        fields[name] = values if len(values) > 1 else values[0]
    return {**fields, FILES: files} if files else fields


def _text(part: FormPart) -> str:
    charset = parse_options_header(part.content_type)[1].get("charset", "").lower()
    return part.content.decode("latin-1" if charset == "iso-8859-1" else "utf-8", "replace")
