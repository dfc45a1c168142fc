"""A mailbox for an AI agent: mail in by IMAP or webhook, one threaded answer out by SMTP."""

__version__ = "0.1.0"
