"""What an operator sees and decides: the list, a thread, the actions of each state, files, figures."""

from __future__ import annotations

import base64
import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from math import floor, log2
from pathlib import Path
from typing import Any

import pytest
from selectolax.lexbor import LexborHTMLParser as HTMLParser

from cleo_email.app import App
from cleo_email.mail.parse import parse
from cleo_email.settings import read_settings
from cleo_email.store import Effects, State
from cleo_email.store.connection import connect_web
from cleo_email.store.figures import DAY_MS, DayFigures, figure_of
from cleo_email.web.app import create_app
from cleo_email.web.operator import text, words
from tests.support.operator_page import FILE, Browser, Filled, accept, answered, fields_of, fill, source
from tests.support.web import BASE

NAME = '"<script>alert(1)</script> <img src=x onerror=alert(2)>"'
HOSTILE = "\"><script>alert(1)</script><img src=x onerror=alert(2)>'{{7*7}}"


@pytest.fixture
def app(redis_url: str) -> App:
    settings = read_settings({**BASE, "REDIS_URL": redis_url, "CLEO_AGENT": "echo"}, dotenv=None)
    flask = create_app(settings)
    found: App = flask.extensions["cleo_email"]
    found.flask = flask  # type: ignore[attr-defined]
    return found


@pytest.fixture
def page(app: App) -> Browser:
    return Browser(app.flask.test_client())  # type: ignore[attr-defined]


@pytest.fixture
def filled(app: App) -> Filled:
    return fill(app)


def decide(page: Browser, id_: str, action: str, **typed: str) -> Any:
    path = f"/operator/messages/{id_}"
    return page.submit(path, f"{path}/{action}", **typed)


def rows(html: str) -> list[str]:
    return [row.css_first(".subject").text() for row in HTMLParser(html).css(".row")]  # type: ignore[union-attr]


# --- the list -----------------------------------------------------------------------------------------------


def test_what_waits_for_a_person_comes_first_newest_on_top(page: Browser, filled: Filled) -> None:
    html = page.get("/operator/").text
    assert rows(html) == [
        "Change of address",
        "Wo bleibt meine Lieferung?",
        "Cancellation of my contract",
        "Invoice 2026-118 is missing",
        "Re: Opening hours on Saturday?",
    ]
    counts = {one.css_first("span").text(): one.css_first("b").text() for one in HTMLParser(html).css(".st")}  # type: ignore[union-attr]
    assert counts["Waits for you"] == "5"
    assert counts["to approve"] == "2"
    assert counts["answered"] == "1"
    assert counts["all"] == "8"


@pytest.mark.parametrize("state", [*State, "all", "waiting"])
def test_each_state_has_its_list(page: Browser, filled: Filled, state: str) -> None:
    html = page.get(f"/operator/?state={state}").text
    assert html.count('aria-current="true"') == 1
    chips = {one.attributes["class"] for one in HTMLParser(html).css(".row .chip")}
    if state not in ("all", "waiting"):
        assert chips <= {f"chip {state}"}


def test_lists_have_pages_without_a_gap_or_a_repeat(page: Browser, app: App) -> None:
    ids = [accept(app, source(n, subject=f"Number {n}", text="x")) for n in range(120)]
    for id_ in ids[::2]:
        app.store.messages.move(id_, State.HELD, now=app.clock(), reason="r", effects=Effects(pop=True))
    for query, expected in (("state=all", ids), ("", ids[::2]), ("state=held", ids[::2]), ("q=number", ids)):
        seen: list[str] = []
        path: str | None = f"/operator/?{query}"
        while path:
            html = HTMLParser(page.get(path).text)
            seen += [(one.attributes["href"] or "").rpartition("/")[2] for one in html.css(".row")]
            more = html.css_first("a[rel=next]")
            path = more.attributes["href"] if more else None
        assert seen == sorted(expected, reverse=True), "by their ids, which begin with the time"


@pytest.mark.parametrize(
    "query", ["state=nonsense", "cursor=../../x", "cursor=%00", "q=%ff%fe", "state=waiting&part=x"]
)
def test_nonsense_in_the_address_shows_a_list(page: Browser, filled: Filled, query: str) -> None:
    assert page.get(f"/operator/?{query}").status_code == 200


