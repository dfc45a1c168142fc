"""The web part within somebody else's Flask application: under a path, and each minds its own."""

from __future__ import annotations

import http.client
import re
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlencode

import pytest
from flask import Flask
from selectolax.lexbor import LexborHTMLParser as HTMLParser

from cleo_email.mail.parse import parse
from cleo_email.settings import read_settings
from cleo_email.store import LOGIN
from cleo_email.web import messages, routes
from cleo_email.web.app import create_app
from cleo_email.web.operator import operator_pages
from tests.support.channel import Channel
from tests.support.operator_page import fields_of
from tests.support.redis_server import RedisServer
from tests.support.web import BASE, MAIL

TOKEN = "token-of-the-mounted-channel"

HOST = """
from flask import Flask, abort, request
from werkzeug.middleware.dispatcher import DispatcherMiddleware

import cleo_email.web

app = Flask(__name__)
app.wsgi_app = DispatcherMiddleware(app.wsgi_app, {"/mail": cleo_email.web.create_app()})


@app.before_request
def only_our_own_forms():
    if request.method == "POST":
        abort(400, "no token of the shop")


@app.get("/")
def home():
    return "the shop"


@app.get("/fault")
def fault():
    raise ValueError


@app.errorhandler(404)
def lost(error):
    return "not in this shop", 404
"""


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory, redis_server: RedisServer) -> Iterator[Channel]:
    """A shop with the channel at /mail."""
    with redis_server.client() as client:
        client.flushall()
    directory = tmp_path_factory.mktemp("shop")
    (directory / "shop.py").write_text(HOST)
    env = {"EMAIL_SMTP_HOST": "127.0.0.1", "REDIS_URL": redis_server.url, "CLEO_API_TOKEN": TOKEN}
    with Channel(directory, env) as channel:
        bind = ["--bind", f"127.0.0.1:{channel.port}", "--no-control-socket", "--threads", "4"]
        channel.start("-m", "gunicorn", *bind, "--pythonpath", str(directory), "shop:app")
        channel.wait(lambda: channel.get("/mail/healthz")[0] == 200, 60)
        yield channel


def ask(
    shop: Channel, method: str, path: str, form: dict[str, str] | None = None, **headers: str
) -> tuple[int, str, http.client.HTTPMessage]:
    """Ask without following redirects."""
    connection = http.client.HTTPConnection("127.0.0.1", shop.port, timeout=30)
    kind = {"Content-Type": "application/x-www-form-urlencoded"} if form is not None else {}
    connection.request(method, path, urlencode(form) if form is not None else None, {**kind, **headers})
    with connection.getresponse() as answer:
        return answer.status, answer.read().decode(), answer.headers


def test_mail_is_taken_under_the_path_and_the_host_goes_on_as_before(shop: Channel) -> None:
    status, taken = shop.post({**MAIL, "message_id": "<mounted@example.test>"}, "/mail/email/incoming")
    assert (status, taken["status"]) == (202, "accepted")
    status, shown, _ = shop.call(
        "GET", f"/mail/email/messages/{taken['id']}", headers={"Authorization": f"Bearer {TOKEN}"}
    )
    assert (status, shown["subject"]) == (200, MAIL["subject"])
    assert ask(shop, "GET", "/")[:2] == (200, "the shop")
    assert ask(shop, "GET", "/nowhere")[:2] == (404, "not in this shop")
    assert ask(shop, "GET", "/fault")[0] == 500
    assert "the email channel" not in ask(shop, "GET", "/fault")[1]
    assert "no token of the shop" in ask(shop, "POST", "/", {})[1]
    assert shop.get("/mail/nowhere")[1]["fields"] == {}, "our own errors are JSON"
    assert shop.get("/email/messages")[0] == 404, "nothing of ours stands outside of the path"


def test_the_description_says_where_it_is_mounted(shop: Channel) -> None:
    _, described = shop.get("/mail/openapi.json")
    assert described["servers"] == [{"url": "/mail"}]
    status, page, headers = ask(shop, "GET", "/mail/docs")
    assert status == 200
    assert 'href="openapi.json"' in page
    assert "root + path" in page
    assert "script-src 'sha256-" in headers["Content-Security-Policy"]


