"""The operator page: what a person sees of the mailbox in a browser, and decides there."""

from cleo_email.web.operator.pages import operator_pages

__all__ = ["operator_pages"]
