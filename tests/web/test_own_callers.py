"""The token that ``cleo-email run`` makes lets in who shows it, and programs of its own user without it."""

from __future__ import annotations

import pytest
from flask import Flask

from cleo_email.settings import read_settings
from cleo_email.web import create_app
from cleo_email.web.auth import OWN_CALLERS
from tests.webhooks import samples


def app_with(redis_url: str, token: str) -> Flask:
    env = {**samples.BASE, "REDIS_URL": redis_url, "CLEO_API_TOKEN": token}
    return create_app(read_settings(env, dotenv=None))


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 200), ({"Authorization": "Bearer made"}, 200), ({"Authorization": "Bearer other"}, 401),
        ({"X-Forwarded-For": "192.0.2.1"}, 401), ({"Host": "mail.example.com"}, 401),
        ({"X-Forwarded-For": "192.0.2.1", "Authorization": "Bearer made"}, 200),
    ],
)  # fmt: skip
def test_who_is_let_in(redis_url: str, headers: dict[str, str], status: int) -> None:
    app = app_with(redis_url, "made")
    app.config[OWN_CALLERS] = True
    assert app.test_client().get("/email/messages", headers=headers).status_code == status


def test_a_token_that_somebody_has_set_is_needed_by_all(redis_url: str) -> None:
    app = app_with(redis_url, "set")
    assert app.test_client().get("/email/messages").status_code == 401
