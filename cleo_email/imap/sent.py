"""The mailbox of sent mail: find or create it, file a copy, look for a copy."""

from __future__ import annotations

import re
from datetime import date, datetime

from cleo_email.imap.session import ImapConnection, KeptConnection, RefusedForGood, RefusedForNow
from cleo_email.imap.values import fields_in, quotable, search_date, uid_sets

_NAMES = (
    "sent",
    "sent items",
    "sent messages",
    "sent mail",
    "sent-mail",
    "gesendet",
    "gesendete objekte",
    "gesendete elemente",
    "gesendete nachrichten",
    "gesendete mails",
    "envoyés",
    "éléments envoyés",
    "posta inviata",
    "inviata",
    "enviados",
    "elementos enviados",
    "verzonden",
    "verzonden items",
    "sendt",
    "skickat",
    "wysłane",
)
_VERIFY = 500  # headers in one FETCH
_MESSAGE_ID = re.compile(r"<[^<>]+>")
_NOT_SELECTABLE = frozenset({"\\noselect", "\\nonexistent"})


class SentMail:
    """Sent mail of one account. Its methods raise as those of Mailbox do."""

    def __init__(self, kept: KeptConnection) -> None:
        self._kept = kept
        self._place = f"{kept.account.host}:{kept.account.port}"
        self._folder: str | None = None

    def folder(self, *, create: bool) -> str | None:
        if self._folder is None:
            wire = self._kept.wire()
            self._folder = find_sent_folder(wire)
            if self._folder is None and create:
                self._folder = create_sent_folder(wire)
        return self._folder

    def append(self, source: bytes, when: datetime) -> None:
        for last in (False, True):
            folder = self.folder(create=True)
            if folder is None:
                text = f"{self._place}: there is no folder for sent mail and none can be created"
                raise RefusedForGood(f"{text}; create one named Sent, or set EMAIL_SAVE_SENT=0", "")
            try:
                self._kept.wire().append(folder, "\\Seen", when, source)
            except RefusedForGood as exc:
                self._folder = None  # it may be gone: look anew
                if last or exc.code not in ("TRYCREATE", "NONEXISTENT"):
                    raise
            else:
                return

    def find(self, message_id: str, since: date | None) -> bool:
        wire = self._selected()
        if wire is None:
            return False
        hits = _search(wire, message_id, since)
        for _, uid_set in uid_sets(hits, _VERIFY):  # SEARCH HEADER is content with a part of the value
            told = wire.fetch(uid_set, "(UID BODY.PEEK[HEADER.FIELDS (MESSAGE-ID)])")
            for items in told.values():
                for name, value in items.items():
                    if name.startswith(b"BODY[HEADER.FIELDS") and message_id in fields_in(
                        value or b"", b"message-id"
                    ):
                        return True
        return False

    def answered(self, since: date) -> frozenset[str]:
        wire = self._selected()
        if wire is None:
            return frozenset()
        found: set[str] = set()
        for _, uid_set in uid_sets(wire.search(f"SINCE {search_date(since)}"), _VERIFY):
            told = wire.fetch(uid_set, "(UID BODY.PEEK[HEADER.FIELDS (IN-REPLY-TO)])")
            for items in told.values():
                for name, value in items.items():
                    if name.startswith(b"BODY[HEADER.FIELDS"):
                        for field in fields_in(value or b"", b"in-reply-to"):
                            found.update(_MESSAGE_ID.findall(field))  # several, with comments between
        return frozenset(found)

    def _selected(self) -> ImapConnection | None:
        """The connection with the folder selected, or None where there is no such folder."""
        folder = self.folder(create=False)
        if folder is None:
            return None
        wire = self._kept.wire()
        try:
            wire.select(folder, read_only=True)
        except RefusedForGood:
            self._folder = None  # it may have been renamed: the next call looks anew
            raise
        return wire


def _search(wire: ImapConnection, message_id: str, since: date | None) -> list[int]:
    narrow = (f"SINCE {search_date(since)}",) if since else ()
    quoted = quotable(message_id)
    if quoted is not None:
        return wire.search(*narrow, "HEADER", "Message-ID", quoted)
    raw = message_id.encode("utf-8", "replace")
    return wire.search("CHARSET", "UTF-8", *narrow, "HEADER", "Message-ID", literal=raw)


def find_sent_folder(wire: ImapConnection) -> str | None:
    r"""The folder marked ``\Sent`` (RFC 6154), else one with a usual name in our own namespace."""
    prefix = wire.namespace() or ""
    best: tuple[int, str] | None = None
    for attributes, delimiter, name in wire.folders():
        if attributes & _NOT_SELECTABLE:
            continue
        if "\\sent" in attributes:
            return name
        plain = _without_prefix(name, prefix, delimiter)
        if plain in _NAMES and (best is None or _NAMES.index(plain) < best[0]):
            best = (_NAMES.index(plain), name)
    return best[1] if best else None


def _without_prefix(name: str, prefix: str, delimiter: str) -> str:
    if prefix and name.startswith(prefix):
        name = name[len(prefix) :]
    inbox = "inbox" + delimiter
    if delimiter and name.lower().startswith(inbox):
        name = name[len(inbox) :]
    return name.casefold()


def create_sent_folder(wire: ImapConnection) -> str | None:
    """Create ``Sent`` where the server wants personal folders to be; None if it lets us create none."""
    prefix = wire.namespace()
    if prefix is not None:
        candidates = [prefix + "Sent"]
    else:  # no NAMESPACE: some keep everything below INBOX (Courier), so try that second
        delimiters = [delimiter for _, delimiter, name in wire.folders() if name.upper() == "INBOX"]
        candidates = ["Sent", *(f"INBOX{delimiter}Sent" for delimiter in delimiters if delimiter)]
    for name in candidates:
        try:
            wire.create(name)
        except (RefusedForNow, RefusedForGood) as exc:
            if exc.code != "ALREADYEXISTS":
                continue
        return name
    return None
