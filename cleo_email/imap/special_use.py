"""The mailboxes of sent mail and of drafts (RFC 6154): find them, create them, search by header fields."""

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import date
from functools import cache
from importlib.resources import files
from unicodedata import normalize

from cleo_email.imap.session import Folder, ImapConnection, RefusedForGood, RefusedForNow, folder_name
from cleo_email.imap.values import quoted, search_date, uid_sets

_MESSAGE_ID = re.compile(r"<[^<>]+>")
_NOT_SELECTABLE = frozenset({"\\noselect", "\\nonexistent"})


@dataclass(frozen=True)
class SpecialUse:
    """A use that a folder has: its attribute in lower case, and the name that we give to a new one."""

    attribute: str
    name: str


SENT = SpecialUse("\\sent", "Sent")
DRAFTS = SpecialUse("\\drafts", "Drafts")


@cache
def usual_names(use: SpecialUse = SENT) -> dict[str, int]:
    """Return the usual names of the folder, comparable, and the rank of each: the lines of a data file."""
    lines = files(__package__).joinpath(f"{use.name.lower()}_names.txt").read_text("utf-8").splitlines()
    names = (line.strip() for line in lines if not line.startswith("#"))
    return {_comparable(name): rank for rank, name in enumerate(names) if name}


def _comparable(name: str) -> str:
    """Return a name without its case, with its accents composed (macOS and others store them apart)."""
    return normalize("NFC", normalize("NFC", name.strip()).casefold())


def find_folder(
    use: SpecialUse, folders: Iterable[Folder], namespace: Callable[[], bytes | None]
) -> bytes | None:
    r"""Return the folder marked ``\Sent``, say (RFC 6154), else one with a usual name in our own namespace.

    ``namespace`` gives the prefix of that namespace; it is asked only where no folder is marked.
    """
    selectable = [folder for folder in folders if not folder.attributes & _NOT_SELECTABLE]
    if marked := next((folder for folder in selectable if use.attribute in folder.attributes), None):
        return marked.raw
    prefix = folder_name(namespace() or b"")
    found: dict[str, bytes] = {}
    for folder in selectable:
        plain = folder.name.removeprefix(prefix)
        if below := re.match(f"inbox[{re.escape(folder.delimiter or './')}]", plain, re.IGNORECASE):
            plain = plain[below.end() :]
        found.setdefault(_comparable(plain), folder.raw)
    ranks = usual_names(use)
    usual = found.keys() & ranks.keys()
    return found[min(usual, key=ranks.__getitem__)] if usual else None


def create_folder(
    use: SpecialUse, connection: ImapConnection, folders: Iterable[Folder], prefix: bytes | None
) -> bytes | None:
    """Create the folder where the server wants personal ones; return None if it lets us create none."""
    name = use.name.encode()
    if prefix is not None:
        candidates = [prefix + name]
    else:  # no NAMESPACE: some keep everything below INBOX (Courier), so try that second
        delimiters = [folder.delimiter for folder in folders if folder.name.upper() == "INBOX"]
        candidates = [name, *(b"INBOX%b%b" % (sign.encode(), name) for sign in delimiters if sign)]
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
    return bool(naming(connection, "Message-ID", message_id, since))


def naming(
    connection: ImapConnection, name: str, message_id: str, since: date | None = None
) -> frozenset[int]:
    """Return the UIDs of the messages in whose field ``name`` exactly this Message-ID stands."""
    criteria = [f"SINCE {search_date(since)}"] if since else []
    criteria += ["HEADER", name]
    if message_id.isascii() and message_id.isprintable():
        uids = connection.search(*criteria, quoted(message_id))
    else:  # only a literal can carry it
        raw = message_id.encode("utf-8", "replace")
        uids = connection.search("CHARSET", "UTF-8", *criteria, literal=raw)
    found = _fields(connection, uids, name)  # SEARCH is content with a part of the value
    return frozenset(uid for uid, value in found if message_id == value or message_id in _ids(value))


def answered_ids(connection: ImapConnection, since: date) -> frozenset[str]:
    """Return the Message-IDs in the In-Reply-To of messages since ``since`` in the selected folder."""
    values = _fields(connection, connection.search(f"SINCE {search_date(since)}"), "In-Reply-To")
    return frozenset(found for _, value in values for found in _ids(value))


def _ids(value: str) -> list[str]:
    return _MESSAGE_ID.findall(value)  # comments may stand between them


def _fields(connection: ImapConnection, uids: Iterable[int], wanted: str) -> Iterator[tuple[int, str]]:
    """Yield (UID, value) of the header fields named ``wanted``, unfolded (RFC 5322 section 2.2.3)."""
    for _, uid_set in uid_sets(uids):
        messages = connection.fetch(uid_set, f"(UID BODY.PEEK[HEADER.FIELDS ({wanted})])")
        for uid, items in messages.items():
            for name, header in items.items():
                if name.startswith(b"BODY[HEADER.FIELDS"):
                    unfolded = re.sub(rb"\r?\n([ \t])", rb" ", header or b"")
                    for line in unfolded.splitlines():
                        field, _, value = line.partition(b":")
                        if field.strip().upper() == wanted.upper().encode("ascii"):
                            yield uid, value.strip().decode("utf-8", "replace")
