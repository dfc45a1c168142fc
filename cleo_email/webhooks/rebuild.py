"""Rebuild a mail from a provider's fields, where the provider sends no raw mail.

The signatures are lost, but Message-ID, threading headers and the marks of automatic mail are kept, so that
the mail is recognised, threaded and screened like the original.
"""

import hashlib
import re
from collections.abc import Callable, Iterable, Mapping, Sequence

from cleo_email.mail import wire
from cleo_email.mail.address import quoted_mailbox
from cleo_email.mail.attachment import MEDIA_TYPE, UNKNOWN_TYPE
from cleo_email.mail.model import AttachedFile
from cleo_email.mail.wire import CRLF, clean_header
from cleo_email.scrub import JsonObject

_NAME = re.compile(r"[!-9;-~]{1,100}\Z")  # RFC 5322 section 2.2
# They describe the original's structure, which ours does not have.
_STRUCTURE = frozenset({"content-type", "content-transfer-encoding", "content-disposition", "mime-version"})


def rebuild(
    headers: Sequence[tuple[str, str]],
    missing: Mapping[str, str] | None = None,
    *,
    text: str = "",
    html: str = "",
    files: Sequence[AttachedFile] = (),
    text_part: Callable[[str, str], bytes] = wire.text_part,
) -> bytes:
    """Return the mail with ``headers`` in their order, decoded or not.

    ``missing`` are fields that the provider took out of the headers: those not among them are added. Of the
    MIME headers only that the mail was a report survives.
    """
    there = {name.lower() for name, _ in headers}
    added = [(name, value) for name, value in (missing or {}).items() if value and name.lower() not in there]
    lines: list[str] = []
    subtype = "mixed"
    for name, value in [*headers, *added]:
        if name.lower() == "content-type" and value.strip().lower().startswith("multipart/report"):
            subtype = "report"
        if name.lower() not in _STRUCTURE and _NAME.match(name):
            lines.append(f"{name}: {clean_header(value)}{CRLF}")
    texts = [("plain", wire.clean_text(text)), ("html", wire.clean_text(html))]
    shown = [text_part(kind, one) for kind, one in texts if one.strip()] or [text_part("plain", "")]
    content = _multipart("alternative", shown) if len(shown) > 1 else shown[0]
    if files or subtype == "report":
        content = _multipart(subtype, [content, *map(_file, files)])
    return "".join([*lines, f"MIME-Version: 1.0{CRLF}"]).encode("utf-8", "replace") + content


def header_pairs(headers: JsonObject) -> list[tuple[str, str]]:
    """Return the headers of a JSON object, in which a repeated one is a list."""
    values = [(name, one) for name in headers for one in headers.list(name) or [headers[name]]]
    return [(name, one) for name, one in values if isinstance(one, str)]


def mailboxes(items: Iterable[JsonObject], key: str) -> str:
    """Return an address list for a header; each item has its address as ``key``."""
    return ", ".join(quoted_mailbox(item.text("Name"), item.text(key)) for item in items if item)


def file_part(filename: str, content_type: str, content: bytes, content_id: str) -> AttachedFile:
    """Return a file; one with a Content-ID is shown within the text."""
    content_id = content_id.strip("<>")
    return AttachedFile(filename, content_type, content, content_id=content_id, inline=bool(content_id))


def _multipart(subtype: str, parts: Sequence[bytes]) -> bytes:
    # Fixed by the content, so that a repeated request gives the same bytes, and not to be guessed by it.
    boundary = "=_" + hashlib.sha256(b"".join(parts)).hexdigest()[:40]
    return wire.multipart(subtype, boundary, parts)


def _file(item: AttachedFile) -> bytes:
    kind = item.content_type if MEDIA_TYPE.match(item.content_type) else UNKNOWN_TYPE
    encoding = "8bit" if kind.lower() == "message/rfc822" else "base64"  # RFC 2046 section 5.2.1
    if encoding == "base64" and kind.lower().startswith(("multipart/", "message/")):
        kind = UNKNOWN_TYPE
    disposition = "inline" if item.inline else "attachment"
    head = [
        wire.field("Content-Type", [kind]),
        wire.field("Content-Transfer-Encoding", [encoding]),
        wire.field(
            "Content-Disposition", [f"{disposition};", *wire.parameters([("filename", item.filename)])]
        ),
        f"Content-ID: <{clean_header(item.content_id)}>{CRLF}" if item.content_id else "",
        CRLF,
    ]
    content = wire.base64_lines(item.content) if encoding == "base64" else item.content
    return "".join(head).encode("utf-8", "replace") + content
