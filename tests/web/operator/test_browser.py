"""The operator page in a real Chromium, as people use it; and as they are attacked."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from cleo_email.mail.parse import parse
from cleo_email.store import LOGIN, Effects, State
from cleo_email.store.connection import connect_web
from tests.support.operator_page import ANNA, Site, accept, answered, serve, source

sync_api = pytest.importorskip(
    "playwright.sync_api", reason="playwright is not installed: pip install playwright"
)
pytestmark = pytest.mark.servers("chromium")

AUDIT = Path(__file__).with_name("audit.js").read_text("utf-8")
POSTS = """action => {
  const form = document.createElement("form");
  form.method = "post";
  form.action = action;
  document.body.append(form);
  form.submit();
}"""
FRAMES = """url => new Promise(done => {
  const frame = document.createElement("iframe");
  frame.onload = frame.onerror = () => done();
  frame.src = url;
  document.body.append(frame);
})"""
SIZES = {"desk": (1280, 800), "telephone": (375, 740)}


@dataclass
class Watched:
    """Browser windows of which everything that is wrong is noted."""

    chromium: Any
    site: Site
    faults: list[str] = field(default_factory=list)

    def window(self, *, logged_in: bool = True, **options: Any) -> Any:
        context = self.chromium.new_context(**options)
        if logged_in:
            context.add_cookies(
                [
                    {
                        "name": "cleo-session",
                        "value": self.site.session,
                        "url": self.site.url,
                        "sameSite": "Strict",
                    }
                ]
            )
        page = context.new_page()
        page.set_default_timeout(20_000)
        page.on("console", lambda said: said.type == "error" and self.faults.append(said.text))
        page.on("pageerror", lambda error: self.faults.append(str(error)))
        origin = self.site.url.removesuffix("operator/")
        page.on("request", lambda asked: asked.url.startswith(origin) or self.faults.append(asked.url))
        return page


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    with sync_api.sync_playwright() as playwright:
        path = shutil.which("chromium")
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def site(redis_url: str) -> Iterator[Site]:
    with serve(redis_url) as found:
        yield found


@pytest.fixture
def windows(chromium: Any, site: Site) -> Iterator[Watched]:
    watched = Watched(chromium, site)
    yield watched
    for context in chromium.contexts:
        context.close()
    assert watched.faults == []


@pytest.mark.parametrize("scripts", [True, False])
def test_an_operator_logs_in_by_a_mailed_link_and_out(windows: Watched, scripts: bool) -> None:
    site = windows.site
    page = windows.window(logged_in=False, java_script_enabled=scripts, locale="de-DE")
    page.goto(site.url)
    page.get_by_label("Ihre Adresse").fill(ANNA)
    page.get_by_role("button", name="Link per Mail schicken").click()
    page.get_by_text("ist eine Mail mit einem Link").wait_for()
    redis = connect_web(site.app.settings.redis_url.get_secret_value())
    records, _ = site.app.store.messages.page(limit=20)
    (mail,) = [record for record in records if record.ingress == LOGIN]
    answer = site.app.store.messages.answer(mail.id)
    assert answer
    link = re.search(r"http\S+", parse(answer.source).full_text)
    assert link
    page.goto(link[0])
    assert list(redis.scan_iter("cleo:session:*")) == [next(redis.scan_iter("cleo:session:*"))], (
        "only the fixture's"
    )
    page.get_by_role("button", name="Jetzt anmelden").click()
    page.get_by_text(ANNA).wait_for()
    assert len(list(redis.scan_iter("cleo:session:*"))) == 2
    page.get_by_role("button", name="Abmelden").click()
    page.get_by_label("Ihre Adresse").wait_for()
    page.go_back()
    page.reload()
    page.get_by_label("Ihre Adresse").wait_for()


@pytest.mark.parametrize("scripts", [True, False])
def test_an_answer_is_edited_looked_at_and_approved(windows: Watched, scripts: bool) -> None:
    site = windows.site
    page = windows.window(java_script_enabled=scripts)
    page.goto(site.url)
    page.get_by_role("link", name=re.compile("Invoice 2026-118")).click()
    frame = page.frame_locator("iframe[name=preview]")
    frame.get_by_text("The invoice is attached again.").wait_for()
    page.get_by_label("Text (Markdown)").fill("Here **it** is.")
    page.get_by_role("button", name="Preview").click()
    frame.locator("strong", has_text="it").wait_for()
    assert site.record("review").state is State.REVIEW
    page.get_by_role("button", name="Approve and send").click()
    page.get_by_text("Approved. The answer is on its way.").wait_for()
    assert site.record("review").answer_text == "Here **it** is."
    assert site.app.store.messages.history(site.ids["review"])[-1]["by"] == ANNA


def test_every_other_decision_by_its_button(windows: Watched) -> None:
    site, page = windows.site, windows.window()
    asked: list[str] = []
    page.on("dialog", lambda dialog: (asked.append(dialog.message), dialog.accept()))
    for name, button, state in (
        ("held", "Release", State.RECEIVED),
        ("failed", "Try again", State.RECEIVED),
        ("second", "Discard the answer", State.IGNORED),
        ("received", "Take the thread over", State.HELD),
        ("received", "Hand back to the agent", State.RECEIVED),
        ("uncertain", "Dismiss", State.IGNORED),
    ):
        page.goto(f"{site.url}messages/{site.ids[name]}")
        page.get_by_role("button", name=button, exact=True).click()
        page.locator(".notice.good").wait_for()
        assert site.record(name).state is state, name
    assert len(asked) == 2


def test_an_uncertain_answer_asks_before_it_is_sent_again(windows: Watched) -> None:
    site, page = windows.site, windows.window()
    page.goto(f"{site.url}messages/{site.ids['uncertain']}")
    page.get_by_role("button", name="Try again").click()
    page.get_by_role("button", name="Send it again all the same").click()
    page.locator(".notice.good").wait_for()
    assert site.record("uncertain").state is State.SUBMITTING
    windows.faults[:] = [
        fault for fault in windows.faults if "409" not in fault
    ]  # the question has this status


def test_new_mail_appears_by_itself_and_the_place_of_the_reader_stays(windows: Watched) -> None:
    site, page = windows.site, windows.window()
    page.goto(site.url)
    page.keyboard.press("j")
    page.keyboard.press("j")
    place = page.evaluate("document.activeElement.getAttribute('href')")
    id_ = accept(site.app, source(77, subject="Just now", text="x"))
    site.app.store.messages.move(
        id_, State.HELD, now=site.app.clock(), reason="why", effects=Effects(pop=True)
    )
    page.locator(".row", has_text="Just now").wait_for()
    assert page.evaluate("document.activeElement.getAttribute('href')") == place
    assert page.title().startswith("(6)")


def test_mail_that_comes_before_the_first_look_for_news_appears(windows: Watched) -> None:
    site, page = windows.site, windows.window()

    def arrive(route: Any) -> None:
        id_ = accept(site.app, source(78, subject="In between", text="x"))
        site.app.store.messages.move(
            id_, State.HELD, now=site.app.clock(), reason="why", effects=Effects(pop=True)
        )
        route.continue_()

    page.route("**/*part=list*", arrive, times=1)
    page.goto(site.url)
    page.locator(".row.new, .new .row", has_text="In between").wait_for()


def test_an_answer_that_comes_late_does_not_replace_a_newer_one(windows: Watched) -> None:
    site, page = windows.site, windows.window()
    held: list[Any] = []
    with page.expect_response("**/*part=list*"):
        page.goto(site.url)
    page.route("**/*part=list*", lambda route: held.append(route), times=1)
    with page.expect_request("**/*part=list*") as asked:
        page.evaluate("document.dispatchEvent(new Event('visibilitychange'))")
    answer = page.request.get(asked.value.url)
    assert answer.ok
    id_ = accept(site.app, source(79, subject="Newer", text="x"))
    site.app.store.messages.move(
        id_, State.HELD, now=site.app.clock(), reason="why", effects=Effects(pop=True)
    )
    page.evaluate("document.dispatchEvent(new Event('visibilitychange'))")
    page.locator(".row", has_text="Newer").wait_for()
    page.evaluate("new MutationObserver(() => window.changed = true).observe(live, {childList: true})")
    [route] = held
    with page.expect_response("**/*part=list*"):
        route.fulfill(response=answer)
    with page.expect_response("**/*part=list*"):  # the next look: the late answer has been dealt with
        page.evaluate("document.dispatchEvent(new Event('visibilitychange'))")
    assert not page.evaluate("window.changed")


def test_a_list_without_news_is_left_as_it_is(windows: Watched) -> None:
    site, page = windows.site, windows.window()
    page.add_init_script(
        """document.addEventListener("DOMContentLoaded", () => {
             window.first = document.querySelector(".row");
           });"""
    )
    with page.expect_response("**/*part=list*"):
        page.goto(site.url)
    with page.expect_response("**/*part=list*"):  # what came of the first answer is there by then
        pass
    assert page.evaluate("window.first.isConnected")
    assert page.locator("#news").text_content() == ""


def test_the_list_is_walked_by_keys(windows: Watched) -> None:
    site, page = windows.site, windows.window()
    page.goto(site.url)
    subjects = page.locator(".row .subject").all_text_contents()
    for _ in range(4):
        page.keyboard.press("j")
    page.keyboard.press("k")
    page.keyboard.press("Enter")
    page.locator("h1", has_text=subjects[2]).wait_for()
    page.wait_for_load_state()  # the script runs after the heading is there
    page.keyboard.press("u")
    page.get_by_role("searchbox").wait_for()
    page.wait_for_load_state()
    page.keyboard.press("/")
    page.keyboard.type("jk invoice")
    assert page.get_by_role("searchbox").input_value() == "jk invoice", "keys are no commands where one types"


def test_a_message_that_moves_on_says_so(windows: Watched) -> None:
    site, page = windows.site, windows.window()
    page.goto(f"{site.url}messages/{site.ids['review']}")
    move = site.app.store.messages.move
    move(
        site.ids["review"], State.IGNORED, now=site.app.clock(), reason="superseded", only_from=[State.REVIEW]
    )
    page.locator("#moved").get_by_role("link").wait_for()


def test_a_session_that_ends_in_the_middle_of_an_edit_loses_no_text(windows: Watched) -> None:
    site, page = windows.site, windows.window()
    page.goto(f"{site.url}messages/{site.ids['review']}")
    page.get_by_label("Text (Markdown)").fill("An hour of work")
    site.app.store.sessions.close(site.session)
    page.get_by_role("button", name="Approve and send").click()
    assert page.get_by_label("Your text").input_value() == "An hour of work"
    again = site.app.store.sessions.open({"name": ANNA, "proof": f"address {ANNA}"})
    page.context.add_cookies(
        [{"name": "cleo-session", "value": again, "url": site.url, "sameSite": "Strict"}]
    )
    page.get_by_role("button", name="Send once more").click()
    page.get_by_role("button", name="Send once more").click()
    page.get_by_text("Approved. The answer is on its way.").wait_for()
    assert site.record("review").answer_text == "An hour of work"
    windows.faults[:] = [fault for fault in windows.faults if "401" not in fault and "403" not in fault]


@pytest.mark.parametrize("language", ["en-GB", "de-DE"])
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", SIZES)
def test_every_page_fits_and_can_be_read(windows: Watched, size: str, scheme: str, language: str) -> None:
    site, (width, height) = windows.site, SIZES[size]
    viewport = {"width": width, "height": height}
    page = windows.window(viewport=viewport, color_scheme=scheme, locale=language)
    stranger = windows.window(logged_in=False, viewport=viewport, color_scheme=scheme, locale=language)
    paths = ["", "?state=all", "?q=invoice", "?q=nothing+at+all", "health"]
    paths += [f"messages/{site.ids[name]}" for name in ("review", "second", "held", "uncertain")]
    found = []
    for one, path in [*((page, path) for path in paths), (stranger, "login")]:
        one.goto(site.url + path)
        for details in one.locator("details").all():
            details.evaluate("one => one.open = true")
        found += [f"{path}: {line}" for line in one.evaluate(AUDIT)]
        if (wide := one.evaluate("document.documentElement.scrollWidth")) > width:
            found.append(f"{path}: {wide} px wide")
    assert found == []


def test_a_telephone_of_360_px_is_wide_enough(windows: Watched) -> None:
    page = windows.window(viewport={"width": 360, "height": 640})
    for path in ("", "health", f"messages/{windows.site.ids['review']}"):
        page.goto(windows.site.url + path)
        assert page.evaluate("document.documentElement.scrollWidth") <= 360


def test_focus_is_seen_wherever_it_goes(windows: Watched) -> None:
    page = windows.window()
    page.goto(f"{windows.site.url}messages/{windows.site.ids['review']}")
    been = []
    for _ in range(14):
        page.keyboard.press("Tab")
        # The frame of the preview has a process of its own: focus passes through it.
        page.locator(":focus").wait_for()
        been.append(page.evaluate("document.activeElement.outerHTML"))
        if page.evaluate("document.activeElement.tagName") != "IFRAME":
            assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") != "none", been[-1]
    assert len(set(been)) == 14


def test_a_hostile_page_in_the_same_browser_can_do_nothing(windows: Watched) -> None:
    """The page is on another site (localhost is not 127.0.0.1), the operator logged in beside it."""
    site = windows.site
    page = windows.window()
    page.goto(site.url)
    action = f"{site.url}messages/{site.ids['held']}/dismiss"
    evil = page.context.new_page()
    evil.route(
        "http://evil.localhost/**", lambda route: route.fulfill(body="<p>evil</p>", content_type="text/html")
    )
    evil.goto("http://evil.localhost/")
    evil.evaluate(POSTS, action)
    evil.wait_for_url("**/dismiss")
    assert site.record("held").state is State.HELD
    evil.goto("http://evil.localhost/")
    evil.evaluate(FRAMES, site.url)
    shown = [frame.content() for frame in evil.frames[1:]]
    assert not any("Cancellation" in html for html in shown)
    read = evil.evaluate(
        "url => fetch(url, {credentials: 'include'}).then(a => a.text(), () => 'refused')", site.url
    )
    assert read == "refused"


def test_a_link_from_elsewhere_finds_whoever_is_logged_in(windows: Watched) -> None:
    site = windows.site
    context = windows.window().context
    body = f"<a href='{site.url}messages/{site.ids['held']}'>there</a>"
    for page, expected in ((context.new_page(), "Cancellation"), (windows.chromium.new_page(), "Log in")):
        page.route("http://mail.localhost/**", lambda way: way.fulfill(body=body, content_type="text/html"))
        page.goto("http://mail.localhost/")
        page.get_by_role("link", name="there").click()
        page.locator("h1", has_text=expected).wait_for()


def test_hostile_text_is_text(windows: Watched) -> None:
    site, page = windows.site, windows.window()
    hostile = "<img src=x onerror=\"document.title='hacked'\"><script>document.title='hacked'</script>"
    id_ = accept(site.app, source(55, subject=hostile, text=f"{hostile}\nhttps://evil.example/"))
    site.app.store.messages.move(
        id_, State.HELD, now=site.app.clock(), reason=hostile, effects=Effects(pop=True)
    )
    for path in ("", f"messages/{id_}", "health"):
        page.goto(site.url + path)
        assert "hacked" not in page.title().replace("document.title='hacked'", "")
    with page.expect_download() as download:
        page.goto(f"{site.url}messages/{id_}")
        page.get_by_role("link", name="invoice.html").click()
    assert download.value.suggested_filename == "invoice.html"


LONG = "W" * 400


def wait_until(true: Callable[[], object], page: Any) -> None:
    """Let the browser's events come in until this is true, for 20 s at most."""
    for _ in range(200):
        if true():
            return
        page.wait_for_timeout(100)
    raise AssertionError("it did not become true")


