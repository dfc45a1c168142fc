"""The operator page: what a person sees of the mailbox in a browser, and decides there."""

from cleo_email.web.operator.home import first_page
from cleo_email.web.operator.pages import operator_pages

__all__ = ["first_page", "operator_pages"]