@pytest.mark.parametrize(
    ("asked", "found"),
    [
        ("MARIA@weber", ["Invoice 2026-118 is missing"]),
        ("118 missing", ["Invoice 2026-118 is missing"]),
        ("lieferung", ["Wo bleibt meine Lieferung?"]),
        ("nothing like that", []),
        ("<m2@example.com>", ["Invoice 2026-118 is missing"]),
        ("<m0@example.com>", ["Opening hours on Saturday?"]),
        ("email:nobody@example.com", []),
        ("100% _*?[a", []),
    ],
)
def test_a_search_finds_addresses_subjects_threads_and_ids(
    page: Browser, filled: Filled, asked: str, found: list[str]
) -> None:
    assert rows(page.web.get("/operator/", query_string={"q": asked}).text) == found
    id_ = filled.ids["review"]
    assert rows(page.get(f"/operator/?q={id_}").text) == ["Invoice 2026-118 is missing"]
    ours = filled.app.store.messages.get(id_).reply_message_id
    assert rows(page.web.get("/operator/", query_string={"q": ours}).text) == ["Invoice 2026-118 is missing"]


def test_a_search_finds_records_of_a_version_without_its_index(page: Browser, filled: Filled) -> None:
    redis = connect_web(filled.app.settings.redis_url.get_secret_value())
    redis.zremrangebyrank("cleo:index:search", 0, 5)
    assert rows(page.get("/operator/?q=invoice").text) == ["Invoice 2026-118 is missing"]
    redis.delete("cleo:index:search")
    assert len(rows(page.get("/operator/?q=example").text)) == 8


def test_a_search_that_takes_too_long_goes_on_from_where_it_ended(filled: Filled) -> None:
    store = filled.app.store.messages
    nothing, cursor = store.search("invoice", seconds=0)
    assert (nothing, cursor) == ([], "")
    found, end = store.search("invoice")
    assert [one.id for one in found] == [filled.ids["review"]]
    assert end is None


def test_what_is_forgotten_is_not_found(page: Browser, filled: Filled) -> None:
    filled.app.store.messages.forget(filled.ids["review"])
    assert rows(page.get("/operator/?q=invoice").text) == []
    redis = connect_web(filled.app.settings.redis_url.get_secret_value())
    assert not any(b"maria" in member for member in redis.zrange("cleo:index:search", 0, -1))


def test_a_page_asks_redis_the_same_number_of_things_however_many_messages_there_are(
    page: Browser, app: App
) -> None:
    redis = connect_web(app.settings.redis_url.get_secret_value())

    def commands(path: str) -> int:
        before = redis.info("commandstats")
        page.get(path)
        after = redis.info("commandstats")
        return sum(
            after[name]["calls"] - before.get(name, {"calls": 0})["calls"]
            for name in after
            if "info" not in name
        )

    def fill_up(numbers: range) -> None:
        for n in numbers:
            id_ = accept(app, source(n, subject="x", text="x"))
            app.store.messages.move(id_, State.HELD, now=app.clock(), reason="r", effects=Effects(pop=True))

    paths = ("/operator/", "/operator/?state=all", "/operator/?state=held", "/operator/health")
    fill_up(range(60))
    assert all(commands(path) for path in paths)  # scripts are loaded now
    few = [commands(path) for path in paths]
    fill_up(range(60, 300))
    assert [commands(path) for path in paths] == few


# --- a message ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", "replied second review held failed uncertain ignored received".split())
def test_every_message_is_shown_with_its_reason_and_history(page: Browser, filled: Filled, name: str) -> None:
    id_ = filled.ids[name]
    answer = page.get(f"/operator/messages/{id_}")
    assert answer.status_code == 200
    record = filled.app.store.messages.get(id_)
    html = HTMLParser(answer.text)
    assert record.subject in (html.css_first("h1").text())  # type: ignore[union-attr]
    assert (record.reason or "") in answer.text.replace("&#39;", "'")
    assert len(html.css(".history li")) == len(filled.app.store.messages.history(id_))


def test_a_thread_is_a_conversation_oldest_first(page: Browser, filled: Filled) -> None:
    html = HTMLParser(page.get(f"/operator/messages/{filled.ids['second']}").text)
    said = [
        (one.attributes["class"], one.css_first(".text").text().strip()) for one in html.css("article.said")
    ]  # type: ignore[union-attr]
    assert [kind for kind, _ in said] == ["said user", "said agent", "said user here"]
    assert "are you open" in said[0][1]
    assert said[1][1] == "Yes, from 9 to 13 o'clock."
    assert said[2][1] == "Thank you! And on 24 December?", "what is quoted is folded away"
    assert "On 24 December we are closed." in html.css_first("textarea").text()  # type: ignore[union-attr]


def test_no_message_is_a_page_too(page: Browser, filled: Filled) -> None:
    for path in (
        "/operator/messages/000000000000000000000000",
        "/operator/messages/%2e%2e%2fx",
        "/operator/x",
    ):
        answer = page.get(path)
        assert answer.status_code == 404
        assert answer.mimetype == "text/html"


# --- decisions ----------------------------------------------------------------------------------------------