def hostile_mail(site: Site, number: int) -> str:
    """Accept a mail that breaks a page wherever a word is taken for short, or for code."""
    code = "\"'><img src=x onerror=alert(1)><svg onload=alert(2)>`;}</style></script>"
    turned = "\u202egnihtyna\u2066 \u200f\u05d0\u05d1\u05d2"
    sender = f'"{turned} {LONG}" <{"a" * 60}@{"b" * 60}.example>'
    id_ = accept(
        site.app,
        source(
            number,
            sender=sender,
            subject=f"{turned}{LONG}",
            text=f"{LONG}\nhttps://{LONG}/{code}\n\0",
            name=f"{LONG}.html",
        ),
    )
    reason = f"{code}{LONG}"
    answered(site.app, id_, State.REVIEW, f"{code}\n\n{LONG}\n\n[a](javascript:alert(3))", reason=reason)
    return id_


@pytest.mark.parametrize("width", [1280, 360])
def test_the_longest_words_widen_no_page(windows: Watched, width: int) -> None:
    site = windows.site
    id_ = hostile_mail(site, 300)
    page = windows.window(viewport={"width": width, "height": 700})
    for path in ("", f"?q={LONG[:150]}", f"messages/{id_}", f"messages/{LONG}", "health"):
        page.goto(site.url + path)
        for details in page.locator("details").all():
            details.evaluate("one => one.open = true")
        assert page.evaluate("document.documentElement.scrollWidth") <= width, path
        assert "\u202e" not in page.content()
    windows.faults[:] = [fault for fault in windows.faults if "404" not in fault]


