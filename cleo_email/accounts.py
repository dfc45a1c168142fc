"""The accounts at the IMAP and the SMTP server, printed without secrets, and the SASL response of a login."""

from collections.abc import Callable
from dataclasses import dataclass, field

QUOTES = "the quotes at its beginning and its end count as part of it"


def begins_and_ends_with_a_quote(text: str) -> bool:
    """Return whether quotes, meant for a file or a shell, may have become part of a value."""
    return len(text) > 1 and text[0] == text[-1] and text[0] in "\"'"


@dataclass(frozen=True)
class Login:
    """One login for SMTP and IMAP.

    ``access_token``, where set, is called before each login and returns an OAuth2 access token: the login is
    then XOAUTH2 and ``password`` is not used. It raises TokenError or TokenUnavailable. ``token_refused`` is
    called with a token that a server refuses, so that the next login gets another one; it raises nothing.
    """

    user: str
    password: str = field(default="", repr=False)
    access_token: Callable[[], str] | None = field(default=None, repr=False)
    token_refused: Callable[[str], None] | None = field(default=None, repr=False)

    @property
    def setting(self) -> str:
        """Return the variable of the password, with a hint where quotes may have become part of it."""
        quoted = begins_and_ends_with_a_quote(self.password)
        return f"EMAIL_PASSWORD ({QUOTES})" if quoted else "EMAIL_PASSWORD"


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


@dataclass
class LoginMemory:
    """What the logins by password at one account have shown to this process.

    ``first`` is the SASL mechanism to begin with. ``works``: it was taken the last time, so that a refusal
    is about the password. ``refused``: none was taken. In both cases a session tries one only, as a wrong
    password would else count twice where an account is locked after so many.
    """

    first: str = ""
    works: bool = False
    refused: bool = False


def plain_response(user: str, password: str) -> bytes:
    """Return the response of SASL PLAIN (RFC 4616)."""
    return f"\0{user}\0{password}".encode("utf-8", "surrogateescape")


def xoauth2_response(user: str, token: str) -> bytes:
    """Return the response of SASL XOAUTH2 (Google's and Microsoft's mechanism, in no RFC)."""
    return f"user={user}\1auth=Bearer {token}\1\1".encode("utf-8", "surrogateescape")
