"""Who gets the answer: the sender, by the address that they may name and we may use."""

from __future__ import annotations

from dataclasses import dataclass

from cleo_email.mail.model import Address, InboundEmail
from cleo_email.mail.screening import Policy, is_allowed
from cleo_email.mail.senders import is_own

MAX_CC = 50


@dataclass(frozen=True)
class Recipients:
    to: tuple[Address, ...]
    cc: tuple[Address, ...] = ()
    note: str = ""


def recipients_of(mail: InboundEmail, policy: Policy, *, reply_all: bool) -> Recipients:
    """To: Reply-To where it passes the same allow-list as the sender, else From, with the reason.

    ``Reply-To`` is never an identity (RFC 5322 section 3.6.2 makes it a wish): an address that could not
    have written to us must not be answered either. With ``reply_all`` the other allowed ones get a copy.
    """
    to, note = mail.from_[:1], ""
    wished = [address for address in mail.reply_to if address.addr]
    if wished and wished[0].key != mail.from_[0].key:
        first = wished[0]
        if is_own(first.addr, policy.own_addresses):
            note = "Reply-To names our own address: answered to From"
        elif policy.allowed_senders and not is_allowed(first.addr, policy.allowed_senders):
            note = f"Reply-To {first.addr[:80]} is not in EMAIL_ALLOWED_SENDERS: answered to From"
        else:
            to = (first,)
    cc: list[Address] = []
    if reply_all:
        taken = {to[0].key}
        for address in (*mail.to, *mail.cc):
            own = is_own(address.addr, policy.own_addresses)
            allowed = not policy.allowed_senders or is_allowed(address.addr, policy.allowed_senders)
            if address.key not in taken and not own and allowed and "@" in address.addr:
                taken.add(address.key)
                cc.append(address)
    return Recipients(tuple(to), tuple(cc[:MAX_CC]), note)
