"""A stored mail as a person reads it in a terminal."""

from __future__ import annotations

from cleo_email.errors import UnreadableMessage
from cleo_email.mail.header_values import shown
from cleo_email.mail.message import parse
from cleo_email.mail.wire import clean_text

HEADERS = ("from", "reply-to", "to", "cc", "date", "subject", "authentication-results")
LENGTH = 1000  # characters of a header


def mail_text(source: bytes) -> str:
    """The headers that tell who wrote, all of the text, and the names of the files.

    What a stranger wrote holds no control characters any more: they could rewrite what the terminal shows.
    """
    try:
        mail = parse(source)
    except UnreadableMessage as error:
        return f"the mail cannot be read: {error}; --source gives its bytes"
    lines = [
        f"{name.title()}: {shown(value, LENGTH)}" for name in HEADERS for value in mail.header_all(name)[:5]
    ]
    lines += ["", clean_text(mail.full_text).strip(), ""]
    lines += [
        f"[{shown(file.filename) or 'a file without a name'}, {shown(file.content_type)}, {file.size} bytes]"
        for file in mail.attachments
    ]
    return "\n".join(lines).rstrip()