def test_the_preview_runs_nothing_and_leads_nowhere(windows: Watched) -> None:
    site, page = windows.site, windows.window()
    page.on("dialog", lambda dialog: (windows.faults.append(dialog.message), dialog.dismiss()))
    id_ = hostile_mail(site, 301)
    page.goto(f"{site.url}messages/{id_}")
    text = "[there](https://evil.example/) <script>alert(4)</script> ![x](https://evil.example/x.png)"
    page.get_by_label("Text (Markdown)").fill(text)
    page.get_by_role("button", name="Preview").click()
    frame = page.frame_locator("iframe[name=preview]")
    frame.get_by_text("there").wait_for()
    frame.get_by_role("link", name="there").click()
    wait_until(lambda: windows.faults, page)
    assert len(page.context.pages) == 1
    assert page.url.startswith(site.url)
    frames = [one.url for one in page.frames]
    assert not any("evil.example" in url for url in frames)
    refused = [fault for fault in windows.faults if "frame-src" in fault]
    assert refused, "the browser says that it did not go there"
    windows.faults[:] = [fault for fault in windows.faults if fault not in refused]


def test_times_are_in_the_language_of_the_page(windows: Watched) -> None:
    page = windows.window(locale="fr-FR")
    page.goto(windows.site.url)
    shown = page.evaluate("""() => {
      const time = document.createElement("time");
      time.dateTime = "2025-12-03T10:00:00+00:00";
      document.body.append(time);
      localTimes(document);
      return time.textContent;
    }""")
    assert "Dec" in shown


