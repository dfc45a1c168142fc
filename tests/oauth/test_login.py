"""A person logs in: by a code on another device, by the browser of this machine, by pasting."""

from __future__ import annotations

import io
import re
import threading
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest
from redis import Redis

from cleo_email.cli import main
from cleo_email.errors import TokenError, TokenUnavailable
from cleo_email.oauth.endpoint import Endpoint, Tokens
from cleo_email.oauth.login import BrowserLogin, RedirectListener, log_in_by_code
from cleo_email.runtime import now_ms
from tests.oauth.conftest import USER, FakeClock, MakeSource, client_of
from tests.support.token_server import TokenServer


def by_code(server: TokenServer) -> tuple[Callable[[], Tokens], list[str], list[float]]:
    said: list[str] = []
    slept: list[float] = []
    now = [0.0]

    def sleep(seconds: float) -> None:
        slept.append(seconds)
        now[0] += seconds

    client = client_of(server)
    offers = Endpoint("EMAIL_OAUTH_DEVICE_URL", client.device_url, {})
    token = Endpoint("EMAIL_OAUTH_TOKEN_URL", client.token_url, {})

    def run() -> Tokens:
        return log_in_by_code(client, offers, token, said.append, sleep=sleep, monotonic=lambda: now[0])

    return run, said, slept


def test_the_device_flow_waits_as_it_is_told(tokens: TokenServer) -> None:
    tokens.device_answers = ["authorization_pending", "slow_down", "authorization_pending"]
    run, said, slept = by_code(tokens)
    got = run()
    assert got.refresh_token == "refresh-token-1-7f3a9c"
    assert slept == [1, 1, 6, 6]
    assert "https://login.example/device" in said[0]
    assert "ABCD-EFGH" in said[0]
    assert tokens.device_forms[0]["scope"].endswith("offline_access")


def test_the_device_flow_survives_a_token_server_that_stumbles(tokens: TokenServer) -> None:
    tokens.faults += [(503, "busy, come again"), (500, "")]
    run, _, slept = by_code(tokens)
    assert run().access_token
    assert slept == [1, 6, 11]


@pytest.mark.parametrize(
    ("code", "words"),
    [
        ("access_denied", "declined"),
        ("authorization_declined", "declined"),
        ("expired_token", "in time"),
        ("bad_verification_code", "bad_verification_code"),
    ],
)
def test_the_device_flow_says_why_it_failed(tokens: TokenServer, code: str, words: str) -> None:
    tokens.device_answers = [code]
    run, _, _ = by_code(tokens)
    with pytest.raises(TokenError, match=words):
        run()


def test_nobody_enters_the_code(tokens: TokenServer) -> None:
    tokens.device_answers = ["authorization_pending"] * 2000
    run, _, slept = by_code(tokens)
    with pytest.raises(TokenError, match="in time"):
        run()
    assert sum(slept) <= 900


def test_an_offer_without_a_code(tokens: TokenServer) -> None:
    client = client_of(tokens)
    nonsense = Endpoint("EMAIL_OAUTH_DEVICE_URL", tokens.url("/introspect"), {})
    token = Endpoint("EMAIL_OAUTH_TOKEN_URL", client.token_url, {})
    with pytest.raises(TokenUnavailable, match="no code"):
        log_in_by_code(client, nonsense, token, print)


# --- the browser's way back ---------------------------------------------------------------------------------


def knock(address: str) -> int:
    try:
        with urllib.request.urlopen(address, timeout=20) as response:
            return int(response.status)
    except urllib.error.HTTPError as error:
        error.close()
        return error.code


def grant(server: TokenServer, url: str) -> str:
    """What the authorization server does when the person agrees: the address it sends the browser to."""
    query = {name: values[0] for name, values in parse_qs(urlsplit(url).query).items()}
    server.codes["the-code"] = query["code_challenge"]
    assert query["code_challenge_method"] == "S256"
    return f"{query['redirect_uri']}?code=the-code&state={query['state']}&scope=mail"


def test_the_browser_brings_the_code_and_only_ours_counts(tokens: TokenServer) -> None:
    client = client_of(tokens, provider="google", client_secret="x")
    endpoint = Endpoint("EMAIL_OAUTH_TOKEN_URL", client.token_url, {})
    with RedirectListener() as listener:
        attempt = listener.login
        url = attempt.url(client, USER)
        assert attempt.redirect_uri.startswith("http://127.0.0.1:")
        for wanted in ("access_type=offline", "prompt=consent", "mail.google.com", "login_hint=agent"):
            assert wanted in url
        back = grant(tokens, url)
        assert knock(attempt.redirect_uri + "favicon.ico") == 404
        assert knock(re.sub("state=[^&]*", "state=guessed", back)) == 404
        assert knock(attempt.redirect_uri + "?" + "x" * 20_000) >= 400
        with pytest.raises(TokenError, match="in time"):
            listener.wait(0.01)
        assert knock(back) == 200
        got = attempt.tokens(client, endpoint, listener.wait(20))
    assert got.refresh_token == "refresh-token-1-7f3a9c"
    assert tokens.forms[0]["redirect_uri"] == attempt.redirect_uri


