"""Encryption and login, on a real Dovecot."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import logging
import time
from collections.abc import Iterator

import pytest
from imapclient import IMAPClient  # type: ignore[import-untyped]

from cleo_email.accounts import ImapAccount, Login
from cleo_email.errors import MailboxError, MailboxLoginRefused, MailboxUnavailable
from cleo_email.imap.mailbox import Mailbox
from tests.support.dovecot import Dovecot, missing

pytestmark = pytest.mark.servers("dovecot")


@pytest.fixture
def starttls(dovecot: Dovecot, monkeypatch: pytest.MonkeyPatch) -> int:
    """The port that speaks STARTTLS, in the role of 143 (which a test cannot bind)."""
    monkeypatch.setattr("cleo_email.imap.session.STARTTLS_PORT", dovecot.imap_port)
    return dovecot.imap_port


@pytest.mark.parametrize("implicit", [True, False])
def test_an_unknown_certificate_is_refused(
    dovecot: Dovecot, user: str, starttls: int, implicit: bool
) -> None:
    account = dovecot.account(user, port=dovecot.imaps_port if implicit else starttls)
    with pytest.raises(MailboxError) as caught:
        Mailbox(account).open()
    assert not caught.value.retry_helps
    assert "SSL_CERT_FILE" in str(caught.value)
    assert "SSL_CERT_DIR" in str(caught.value)


@pytest.mark.parametrize("implicit", [True, False])
def test_a_private_ca_is_named_by_the_environment(
    dovecot: Dovecot, user: str, starttls: int, implicit: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(dovecot.ca_file))
    with Mailbox(dovecot.account(user, port=dovecot.imaps_port if implicit else starttls)) as mailbox:
        assert mailbox.open().exists == 0
        assert mailbox.logins == 1


def test_a_certificate_for_another_name_is_refused() -> None:
    if reason := missing():
        pytest.skip(reason)
    with Dovecot({"ann": "secret"}, extra="listen = 127.0.0.1, 127.0.0.2\n") as server:
        account = ImapAccount("127.0.0.2", server.imaps_port, Login("ann", "secret"))
        with pytest.raises(MailboxError, match="certificate is not trusted") as caught:
            Mailbox(account, ssl_context=server.ssl_context()).open()
    assert "EMAIL_IMAP_HOST" in str(caught.value)


def test_without_starttls_no_credential_is_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    # Dovecot regards loopback as secure: it would take the password in clear.
    if reason := missing():
        pytest.skip(reason)
    with Dovecot({"ann@example.com": "secret"}, extra="ssl = no\ndisable_plaintext_auth = no\n") as server:
        monkeypatch.setattr("cleo_email.imap.session.STARTTLS_PORT", server.imap_port)
        with pytest.raises(MailboxError, match="EMAIL_IMAP_PORT") as caught:
            Mailbox(server.account("ann@example.com", port=server.imap_port)).open()
        assert not isinstance(caught.value, MailboxUnavailable)
        server.stop()
        assert "user=<ann" not in server.log()


def test_a_wrong_password(dovecot: Dovecot, user: str) -> None:
    account = dovecot.account(user, password="wrong-Pässword")
    mailbox = Mailbox(account, ssl_context=dovecot.ssl_context())
    for _ in range(2):
        with pytest.raises(MailboxLoginRefused) as caught:
            mailbox.open()
        assert "EMAIL_PASSWORD" in str(caught.value)
        assert "wrong-P" not in str(caught.value)
    assert mailbox.logins == 0


@pytest.mark.parametrize("quote", ['"', "'"])
def test_quotes_that_became_part_of_the_password_get_a_hint(dovecot: Dovecot, user: str, quote: str) -> None:
    mailbox = Mailbox(
        dovecot.account(user, password=f"{quote}geheim{quote}"), ssl_context=dovecot.ssl_context()
    )
    with pytest.raises(MailboxLoginRefused, match=r"EMAIL_PASSWORD \(the quotes at its beginning") as caught:
        mailbox.open()
    assert "geheim" not in str(caught.value)


PASSWORDS = {
    "umlaut@example.com": "geheim-üß€",
    "quotes@example.com": 'a "quoted\\" pass word',
    "braces@example.com": "{PLAIN}x%n(){5}",
    "with space": "secret",
}


@pytest.mark.parametrize("user", PASSWORDS)
def test_passwords_of_every_kind(user: str, plain: Dovecot) -> None:
    with Mailbox(plain.account(user), ssl_context=plain.ssl_context()) as mailbox:
        assert mailbox.open().exists == 0


@pytest.mark.parametrize("user", PASSWORDS)
def test_passwords_of_every_kind_by_sasl_login(user: str, login_only: Dovecot) -> None:
    with Mailbox(login_only.account(user), ssl_context=login_only.ssl_context()) as mailbox:
        assert mailbox.open().exists == 0


@pytest.fixture
def without_sasl(plain: Dovecot, monkeypatch: pytest.MonkeyPatch) -> Dovecot:
    """Our side does not see that the server offers more than the LOGIN command."""
    offered = IMAPClient.capabilities
    monkeypatch.setattr(
        IMAPClient,
        "capabilities",
        lambda self: [name for name in offered(self) if not name.startswith(b"AUTH=")],
    )
    return plain


@pytest.mark.parametrize("user", [user for user, password in PASSWORDS.items() if password.isascii()])
def test_passwords_by_the_login_command(user: str, without_sasl: Dovecot) -> None:
    with Mailbox(without_sasl.account(user), ssl_context=without_sasl.ssl_context()) as mailbox:
        assert mailbox.open().exists == 0


def test_a_password_that_the_login_command_cannot_carry(without_sasl: Dovecot) -> None:
    mailbox = Mailbox(without_sasl.account("umlaut@example.com"), ssl_context=without_sasl.ssl_context())
    with pytest.raises(MailboxError, match="outside ASCII"):
        mailbox.open()


@pytest.fixture(scope="module")
def plain() -> Iterator[Dovecot]:
    if reason := missing():
        pytest.skip(reason)
    with Dovecot(PASSWORDS, extra="auth_username_chars =\n") as server:
        yield server


@pytest.fixture(scope="module")
def login_only() -> Iterator[Dovecot]:
    if reason := missing():
        pytest.skip(reason)
    with Dovecot(PASSWORDS, extra="auth_username_chars =\n", mechanisms="login") as server:
        yield server


# --- OAuth2 ---------------------------------------------------------------------------------------------

KEY = b"a key of this test only, 32 bytes"


def token(user: str, lifetime: int) -> str:
    """A JSON Web Token (RFC 7519), HS256."""

    def part(value: bytes) -> bytes:
        return base64.urlsafe_b64encode(value).rstrip(b"=")

    now = int(time.time())
    claims = {"email": user, "iat": now - 60, "nbf": now - 60, "exp": now + lifetime, "sub": user}
    signed = (
        part(json.dumps({"alg": "HS256", "typ": "JWT"}).encode()) + b"." + part(json.dumps(claims).encode())
    )
    return (signed + b"." + part(hmac.new(KEY, signed, hashlib.sha256).digest())).decode()


@pytest.fixture(scope="module")
def oauth(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Dovecot]:
    if reason := missing():
        pytest.skip(reason)
    server = Dovecot({"ann@example.com": "unused"}, mechanisms="xoauth2")
    key = server.home / "keys" / "default" / "HS256" / "default"
    key.parent.mkdir(parents=True)
    key.write_bytes(base64.b64encode(KEY))
    (server.home / "oauth2").write_text(
        "introspection_mode = local\nusername_attribute = email\n"
        f"local_validation_key_dict = fs:posix:prefix={server.home}/keys/\n"
    )
    server.extra = (
        f"passdb {{\n  driver = oauth2\n  mechanisms = xoauth2\n  args = {server.home}/oauth2\n}}\n"
    )
    with server:
        yield server


def test_oauth2_asks_for_a_token_at_each_login(oauth: Dovecot, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    asked: list[str] = []

    def access_token() -> str:
        asked.append(token("ann@example.com", 3600))
        return asked[-1]

    account = ImapAccount("localhost", oauth.imaps_port, Login("ann@example.com", access_token=access_token))
    with Mailbox(account, ssl_context=oauth.ssl_context()) as mailbox:
        mailbox.open()
        mailbox.open()
        assert len(asked) == 1
        mailbox.close()
        mailbox.open()
    assert len(asked) == mailbox.logins == 2
    assert asked[0] not in caplog.text


def test_an_expired_token_is_refused(oauth: Dovecot) -> None:
    stale = token("ann@example.com", -30)
    account = ImapAccount("localhost", oauth.imaps_port, Login("ann@example.com", access_token=lambda: stale))
    with pytest.raises(MailboxLoginRefused) as caught:
        Mailbox(account, ssl_context=oauth.ssl_context()).open()
    assert stale not in str(caught.value)
