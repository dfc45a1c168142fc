"""Who gets the answer: the sender, by the address that they may name and we may use."""

from __future__ import annotations

from dataclasses import dataclass

from cleo_email.mail.envelope import can_be_written_to
from cleo_email.mail.header_values import shown
from cleo_email.mail.model import Address, InboundEmail
from cleo_email.mail.senders import is_own
from cleo_email.screening.screen import Policy, is_allowed

MAX_CC = 50


@dataclass(frozen=True)
class Recipients:
    to: tuple[Address, ...]
    cc: tuple[Address, ...] = ()
    note: str = ""


def recipients_of(
    mail: InboundEmail, policy: Policy, *, reply_all: bool, members: frozenset[str] | None = None
) -> Recipients:
    """To: Reply-To where we may write to it, else From, with the reason.

    ``Reply-To`` is never an identity (RFC 5322 section 3.6.2 makes it a wish): an address that could not
    have written to us must not be answered either. ``members`` take part in the thread so far; None where the
    mail begins it or its sender is proven. Nobody else is sent what the thread holds: From may be forged, and
    then only the owner of the address gets the answer. With ``reply_all`` the other allowed ones get a copy.
    """
    to, note = mail.from_[:1], ""
    wished = next((address for address in mail.reply_to if address.addr), None)
    if wished and wished.key != mail.from_[0].key:
        note = _why_not(wished, policy)
        if not note and members is not None and wished.key not in members:
            note = f"{shown(wished.addr)} takes no part in this thread"
        if note:
            note = f"answered to From, not to Reply-To: {note}"
        else:
            to = (wished,)
    cc: dict[str, Address] = {}
    if reply_all:
        for address in (*mail.to, *mail.cc):
            if address.key != to[0].key and not _why_not(address, policy):
                cc.setdefault(address.key, address)
    return Recipients(tuple(to), tuple(cc.values())[:MAX_CC], note)


def _why_not(address: Address, policy: Policy) -> str:
    """Why nothing may be sent to ``address``, '' where it may."""
    if is_own(address.addr, policy.own_addresses):
        return f"{shown(address.addr)} is our own address"
    if policy.allowed_senders and not is_allowed(address.addr, policy.allowed_senders):
        return f"{shown(address.addr)} is not in EMAIL_ALLOWED_SENDERS"
    if not can_be_written_to(address):
        return f"{shown(address.addr)} is no address that mail can be sent to"
    return ""
