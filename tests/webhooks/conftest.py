"""The web application with every provider set up, and a stand-in for what it fetches."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from flask.testing import FlaskClient

from cleo_email.settings import read_settings
from cleo_email.web.app import create_app
from tests.webhooks.samples import BASE, Web, mail, resend_answers, secrets_env

Make = Callable[..., FlaskClient]


@pytest.fixture
def web() -> Web:
    found = Web()
    found.answers.update(resend_answers(mail(1)))
    return found


@pytest.fixture
def make(redis_url: str, web: Web) -> Make:
    """An application; a value of None unsets a variable."""

    def build(**env: str | None) -> FlaskClient:
        values = {**BASE, **secrets_env(), "REDIS_URL": redis_url, **env}
        settings = read_settings({k: v for k, v in values.items() if v is not None}, dotenv=None)
        return create_app(settings, fetch=web).test_client()

    return build


@pytest.fixture
def client(make: Make) -> FlaskClient:
    return make()
