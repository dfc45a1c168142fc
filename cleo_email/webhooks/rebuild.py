"""A mail made anew from the fields that a provider took it apart into, where it sends no raw one.

Never as good as the original (its signatures are gone), but the same mail: Message-ID, threading headers and
the marks of machines stay, so that it is recognised, threaded and judged like the original.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Sequence

from cleo_email.mail.address import quoted_mailbox
from cleo_email.mail.attachment import MEDIA_TYPE, UNKNOWN_TYPE
from cleo_email.mail.model import AttachedFile
from cleo_email.mail.wire import (
    CRLF,
    base64_lines,
    clean_header,
    clean_text,
    field,
    multipart,
    parameters,
    text_part,
)
from cleo_email.webhooks.base import JsonObject

_NAME = re.compile(r"[!-9;-~]{1,100}\Z")  # RFC 5322 section 2.2
# They describe the original's structure, which ours does not have.
_STRUCTURE = frozenset({"content-type", "content-transfer-encoding", "content-disposition", "mime-version"})


def rebuild(
    headers: Iterable[tuple[str, str]], *, text: str = "", html: str = "", files: Sequence[AttachedFile] = ()
) -> bytes:
    """``headers`` in their order, decoded or not; of the MIME ones only that it was a report survives."""
    lines: list[str] = []
    subtype = "mixed"
    for name, value in headers:
        if name.lower() == "content-type" and value.strip().lower().startswith("multipart/report"):
            subtype = "report"
        if name.lower() not in _STRUCTURE and _NAME.match(name):
            lines.append(f"{name}: {clean_header(value)}{CRLF}")
    parts = [_texts(clean_text(text), clean_text(html)), *(_file(item) for item in files)]
    head = "".join([*lines, f"MIME-Version: 1.0{CRLF}"]).encode("utf-8", "replace")
    if len(parts) == 1 and subtype == "mixed":
        return head + parts[0]
    return head + multipart(subtype, _boundary(parts), parts)


def header_pairs(headers: JsonObject) -> list[tuple[str, str]]:
    """Headers of a JSON object: one that stands once is a string, one that stands more often a list."""
    return [
        (name, one)
        for name in headers
        for one in headers.list(name) or [headers[name]]
        if isinstance(one, str)
    ]


def with_missing(headers: list[tuple[str, str]], fields: Iterable[tuple[str, str]]) -> list[tuple[str, str]]:
    """``headers``, and those of ``fields`` that the provider took out of them."""
    there = {name.lower() for name, _ in headers}
    return headers + [(name, value) for name, value in fields if value and name.lower() not in there]


def mailbox(item: JsonObject, key: str) -> str:
    """A mailbox whose address stands as ``key``; '' for none."""
    return quoted_mailbox(item.text("Name"), item.text(key))


def mailboxes(items: Iterable[JsonObject], key: str) -> str:
    return ", ".join(mailbox(item, key) for item in items)


def file_part(filename: str, content_type: str, content: bytes, content_id: str) -> AttachedFile:
    """A file; one with a Content-ID stands in the text."""
    content_id = content_id.strip("<>")
    return AttachedFile(filename, content_type, content, content_id=content_id, inline=bool(content_id))


def _boundary(parts: Sequence[bytes]) -> str:
    """Fixed by the content, so that a repeated request gives the same bytes, and not to be guessed by it."""
    return "=_" + hashlib.sha256(b"".join(parts)).hexdigest()[:40]


def _texts(text: str, html: str) -> bytes:
    if not html:
        return text_part("plain", text)
    if not text.strip():
        return text_part("html", html)
    both = [text_part("plain", text), text_part("html", html)]
    return multipart("alternative", _boundary(both), both)


def _file(item: AttachedFile) -> bytes:
    kind = item.content_type if MEDIA_TYPE.match(item.content_type) else UNKNOWN_TYPE
    if kind.lower().startswith(("multipart/", "message/")):
        kind = UNKNOWN_TYPE if kind.lower() != "message/rfc822" else kind
    encoding = "base64"
    content = base64_lines(item.content)
    if kind.lower() == "message/rfc822":  # RFC 2046 section 5.2.1: not base64
        encoding, content = "8bit", item.content
    disposition = "inline" if item.inline else "attachment"
    named = parameters([("filename", item.filename)])
    lines = [
        field("Content-Type", [kind]),
        field("Content-Transfer-Encoding", [encoding]),
        field("Content-Disposition", [f"{disposition};", *named]),
        *([f"Content-ID: <{clean_header(item.content_id)}>{CRLF}"] if item.content_id else []),
    ]
    return "".join([*lines, CRLF]).encode("utf-8", "replace") + content
