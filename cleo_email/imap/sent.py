"""The mailbox of sent mail: find it, create it, and search it by header fields."""

import re
from collections.abc import Callable, Iterable, Iterator
from datetime import date
from functools import cache
from importlib.resources import files
from unicodedata import normalize

from cleo_email.imap.session import Folder, ImapConnection, RefusedForGood, RefusedForNow, folder_name
from cleo_email.imap.values import quoted, search_date, uid_sets

_MESSAGE_ID = re.compile(r"<[^<>]+>")
_NOT_SELECTABLE = frozenset({"\\noselect", "\\nonexistent"})


@cache
def usual_names() -> dict[str, int]:
    """Return the usual names of the folder, comparable, and the rank of each: the lines of sent_names.txt."""
    lines = files(__package__).joinpath("sent_names.txt").read_text("utf-8").splitlines()
    names = (line.strip() for line in lines if not line.startswith("#"))
    return {_comparable(name): rank for rank, name in enumerate(names) if name}


def _comparable(name: str) -> str:
    """Return a name without its case, with its accents composed (macOS and others store them apart)."""
    return normalize("NFC", normalize("NFC", name.strip()).casefold())


def find_sent_folder(folders: Iterable[Folder], namespace: Callable[[], bytes | None]) -> bytes | None:
    r"""Return the folder marked ``\Sent`` (RFC 6154), else one with a usual name in our own namespace.

    ``namespace`` gives the prefix of that namespace; it is asked only where no folder is marked.
    """
    selectable = [folder for folder in folders if not folder.attributes & _NOT_SELECTABLE]
    if marked := next((folder for folder in selectable if "\\sent" in folder.attributes), None):
        return marked.raw
    prefix = folder_name(namespace() or b"")
    found: dict[str, bytes] = {}
    for folder in selectable:
        plain = folder.name.removeprefix(prefix)
        if below := re.match(f"inbox[{re.escape(folder.delimiter or './')}]", plain, re.IGNORECASE):
            plain = plain[below.end() :]
        found.setdefault(_comparable(plain), folder.raw)
    usual = found.keys() & usual_names().keys()
    return found[min(usual, key=usual_names().__getitem__)] if usual else None


def create_sent_folder(
    connection: ImapConnection, folders: Iterable[Folder], prefix: bytes | None
) -> bytes | None:
    """Create ``Sent`` where the server wants personal folders; return None if it lets us create none."""
    if prefix is not None:
        candidates = [prefix + b"Sent"]
    else:  # no NAMESPACE: some keep everything below INBOX (Courier), so try that second
        delimiters = [folder.delimiter for folder in folders if folder.name.upper() == "INBOX"]
        candidates = [b"Sent", *(f"INBOX{delimiter}Sent".encode() for delimiter in delimiters if delimiter)]
    for name in candidates:
        try:
            connection.create(name)
        except (RefusedForNow, RefusedForGood) as exc:
            if exc.code != "ALREADYEXISTS":
                continue
        return name
    return None


def has_message(connection: ImapConnection, message_id: str, since: date | None) -> bool:
    """Return whether the selected folder has a message with exactly this Message-ID."""
    criteria = [f"SINCE {search_date(since)}"] if since else []
    criteria += ["HEADER", "Message-ID"]
    if message_id.isascii() and message_id.isprintable():
        uids = connection.search(*criteria, quoted(message_id))
    else:  # only a literal can carry it
        raw = message_id.encode("utf-8", "replace")
        uids = connection.search("CHARSET", "UTF-8", *criteria, literal=raw)
    return message_id in _fields(connection, uids, "MESSAGE-ID")  # SEARCH is content with a part of the value


def answered_ids(connection: ImapConnection, since: date) -> frozenset[str]:
    """Return the Message-IDs in the In-Reply-To of messages since ``since`` in the selected folder."""
    values = _fields(connection, connection.search(f"SINCE {search_date(since)}"), "IN-REPLY-TO")
    return frozenset(found for value in values for found in _MESSAGE_ID.findall(value))  # comments between


def _fields(connection: ImapConnection, uids: Iterable[int], wanted: str) -> Iterator[str]:
    """Yield the values of the header fields named ``wanted``, unfolded (RFC 5322 section 2.2.3)."""
    for _, uid_set in uid_sets(uids):
        messages = connection.fetch(uid_set, f"(UID BODY.PEEK[HEADER.FIELDS ({wanted})])")
        for items in messages.values():
            for name, header in items.items():
                if name.startswith(b"BODY[HEADER.FIELDS"):
                    unfolded = re.sub(rb"\r?\n([ \t])", rb" ", header or b"")
                    for line in unfolded.splitlines():
                        field, _, value = line.partition(b":")
                        if field.strip().upper() == wanted.encode("ascii"):
                            yield value.strip().decode("utf-8", "replace")
