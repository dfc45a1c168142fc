"""What the operator adds below every mail: the signature, and on a first answer the notice of a machine."""

from __future__ import annotations

from email import message_from_bytes, policy
from pathlib import Path

import pytest

from cleo_email.errors import SettingsError
from cleo_email.mail.address import validate_address
from cleo_email.mail.closing import Closing
from cleo_email.mail.model import Answer, OutboundEmail
from cleo_email.pipeline.send import NewMail, Sender
from cleo_email.settings import read_settings
from cleo_email.settings.read import fingerprint
from tests.pipeline.test_workflows import BASE, START, Flow
from tests.support.bench import FROM, Bench

DE = "Mit freundlichen Grüßen\n\n**Muster GmbH**\nHRB 12345, AG Berlin · Geschäftsführerin: Anna Muster"
EN = "Kind regards\nMuster Ltd"
BOTH = Closing({"de": DE, "en": EN}, {"de": "Dies hat eine Maschine geschrieben.", "en": "By a machine."})
GERMAN = "Können Sie mir bitte die Rechnung noch einmal schicken?"


def halves(mail: OutboundEmail) -> tuple[str, str]:
    message = message_from_bytes(mail.source, policy=policy.default)
    parts = [message.get_body((kind,)) for kind in ("plain", "html")]  # type: ignore[attr-defined]
    plain, html = [part.get_content().replace("\r\n", "\n") for part in parts]
    return plain, html


def letter(
    text: str, *, from_: str = "anna@a.test", parent: str = "", cc: str = "", number: int = 1
) -> bytes:
    lines = [
        f"From: {from_}",
        f"To: {FROM.addr}",
        "Subject: Rechnung",
        f"Message-ID: <{number}.{from_}>",
        "Content-Type: text/plain; charset=utf-8",
        *([f"Cc: {cc}"] if cc else []),
        *([f"In-Reply-To: {parent}", f"References: {parent}"] if parent else []),
    ]
    return "\r\n".join([*lines, "", *text.split("\n"), ""]).encode()


class Talk:
    def __init__(self, bench: Bench) -> None:
        self.bench = bench

    def ask(self, source: bytes, answer: str = "Gern.", *, proven: bool = False) -> tuple[str, str]:
        self.bench.agent.script = [Answer(answer)]
        self.bench.clock.pass_(1)
        accepted = self.bench.receive(source)
        if proven:
            self.bench.store.messages.note(accepted.id, "authenticated", 1)
        self.bench.work(self.bench.record(accepted).thread_id)
        self.record = self.bench.record(accepted)
        return halves(self.bench.smtp.sent[-1])


@pytest.fixture
def talk(redis_url: str) -> Talk:
    return Talk(Bench(redis_url, closing=BOTH, reply_all=True))


def test_below_an_answer_in_the_language_of_the_mail(talk: Talk) -> None:
    plain, html = talk.ask(letter(GERMAN))
    assert plain == f"Gern.\n\nDies hat eine Maschine geschrieben.\n\n-- \n{DE}\n"
    assert ">Muster GmbH</strong>" in html
    assert "Dies hat eine Maschine geschrieben." in html
    assert talk.bench.agent.asked[-1].language == "de"
    assert talk.record.answer_text == "Gern."
    plain, _ = talk.ask(letter("ok", from_="ben@b.test"), "Thank you for your message, we will be in touch.")
    assert plain.endswith(f"By a machine.\n\n-- \n{EN}\n"), "else in the language of the answer"
    assert talk.bench.agent.asked[-1].language is None
    plain, _ = talk.ask(letter("Dziękuję, kiedy przyjdzie moje zamówienie?", from_="c@c.test"), "Jutro.")
    assert plain.endswith(f"-- \n{EN}\n"), "no mail goes without"


def test_the_notice_comes_once_for_each_person(talk: Talk) -> None:
    talk.ask(letter(GERMAN))
    parent = talk.record.reply_message_id
    plain, _ = talk.ask(letter("Danke. Und wann kommt die Bestellung?", parent=parent, number=2))
    assert "Maschine" not in plain
    assert "Muster GmbH" in plain
    text = "Danke. Mein Kollege liest nun auch mit."
    plain, _ = talk.ask(letter(text, parent=parent, cc="ben@b.test", number=3), proven=True)
    assert "Dies hat eine Maschine geschrieben." in plain
    plain, _ = talk.ask(letter(text + " Wirklich.", parent=parent, cc="ben@b.test", number=4), proven=True)
    assert "Maschine" not in plain