def test_the_operator_page_stays_under_the_path(shop: Channel) -> None:
    status, _, headers = ask(shop, "GET", "/mail/operator")
    assert status in (301, 308)
    assert headers["Location"].endswith("/mail/operator/")
    status, _, headers = ask(shop, "GET", "/mail/operator/?state=held")
    assert (status, headers["Location"]) == (303, "/mail/operator/login?next=/mail/operator/?state%3Dheld")
    _, page, headers = ask(shop, "GET", headers["Location"])
    form = fields_of(page, "/mail/operator/login/token")
    assert form["next"] == "/mail/operator/?state=held"
    cookie = headers["Set-Cookie"]
    assert "; Path=/mail/" in cookie
    origin = f"http://127.0.0.1:{shop.port}"
    entered = {**form, "secret": TOKEN}
    kept = {"Cookie": cookie.partition(";")[0], "Origin": origin}
    status, _, headers = ask(shop, "POST", "/mail/operator/login/token", entered, **kept)
    assert (status, headers["Location"]) == (303, "/mail/operator/?state=held")
    assert "; Path=/mail/" in headers["Set-Cookie"]
    session = {"Cookie": headers["Set-Cookie"].partition(";")[0]}
    shop.post({**MAIL, "message_id": "<seen@example.test>"}, "/mail/email/incoming")
    seen = set[str]()
    for start in ("/mail/operator/", "/mail/operator/?state=all", "/mail/operator/health"):
        status, page, _ = ask(shop, "GET", start, **session)
        assert status == 200
        seen |= paths_in(page)
    some = [path for path in seen if re.fullmatch(r"/mail/operator/messages/\w+", path)]
    status, page, _ = ask(shop, "GET", sorted(some)[0], **session)
    assert status == 200
    seen |= paths_in(page)
    assert {path for path in seen if not path.startswith(("/mail/operator", "#"))} == set()
    for path in sorted(path for path in seen if "/static/" in path):
        assert ask(shop, "GET", path)[0] == 200


def paths_in(page: str) -> set[str]:
    found = set[str]()
    for element in HTMLParser(page).css("*"):
        for name in ("href", "src", "action", "formaction", "data-live", "data-watch"):
            if value := element.attributes.get(name):
                found.add(value)
    return found


def test_a_mailed_link_leads_to_where_the_public_sees_the_channel(redis_url: str) -> None:
    public = "https://shop.example/mail"
    env = {**BASE, "REDIS_URL": redis_url, "CLEO_OPERATORS": "anna@shop.example", "CLEO_PUBLIC_URL": public}
    flask = create_app(read_settings(env, dotenv=None))
    web = flask.test_client(use_cookies=False)
    page = web.get("/operator/login", base_url=public)
    cookie = page.headers["Set-Cookie"]
    assert cookie.startswith("__Secure-cleo-form=")  # a browser takes __Host- for the path / only
    assert "; Path=/mail/" in cookie
    form = {**fields_of(page.text, "/mail/operator/login/mail"), "address": "anna@shop.example"}
    named = {"Cookie": cookie.partition(";")[0]}
    with web.post("/operator/login/mail", base_url=public, data=form, headers=named) as answer:
        answer.get_data()
        assert answer.status_code == 200
    store = flask.extensions["cleo_email"].store
    (mailed,) = [record for record in store.messages.page()[0] if record.ingress == LOGIN]
    text = parse(store.messages.answer(mailed.id).source).full_text
    assert re.findall(r"https?://\S+\?", text) == [f"{public}/operator/login/link?"]


# --- our blueprints, registered by themselves ---------------------------------------------------------------


def test_a_blueprint_alone_goes_by_the_environment(
    redis_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name, value in {**BASE, "REDIS_URL": redis_url}.items():
        monkeypatch.setenv(name, value)
    host = Flask("host")
    host.register_blueprint(routes.bp, url_prefix="/mail")
    host.register_blueprint(messages.bp, url_prefix="/mail")
    host.register_blueprint(operator_pages())
    web = host.test_client()
    assert web.get("/mail/healthz").json == {"status": "ok"}
    assert web.post("/mail/email/incoming", json=MAIL).status_code == 202
    assert web.post("/mail/email/incoming", json={}).status_code == 422
    assert web.get("/mail/email/messages/unknown").status_code == 404
    assert web.get("/mail/openapi.json").json["servers"] == [{"url": "/mail"}]  # type: ignore[index]
    assert web.get("/operator/").status_code == 200
    lost = web.get("/nowhere")
    assert (lost.status_code, lost.mimetype) == (404, "text/html"), "the host's own"


def test_a_blueprint_alone_says_that_nothing_is_set_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("ENABLED_CLIENTS", raising=False)
    host = Flask("host")
    host.register_blueprint(routes.bp)
    host.register_blueprint(operator_pages())
    web = host.test_client()
    assert web.get("/healthz").status_code == 200
    for refused in (web.post("/email/incoming", json=MAIL), web.get("/readyz"), web.get("/operator/")):
        assert refused.status_code == 503
        assert "not set up" in refused.json["error"]  # type: ignore[index]
    assert "ENABLED_CLIENTS" in caplog.text
