"""Web processes within a test, with the settings that a first run has, and a mail to hand in."""

from collections.abc import Callable

from flask.testing import FlaskClient

from cleo_email.app import App
from cleo_email.settings import read_settings
from cleo_email.web.app import create_app

BASE = {
    "ENABLED_CLIENTS": "email",
    "EMAIL_SMTP_HOST": "127.0.0.1",
    "EMAIL_USER": "agent@cleo.test",
    "EMAIL_PASSWORD": "x",
}
MAIL = {
    "from_address": "Anna <anna@example.test>",
    "to_address": "agent@cleo.test",
    "subject": "Hello",
    "body": "Are you there?",
    "message_id": "<a1@example.test>",
}
Make = Callable[..., FlaskClient]


def web_maker(redis_url: str) -> Make:
    """Return what makes a client of a web process on that Redis, with further variables by name."""

    def make(**env: str) -> FlaskClient:
        return create_app(read_settings({**BASE, "REDIS_URL": redis_url, **env}, dotenv=None)).test_client()

    return make


def app_of(web: FlaskClient) -> App:
    found = web.application.extensions["cleo_email"]
    assert isinstance(found, App)
    return found
