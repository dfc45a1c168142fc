"""Headers that only programs write: cron, ticket systems, workflows and mailbox rules.

Some of these programs also carry what people write (a redirected mail, an agent's mail in Salesforce), so
each rule says what tells the two apart.
"""

from __future__ import annotations

from typing import Final

from cleo_email.mail.header_values import MAX_VALUE, keyword, quoted
from cleo_email.mail.model import InboundEmail
from cleo_email.mail.subject import is_forward, is_reply

_RULES: Final = "x-ms-exchange-generated-message-source"
_LOOP: Final = "x-ms-exchange-inbox-rules-loop"
# Categories of Salesforce for what its workflows send; people's are emailPublisherEmail and the like.
_AUTOMATIC: Final = ("workflow", "autoresponse", "auto-response", "massmail")


def program_mark(mail: InboundEmail) -> str:
    """Why a program wrote this, or an empty string."""
    for name, value in mail.headers:
        if name == "x-cron-env":
            return f"{quoted(name, value)}: the output of a scheduled job."
        if name == "rt-ticket" or (name == "managed-by" and keyword(value).startswith("rt ")):
            return f"{quoted(name, value)}: mail of a ticket system."
        if name == "x-sfdc-emailcategory" and any(word in value[:MAX_VALUE].lower() for word in _AUTOMATIC):
            return f"{quoted(name, value)}: a workflow sent this."
        if name == _RULES and keyword(value) == "mailbox rules agent" and _is_rules_own(mail):
            return f"{quoted(name, value)}: a mailbox rule wrote this."
    return ""


def _is_rules_own(mail: InboundEmail) -> bool:
    """Whether a mailbox rule of Exchange answered by itself; what it redirects is a person's mail.

    The rule's loop mark names the mailbox whose rule it is. An answer comes from that very mailbox; a
    redirected mail keeps its author. Without that mark an answer shows by its own subject in answer to our
    mail, or by the header that keeps others from answering it. What a rule forwards carries a person's mail.
    """
    if is_forward(mail.subject):
        return False
    if mailboxes := mail.header_all(_LOOP):
        sender = mail.from_address.strip().lower()
        return any(value.strip().strip("<>").lower() == sender for value in mailboxes)
    if mail.header("x-auto-response-suppress"):
        return True
    return bool(mail.in_reply_to) and not is_reply(mail.subject)
