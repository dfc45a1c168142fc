"""Access tokens: renewed early, once for all, kept encrypted, and honest about what is wrong."""

from __future__ import annotations

import logging
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from redis import Redis

from cleo_email.errors import TokenError, TokenUnavailable
from cleo_email.oauth.endpoint import Endpoint
from cleo_email.oauth.tokens import TokenSource, Vault
from cleo_email.store import Locks
from cleo_email.store.mailbox import TokenStore
from tests.oauth.conftest import KEY, USER, FakeClock, MakeSource, client_of
from tests.support.redis_server import RedisServer
from tests.support.token_server import FIRST, TokenServer

OTHER_KEY = "/v38+/r5+Pf29fTz8vHw7+7t7Ovq6ejn5uXk4+Lh4N8="


def test_a_token_is_kept_until_five_minutes_before_its_end(
    make_source: MakeSource, tokens: TokenServer, clock: FakeClock
) -> None:
    source = make_source()
    first = source.access_token()
    clock.advance(3600 - 301)
    assert source.access_token() == first
    assert len(tokens.forms) == 1
    clock.advance(2)
    second = source.access_token()
    assert second != first
    assert len(tokens.forms) == 2


def test_another_process_takes_the_token_from_redis(make_source: MakeSource, tokens: TokenServer) -> None:
    assert make_source().access_token() == make_source().access_token()
    assert len(tokens.forms) == 1


def test_fifty_threads_of_three_processes_ask_once(make_source: MakeSource, tokens: TokenServer) -> None:
    sources = [make_source() for _ in range(3)]
    tokens.gate = threading.Event()
    with ThreadPoolExecutor(50) as pool:
        waiting = [pool.submit(sources[number % 3].access_token) for number in range(50)]
        assert tokens.entered.wait(20)
        tokens.gate.set()
        got = {one.result(30) for one in waiting}
    assert len(got) == 1
    assert len(tokens.forms) == 1
    assert tokens.most_in_flight == 1


def test_who_finds_the_renewal_under_way_uses_the_old_token_meanwhile(
    make_source: MakeSource, tokens: TokenServer, clock: FakeClock
) -> None:
    one, other = make_source(), make_source()
    old = one.access_token()
    clock.advance(3600 - 200)
    tokens.gate = threading.Event()
    tokens.entered.clear()
    with ThreadPoolExecutor(1) as pool:
        renewing = pool.submit(one.access_token)
        assert tokens.entered.wait(20)
        assert other.access_token() == old
        tokens.gate.set()
        assert renewing.result(20) != old


def test_a_process_that_was_killed_while_it_renewed_holds_nobody_up_for_long(
    make_source: MakeSource, tokens: TokenServer, redis: Redis
) -> None:
    source = make_source()
    redis.set(f"cleo:lock:oauth:{client_of(tokens).name_for(USER)}", "of a dead process", px=600)
    assert tokens.is_alive(source.access_token())
    assert len(tokens.forms) == 1


def test_a_rotated_refresh_token_is_saved_and_used_next(
    make_source: MakeSource, tokens: TokenServer, clock: FakeClock
) -> None:
    for _ in range(4):
        make_source().access_token()
        clock.advance(3600)
    assert [form["refresh_token"] for form in tokens.forms] == [
        FIRST,
        "refresh-token-1-7f3a9c",
        "refresh-token-2-7f3a9c",
        "refresh-token-3-7f3a9c",
    ]


def test_a_server_that_rotates_nothing_gets_the_first_one_again(
    make_source: MakeSource, tokens: TokenServer, clock: FakeClock
) -> None:
    tokens.rotate = False
    make_source().access_token()
    clock.advance(3600)
    make_source().access_token()
    assert [form["refresh_token"] for form in tokens.forms] == [FIRST, FIRST]


def test_another_refresh_token_in_the_settings_is_another_login(
    make_source: MakeSource, tokens: TokenServer
) -> None:
    make_source().access_token()
    tokens.refresh_tokens.add("second")
    make_source(refresh_token="second").access_token()
    make_source(refresh_token="").access_token()  # taken out of the settings: the saved one stays in force
    assert [form["refresh_token"] for form in tokens.forms] == [FIRST, "second"]


def test_nothing_readable_lies_in_redis(make_source: MakeSource, redis: Redis) -> None:
    token = make_source().access_token()
    everything = b"".join(
        redis.get(key) or b"" for key in redis.scan_iter("cleo:oauth:*") if isinstance(key, bytes)
    )
    assert everything
    for secret in (token, FIRST, "refresh-token-1-7f3a9c", USER):
        assert secret.encode() not in everything


def test_users_and_clients_do_not_share_tokens(make_source: MakeSource, tokens: TokenServer) -> None:
    tokens.rotate = False
    got = {make_source().access_token(), make_source(user="other@cleo.test").access_token()}
    assert len(got) == 2


