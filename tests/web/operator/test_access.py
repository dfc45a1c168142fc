"""Who gets in to the operator page, and who does not: links, tokens, sessions, forms of other pages."""

from __future__ import annotations

import re
from typing import Any

import pytest
from flask.testing import FlaskClient

from cleo_email.mail.parse import parse
from cleo_email.settings import read_settings
from cleo_email.store import LOGIN, Record
from cleo_email.store.connection import connect_web
from cleo_email.web.app import create_app
from cleo_email.web.operator import login
from tests.support.operator_page import Browser, fields_of
from tests.support.web import BASE, Make, app_of, web_maker

ANNA, TOKEN = "anna@acme.example", "phone:s3cret"
OUTSIDE = {"X-Forwarded-For": "203.0.113.7"}
PUBLIC = "https://cleo.example.com"


@pytest.fixture
def make(redis_url: str) -> Make:
    return web_maker(redis_url)


@pytest.fixture
def both(make: Make) -> FlaskClient:
    """A page that is reached from outside, by an operator's link or a token."""
    return make(CLEO_OPERATORS=f"Anna <{ANNA}>", CLEO_API_TOKEN=TOKEN, CLEO_PUBLIC_URL=PUBLIC)


def login_mails(web: FlaskClient) -> list[Record]:
    records, _ = app_of(web).store.messages.page(limit=50)
    return [record for record in records if record.ingress == LOGIN]


def link_in(web: FlaskClient, record: Record) -> str:
    answer = app_of(web).store.messages.answer(record.id)
    found = re.search(r"https?://\S+", parse(answer.source).full_text)
    assert found
    return found[0]


def outside(web: FlaskClient, **headers: str) -> Browser:
    """A browser that comes through the proxy."""
    return Browser(web, PUBLIC, **OUTSIDE, **headers)


def ask_for_link(web: FlaskClient, address: str = ANNA, *, browser: Browser | None = None) -> Any:
    browser = browser or outside(web)
    with browser.submit("/operator/login", "/operator/login/mail", address=address) as answer:
        answer.get_data()
        return answer


def log_in_by_token(browser: Browser, token: str = "s3cret", **more: str) -> Any:
    return browser.submit("/operator/login", "/operator/login/token", secret=token, **more)


# --- with nothing set ---------------------------------------------------------------------------------------


def test_with_neither_set_this_machine_alone_gets_in(make: Make) -> None:
    web = make()
    assert web.get("/operator/").status_code == 200
    refused = web.get("/operator/", headers=OUTSIDE)
    assert refused.status_code == 403
    assert "CLEO_OPERATORS" in refused.text
    assert "CLEO_PUBLIC_URL" in refused.text
    assert web.get("/operator/", headers={"Host": "evil.example"}).status_code == 403
    assert "local" in web.get("/operator/").text


def test_the_token_that_run_makes_keeps_no_program_of_this_machine_out(make: Make) -> None:
    web = make(CLEO_API_TOKEN=TOKEN)
    assert web.get("/operator/").status_code == 303
    web.application.config["OWN_CALLERS"] = True
    assert web.get("/operator/").status_code == 200
    assert web.get("/operator/", headers=OUTSIDE).status_code == 403


def test_a_channel_that_is_off_has_no_page(redis_url: str) -> None:
    settings = read_settings({"REDIS_URL": redis_url}, dotenv=None)
    answer = create_app(settings).test_client().get("/operator/")
    assert answer.status_code == 404
    assert "ENABLED_CLIENTS" in answer.text


# --- the mailed link ----------------------------------------------------------------------------------------


def test_a_mailed_link_logs_in_once_and_only_by_a_button(both: FlaskClient) -> None:
    ask_for_link(both)
    (mail,) = login_mails(both)
    assert mail.to_address == ANNA
    link = link_in(both, mail).removeprefix(PUBLIC)
    other = outside(both.application.test_client())  # mail is read on another device
    for _ in range(3):  # programs that follow every link
        page = other.get(link)
        assert page.status_code == 200
        assert "session" not in page.headers.get("Set-Cookie", "")
    used = other.submit(link, "/operator/login/link")
    assert used.status_code == 303
    (cookie,) = [one for one in used.headers.getlist("Set-Cookie") if "session=" in one]
    for part in ("__Host-cleo-session=", "Secure", "HttpOnly", "SameSite=Strict", "Path=/", "Max-Age=43200"):
        assert part in cookie
    assert "Domain" not in cookie
    assert other.get("/operator/").status_code == 200
    assert ANNA in other.get("/operator/").text

    late = outside(both.application.test_client())
    assert late.get(link).status_code == 410
    secret = link.partition("secret=")[2]
    token = late.fields("/operator/login", "/operator/login/mail")["token"]
    refused = late.post("/operator/login/link", {"secret": secret}, token=token)
    assert refused.status_code == 403
    assert late.get("/operator/").status_code == 303


