"""The whole channel without a password: real processes, Dovecot's oauth2 passdb, XOAUTH2 for SMTP."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from redis import Redis

from cleo_email.accounts import ImapAccount, Login, SmtpAccount
from cleo_email.errors import (
    MailboxLoginRefused,
    MailboxUnavailable,
    SubmissionLoginRefused,
    SubmissionUnavailable,
)
from cleo_email.imap.mailbox import Mailbox
from cleo_email.oauth.endpoint import Endpoint
from cleo_email.oauth.tokens import TokenSource, Vault
from cleo_email.smtp.pool import Submitter
from cleo_email.store import Locks
from cleo_email.store.mailbox import TokenStore
from tests.oauth.conftest import KEY, FakeClock, client_of
from tests.smtp.test_transaction import mail_to
from tests.support.channel import Channel
from tests.support.dovecot import Dovecot, missing
from tests.support.mails import AGENT, mail
from tests.support.smtp_server import SmtpServer
from tests.support.token_server import FIRST, TokenServer

pytestmark = pytest.mark.servers("dovecot")


class Living(str):
    """Equal to every access token that is alive."""

    server: TokenServer

    def __eq__(self, other: object) -> bool:
        return isinstance(other, str) and self.server.is_alive(other)

    __hash__ = str.__hash__


@pytest.fixture
def tokens() -> Iterator[TokenServer]:
    with TokenServer(user=AGENT) as server:
        server.refresh_tokens.add(FIRST)
        yield server


@pytest.fixture
def dovecot(tokens: TokenServer) -> Iterator[Dovecot]:
    if reason := missing():
        pytest.skip(reason)
    server = Dovecot({AGENT: "never-used"}, mechanisms="xoauth2 oauthbearer")
    (server.home / "oauth2").write_text(
        f"introspection_mode = post\nintrospection_url = {tokens.url('/introspect')}\n"
        "username_attribute = email\nactive_attribute = active\nactive_value = true\n"
    )
    lines = ("driver = oauth2", "mechanisms = xoauth2 oauthbearer", f"args = {server.home}/oauth2")
    server.extra = "passdb {\n" + "".join(f"  {line}\n" for line in lines) + "}\n"
    with server:
        yield server


@pytest.fixture
def smtp(tokens: TokenServer) -> Iterator[SmtpServer]:
    living = Living()
    living.server = tokens
    with SmtpServer(passwords={}, tokens={AGENT: living}, mechanisms=["XOAUTH2"]) as server:
        yield server


@pytest.fixture
def env(
    tmp_path: Path, redis_url: str, tokens: TokenServer, dovecot: Dovecot, smtp: SmtpServer
) -> dict[str, str]:
    trusted = tmp_path / "trusted.pem"
    trusted.write_bytes(smtp.ca.cert_pem.bytes() + dovecot.ca_file.read_bytes())
    return {
        "ENABLED_CLIENTS": "email",
        "EMAIL_USER": AGENT,
        "EMAIL_SMTP_HOST": "127.0.0.1",
        "EMAIL_SMTP_PORT": str(smtp.port),
        "EMAIL_IMAP_HOST": "127.0.0.1",
        "EMAIL_IMAP_PORT": str(dovecot.imaps_port),
        "REDIS_URL": redis_url,
        "SSL_CERT_FILE": str(trusted),
        **tokens.env(EMAIL_OAUTH_REFRESH_TOKEN=FIRST),
    }


def test_mail_is_answered_with_tokens_alone(
    tmp_path: Path, env: dict[str, str], tokens: TokenServer, dovecot: Dovecot, smtp: SmtpServer
) -> None:
    env.pop("ENABLED_CLIENTS")
    with Channel(tmp_path, env) as channel:
        channel.env.pop("EMAIL_PASSWORD")
        done = channel.run("check")
        assert done.returncode == 0, done.stdout
        channel.start_web()
        channel.start_worker()
        channel.start_worker()
        dovecot.deliver(AGENT, *(mail(number) for number in range(8)))
        channel.wait(lambda: len(channel.records("replied")) == 8)
        assert len(smtp.mails) == 8
        assert {mail.login for mail in smtp.mails} == {AGENT}
        # check, web and two workers: one of them asked.
        assert len(tokens.forms) == 1
        log = channel.log.read_text()
        for secret in (*tokens.alive, FIRST, "refresh-token-1-7f3a9c"):
            assert secret not in log


def test_a_login_that_has_ended_is_told_and_a_new_one_goes_on_by_itself(
    tmp_path: Path, env: dict[str, str], tokens: TokenServer, dovecot: Dovecot, smtp: SmtpServer
) -> None:
    tokens.refresh_tokens.clear()
    with Channel(tmp_path, env) as channel:
        done = channel.run("check")
        assert done.returncode == 1
        assert "cleo-email login" in done.stdout
        channel.start_web()
        channel.start_worker()
        dovecot.deliver(AGENT, mail(1))
        channel.wait(lambda: "cleo-email login" in str(channel.get("/readyz")[1]))
        assert channel.records() == []
        done = channel.run("login")
        assert done.returncode == 0, done.stdout + done.stderr
        assert "ABCD-EFGH" in done.stdout
        channel.wait(lambda: len(channel.records("replied")) == 1)
        assert len(smtp.mails) == 1


# --- sessions that the server drops after an hour -----------------------------------------------------------


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def login(redis_url: str, tokens: TokenServer, clock: FakeClock) -> Login:
    client = client_of(tokens)
    endpoint = Endpoint("EMAIL_OAUTH_TOKEN_URL", client.token_url, {})
    redis = Redis.from_url(redis_url)
    shelf, locks = TokenStore(redis), Locks(redis)
    source = TokenSource(client, AGENT, endpoint, Vault([KEY]), shelf, locks, clock=clock)
    return Login(AGENT, access_token=source.access_token, token_refused=source.refused)


def test_a_dropped_imap_session_is_opened_again_with_a_new_token(
    login: Login, tokens: TokenServer, dovecot: Dovecot, clock: FakeClock
) -> None:
    account = ImapAccount("localhost", dovecot.imaps_port, login)
    with Mailbox(account, ssl_context=dovecot.ssl_context()) as mailbox:
        assert mailbox.open().exists == 0
        dovecot.deliver(AGENT, mail(1))
        assert mailbox.open().exists == 1
        tokens.revoke()
        clock.advance(3600)
        dovecot.stop()
        dovecot.start()
        assert mailbox.open().exists == 1
        assert mailbox.logins == 2
    assert len(tokens.forms) == 2


def test_a_dropped_smtp_session_is_opened_again_with_a_new_token(
    login: Login, tokens: TokenServer, smtp: SmtpServer, clock: FakeClock
) -> None:
    account = SmtpAccount("127.0.0.1", smtp.port, login)
    with Submitter(account, context=smtp.client_context()) as submitter:
        submitter.submit(mail_to(), before_end_of_data=lambda: None)
        tokens.revoke()
        clock.advance(3600)
        smtp.hang_up_all()
        submitter.submit(mail_to(), before_end_of_data=lambda: None)
    assert len(smtp.mails) == 2
    assert len(tokens.forms) == 2


def test_a_token_that_was_revoked_early_is_replaced_after_the_first_refusal(
    login: Login, tokens: TokenServer, dovecot: Dovecot, smtp: SmtpServer, clock: FakeClock
) -> None:
    imap = ImapAccount("localhost", dovecot.imaps_port, login)
    submission = SmtpAccount("127.0.0.1", smtp.port, login)
    with (
        Mailbox(imap, ssl_context=dovecot.ssl_context()) as mailbox,
        Submitter(submission, context=smtp.client_context()) as submitter,
    ):
        for use in (mailbox.open, submitter.check):
            use()
            mailbox.close()
            smtp.hang_up_all()
            tokens.revoke()
            clock.advance(120)
            with pytest.raises((MailboxLoginRefused, SubmissionLoginRefused)):
                use()
            use()


@pytest.mark.parametrize("fault", [(503, "busy"), (400, "invalid_grant")])
def test_faults_of_the_token_server_are_faults_of_the_login(
    login: Login, tokens: TokenServer, dovecot: Dovecot, smtp: SmtpServer, fault: tuple[int, str]
) -> None:
    tokens.faults.append(fault)
    temporary = fault[0] == 503
    wanted = MailboxUnavailable if temporary else MailboxLoginRefused
    account = ImapAccount("localhost", dovecot.imaps_port, login)
    with Mailbox(account, ssl_context=dovecot.ssl_context()) as mailbox, pytest.raises(wanted) as caught:
        mailbox.open()
    assert temporary or "cleo-email login" in str(caught.value)
    kind = SubmissionUnavailable if temporary else SubmissionLoginRefused
    submission = SmtpAccount("127.0.0.1", smtp.port, login)
    with Submitter(submission, context=smtp.client_context()) as submitter, pytest.raises(kind) as other:
        submitter.check()
    assert isinstance(other.value, SubmissionLoginRefused) is not temporary
    assert smtp.connections == 0
