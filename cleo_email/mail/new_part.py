"""What the sender of a mail wrote now, by all that the mail says about itself.

A forward stays whole: by its subject, by a mark in its text, or as a mail that somebody pasted. In a mail
that carries no mark of a reply (``Re:``, In-Reply-To, References) an earlier mail in the text counts as a
quote only where one of those wrote it to whom this mail goes.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from typing import Final

from cleo_email.mail.quotes import Split, split_quoted
from cleo_email.mail.subject import is_forward, is_reply, may_be_forward

# The labels of Danish and Norwegian Outlook; no other language has this pair.
_FRA: Final = re.compile(r"^[ \t>*]{0,8}fra\*{0,2}[ \t\u00a0]?:", re.IGNORECASE | re.MULTILINE)
_EMNE: Final = re.compile(r"^[ \t>*]{0,8}emne\*{0,2}[ \t\u00a0]?:", re.IGNORECASE | re.MULTILINE)


def cut_new_part(
    text: str,
    *,
    subject: str,
    replies: bool,
    recipients: Collection[str] = (),
    known: Sequence[str] = (),
) -> Split:
    """Cut what ``text`` (``\\n`` line ends) quotes off it.

    ``replies``: the mail names an earlier one (In-Reply-To, References) or goes on with a thread.
    ``recipients``: the addresses to which it goes. ``known``: the earlier texts of the thread. Never raises;
    takes time linear in the length of all texts.
    """
    authors = None if replies or is_reply(subject) else frozenset(one.strip().lower() for one in recipients)
    return split_quoted(text, known, forwarded=_is_forwarded(subject, text), authors=authors)


def _is_forwarded(subject: str, text: str) -> bool:
    if is_forward(subject):
        return True
    return may_be_forward(subject) and bool(_FRA.search(text) and _EMNE.search(text))