def test_neither_is_in_a_history_nor_in_what_comes_back_quoted(talk: Talk) -> None:
    plain, _ = talk.ask(letter(GERMAN), "Die Rechnung liegt nun wieder im Portal, und zwar für zwei Wochen.")
    parent = talk.record.reply_message_id
    quoted = "\n".join(f"> {line}" for line in plain.split("\n"))
    for number, copy in enumerate((quoted, plain, plain.replace("-- \n", "")), 2):
        talk.ask(letter(f"Danke, das hilft uns weiter {number}.\n\n{copy}", parent=parent, number=number))
        asked = talk.bench.agent.asked[-1]
        assert asked.message.text == f"Danke, das hilft uns weiter {number}."
        assert not any("Muster" in turn.content or "Maschine" in turn.content for turn in asked.history)


@pytest.mark.parametrize(
    "written",
    [
        "Gern.\n\n" + DE,
        "Gern.\n\n-- \n" + DE,
        "Gern.\n\n---\n\n" + DE.replace("**", ""),
        "Gern.\n\nMit freundlichen Grüßen",
        "Gern.\n\n*Mit freundlichen Grüßen*\nMuster GmbH\n",
        "Gern.\n\n" + DE.replace(" · ", "\n"),
        "Gern.\n\n" + DE.replace("\n", "<br>"),
        "Gern.\n\n" + DE.replace("ü", "ue").replace("ß", "ss"),
        "Gern.\n\nMit freundlichen Grüßen\n\nMuster GmbH\nHRB 12345, AG Berlin",
        "Gern.\n\n" + DE.split("\n", 2)[2],
        "Gern.\n\nDies hat eine Maschine geschrieben.\n\n" + DE,
        "Gern.\n\n" + DE + "\n\nDies hat eine Maschine geschrieben.",
        "Gern.",
    ],
)
def test_a_closing_of_the_agents_does_not_double_it(talk: Talk, written: str) -> None:
    plain, _ = talk.ask(letter(GERMAN), written)
    assert plain == f"Gern.\n\nDies hat eine Maschine geschrieben.\n\n-- \n{DE}\n"
    assert talk.record.answer_text.strip() == "Gern."


@pytest.mark.parametrize(
    "answer",
    [
        "Ihr Vertragspartner ist\nMit freundlichen Grüßen",
        "Kind regards",
        "Muster",
        "Die Firma heißt\n\nMuster GmbH",
        "Unsere Nummer: HRB 12345, AG Berlin",
    ],
)
def test_a_text_that_only_ends_alike_stays_whole(answer: str) -> None:
    assert BOTH.without(answer) == answer


def test_below_a_mail_that_an_application_sends_and_no_notice(redis_url: str) -> None:
    bench = Bench(redis_url)
    sender = Sender(
        bench.store, bench.wake, bench.signer, FROM, max_bytes=10**6, closing=BOTH, clock=bench.clock
    )
    draft = NewMail([validate_address("to", "anna@a.test")], "Rechnung", GERMAN)
    for _ in range(2):
        sent = sender.send(draft, idempotency_key="k")
    mail = bench.store.messages.answer(sent.id)
    assert mail
    assert halves(mail)[0] == f"{GERMAN}\n\n-- \n{DE}\n"
    assert bench.store.messages.get(sent.id).answer_text == GERMAN


def test_below_the_mail_of_a_workflow_in_its_language(redis_url: str, tmp_path: Path) -> None:
    for language, text in (("de", DE), ("en", EN)):
        (tmp_path / f"s.{language}.md").write_text(text, "utf-8")
    env = {"EMAIL_SIGNATURE": f"@{tmp_path}/s.{{language}}.md", "EMAIL_AI_NOTICE": "1"}
    flow = Flow(read_settings({**BASE, "REDIS_URL": redis_url, **env}, dotenv=None))
    (started,) = flow.start(**{**START, "user_ids": ["anna@a.test"], "language": "de-DE"})
    flow.handle(started)
    mail = flow.store.messages.answer(started["id"])
    assert mail
    notice = "Diese Nachricht wurde von einer künstlichen Intelligenz geschrieben."
    assert halves(mail)[0] == f"**Hello**\n\n{notice}\n\n-- \n{DE}\n"


def test_what_the_agent_leaves_open_ends_before_the_signature(talk: Talk) -> None:
    _, html = talk.ask(letter(GERMAN), "```\nx = 1")
    assert "Muster GmbH" in html.partition("</pre>")[2]