def test_an_answer_is_approved_as_it_is(page: Browser, filled: Filled) -> None:
    id_ = filled.ids["review"]
    before = filled.app.store.messages.answer(id_)
    answer = decide(page, id_, "approve")
    assert answer.status_code == 303
    record = filled.app.store.messages.get(id_)
    assert record.state is State.SUBMITTING
    sent = filled.app.store.messages.answer(id_)
    assert before
    assert sent
    undated = [re.sub(rb"(?m)^Date: .*", b"", mail.source) for mail in (before, sent)]
    assert undated[0] == undated[1], "not a byte but the date of its approval is changed"
    step = filled.app.store.messages.history(id_)[-1]
    assert step["by"] == "local"
    assert "Approved" in page.get(answer.headers["Location"]).text


def test_an_answer_is_approved_with_another_text_and_subject(page: Browser, filled: Filled) -> None:
    id_ = filled.ids["review"]
    assert (
        decide(page, id_, "approve", body="Better **so**.\r\n\r\nM.", subject="Re: Your invoice").status_code
        == 303
    )
    kept = filled.app.store.messages.answer(id_)
    assert kept
    mail = parse(kept.source)
    assert mail.text.startswith("Better **so**.\n\nM.")
    assert mail.subject == "Re: Your invoice"
    assert [one.filename for one in mail.attachments] == ["invoice.pdf"]
    assert mail.message_id == kept.message_id


@pytest.mark.parametrize(
    ("name", "action", "state"),
    [
        ("review", "discard", State.IGNORED),
        ("held", "release", State.RECEIVED),
        ("held", "dismiss", State.IGNORED),
        ("failed", "retry", State.RECEIVED),
        ("failed", "dismiss", State.IGNORED),
        ("uncertain", "dismiss", State.IGNORED),
        ("ignored", "release", State.RECEIVED),
        ("second", "takeover", State.HELD),
    ],
)
def test_each_decision_is_recorded_with_who_and_why(
    page: Browser, filled: Filled, name: str, action: str, state: State
) -> None:
    id_ = filled.ids[name]
    assert decide(page, id_, action, reason="because <b>").status_code == 303
    record = filled.app.store.messages.get(id_)
    assert record.state is state
    step = filled.app.store.messages.history(id_)[-1]
    assert step["by"] == "local"
    assert "because <b>" in step["reason"]
    assert "because &lt;b&gt;" in page.get(f"/operator/messages/{id_}").text


def test_a_thread_is_taken_over_and_handed_back(page: Browser, filled: Filled) -> None:
    id_ = filled.ids["received"]
    assert decide(page, id_, "takeover").status_code == 303
    assert filled.app.store.messages.get(id_).state is State.HELD
    html = page.get(f"/operator/messages/{id_}").text
    assert "a person has this thread" in html
    assert "/takeover" not in html
    assert decide(page, id_, "handback").status_code == 303
    assert filled.app.store.messages.get(id_).state is State.RECEIVED


def test_an_uncertain_answer_is_sent_again_only_by_somebody_who_knows(page: Browser, filled: Filled) -> None:
    id_ = filled.ids["uncertain"]
    asked = decide(page, id_, "retry", reason="looked")
    assert asked.status_code == 409
    assert "twice" in asked.text
    assert filled.app.store.messages.get(id_).state is State.UNCERTAIN
    action = f"/operator/messages/{id_}/retry"
    fields = {**fields_of(asked.text, action), "sure": "1"}
    assert page.post(action, fields).status_code == 303
    assert filled.app.store.messages.get(id_).state is State.SUBMITTING
    assert "looked" in filled.app.store.messages.history(id_)[-1]["reason"]


def test_a_double_click_decides_once_and_is_no_error(page: Browser, filled: Filled) -> None:
    id_ = filled.ids["review"]
    path = f"/operator/messages/{id_}"
    fields = page.fields(path, f"{path}/approve")
    answers = [page.post(f"{path}/approve", {**fields, "body": "Once"}).status_code for _ in range(3)]
    assert answers == [303, 303, 303]
    assert (
        len([step for step in filled.app.store.messages.history(id_) if step["state"] == "submitting"]) == 1
    )


def test_a_form_that_is_stale_says_so_and_keeps_the_text(page: Browser, filled: Filled) -> None:
    id_ = filled.ids["review"]
    path = f"/operator/messages/{id_}"
    fields = page.fields(path, f"{path}/approve")
    filled.app.store.messages.move(
        id_, State.IGNORED, now=filled.app.clock(), reason="superseded by message x", only_from=[State.REVIEW]
    )
    late = page.post(f"{path}/approve", {**fields, "body": "My own words"})
    assert late.status_code == 409
    assert "moved on" in late.text
    assert "superseded by message x" in late.text
    assert "My own words" in late.text
    assert filled.app.store.messages.get(id_).state is State.IGNORED