@pytest.mark.parametrize("lifetime", [60, "60", None, "soon", 0, -5, [], 1e300])
def test_lifetimes_of_every_kind(
    make_source: MakeSource, tokens: TokenServer, clock: FakeClock, lifetime: object
) -> None:
    tokens.lifetime = lifetime
    tokens.rotate = False
    source = make_source()
    assert source.access_token().startswith("access-")
    if lifetime in (60, "60"):
        clock.advance(29)
        source.access_token()
        assert len(tokens.forms) == 1, "half a minute is left: not renewed at each login"
        clock.advance(2)
        source.access_token()
        assert len(tokens.forms) == 2


# --- faults -------------------------------------------------------------------------------------------------


def test_invalid_grant_is_lasting_and_names_the_command(make_source: MakeSource, tokens: TokenServer) -> None:
    tokens.refresh_tokens.clear()
    with pytest.raises(TokenError, match="cleo-email login microsoft") as caught:
        make_source().access_token()
    assert not isinstance(caught.value, TokenUnavailable)
    assert not caught.value.retry_helps
    assert FIRST not in str(caught.value)


def test_without_a_login_the_command_is_named_and_nobody_is_asked(
    make_source: MakeSource, tokens: TokenServer
) -> None:
    with pytest.raises(TokenError, match="cleo-email login"):
        make_source(refresh_token="").access_token()
    assert tokens.forms == []


@pytest.mark.parametrize(
    "fault",
    [
        (503, "busy, come again"),
        (500, "server_error"),
        (429, "slow_down"),
        (400, "temporarily_unavailable"),
        (200, "<html>a portal</html>"),
        (200, "[]"),
        (200, '{"token_type": "Bearer"}'),
        (200, '{"access_token": "x y\\n", "token_type": "Bearer"}'),
        (200, '{"access_token": 7, "token_type": "Bearer"}'),
        (200, '{"access_token": "abc", "token_type": "mac"}'),
        (302, ""),
        (404, "{}"),
        (403, "[[[["),
    ],
)
def test_other_faults_pass(make_source: MakeSource, tokens: TokenServer, fault: tuple[int, str]) -> None:
    tokens.faults.append(fault)
    with pytest.raises(TokenUnavailable) as caught:
        make_source().access_token()
    assert caught.value.retry_helps


def test_a_server_that_is_away_is_a_fault_that_passes(redis: Redis, clock: FakeClock) -> None:
    with TokenServer() as gone:
        client = client_of(gone)
    endpoint = Endpoint("EMAIL_OAUTH_TOKEN_URL", client.token_url, {})
    source = TokenSource(client, USER, endpoint, Vault([KEY]), TokenStore(redis), Locks(redis), clock=clock)
    with pytest.raises(TokenUnavailable, match="cannot be reached"):
        source.access_token()


@pytest.mark.parametrize("code", ["invalid_client", "unauthorized_client", "invalid_scope"])
def test_a_wrong_client_is_a_persons_matter(make_source: MakeSource, tokens: TokenServer, code: str) -> None:
    tokens.faults.append((401, code))
    with pytest.raises(TokenError, match="EMAIL_OAUTH_CLIENT_ID") as caught:
        make_source(client_secret=tokens.client[1]).access_token()
    assert not caught.value.retry_helps
    assert tokens.client[1] not in str(caught.value)


def test_while_the_old_token_lives_a_failed_renewal_hurts_nobody(
    make_source: MakeSource, tokens: TokenServer, clock: FakeClock
) -> None:
    source = make_source()
    old = source.access_token()
    clock.advance(3600 - 250)
    tokens.faults.append((503, "busy"))
    assert source.access_token() == old
    clock.advance(6)
    assert source.access_token() != old


def test_a_failure_is_not_repeated_by_everybody_at_once(
    make_source: MakeSource, tokens: TokenServer, clock: FakeClock
) -> None:
    tokens.faults += [(503, "busy, come again")] * 40
    sources = [make_source() for _ in range(4)]
    for number in range(20):
        with pytest.raises(TokenUnavailable):
            sources[number % 4].access_token()
    assert len(tokens.forms) == 1
    tokens.faults.clear()
    clock.advance(6)
    assert sources[0].access_token()


def test_changed_settings_end_the_rest_after_a_lasting_fault(
    make_source: MakeSource, tokens: TokenServer
) -> None:
    tokens.faults.append((401, "invalid_client"))
    with pytest.raises(TokenError):
        make_source(client_secret="wrong").access_token()
    assert make_source(client_secret="right").access_token()