def test_nothing_of_a_page_is_shown_by_going_back_after_the_logout(windows: Watched) -> None:
    site, page = windows.site, windows.window()
    page.goto(f"{site.url}messages/{site.ids['review']}")
    page.goto(site.url)
    page.get_by_role("button", name="Log out").click()
    page.get_by_label("Your address").wait_for()
    for _ in range(2):
        page.go_back()
        page.get_by_label("Your address").wait_for()
        assert "Invoice" not in page.content()


def test_a_list_that_cannot_be_fetched_says_so_until_it_can(windows: Watched) -> None:
    """Otherwise nothing seems to wait while the mailbox is away."""
    page = windows.window()
    page.goto(windows.site.url)
    page.locator(".row").first.wait_for()
    said = page.get_by_text("The list is not up to date")
    assert not said.is_visible()
    for answer in (lambda way: way.fulfill(status=503, body="away"), lambda way: way.abort()):
        page.route("**/*part=list*", answer)
        said.wait_for()
        page.unroute("**/*part=list*")
        said.wait_for(state="hidden")
    away = ("503", "ERR_FAILED")
    windows.faults[:] = [fault for fault in windows.faults if not any(word in fault for word in away)]


# --- the first page, and the form of the HTTP interface ---------------------------------------------------


@pytest.mark.parametrize("scripts", [True, False])
@pytest.mark.parametrize(
    ("locale", "heading", "link"),
    [("de-DE", "Ein Postfach für einen KI-Agenten", "Betreiberseite"), ("en", "A mailbox", "Operator page")],
)
def test_the_first_page_says_what_this_is_and_leads_on(
    windows: Watched, scripts: bool, locale: str, heading: str, link: str
) -> None:
    page = windows.window(java_script_enabled=scripts, locale=locale)
    page.goto(windows.site.url.removesuffix("operator/"))
    page.get_by_role("heading", name=heading).wait_for()
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    page.get_by_role("link", name=link).click()
    page.wait_for_url(windows.site.url)


