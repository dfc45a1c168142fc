"""A token server, and sources of tokens that share a Redis as processes on several machines do."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from redis import Redis

from cleo_email.oauth.client import OAuthClient, make_client
from cleo_email.oauth.endpoint import Endpoint
from cleo_email.oauth.tokens import TokenSource, Vault
from cleo_email.store import Locks
from cleo_email.store.mailbox import TokenStore
from tests.support.token_server import FIRST, TokenServer

USER = "agent@cleo.test"
KEY = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="


class FakeClock:
    def __init__(self) -> None:
        self.ms = 1_800_000_000_000

    def __call__(self) -> int:
        return self.ms

    def advance(self, seconds: float) -> None:
        self.ms += int(seconds * 1000)


@pytest.fixture
def tokens() -> Iterator[TokenServer]:
    with TokenServer(user=USER) as server:
        server.refresh_tokens.add(FIRST)
        yield server


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def redis(redis_url: str) -> Iterator[Redis]:
    with Redis.from_url(redis_url) as client:
        yield client


def client_of(server: TokenServer, **changes: str) -> OAuthClient:
    values = {
        "provider": "microsoft",
        "grant": "refresh_token",
        "tenant": "",
        "token_url": server.url("/token"),
        "authorization_url": server.url("/authorize"),
        "device_url": server.url("/device"),
        "client_id": server.client[0],
        "client_secret": "",
        "refresh_token": FIRST,
        "scope": "",
    }
    return make_client(**{**values, **changes})


MakeSource = Callable[..., TokenSource]


@pytest.fixture
def make_source(tokens: TokenServer, redis: Redis, clock: FakeClock) -> MakeSource:
    """Each call is another process: nothing is shared but Redis and the token server."""

    def make(*, keys: tuple[str, ...] = (KEY,), user: str = USER, **changes: str) -> TokenSource:
        client = client_of(tokens, **changes)
        endpoint = Endpoint("EMAIL_OAUTH_TOKEN_URL", client.token_url, {})
        return TokenSource(client, user, endpoint, Vault(keys), TokenStore(redis), Locks(redis), clock=clock)

    return make
