"""The two server accounts as the edges need them: frozen, printable without a secret."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Login:
    """One login for SMTP and IMAP.

    ``access_token``, where set, is called before each login and gives an OAuth2 access token: the login is
    then XOAUTH2 and ``password`` is not used. It raises TokenError or TokenUnavailable. ``token_refused`` is
    told the token that a server did not take, so that the next login gets another one; it raises nothing.
    """

    user: str
    password: str = field(default="", repr=False)
    access_token: Callable[[], str] | None = field(default=None, repr=False)
    token_refused: Callable[[str], None] | None = field(default=None, repr=False)


@dataclass(frozen=True)
class ImapAccount:
    """``port`` 143 means STARTTLS, every other one implicit TLS. Credentials never travel in clear."""

    host: str
    port: int
    login: Login


@dataclass(frozen=True)
class SmtpAccount:
    """``port`` 465 means implicit TLS, every other one STARTTLS. Credentials never travel in clear."""

    host: str
    port: int
    login: Login
