"""Submission: handing finished mail to an SMTP server (RFC 6409), and knowing what became of it."""

from cleo_email.submission.connection import Timeouts
from cleo_email.submission.submitter import Submitter

__all__ = ["Submitter", "Timeouts"]