def test_the_answer_is_the_same_whether_or_not_the_address_is_known(both: FlaskClient) -> None:
    def answer(address: str) -> tuple[int, str]:
        found = ask_for_link(both, address)
        return found.status_code, re.sub(r'value="[0-9a-f]{64}"', "", found.text)

    known, unknown = answer(ANNA), answer("nobody@acme.example")
    assert known == unknown
    assert known == answer("ANNA@ACME.example")
    assert known == answer("no address at all\r\nBcc: x@y.example")
    assert [mail.to_address for mail in login_mails(both)] == [ANNA, ANNA]


def test_a_stranger_cannot_lead_a_link_to_another_host(make: Make) -> None:
    """Without CLEO_PUBLIC_URL the Host header would be the attacker's, and the click too."""
    web = make(CLEO_OPERATORS=ANNA)
    for headers in (OUTSIDE, {"Host": "evil.example"}, {**OUTSIDE, "Host": "localhost"}):
        page = web.get("/operator/login", headers=headers)
        assert "CLEO_PUBLIC_URL" in page.text
        assert "login/mail" not in page.text
        browser = Browser(web, **headers, Origin=f"http://{headers.get('Host', 'localhost')}")
        token = re.search(r'name="token" value="(\w+)"', Browser(web).get("/operator/login").text)
        assert token
        browser.post("/operator/login/mail", {"address": ANNA}, token=token[1])
    assert login_mails(web) == []
    ask_for_link(web, browser=Browser(web))
    assert link_in(web, login_mails(web)[0]).startswith("http://localhost/operator/login/link?secret=")


def test_the_public_url_wins_over_the_host_of_the_request(make: Make) -> None:
    web = make(CLEO_OPERATORS=ANNA, CLEO_PUBLIC_URL=PUBLIC)
    ask_for_link(web, browser=Browser(web))
    assert link_in(web, login_mails(web)[0]).startswith("https://cleo.example.com/operator/login/link")


@pytest.mark.parametrize(
    ("language", "words"), [("de-AT,de;q=0.9", "Guten Tag"), ("en", "Hello"), ("fr", "Hello"), ("", "Hello")]
)
def test_the_link_is_mailed_in_the_language_of_the_browser(
    both: FlaskClient, language: str, words: str
) -> None:
    ask_for_link(both, browser=outside(both, Accept_Language=language))
    (mail,) = login_mails(both)
    assert words in parse(app_of(both).store.messages.answer(mail.id).source).text


def test_nobody_is_flooded_with_links(both: FlaskClient) -> None:
    for _ in range(9):
        assert ask_for_link(both).status_code == 200
    assert len(login_mails(both)) == 5


def test_the_link_is_read_by_its_reader_alone(both: FlaskClient) -> None:
    """Another operator, or the holder of a token, would log in as somebody else and act in their name."""
    ask_for_link(both)
    (mail,) = login_mails(both)
    secret = link_in(both, mail).partition("secret=")[2]
    browser = outside(both)
    log_in_by_token(browser)
    pages = [
        browser.get(f"/operator/messages/{mail.id}"),
        browser.get(f"/operator/messages/{mail.id}/answer"),
        browser.get(f"/operator/messages/{mail.id}/text"),
        browser.get("/operator/?state=all"),
        both.get(f"/email/messages/{mail.id}", headers={"Authorization": "Bearer s3cret"}),
        both.get(f"/email/threads?message_id={mail.id}", headers={"Authorization": "Bearer s3cret"}),
    ]
    assert all(secret not in page.text for page in pages)
    assert pages[1].status_code == 404
    redis = connect_web(app_of(both).settings.redis_url.get_secret_value())
    assert not any(secret.encode() in key for key in redis.scan_iter("*"))


