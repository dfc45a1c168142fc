"""Show what strangers wrote: as text, with the links in it told and not to be clicked."""

import re
from datetime import UTC, datetime

from markupsafe import Markup, escape

from cleo_email.mail.decoding import clean, without_format

MAX_HOST = 253  # characters (RFC 1035 section 2.3.4)
SHOWN = 60_000  # characters of one text; the whole of it is a file to download
BESIDE = 6_000  # of the other texts of a thread
TOLD = 100  # hosts of other scripts, of which one text tells the name in DNS
# As browsers read it (WHATWG URL), a backslash ends the host like a slash.
_LINK = re.compile(r"\b(https?://)([^\s/\\?#<>\"'()]+)([^\s<>\"']*)", re.IGNORECASE)


def plain(text: str, longest: int = 300) -> str:
    """Return a subject, name or reason for one line: nothing in it can turn or hide what stands beside it."""
    shown = " ".join(without_format(clean(text)).split())
    return shown if len(shown) <= longest else f"{shown[:longest]}…"


def body(text: str, longest: int = SHOWN) -> Markup:
    """Return the text of a mail as HTML. In each link the host stands out, since that is where it leads."""
    shown = without_format(clean(text[:longest]))
    parts, end, names = [], 0, dict[str, str]()
    for link in _LINK.finditer(shown):
        host = link[2].rpartition("@")[2]
        before = escape(shown[end : link.start()])
        if not host.isascii() and host not in names:
            names[host] = _ascii(host) if len(host) <= MAX_HOST and len(names) < TOLD else "?"
        told = Markup(" [{}]").format(names[host]) if host in names else Markup("")
        user = link[2][: len(link[2]) - len(host)]
        parts.append(
            before
            + Markup('<span class="link">{}{}<b>{}</b>{}{}</span>').format(link[1], user, host, told, link[3])
        )
        end = link.end()
    return Markup("").join([*parts, escape(shown[end:])])


def _ascii(host: str) -> str:
    """Return the name as it is asked of DNS: letters of other scripts look alike."""
    try:
        return host.encode("idna").decode("ascii")
    except UnicodeError:
        return "?"


def moment(ms: int) -> Markup:
    """Return a time in UTC; operator.js turns it into that of the reader's clock."""
    at = datetime.fromtimestamp(ms / 1000, UTC)
    return Markup('<time datetime="{}">{}</time>').format(
        at.isoformat(timespec="seconds"), at.strftime("%Y-%m-%d %H:%M UTC")
    )


def moment_of(iso: str) -> Markup:
    """Return a time of a record's history, ISO 8601."""
    try:
        return moment(int(datetime.fromisoformat(iso).timestamp() * 1000))
    except ValueError:
        return escape(iso)
