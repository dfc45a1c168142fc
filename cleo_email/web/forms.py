"""``multipart/form-data`` (RFC 7578): read part by part, files on disk rather than in memory."""

from __future__ import annotations

import io
from typing import Any, cast

from flask import request
from werkzeug.datastructures import FileStorage, MultiDict
from werkzeug.exceptions import ClientDisconnected, RequestEntityTooLarge
from werkzeug.formparser import FormDataParser

from cleo_email.web.answers import Refused
from cleo_email.web.guards import BROKEN, front

FORM = "multipart/form-data"
MAX_PARTS = 300
FILES = "attachments"
SEVERAL = ("to", "cc")


def read_form() -> dict[str, Any]:
    """The fields as JSON would have them: a file is ``{"filename", "content_type", "content"}``, in bytes.

    Refuses with 413 above EMAIL_MAX_MESSAGE_BYTES, 400 for what is no such form.
    """
    limit = front().settings.max_message_bytes
    stream = _Bounded(limit)
    parser = FormDataParser(max_form_memory_size=limit, max_form_parts=MAX_PARTS, silent=False)
    try:
        _, form, files = parser.parse(
            cast("io.BytesIO", stream), FORM, request.content_length, request.mimetype_params
        )
    except RequestEntityTooLarge:
        raise Refused(413, f"the form has more than {MAX_PARTS} parts") from None
    except (*BROKEN, ClientDisconnected):
        raise Refused(400, "the body is no multipart/form-data, or ended early") from None
    stream.check_end()
    return _fields(form, files)


def _fields(form: MultiDict[str, str], files: MultiDict[str, FileStorage]) -> dict[str, Any]:
    fields: dict[str, Any] = {}
    for name, values in form.lists():
        if len(values) > 1 and name not in SEVERAL:
            raise Refused(422, f"bad fields: {name}", {name: "this field may be given once"})
        fields[name] = values if len(values) > 1 else values[0]
    for name, given in files.lists():
        if name != FILES:
            raise Refused(422, f"bad fields: {name}", {name: f"files are taken as the field {FILES}"})
        # A browser sends an empty part without a name where no file was chosen.
        found = [_file(one) for one in given if one.filename]
        if found or name not in fields:
            fields[name] = found
    return fields


def _file(storage: FileStorage) -> dict[str, Any]:
    return {
        "filename": storage.filename,
        "content_type": storage.content_type or None,
        "content": storage.stream.read(),
    }


class _Bounded:
    """The body as a file. Too much of it is 413; one that ends before its announced length is 400."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._announced = request.content_length
        self._read = 0
        if (self._announced or 0) > limit:
            raise self._too_large()

    def read(self, size: int = -1) -> bytes:
        data = request.stream.read(size if size > 0 else 1 << 16)
        self._read += len(data)
        if self._read > self._limit:
            raise self._too_large()
        return data

    def check_end(self) -> None:
        while self.read(1 << 16):  # what stands behind the last boundary
            pass
        if self._announced is not None and self._read < self._announced:
            raise Refused(400, "the body ended before its announced length")

    def _too_large(self) -> Refused:
        return Refused(413, f"the body is larger than EMAIL_MAX_MESSAGE_BYTES allows ({self._limit} bytes)")