def test_a_token_that_is_refused_while_another_process_renews_it_does_not_undo_the_renewal(
    make_source: MakeSource, tokens: TokenServer, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its refresh token would be lost, and with it the login."""
    one, other, third = make_source(), make_source(), make_source()
    old = one.access_token()
    assert third.access_token() == old
    clock.advance(3600 - 200)
    tokens.gate = threading.Event()
    tokens.entered.clear()
    read, renewed = threading.Event(), threading.Event()
    get = TokenStore.get

    def get_and_wait(shelf: TokenStore, name: str) -> bytes | None:
        blob = get(shelf, name)
        if shelf is third._shelf:
            read.set()
            assert renewed.wait(20)
        return blob

    monkeypatch.setattr(TokenStore, "get", get_and_wait)
    with ThreadPoolExecutor(2) as pool:
        renewing = pool.submit(other.access_token)
        assert tokens.entered.wait(20)
        refusing = pool.submit(third.refused, old)
        assert read.wait(20)
        tokens.gate.set()
        fresh = renewing.result(20)
        renewed.set()
        refusing.result(20)
    tokens.gate = None
    assert make_source().access_token() == fresh
    clock.advance(3600)
    assert make_source().access_token() not in (old, fresh)
    assert [form["refresh_token"] for form in tokens.forms] == [
        FIRST,
        "refresh-token-1-7f3a9c",
        "refresh-token-2-7f3a9c",
    ]


def test_a_token_that_a_server_refused_is_replaced_but_a_new_one_is_not(
    make_source: MakeSource, tokens: TokenServer, clock: FakeClock
) -> None:
    one, other = make_source(), make_source()
    first = one.access_token()
    one.refused(first)
    assert one.access_token() == first, "it was issued just now: another one would be refused as well"
    clock.advance(120)
    one.refused("access-of-somebody-else")
    assert one.access_token() == first
    one.refused(first)
    second = one.access_token()
    assert second != first
    assert other.access_token() == second
    assert len(tokens.forms) == 2


def test_a_lost_key_says_so_and_a_replaced_one_still_reads(
    make_source: MakeSource, tokens: TokenServer
) -> None:
    first = make_source(refresh_token=FIRST).access_token()
    assert make_source(keys=(OTHER_KEY, KEY)).access_token() == first
    with pytest.raises(TokenError, match=r"CLEO_SECRET_KEY.*cleo-email login microsoft"):
        make_source(keys=(OTHER_KEY,), refresh_token="").access_token()
    # With a refresh token in the settings there is nothing that would be lost: it begins anew.
    tokens.refresh_tokens.add(FIRST)
    assert make_source(keys=(OTHER_KEY,)).access_token() != first


def test_client_credentials_ask_by_the_clients_own_secret(
    make_source: MakeSource, tokens: TokenServer, clock: FakeClock
) -> None:
    source = make_source(grant="client_credentials", client_secret=tokens.client[1], refresh_token="")
    source.access_token()
    clock.advance(3600)
    source.access_token()
    assert [form["scope"] for form in tokens.forms] == ["https://outlook.office365.com/.default"] * 2
    assert {form["grant_type"] for form in tokens.forms} == {"client_credentials"}


def test_google_is_not_told_a_scope_when_it_renews(make_source: MakeSource, tokens: TokenServer) -> None:
    make_source(provider="google", client_secret="x").access_token()
    assert "scope" not in tokens.forms[0]


def test_redis_away_the_kept_token_goes_on_and_a_rotated_login_is_saved_later(
    tmp_path_factory: pytest.TempPathFactory, tokens: TokenServer, clock: FakeClock
) -> None:
    with RedisServer(tmp_path_factory.mktemp("away")) as server:
        client = client_of(tokens)
        endpoint = Endpoint("EMAIL_OAUTH_TOKEN_URL", client.token_url, {})
        slept: list[float] = []

        def pause(seconds: float) -> None:
            slept.append(seconds)
            time.sleep(min(seconds, 0.05))

        def source() -> TokenSource:
            redis = server.client()
            return TokenSource(
                client, USER, endpoint, Vault([KEY]), TokenStore(redis), Locks(redis, ttl_ms=900),
                clock=clock, sleep=pause,
            )  # fmt: skip

        one = source()
        first = one.access_token()
        clock.advance(3600 - 250)
        server.kill()
        assert one.access_token() == first
        clock.advance(3600)
        with pytest.raises(TokenUnavailable, match="Redis"):
            one.access_token()
        server.start()
        # Redis goes away between the server's answer and the saving of it.
        tokens.gate = threading.Event()
        tokens.entered.clear()
        with ThreadPoolExecutor(1) as pool:
            renewing = pool.submit(one.access_token)
            assert tokens.entered.wait(20)
            server.kill()
            tokens.gate.set()
            second = renewing.result(30)
        assert slept, "saving was tried several times"
        server.start()
        assert one.access_token() == second
        clock.advance(3600)
        assert source().access_token()
        assert tokens.forms[-1]["refresh_token"] == "refresh-token-2-7f3a9c"


def test_no_secret_reaches_the_log(
    make_source: MakeSource, tokens: TokenServer, clock: FakeClock, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    source = make_source(client_secret=tokens.client[1])
    got = [source.access_token()]
    clock.advance(3400)
    tokens.faults.append(
        (400, '{"error": "invalid_grant", "error_description": "bad refresh-token-1-7f3a9c"}')
    )
    source.access_token()
    clock.advance(120)
    got.append(source.access_token())
    assert "renewed" in caplog.text
    for secret in (*got, "refresh-token-1-7f3a9c", "refresh-token-2-7f3a9c", tokens.client[1]):
        assert secret not in caplog.text
