"""The text of an attachment, where it has one."""

from __future__ import annotations

from typing import Final

from cleo_email.errors import UnreadableMessage
from cleo_email.mail.charsets import clean, decode, drop_tags
from cleo_email.mail.html import html_to_text
from cleo_email.mail.limits import Limits
from cleo_email.mail.mime import split
from cleo_email.mail.model import Attachment
from cleo_email.mail.parts import is_html, read_content
from cleo_email.mail.words import decode_header

_TEXTUAL: Final = frozenset(
    {
        "application/ics",
        "application/json",
        "application/xml",
        "application/x-yaml",
        "application/yaml",
        "message/delivery-status",
        "message/disposition-notification",
        "message/feedback-report",
        "message/global-delivery-status",
    }
)
_ENCLOSED: Final = frozenset({"message/rfc822", "message/global"})
_SHOWN: Final = ("from", "to", "cc", "date", "subject")


def attachment_text(attachment: Attachment, *, limits: Limits = Limits()) -> str | None:  # noqa: B008
    """Give the text of ``attachment``, at most ``limits.text_bytes`` of it, or None where it has none.

    text/* (calendar entries too, HTML converted), reports of mail servers, JSON and XML have a text, and
    an enclosed mail (message/rfc822) has that of its main headers and its body. Never raises.
    """
    kind = attachment.content_type.partition(";")[0].strip().lower()
    if kind in _ENCLOSED:
        return _enclosed(attachment.content, limits)
    if not kind.startswith("text/") and kind not in _TEXTUAL:
        return None
    text = clean(decode(attachment.content[: limits.text_bytes], attachment.charset).text)
    return html_to_text(text).text if is_html(kind) else drop_tags(text)[0]


def _enclosed(source: bytes, limits: Limits) -> str | None:
    try:
        root = split(source, limits)
    except UnreadableMessage:
        return None
    shown = [(name, decode_header(value)) for name, value in root.headers if name in _SHOWN]
    head = "\n".join(f"{name.title()}: {value}" for name, value in shown)
    return f"{head}\n\n{read_content(root, limits).text}".strip("\n")