def test_an_answer_that_was_replaced_is_not_approved_unseen(page: Browser, filled: Filled) -> None:
    id_ = filled.ids["review"]
    path = f"/operator/messages/{id_}"
    fields = page.fields(path, f"{path}/approve")
    store = filled.app.store.messages
    store.move(id_, State.IGNORED, now=1, reason="", only_from=[State.REVIEW])
    store.move(id_, State.RECEIVED, now=1, effects=Effects(push=True, drop_answer=True))
    answered(filled.app, id_, State.REVIEW, "Quite another answer")
    late = page.post(f"{path}/approve", fields)
    assert late.status_code == 409
    assert store.get(id_).state is State.REVIEW
    assert "Quite another answer" in late.text


@pytest.mark.parametrize(
    ("name", "action"),
    [
        ("replied", "approve"),
        ("held", "approve"),
        ("replied", "dismiss"),
        ("received", "discard"),
        ("review", "release"),
    ],
)
def test_a_decision_that_does_not_fit_is_refused_with_the_state(
    page: Browser, filled: Filled, name: str, action: str
) -> None:
    id_ = filled.ids[name]
    path = f"/operator/messages/{id_}"
    seen = filled.app.store.messages.get(id_)
    token = re.search(r'name="token" value="(\w+)"', page.get(path).text)
    assert token
    answer = page.post(f"{path}/{action}", {"seen": f"{seen.state} {seen.reply_message_id}"}, token=token[1])
    assert answer.status_code == 409
    assert 'role="alert"' in answer.text
    assert filled.app.store.messages.get(id_).state is seen.state


def test_an_empty_answer_is_refused_and_the_subject_kept(page: Browser, filled: Filled) -> None:
    id_ = filled.ids["review"]
    answer = decide(page, id_, "approve", body=" \n ", subject="Re: typed")
    assert answer.status_code == 422
    assert "Re: typed" in answer.text
    assert filled.app.store.messages.get(id_).state is State.REVIEW


# --- the preview --------------------------------------------------------------------------------------------


def test_the_preview_is_the_mail_as_it_would_be_sent(page: Browser, filled: Filled) -> None:
    id_ = filled.ids["review"]
    path = f"/operator/messages/{id_}"
    shown = page.submit(path, f"{path}/preview", body=f"**Bold** {HOSTILE}")
    assert shown.status_code == 200
    assert "<strong>Bold</strong>" in shown.text
    assert "<script" not in shown.text
    assert "<img" not in shown.text
    policy = shown.headers["Content-Security-Policy"]
    assert "sandbox" in policy
    assert "default-src 'none'" in policy
    assert "frame-ancestors 'self'" in policy
    assert filled.app.store.messages.get(id_).state is State.REVIEW
    decide(page, id_, "approve", body=f"**Bold** {HOSTILE}")
    kept = filled.app.store.messages.answer(id_)
    assert kept
    assert page.get(f"{path}/answer").text == shown.text


def test_without_scripts_the_frame_is_sandboxed(page: Browser, filled: Filled) -> None:
    html = HTMLParser(page.get(f"/operator/messages/{filled.ids['review']}").text)
    frame = html.css_first("iframe")
    assert frame
    assert frame.attributes["sandbox"] in (None, "")


# --- what strangers write -----------------------------------------------------------------------------------


def test_nothing_that_anybody_wrote_is_code_on_any_page(page: Browser, app: App) -> None:
    id_ = accept(
        app,
        source(
            1,
            sender=f"{NAME} <a@example.com>",
            subject=HOSTILE,
            text=f"{HOSTILE} https://evil.example/{HOSTILE} javascript:alert(3)",
            name=f"{HOSTILE[2:]}.html".replace('"', ""),
        ),
    )
    answered(app, id_, State.REVIEW, HOSTILE, reason=HOSTILE)
    record = app.store.messages.get(id_)
    assert "<script>" in record.subject
    pages = [page.get(path).text for path in (f"/operator/messages/{id_}", "/operator/", "/operator/health")]
    pages.append(page.web.get("/operator/", query_string={"q": HOSTILE}).text)
    pages.append(page.web.get("/operator/", query_string={"state": HOSTILE, "cursor": HOSTILE}).text)
    pages.append(
        page.web.get(f"/operator/messages/{id_}", query_string={"done": HOSTILE, "before": HOSTILE}).text
    )
    for html in pages:
        tree = HTMLParser(html)
        assert [one.attributes.get("src") for one in tree.css("script")] == ["/operator/static/operator.js"]
        assert not tree.css("img, object, embed, base, link[rel=import]")
        for one in tree.css("*"):
            for name, value in one.attributes.items():
                assert not name.startswith("on")
                assert name != "style"
                assert "javascript:" not in (value or "") or name == "value"
        assert "49" not in tree.css_first("h1").text()  # type: ignore[union-attr]