# --- the settings -------------------------------------------------------------------------------------------


def closing(**env: str) -> Closing:
    return read_settings(env, dotenv=None).closing


def test_a_text_a_file_or_a_file_for_each_language(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("signature.md", "signature.de.md", "signature.EN.md", "signature.backup.md"):
        Path(name).write_text(f"\ufeff{name}\n", "utf-8")
    assert closing().signatures == closing().notices == {}
    assert closing(EMAIL_SIGNATURE=r"Muster GmbH\nBerlin").signatures == {"": "Muster GmbH\nBerlin"}
    assert closing(EMAIL_SIGNATURE="@signature.md").signatures == {"": "signature.md"}
    assert closing(EMAIL_SIGNATURE="@signature.{language}.md").signatures == {
        "de": "signature.de.md",
        "en": "signature.EN.md",
    }
    assert closing(EMAIL_AI_NOTICE="0").notices == {}
    assert closing(EMAIL_AI_NOTICE="1").notices["fr"].startswith("Ce message")
    assert closing(EMAIL_AI_NOTICE="By a machine.").notice("de", GERMAN) == "By a machine."


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ("@none.md", ["none.md", "No such file"]),
        ("@none.{language}.md", ["none.{language}.md", "none.en.md"]),
        ("@gone/none.{language}.md", ["none.{language}.md"]),
        ("@empty.md", ["empty.md", "empty,"]),
        ("@latin.md", ["latin.md", "UTF-8"]),
        ("@.", ["directory"]),
        ("@latin.{language}.md", ["latin.de.md", "UTF-8"]),
    ],
)
def test_a_missing_file_stops_the_start_and_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, value: str, words: list[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("empty.md").write_text(" \n")
    for name in ("latin.md", "latin.de.md"):
        Path(name).write_bytes("Grüße".encode("latin-1"))
    with pytest.raises(SettingsError) as caught:
        read_settings({"EMAIL_SIGNATURE": value}, dotenv=None)
    (line,) = caught.value.faults
    assert line.startswith("EMAIL_SIGNATURE: found ")
    assert "expected" in line
    assert all(word in line for word in words), line


def test_the_agents_first_answer_after_an_applications_mail_has_the_notice(talk: Talk) -> None:
    bench = talk.bench
    sender = Sender(
        bench.store, bench.wake, bench.signer, FROM, max_bytes=10**6, closing=BOTH, clock=bench.clock
    )
    sent = sender.send(NewMail([validate_address("to", "anna@a.test")], "Rechnung", GERMAN))
    bench.work(sent.thread_id)
    plain, _ = talk.ask(letter("Danke. Und wann kommt die Bestellung?", parent=sent.message_id))
    assert talk.record.thread_id == sent.thread_id
    assert "Dies hat eine Maschine geschrieben." in plain


def test_a_changed_file_makes_other_settings(tmp_path: Path) -> None:
    path = tmp_path / "s.de.md"
    given = {"EMAIL_SIGNATURE": f"@{tmp_path}/s.{{language}}.md"}
    path.write_text("one")
    before = fingerprint(given)
    path.write_text("other")
    assert fingerprint(given) != before
    (tmp_path / "s.en.md").write_text("more")
    assert len(fingerprint(given)) > len(before)


@pytest.mark.parametrize("value", ["true", "No", "off", "2", "@notice.md"])
def test_a_notice_that_is_meant_as_a_switch_or_a_file_is_refused(value: str) -> None:
    with pytest.raises(SettingsError) as caught:
        read_settings({"EMAIL_AI_NOTICE": value}, dotenv=None)
    assert caught.value.faults == (f"EMAIL_AI_NOTICE: found {value!r}, expected 0, 1 or a text",)


def test_a_signature_of_a_region_and_one_with_its_own_line(tmp_path: Path) -> None:
    for name, text in (("pt-BR", "Brasil"), ("de_AT", "--\nWien"), ("de", "Berlin")):
        (tmp_path / f"s.{name}.md").write_text(text, "utf-8")
    found = closing(EMAIL_SIGNATURE=f"@{tmp_path}/s.{{language}}.md")
    languages = ("pt", "pt-BR", "de-AT", "de-CH", "de")
    assert [found.signature(one, "x") for one in languages] == [
        "Brasil",
        "Brasil",
        "Wien",
        "Berlin",
        "Berlin",
    ]
    assert closing(EMAIL_SIGNATURE="-- \nMuster").signatures == {"": "Muster"}