def test_a_code_of_another_login_is_worth_nothing(tokens: TokenServer) -> None:
    client = client_of(tokens)
    endpoint = Endpoint("EMAIL_OAUTH_TOKEN_URL", client.token_url, {})
    one = BrowserLogin("http://127.0.0.1:1/")
    other = BrowserLogin("http://127.0.0.1:1/")
    back = grant(tokens, one.url(client, USER))
    with pytest.raises(TokenError, match="does not belong"):
        other.tokens(client, endpoint, back)
    stolen = back.replace(one.state, other.state)
    with pytest.raises(TokenError, match="invalid_grant"):
        other.tokens(client, endpoint, stolen)


@pytest.mark.parametrize("address", ["", "nonsense", "http://[", "?state=%00", "http://127.0.0.1/?code=x"])
def test_whatever_is_pasted_is_refused_politely(tokens: TokenServer, address: str) -> None:
    client = client_of(tokens)
    endpoint = Endpoint("EMAIL_OAUTH_TOKEN_URL", client.token_url, {})
    with pytest.raises(TokenError):
        BrowserLogin("http://127.0.0.1:1/").tokens(client, endpoint, address)


def test_a_port_that_is_taken_is_named() -> None:
    with RedirectListener() as first:
        port = urlsplit(first.login.redirect_uri).port
        assert port is not None
        with pytest.raises(TokenError, match=str(port)):
            RedirectListener(port)


def test_a_refused_consent_is_told(tokens: TokenServer) -> None:
    client = client_of(tokens)
    endpoint = Endpoint("EMAIL_OAUTH_TOKEN_URL", client.token_url, {})
    attempt = BrowserLogin("http://127.0.0.1:1/")
    with pytest.raises(TokenError, match="access_denied"):
        attempt.tokens(client, endpoint, f"/?error=access_denied&state={attempt.state}")


# --- the command --------------------------------------------------------------------------------------------


@pytest.fixture
def environ(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, tokens: TokenServer, redis_url: str
) -> Iterator[None]:
    monkeypatch.chdir(tmp_path)
    for name, value in {
        "ENABLED_CLIENTS": "email",
        "EMAIL_SMTP_HOST": "smtp.example.com",
        "EMAIL_USER": USER,
        "REDIS_URL": redis_url,
        **tokens.env(),
    }.items():
        monkeypatch.setenv(name, value)
    return


@pytest.mark.usefixtures("environ")
def test_login_google_by_pasting(
    tokens: TokenServer,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    make_source: MakeSource,
    clock: FakeClock,
) -> None:
    clock.ms = now_ms()  # the command has the real one
    monkeypatch.setenv("EMAIL_OAUTH_CLIENT_SECRET", tokens.client[1])

    class Person(io.StringIO):
        def readline(self, size: int = -1, /) -> str:
            url = re.search(r"http://127\S+/authorize\S+", capsys.readouterr().out)
            assert url is not None
            return grant(tokens, url[0]) + "\n"

    monkeypatch.setattr("sys.stdin", Person())
    assert main(["login", "google", "--paste"]) == 0
    assert "EMAIL_OAUTH_PROVIDER=google" in capsys.readouterr().out
    source = make_source(provider="google", client_secret=tokens.client[1], refresh_token="")
    assert tokens.is_alive(source.access_token())
    assert len(tokens.forms) == 1, "the login's own token is used, not a second one"


@pytest.mark.usefixtures("environ")
def test_login_google_by_the_browser_of_this_machine(
    tokens: TokenServer, monkeypatch: pytest.MonkeyPatch, redis: Redis
) -> None:
    monkeypatch.setenv("EMAIL_OAUTH_PROVIDER", "google")
    monkeypatch.setenv("EMAIL_OAUTH_CLIENT_SECRET", tokens.client[1])
    threads: list[threading.Thread] = []

    def say(text: str) -> None:
        if url := re.search(r"http://127\S+/authorize\S+", text):
            threads.append(threading.Thread(target=knock, args=(grant(tokens, url[0]),)))
            threads[-1].start()

    monkeypatch.setattr("cleo_email.cli.login._say", say)
    assert main(["login"]) == 0
    threads[0].join(20)
    assert list(redis.scan_iter("cleo:oauth:*"))


@pytest.mark.usefixtures("environ")
@pytest.mark.parametrize(
    ("argv", "env", "words"),
    [
        (["login", "google"], {"EMAIL_OAUTH_PROVIDER": "microsoft"}, "expected google"),
        (["login", "microsoft"], {"EMAIL_OAUTH_CLIENT_SECRET": "x", "EMAIL_OAUTH_TENANT": "t"}, "by itself"),
        (["login", "google"], {}, "EMAIL_OAUTH_CLIENT_SECRET: found nothing"),
        (
            ["login"],
            {"EMAIL_OAUTH_CLIENT_ID": "", "EMAIL_OAUTH_TOKEN_URL": "", "EMAIL_PASSWORD": "x"},
            "whom",
        ),
        (["login", "microsoft"], {"CLEO_SECRET_KEY": ""}, "urlsafe_b64encode"),
    ],
)
def test_login_says_what_is_missing(
    argv: list[str],
    env: dict[str, str],
    words: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    for name, value in env.items():
        monkeypatch.setenv(name, value)
    assert main(argv) in (1, 3)
    assert words in capsys.readouterr().err


@pytest.mark.usefixtures("environ")
def test_a_login_that_would_not_last_is_refused(
    tokens: TokenServer, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    tokens.faults.append((200, '{"access_token": "abc", "token_type": "bearer", "expires_in": 3600}'))
    assert main(["login", "microsoft"]) == 1
    assert "offline_access" in capsys.readouterr().err