def test_a_link_is_shown_with_its_host_and_cannot_be_clicked(page: Browser, app: App) -> None:
    text = "See https://bank.example@evil.example/x and https://bаnk.example/ (a Cyrillic a)"
    id_ = accept(app, source(1, subject="s", text=text))
    html = HTMLParser(page.get(f"/operator/messages/{id_}").text)
    (block,) = html.css(".text")
    assert not block.css("a")
    assert [one.text() for one in block.css(".link b")] == ["evil.example", "bаnk.example"]
    assert "xn--" in block.text()


def test_text_that_turns_around_turns_nothing_on_the_page(page: Browser, app: App) -> None:
    id_ = accept(
        app, source(1, subject="Rechnung \u202efdp.exe", text="שלום \u202eabc\u2066 x", name="a\u202egpj.exe")
    )
    for path in ("/operator/?state=all", f"/operator/messages/{id_}"):
        html = page.get(path).text
        assert not re.search("[\u202a-\u202e\u2066-\u2069]", html)
    assert "שלום" in html


def test_five_megabytes_of_text_are_shown_as_their_beginning_and_a_file(page: Browser, app: App) -> None:
    id_ = accept(app, source(1, subject="Long", text="word " * 1_000_000))
    html = page.get(f"/operator/messages/{id_}").text
    assert len(html) < 400_000
    assert f"/operator/messages/{id_}/text" in html
    whole = page.get(f"/operator/messages/{id_}/text")
    assert len(whole.data) > 900_000
    assert whole.headers["Content-Disposition"].startswith("attachment")


# --- files --------------------------------------------------------------------------------------------------


def test_files_are_only_handed_out_to_be_stored(page: Browser, filled: Filled) -> None:
    id_ = filled.ids["review"]
    links = [
        one.attributes["href"] or ""
        for one in HTMLParser(page.get(f"/operator/messages/{id_}").text).css(".files a")
    ]
    assert len(links) == 2
    for link in links:
        answer = page.get(link)
        assert answer.status_code == 200
        assert answer.headers["Content-Type"] == "application/octet-stream"
        assert answer.headers["Content-Disposition"].startswith('attachment; filename="invoice.')
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
        assert "sandbox" in answer.headers["Content-Security-Policy"]
    assert b"<script>" in page.get(links[0]).data


@pytest.mark.parametrize(
    "path",
    [
        "mail/files/1",
        "mail/files/99",
        "mail/files/-1",
        "mail/files/..%2f0",
        "other/files/0",
        "answer/files/7",
    ],
)
def test_no_other_file_is_handed_out(page: Browser, filled: Filled, path: str) -> None:
    assert page.get(f"/operator/messages/{filled.ids['review']}/{path}").status_code == 404


def test_a_file_name_of_any_script_is_no_header(page: Browser, app: App) -> None:
    name = 'Rechnung "März"; x=€.pdf'.replace('"', "'")
    id_ = accept(app, source(1, subject="s", text="t", name=name))
    answer = page.get(f"/operator/messages/{id_}/mail/files/0")
    told = answer.headers["Content-Disposition"]
    assert "filename*=UTF-8''Rechnung" in told
    assert told.isascii()


# --- health and figures -------------------------------------------------------------------------------------


def test_the_figures_count_each_mail_once(page: Browser, filled: Filled) -> None:
    app = filled.app
    today = app.clock() // DAY_MS
    (day,) = app.store.figures.read([today])
    assert day.arrived == 8
    assert day.answered == 1
    assert day.times.total() == 1
    assert day.reasons[("review", "the agent asks for a review")] == 2
    assert day.reasons[("held", "handed over to a person")] == 1
    assert day.reasons[("failed", "the agent did not answer in 6 tries")] == 1
    redis = connect_web(app.settings.redis_url.get_secret_value())
    assert 30 * 86_400 < redis.ttl(f"cleo:figures:{today}") <= 40 * 86_400
    # A bounce that is sent anew is no second answer.
    id_ = filled.ids["replied"]
    app.store.messages.move(id_, State.SUBMITTING, now=app.clock(), only_from=[State.REPLIED])
    app.store.messages.move(id_, State.REPLIED, now=app.clock())
    assert app.store.figures.read([today])[0].answered == 1
    html = page.get("/operator/health").text
    tables = [
        [cell.text() for cell in table.css("tbody tr:first-child td")]
        for table in HTMLParser(html).css("table")
    ]
    assert tables[0] == ["8", "1"]


def step_of(ms: int) -> int:
    return floor(4 * log2(ms))