def test_a_mail_is_sent_from_the_page_of_the_interface(windows: Watched, tmp_path: Path) -> None:
    site, file = windows.site, tmp_path / "report.txt"
    file.write_text("Übersicht")
    page = windows.window()
    page.goto(site.url.replace("operator/", "docs"))
    call = page.locator("details", has=page.locator("summary code", has_text=re.compile("^/email/send$")))
    call.locator("summary").click()
    call.get_by_label(re.compile("^subject")).fill("From the page")
    call.get_by_label(re.compile("^to")).fill("Anna <anna@example.com>, Bea <bea@example.com>")
    call.get_by_label(re.compile("^attachments")).set_input_files(file)
    call.get_by_role("button", name="Send").click()
    call.get_by_text(re.compile("^202 ACCEPTED")).wait_for()
    (record, *_), _ = site.app.store.messages.page(limit=1)
    assert record.subject == "From the page"
    assert record.addresses("recipients") == ["anna@example.com", "bea@example.com"]
    answer = site.app.store.messages.answer(record.id)
    assert answer
    (attached,) = parse(answer.source).attachments
    assert (attached.filename, attached.content.decode()) == ("report.txt", "Übersicht")


def test_choices_are_offered_as_choices_and_what_is_wrong_is_said(windows: Watched) -> None:
    page = windows.window()
    page.goto(windows.site.url.replace("operator/", "docs"))
    calls = page.locator("details")
    listed = calls.filter(has=page.locator("summary code", has_text=re.compile("^/email/messages$")))
    listed.locator("summary").click()
    listed.get_by_label(re.compile("^state")).select_option("review")
    listed.get_by_label(re.compile("^limit")).fill("1")
    listed.get_by_role("button", name="Send").click()
    listed.get_by_text(re.compile('"state": "review"')).wait_for()
    send = calls.filter(has=page.locator("summary code", has_text=re.compile("^/email/send$")))
    send.locator("summary").click()
    send.get_by_label(re.compile("^to")).fill("nobody")
    send.get_by_role("button", name="Send").click()
    send.get_by_text(re.compile("^422 UNPROCESSABLE")).wait_for()
    windows.faults[:] = [one for one in windows.faults if "422" not in one]  # Chromium tells it as a fault