def test_a_link_ends_after_a_quarter_of_an_hour_and_with_its_operator(
    redis_url: str, both: FlaskClient
) -> None:
    ask_for_link(both)
    redis = connect_web(redis_url)
    (key,) = redis.scan_iter("cleo:link:*")
    assert 0 < redis.ttl(key) <= 900
    link = link_in(both, login_mails(both)[0]).removeprefix(PUBLIC)
    env = {"CLEO_OPERATORS": "other@acme.example", "CLEO_PUBLIC_URL": PUBLIC}
    web = create_app(read_settings({**BASE, "REDIS_URL": redis_url, **env}, dotenv=None)).test_client()
    assert outside(web).submit(link, "/operator/login/link").status_code == 403


# --- tokens and sessions ------------------------------------------------------------------------------------


def test_a_token_logs_in_under_its_name(both: FlaskClient) -> None:
    browser = outside(both)
    wrong = log_in_by_token(browser, "phone:s3cret")
    assert wrong.status_code == 403
    assert browser.get("/operator/").status_code == 303
    assert log_in_by_token(browser).status_code == 303
    assert '<span class="name">phone</span>' in browser.get("/operator/").text


def test_guesses_are_counted_and_a_right_one_is_not_kept_out(both: FlaskClient) -> None:
    browser = outside(both)
    fields = browser.fields("/operator/login", "/operator/login/token")
    codes = {
        browser.post("/operator/login/token", {**fields, "secret": "guess"}).status_code for _ in range(70)
    }
    assert codes == {403, 429}
    assert browser.post("/operator/login/token", {**fields, "secret": "s3cret"}).status_code == 303


def test_whoever_is_taken_out_of_the_settings_is_out_at_once(redis_url: str, make: Make) -> None:
    web = make(CLEO_OPERATORS=f"{ANNA}, ben@acme.example", CLEO_API_TOKEN=f"{TOKEN},other")
    session = app_of(web).store.sessions.open({"name": ANNA, "proof": f"address {ANNA}"})
    browser = Browser(web)
    log_in_by_token(browser)
    later = make(CLEO_OPERATORS="ben@acme.example", CLEO_API_TOKEN="phone:new,other")
    for value in (session, browser.session):
        for client, status in ((web, 200), (later, 303)):
            fresh = client.application.test_client()
            fresh.set_cookie("cleo-session", value)
            assert fresh.get("/operator/").status_code == status


def test_logging_out_ends_the_session_on_the_server(both: FlaskClient) -> None:
    browser = outside(both)
    log_in_by_token(browser)
    session = browser.session
    assert session
    out = browser.submit("/operator/", "/operator/logout")
    assert out.status_code == 303
    assert '"cache"' in out.headers["Clear-Site-Data"]
    assert browser.get("/operator/").status_code == 303
    both.set_cookie("__Host-cleo-session", session, domain="cleo.example.com", secure=True)
    assert browser.get("/operator/").status_code == 303, "a copy of the cookie opens nothing"


def test_a_session_that_somebody_else_chose_is_not_taken_over(both: FlaskClient) -> None:
    both.set_cookie(
        "__Host-cleo-session", "chosen-by-an-attacker" * 2, domain="cleo.example.com", secure=True
    )
    browser = outside(both)
    first = log_in_by_token(browser)
    ids = re.findall(r"cleo-session=([^;]+)", str(first.headers))
    assert ids
    assert "chosen-by-an-attacker" not in ids[0]
    app_of(both).store.sessions.close(ids[0])
    second = log_in_by_token(browser)
    assert re.findall(r"cleo-session=([^;]+)", str(second.headers)) != ids


def test_a_session_lasts_twelve_hours(redis_url: str, both: FlaskClient) -> None:
    log_in_by_token(outside(both))
    redis = connect_web(redis_url)
    (key,) = redis.scan_iter("cleo:session:*")
    assert 43_100 < redis.ttl(key) <= 43_200
    redis.delete(key)
    assert outside(both).get("/operator/").status_code == 303


