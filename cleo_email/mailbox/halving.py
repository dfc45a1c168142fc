"""Find the mail of which a server cannot tell even the size, without losing what it tells of the others."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from .mailbox import Mailbox
from .values import BatchFailed, MessageInfo

log = logging.getLogger(__name__)


def describe_each(
    mailbox: Mailbox, uids: Sequence[int]
) -> tuple[dict[int, MessageInfo], list[tuple[int, str]]]:
    """What :meth:`Mailbox.describe` tells, and the UIDs that fail alone, with the reason.

    A batch that fails is halved. Raises MailboxError where the server is gone.
    """
    found: dict[int, MessageInfo] = {}
    failed: list[tuple[int, str]] = []
    parts = [list(uids)] if uids else []
    while parts:
        part = parts.pop()
        try:
            found.update(mailbox.describe(part))
        except BatchFailed as error:
            log.warning("the server cannot tell the size of %d mails: %s", len(part), error)
            mailbox.open()  # raises where the server is gone: then no mail is to blame
            half = len(part) // 2
            if half:
                parts += [part[half:], part[:half]]
            else:
                failed.append((part[0], str(error)))
    return found, failed
