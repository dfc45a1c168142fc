"""The mailbox of sent mail: find it, create it, and search it by header fields."""

import re
from collections.abc import Iterable, Iterator
from datetime import date

from cleo_email.imap.session import ImapConnection, RefusedForGood, RefusedForNow
from cleo_email.imap.values import quoted, search_date, uid_sets

_NAMES = (
    "sent|sent items|sent messages|sent mail|sent-mail|gesendet|gesendete objekte|gesendete elemente"
    "|gesendete nachrichten|gesendete mails|envoyés|éléments envoyés|posta inviata|inviata|enviados"
    "|elementos enviados|verzonden|verzonden items|sendt|skickat|wysłane"
).split("|")
_MESSAGE_ID = re.compile(r"<[^<>]+>")
_NOT_SELECTABLE = frozenset({"\\noselect", "\\nonexistent"})


def find_sent_folder(connection: ImapConnection) -> str | None:
    r"""Return the folder marked ``\Sent`` (RFC 6154), else one with a usual name in our own namespace."""
    prefix = connection.namespace() or ""
    found: dict[str, str] = {}
    for attributes, delimiter, name in connection.folders():
        if attributes & _NOT_SELECTABLE:
            continue
        if "\\sent" in attributes:
            return name
        plain, inbox = name.removeprefix(prefix), "inbox" + delimiter
        if delimiter and plain.lower().startswith(inbox):
            plain = plain[len(inbox) :]
        found.setdefault(plain.casefold(), name)
    return next((found[usual] for usual in _NAMES if usual in found), None)


def create_sent_folder(connection: ImapConnection) -> str | None:
    """Create ``Sent`` where the server wants personal folders; return None if it lets us create none."""
    prefix = connection.namespace()
    if prefix is not None:
        candidates = [prefix + "Sent"]
    else:  # no NAMESPACE: some keep everything below INBOX (Courier), so try that second
        delimiters = [delimiter for _, delimiter, name in connection.folders() if name.upper() == "INBOX"]
        candidates = ["Sent", *(f"INBOX{delimiter}Sent" for delimiter in delimiters if delimiter)]
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