def test_an_answer_is_given_on_the_page_of_the_interface_with_messages_and_files(windows: Watched) -> None:
    page = windows.window(logged_in=False, viewport={"width": 375, "height": 740})
    sent: list[Any] = []

    def record(route: Any) -> None:
        sent.append(route.request.post_data_json)
        route.fulfill(status=200, content_type="application/json", body="{}")

    page.route("**/email/**", record)
    page.goto(windows.site.url.removesuffix("operator/") + "docs")
    answer = page.locator("details").filter(has=page.get_by_text("/email/answers/{id}", exact=True))
    answer.locator("summary").click()
    answer.get_by_label("id", exact=False).first.fill("0" * 24)
    answer.get_by_label(re.compile("^reply")).fill("two\nlines")
    answer.get_by_label(re.compile("^messages")).fill('[{"role": "assistant", "content": "c"}]')
    file = {"name": "a.txt", "mimeType": "text/plain", "buffer": b"Hello"}
    answer.get_by_label(re.compile("^attachments")).set_input_files(file)
    answer.get_by_text("another answer was given before and stands").wait_for()
    answer.get_by_role("button", name="Send").click()
    answer.get_by_text("200 OK").wait_for()
    attached = {"filename": "a.txt", "content_type": "text/plain", "content": "SGVsbG8="}
    answered = {
        "messages": [{"role": "assistant", "content": "c"}],
        "reply": "two\nlines",
        "attachments": [attached],
    }
    assert sent == [answered]
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
