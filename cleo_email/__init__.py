"""A mailbox for an AI agent: mail in by IMAP or webhook, one threaded answer out by SMTP.

import cleo_email

report = cleo_email.Attachment("report.pdf", pdf_bytes)
sent = cleo_email.send_message("anna@example.com", "Your report", "**Here** it is.", attachments=[report])
print(cleo_email.get_message(sent.id).state)

An agent that takes long returns ``cleo_email.LATER``; ``cleo_email.answer(id, text)`` may be called anywhere.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cleo_email.library import LATER, Message, answer, get_message, send_message
    from cleo_email.pipeline.send import Attachment, SentMessage

__all__ = ["LATER", "Attachment", "Message", "SentMessage", "__version__", "answer", "get_message"]
__all__ += ["send_message"]
__version__ = "0.1.0"


def __getattr__(name: str) -> object:
    """Load a module only when its name is used, so that a process that needs only the version stays small."""
    if name in __all__:
        from cleo_email import library

        return getattr(library, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
