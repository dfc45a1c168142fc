"""The verdict on a mail: answer it, leave it alone, or show it to a person first.

``screen`` is a pure function of the mail, its envelope sender and the operator's policy. What it refuses is
recorded with one sentence that names the header or the setting, so that a person can understand it and
release the mail.
"""

import re
from dataclasses import dataclass
from typing import Final

from cleo_email.mail.address import can_be_written_to, distinct, is_allowed, is_own
from cleo_email.mail.headers import keyword, shown
from cleo_email.mail.model import Action, InboundEmail, Verdict
from cleo_email.screening.authentication import authenticated as judged_by_server
from cleo_email.screening.automatic import robot_mark
from cleo_email.screening.reports import report_mark

# The address of a list in List-Post: "<mailto:list@firma.example?subject=…>" (RFC 2369 section 3.4).
_MAILTO: Final = re.compile(r"(?:^|<)\s*mailto:([^?>]*)", re.IGNORECASE)


@dataclass(frozen=True)
class Policy:
    """Whose mail the operator wants.

    ``own_addresses``: every address that this installation sends from or reads.
    ``allowed_senders``: addresses and ``@domain``s (EMAIL_ALLOWED_SENDERS); empty means everybody.
    ``allowed_robots``: addresses and ``@domain``s (EMAIL_ALLOWED_ROBOTS) whose automatic mail is answered
    like a person's; the address of a list (its ``List-Post``) admits the people who write through it.
    ``authserv_id``: the server whose Authentication-Results count (EMAIL_TRUSTED_AUTHSERV_ID); where it is
    set, unauthenticated senders are held.
    ``refused``: the action for senders who are not allowed or not authenticated (EMAIL_REFUSED_SENDERS).
    """

    own_addresses: frozenset[str]
    allowed_senders: tuple[str, ...] = ()
    allowed_robots: tuple[str, ...] = ()
    authserv_id: str | None = None
    refused: Action = Action.HOLD


def screen(
    mail: InboundEmail, *, envelope_from: str | None, policy: Policy, authenticated: bool | None = None
) -> Verdict:
    """Return the verdict on ``mail``; raises nothing.

    ``envelope_from`` is the SMTP envelope sender: None where it is unknown, an empty string or ``<>`` for
    the null sender. ``authenticated`` is what the caller found out about the sender; where it is None and
    the policy names a server, that server's Authentication-Results are read here.

    Machine mail is ignored before anything else is asked, so that no loop fills the list of held mail.
    A robot that the operator allows passes, but for our own addresses, bounces and receipts.
    """
    form = _form(mail, policy)
    if reason := _machine(mail, envelope_from, policy, form=form):
        return Verdict(Action.IGNORE, reason)
    if reason := _not_to_be_trusted(mail, policy, authenticated):
        return Verdict(policy.refused, reason)
    if form and not is_allowed(mail.from_address, policy.allowed_robots):
        return Verdict(
            Action.HOLD,
            f"`From: {shown(mail.from_address)}` is our own address and Reply-To names {shown(form)}: a web "
            f"form, it seems. Release it to answer {shown(form)}, or list {shown(mail.from_address)} in "
            "EMAIL_ALLOWED_ROBOTS to have such mail answered.",
        )
    if mail.unread:
        return Verdict(Action.HOLD, f"The text of this mail could not be read ({mail.unread}).")
    return Verdict(Action.ANSWER)


def _form(mail: InboundEmail, policy: Policy) -> str:
    """Return the customer whom a web form names that writes from the mailbox's own address, or ''.

    Forms set Reply-To to the customer. No mail of ours has a Reply-To, and each says that a program sent it.
    """
    writers = distinct([address.addr for address in mail.from_])
    if len(writers) != 1 or not is_own(writers[0], policy.own_addresses):
        return ""
    if mail.in_reply_to or mail.references:  # a form begins a thread
        return ""
    others = (one for one in mail.reply_to if one.addr and not is_own(one.addr, policy.own_addresses))
    wished = next(others, None)
    if wished is None or not can_be_written_to(wished):
        return ""
    return wished.addr if keyword(mail.header("auto-submitted") or "no") == "no" else ""


def _machine(mail: InboundEmail, envelope_from: str | None, policy: Policy, *, form: str) -> str:
    """Return why a machine wrote this, ourselves included, or ''. ``form`` is the result of ``_form``."""
    for address in () if form else mail.from_[:50]:  # more than one is held anyway
        if is_own(address.addr, policy.own_addresses):
            return f"`From: {shown(address.addr)}` is our own address: answering would be a loop."
    if reason := report_mark(mail, envelope_from):
        return reason
    writers = distinct([address.addr for address in mail.from_])
    if len(writers) == 1 and is_allowed(writers[0], policy.allowed_robots):
        return ""
    return robot_mark(mail, list_is_wanted=_list_is_wanted(mail, policy))


def _list_is_wanted(mail: InboundEmail, policy: Policy) -> bool:
    """Return whether the mail came through a list that is ours or that the operator allows.

    A group such as support@… that hands its mail on to this mailbox marks what people write as list mail.
    """
    posts = [one for value in mail.header_all("list-post")[:5] for one in _MAILTO.findall(value[:1000])]
    return any(is_own(one, policy.own_addresses) or is_allowed(one, policy.allowed_robots) for one in posts)


def _not_to_be_trusted(mail: InboundEmail, policy: Policy, authenticated: bool | None) -> str:
    """Return why a person should look at this mail first, or ''."""
    writers = distinct([address.addr for address in mail.from_])
    if not writers:
        return "No From address: nobody to answer."
    if policy.allowed_senders and not all(is_allowed(one, policy.allowed_senders) for one in writers):
        return f"{shown(writers[0])} is not in EMAIL_ALLOWED_SENDERS."
    if policy.authserv_id is not None:
        if authenticated is None:
            authenticated = judged_by_server(mail, policy.authserv_id)
        if authenticated is not True and mail.doubt:
            return f"The sender is not authenticated: the header can be read in two ways ({mail.doubt})."
        if authenticated is not True:
            return (
                f"The sender is not authenticated: no `dmarc=pass` for the From address from "
                f"{shown(policy.authserv_id)} (EMAIL_TRUSTED_AUTHSERV_ID)."
            )
    if not any(can_be_written_to(address) for address in (*mail.from_[:1], *mail.reply_to[:1])):
        return f"`From: {shown(writers[0])}` is no address that mail can be sent to: nobody to answer."
    if len(writers) > 1:
        return f"`From` names {len(writers)} different addresses: it is not clear who wrote."
    return ""