@pytest.mark.parametrize(
    "target",
    [
        "https://evil.example/",
        "//evil.example/",
        "/\\evil.example",
        "/operator/../\\evil",
        "/operator/\r\nX: y",
        "/email/messages",
    ],
)
def test_a_login_leads_to_no_other_place(both: FlaskClient, target: str) -> None:
    browser = outside(both)
    answer = log_in_by_token(browser, next=target)
    assert answer.headers["Location"] in ("/operator/", "https://cleo.example.com/operator/")
    assert browser.get(f"/operator/login?next={target.strip()}").headers["Location"].endswith("/operator/")


def test_after_the_login_the_page_that_was_asked_for_is_shown(both: FlaskClient) -> None:
    browser = outside(both)
    asked = browser.get("/operator/?state=held")
    answer = browser.submit(asked.headers["Location"], "/operator/login/token", secret="s3cret")
    assert answer.headers["Location"].endswith("/operator/?state=held")


# --- forms --------------------------------------------------------------------------------------------------


def test_a_form_without_our_token_does_nothing(both: FlaskClient) -> None:
    browser = outside(both)
    log_in_by_token(browser)
    for token in (None, "", "0" * 64):
        answer = browser.post("/operator/logout", {}, token=token)
        assert answer.status_code == 403
    assert browser.get("/operator/").status_code == 200


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
        {"Sec_Fetch_Site": "cross-site"},
        {"Sec_Fetch_Site": "same-site"},
    ],
)
def test_a_form_of_another_page_does_nothing_even_with_the_token(
    both: FlaskClient, headers: dict[str, str]
) -> None:
    browser = outside(both)
    log_in_by_token(browser)
    token = browser.fields("/operator/", "/operator/logout")["token"]
    answer = browser.post("/operator/logout", {}, token=token, **headers)
    assert answer.status_code == 403
    assert "<form" not in answer.text.partition("<main")[2], "what a hostile page typed is not offered"
    assert browser.get("/operator/").status_code == 200


def test_the_token_of_another_session_does_not_count(both: FlaskClient) -> None:
    mine, other = outside(both), outside(both.application.test_client())
    log_in_by_token(mine)
    log_in_by_token(other)
    token = other.fields("/operator/", "/operator/logout")["token"]
    assert mine.post("/operator/logout", {}, token=token).status_code == 403


def test_a_lost_session_in_the_middle_of_an_edit_keeps_the_text(both: FlaskClient) -> None:
    browser = outside(both)
    log_in_by_token(browser)
    path = "/operator/messages/0123456789abcdef01234567/approve"
    app_of(both).store.sessions.close(browser.session)
    lost = browser.post(
        path, {"body": "My long\n<b>text</b>", "subject": "Re: x", "seen": "review <a@b>"}, token="old"
    )
    assert lost.status_code == 401
    assert "<b>" not in lost.text.partition("<main")[2].partition("<textarea")[2].partition("</textarea>")[0]
    log_in_by_token(browser)  # in another tab
    again = browser.post(path, fields_of(lost.text, ""))
    assert again.status_code == 403, "the form was made without a session: it is shown once more"
    fields = fields_of(again.text, "")
    assert fields["body"] == "My long\n<b>text</b>"
    assert fields["seen"] == "review <a@b>"
    assert browser.post(path, fields).status_code == 404, "now it counts: there is no such message"


def test_a_link_from_a_mail_finds_the_session_that_the_browser_holds_back(both: FlaskClient) -> None:
    """SameSite=Strict: the first request after a click in a mail has no cookie."""
    answer = outside(both).get("/operator/?state=held", Sec_Fetch_Site="cross-site")
    assert answer.status_code == 200
    assert 'http-equiv="refresh"' in answer.text
    assert "/operator/?state=held&amp;again=1" in answer.text
    answer = outside(both).get("/operator/?state=held&again=1", Sec_Fetch_Site="cross-site")
    assert answer.status_code == 303, "once is enough"


# --- what browsers are told ---------------------------------------------------------------------------------


def test_no_page_is_kept_framed_or_lets_foreign_code_run(both: FlaskClient) -> None:
    browser = outside(both)
    for path in ("/operator/login", "/operator/login/link?secret=x", "/operator/nowhere", "/operator/"):
        answer = browser.get(path)
        policy = answer.headers["Content-Security-Policy"]
        assert "default-src 'none'" in policy
        assert "frame-ancestors 'none'" in policy
        assert "unsafe" not in policy
        assert answer.headers["X-Frame-Options"] == "DENY"
        assert answer.headers["Cache-Control"] == "no-store"
        assert answer.headers["Referrer-Policy"] == "same-origin"
        assert answer.headers["X-Content-Type-Options"] == "nosniff"


