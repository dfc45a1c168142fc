"""Proof of the sender by our own check of DKIM and DMARC (EMAIL_VERIFY_DKIM)."""

from cleo_email.verifying.sender import Finding, Outcome, SenderCheck

__all__ = ["Finding", "Outcome", "SenderCheck"]