def test_the_time_to_reply_is_right_to_a_tenth_or_so() -> None:
    day = DayFigures(0)
    for ms in range(100, 100_000, 100):
        day.times[step_of(ms)] += 1
    assert day.quantile_ms(0.5) == pytest.approx(50_000, rel=0.15)
    assert day.quantile_ms(0.95) == pytest.approx(95_000, rel=0.15)
    assert DayFigures(0).quantile_ms(0.5) == 0


def test_the_scripts_and_the_reader_mean_the_same_steps(app: App) -> None:
    for number, waited in enumerate((1, 2, 3, 999, 1000, 1024, 60_000, 86_400_000)):
        id_ = accept(app, source(number, subject="s", text="t"))
        record = app.store.messages.get(id_)
        app.store.messages.move(id_, State.ANSWERING, now=record.received_at)
        app.store.messages.move(id_, State.SUBMITTING, now=record.received_at, effects=Effects(pop=True))
        at = record.received_at + waited
        app.store.messages.move(id_, State.REPLIED, now=at)
        (day,) = app.store.figures.read([at // DAY_MS])
        assert day.times[step_of(waited)] > 0


def test_reasons_are_counted_without_what_is_of_one_mail() -> None:
    assert figure_of("held", "a person has this thread") == "held:a person has this thread"
    assert (
        figure_of("review", "EMAIL_REVIEW=first: nothing went to x@y.example") == "review:EMAIL_REVIEW=first"
    )
    assert figure_of("held", "the sender x@y.example is not allowed") == "held:the sender is not allowed"
    assert len(figure_of("failed", "x" * 500)) < 80


def test_health_says_what_is_wrong_and_what_to_do(page: Browser, filled: Filled) -> None:
    html = page.get("/operator/health").text
    assert "Mail does not flow" in html
    assert "python worker.py" in html
    filled.app.store.health.worker_seen(filled.app.clock())
    assert "Mail flows" in page.get("/operator/health").text


def test_pictures_have_words_and_tables(page: Browser, filled: Filled) -> None:
    tree = HTMLParser(page.get("/operator/health").text)
    charts = tree.css("svg.chart")
    assert len(charts) == 2
    assert all(one.attributes["role"] == "img" and one.attributes["aria-label"] for one in charts)
    assert len(tree.css("table caption")) == 2
    assert all(len(table.css("tbody tr")) == 14 for table in tree.css("details table"))


# --- languages ----------------------------------------------------------------------------------------------


def test_pages_speak_german_and_english(page: Browser, filled: Filled) -> None:
    for code, told in (
        ("de-AT, en;q=0.5", "Wartet auf Sie"),
        ("fr", "Waits for you"),
        ("en-GB", "Waits for you"),
    ):
        html = page.get("/operator/", Accept_Language=code).text
        assert told in html
        assert f'lang="{code[:2] if code[:2] == "de" else "en"}"' in html


def test_the_most_frequent_reasons_are_told_in_german_too(page: Browser, filled: Filled) -> None:
    html = page.get("/operator/", Accept_Language="de").text
    assert "<span>an einen Menschen übergeben: wants to cancel</span>" in html
    assert '<span lang="en">the agent did not answer in 6 tries: HTTP 502</span>' in html
    assert '<span lang="en">handed over to a person: wants to cancel</span>' in page.get("/operator/").text


def test_numbers_have_a_comma_in_german(page: Browser, app: App) -> None:
    mail = source(1, subject="A file", text="Here it is.")
    id_ = accept(app, mail.replace(FILE.encode(), base64.encodebytes(b"x" * 2500)))
    app.store.health.worker_seen(app.clock() - 3_600_000 * 5 // 2)
    for path, told in ((f"/operator/messages/{id_}", "2.5 kB"), ("/operator/health", "2.5 h")):
        assert told in page.get(path).text
        assert told.replace(".", ",") in page.get(path, Accept_Language="de").text


def test_every_word_of_the_pages_is_known_in_german() -> None:
    import ast
    from importlib.resources import files

    folder = Path(str(files("cleo_email.web.operator")))
    used = set()
    for template in folder.rglob("*.html"):
        text = template.read_text("utf-8")
        used |= {a or b for a, b in re.findall(r"""say\((?:"([^"]+)"|'([^']+)')(?! ~)""", text)}
    for module in folder.glob("*.py"):
        for node in ast.walk(ast.parse(module.read_text("utf-8"))):
            name = getattr(getattr(node, "func", None), "id", "")
            if name in ("say", "say_in") and isinstance(node, ast.Call):
                used |= {
                    one.value for one in node.args[: 1 + (name == "say_in")] if isinstance(one, ast.Constant)
                }
    german, english = words.words()["de"], words.words()["en"]
    named = {text for text in used if text.endswith(" ")}
    assert used - named - set(german) == set()
    assert set(english) <= set(german)
    assert set(german) - used - set(english) == set(), "words that no page uses"
    for who in ("mailbox", "cli", "local"):
        assert f"who {who}" in english
    for state in [*State, "all", "waiting"]:
        assert f"state {state}" in english


def test_a_record_says_who_is_logged_in(redis_url: str) -> None:
    env = {**BASE, "REDIS_URL": redis_url, "CLEO_OPERATORS": "anna@acme.example", "CLEO_API_TOKEN": "phone:x"}
    flask = create_app(read_settings(env, dotenv=None))
    app: App = flask.extensions["cleo_email"]
    ids = fill(app).ids
    for holder, name in (
        ({"name": "anna@acme.example", "proof": "address anna@acme.example"}, "held"),
        ({"name": "phone", "proof": ""}, "failed"),
    ):
        page = Browser(flask.test_client())
        if holder["proof"]:
            page.web.set_cookie("cleo-session", app.store.sessions.open(holder))
        else:
            page.submit("/operator/login", "/operator/login/token", secret="x")
        assert decide(page, ids[name], "dismiss").status_code == 303
        assert app.store.messages.history(ids[name])[-1]["by"] == holder["name"]


# --- unfriendly users ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("asked", ["foo", "approve", "../x", "retry"])
def test_fields_that_no_form_has_change_nothing(page: Browser, filled: Filled, asked: str) -> None:
    path = f"/operator/messages/{filled.ids['review']}"
    fields = page.fields(path, f"{path}/approve") | {"seen": "old", "ask": asked, "done": asked}
    answer = page.post(f"{path}/approve", fields)
    assert answer.status_code == 409
    assert "Send it again all the same" not in answer.text


@pytest.mark.parametrize("name", ["review", "held", "failed", "replied"])
@pytest.mark.parametrize("done", ["approve", "discard", "release", "retry", "dismiss", "takeover"])
def test_a_link_cannot_say_that_something_was_done(
    page: Browser, filled: Filled, name: str, done: str
) -> None:
    html = page.get(f"/operator/messages/{filled.ids[name]}?done={done}").text
    assert "notice good" not in html


def test_two_people_who_decide_at_once_decide_one_thing(app: App) -> None:
    flask: Any = app.flask  # type: ignore[attr-defined]
    for turn in range(5):
        id_ = accept(app, source(500 + turn, subject=f"At once {turn}", text="x"))
        answered(app, id_, State.REVIEW)
        path = f"/operator/messages/{id_}"
        people = {action: Browser(flask.test_client()) for action in ("approve", "discard", "takeover")}
        forms = {action: one.fields(path, f"{path}/{action}") for action, one in people.items()}
        forms["approve"]["body"] = "Edited"
        start = threading.Barrier(len(people))

        def decide_at_once(action: str) -> int:
            start.wait()  # noqa: B023 - it ends within this turn
            return people[action].post(f"{path}/{action}", forms[action]).status_code  # noqa: B023

        with ThreadPoolExecutor(len(people)) as pool:
            codes = dict(zip(people, pool.map(decide_at_once, people), strict=True))
        assert set(codes.values()) <= {303, 409}
        history = [step["state"] for step in app.store.messages.history(id_)]
        assert len({State.SUBMITTING, State.IGNORED} & set(history)) <= 1
        state = app.store.messages.get(id_).state
        assert state in (State.SUBMITTING, State.IGNORED, State.HELD)
        assert (codes["approve"] == 303) == (State.SUBMITTING in history)
        assert (codes["discard"] == 303) == (State.IGNORED in history)


@pytest.mark.parametrize(
    ("link", "host"),
    [
        ("https://evil.example\\@bank.example/", "evil.example"),
        ("https://evil.example\\.bank.example/", "evil.example"),
        ("https://bank.example@evil.example/", "evil.example"),
        ("https://bank.example/@evil.example/", "bank.example"),
        ("https://evil.example?@bank.example/", "evil.example"),
        ("https://evil.example#@bank.example/", "evil.example"),
    ],
)
def test_the_host_that_stands_out_is_the_one_that_a_browser_goes_to(link: str, host: str) -> None:
    """A backslash ends the host (WHATWG URL)."""
    (bold,) = HTMLParser(str(text.body(link))).css("b")
    assert bold.text() == host


@pytest.mark.parametrize(
    "hostile",
    [
        "https://" + "ä" * 60_000,
        "https://" + "ä." * 30_000,
        " ".join(f"https://ä{n}.example" for n in range(4_000)),
        "http://" * 8_000,
        "https://a@" * 6_000,
    ],
)
def test_no_text_keeps_the_page_busy(hostile: str, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    real = text._ascii
    monkeypatch.setattr(text, "_ascii", lambda host: asked.append(host) or real(host))  # type: ignore[func-returns-value]
    shown = HTMLParser(str(text.body(hostile))).text()
    assert len(shown) >= len(hostile[: text.SHOWN])
    assert len(asked) <= text.TOLD
    assert all(len(host) <= 253 for host in asked)


FAULTS: dict[str, Callable[[Browser, str], Any]] = {
    "no message": lambda page, path: page.get("/operator/messages/" + "0" * 24),
    "no page": lambda page, path: page.get("/operator/nowhere"),
    "no static file": lambda page, path: page.get("/operator/static/nowhere.js"),
    "another page's form": lambda page, path: page.post(f"{path}/discard", {}, Origin="https://evil.example"),
    "another type": lambda page, path: page.web.post(
        f"{path}/discard", data="x", content_type="text/plain", headers={"Accept-Language": "de"}
    ),
    "too large": lambda page, path: page.post(f"{path}/discard", {"x": "x" * 4_000_001}),
    "too many": lambda page, path: page.post(f"{path}/discard", {f"x{n}": "" for n in range(99)}),
    "empty": lambda page, path: decide(page, path.rpartition("/")[2], "approve", body="  "),
    "subject": lambda page, path: decide(page, path.rpartition("/")[2], "approve", subject="x" * 3_000),
    "wrong state": lambda page, path: page.post(f"{path}/retry", page.fields(path, f"{path}/approve")),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_german_page_says_in_german_what_went_wrong(app: App, filled: Filled, fault: str) -> None:
    page = Browser(app.flask.test_client(), Accept_Language="de")  # type: ignore[attr-defined]
    answer = FAULTS[fault](page, f"/operator/messages/{filled.ids['review']}")
    assert answer.status_code >= 400
    said = HTMLParser(answer.text).css_first("[role=alert]")
    assert said
    told = set(re.findall(r"\w+", said.text().lower()))
    assert not told & {"the", "is", "this", "it", "no", "not", "only", "expected", "too", "has", "than"}
    assert not said.css("[lang=en]")


def test_a_thread_of_long_mails_is_no_long_page(
    page: Browser, app: App, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Twenty mails of half a megabyte took many seconds, for a page of megabytes."""
    from cleo_email.web.operator import conversation

    long = "\n".join(f"https://ä{n}.example/ word" for n in range(10_000))
    first = accept(app, source(700, subject="Long", text=long))
    for number in range(701, 706):
        accept(
            app, source(number, subject="Re: Long", text=f"{long}\n{number}", answers="<m700@example.com>")
        )
    newest = accept(app, source(706, subject="Re: Long", text="At last.", answers="<m700@example.com>"))
    read: list[int] = []
    parse_one = conversation.parse
    monkeypatch.setattr(conversation, "parse", lambda source: read.append(len(source)) or parse_one(source))
    for id_, most in ((first, 2), (newest, 2)):
        read.clear()
        html = page.get(f"/operator/messages/{id_}").text
        shown = [len(one.text()) for one in HTMLParser(html).css(".text")]
        assert sum(read) <= conversation.READ_AT_MOST * most
        assert sum(length > text.BESIDE * 2 for length in shown) <= 1
        assert "At last." in html


def test_the_package_brings_the_pages_along(tmp_path: Path) -> None:
    pytest.importorskip("setuptools")
    source = Path(words.__file__).parents[3]
    for name in ("setup.py", "setup.cfg", "pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(source / name, tmp_path)
    shutil.copytree(
        source / "cleo_email", tmp_path / "cleo_email", ignore=shutil.ignore_patterns("__pycache__")
    )
    subprocess.run([sys.executable, "setup.py", "-q", "build"], cwd=tmp_path, check=True, capture_output=True)

    def names(folder: Path) -> set[str]:
        found = (one.relative_to(folder) for one in folder.rglob("*") if one.is_file())
        return {str(one) for one in found if "__pycache__" not in one.parts}

    assert names(tmp_path / "build/lib/cleo_email") == names(tmp_path / "cleo_email")


def test_the_reasons_that_are_told_in_german_are_those_of_the_code() -> None:
    code = "".join(one.read_text("utf-8") for one in Path(words.__file__).parents[2].rglob("*.py"))
    assert [english for english in words.words()["reasons"] if english not in code] == []


def test_the_end_of_a_long_address_is_not_hidden(page: Browser, app: App) -> None:
    """It is the end that says who wrote."""
    address = f"service@{'bank.example.' * 9}evil.example"
    id_ = accept(app, source(800, sender=f"Bank <{address}>", subject="Hello", text="x"))
    answered(app, id_, State.REVIEW)
    tree = HTMLParser(page.get(f"/operator/messages/{id_}").text)
    for place in ("article header", ".answer .hint", ".facts"):
        assert address in (tree.css_first(place) or tree).text()