def test_without_redis_there_is_one_clear_page(make: Make) -> None:
    web = make(REDIS_URL="redis://127.0.0.1:1/0", CLEO_API_TOKEN=TOKEN)
    web.set_cookie("cleo-session", "x" * 43)
    answer = web.get("/operator/")
    assert answer.status_code == 503
    assert answer.headers["Retry-After"]
    assert "Redis" in answer.text
    assert answer.mimetype == "text/html"


# --- what browsers and attackers say of themselves ----------------------------------------------------------


@pytest.mark.parametrize(
    "origin", ["null", "", "//localhost", "http://[", "http://", "file://", "javascript:x"]
)
@pytest.mark.parametrize("public", ["", PUBLIC])
def test_a_form_from_nowhere_does_nothing(make: Make, origin: str, public: str) -> None:
    """A sandboxed frame or a data: URL sends Origin: null; no setting makes that one of ours."""
    base = public or "http://localhost"
    web = make(CLEO_API_TOKEN=TOKEN, **({"CLEO_PUBLIC_URL": public} if public else {}))
    browser = Browser(web, base, **(OUTSIDE if public else {}))
    log_in_by_token(browser)
    token = browser.fields("/operator/", "/operator/logout")["token"]
    assert browser.post("/operator/logout", {}, token=token, Origin=origin).status_code == 403
    assert browser.get("/operator/").status_code == 200


def test_how_long_a_connection_is_busy_tells_nothing_about_an_address(
    both: FlaskClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The next request on the same connection waits for what is done after the answer."""
    waited: list[float] = []
    monkeypatch.setattr(login, "sleep", waited.append)
    monkeypatch.setattr(login, "monotonic", iter([10.0, 10.01, 20.0, 20.04]).__next__)
    ask_for_link(both, "nobody@acme.example")
    ask_for_link(both, ANNA)
    assert waited == [pytest.approx(login.BUSY_S - 0.01), pytest.approx(login.BUSY_S - 0.04)]
    assert len(login_mails(both)) == 1


@pytest.mark.parametrize("method", ["get", "head", "options"])
def test_nothing_that_follows_links_changes_anything(both: FlaskClient, method: str) -> None:
    ask_for_link(both)
    link = link_in(both, login_mails(both)[0]).removeprefix(PUBLIC)
    browser = outside(both)
    for path in (link, link, "/operator/login/mail", "/operator/login/token", "/operator/logout"):
        getattr(both, method)(path, base_url=PUBLIC, headers=OUTSIDE)
    assert browser.submit(link, "/operator/login/link").status_code == 303
    getattr(both, method)("/operator/logout", base_url=PUBLIC, headers=OUTSIDE)
    assert browser.get("/operator/").status_code == 200


def test_what_was_typed_survives_that_redis_is_away(
    both: FlaskClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    browser = outside(both)
    log_in_by_token(browser)
    token = browser.fields("/operator/", "/operator/logout")["token"]
    path = "/operator/messages/0123456789abcdef01234567/approve"
    typed = {"body": "\nAn hour\nof <b>work</b>", "subject": 'Re: "x"', "seen": "review <a@b>"}
    client = app_of(both).store.sessions._redis
    with monkeypatch.context() as away:
        away.setattr(client, "connection_pool", connect_web("redis://127.0.0.1:1/0").connection_pool)
        answer = browser.post(path, typed, token=token)
    assert answer.status_code == 503
    again = fields_of(answer.text, path)
    assert again == {**typed, "token": token}
    assert browser.post(path, again).status_code == 404, "the session and the form are what they were"


def test_a_token_is_never_shown_again(both: FlaskClient, monkeypatch: pytest.MonkeyPatch) -> None:
    browser = outside(both)
    token = browser.fields("/operator/login", "/operator/login/token")["token"]
    client = app_of(both).store.sessions._redis
    monkeypatch.setattr(client, "connection_pool", connect_web("redis://127.0.0.1:1/0").connection_pool)
    for path in ("/operator/login/token", "/operator/login/link"):
        answer = browser.post(path, {"secret": "s3cret", "body": "x"}, token=token)
        assert answer.status_code == 503
        assert "s3cret" not in answer.text
