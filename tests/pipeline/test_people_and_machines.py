"""Who gets an answer: people with a comma in the name, people behind a web form, and no click on an emoji.

And the ways out of what the rules decided: ``release`` takes what is held or ignored.
"""

from __future__ import annotations

from email import message_from_bytes, policy

import pytest

from cleo_email.errors import WrongState
from cleo_email.mail.model import Answer
from cleo_email.screening.screen import Policy
from cleo_email.store import State
from tests.support.bench import Bench

AGENT = "agent@example.com"


def source(text: str = "Haben Sie offen?", kind: str = "text/plain; charset=utf-8", **fields: str) -> bytes:
    headers = {
        "From": "Anna <anna@example.net>",
        "To": AGENT,
        "Subject": "Frage",
        "Message-ID": "<1@example.net>",
    }
    headers |= {name.replace("_", "-"): value for name, value in fields.items()} | {"Content-Type": kind}
    return (
        "".join(f"{name}: {value}\r\n" for name, value in headers.items() if value) + f"\r\n{text}\r\n"
    ).encode()


def bench_of(redis_url: str, **rules: object) -> Bench:
    return Bench(redis_url, policy=Policy(frozenset({AGENT}), **rules))  # type: ignore[arg-type]


def hand_in(bench: Bench, mail: bytes) -> str:
    accepted = bench.receive(mail)
    bench.work(bench.record(accepted).thread_id)
    return accepted.id


def release(bench: Bench, id_: str) -> State:
    bench.deciding.release(id_, by="cli")
    bench.work(bench.store.messages.get(id_).thread_id)
    return bench.store.messages.get(id_).state


def recipients(bench: Bench) -> list[str]:
    return [str(message_from_bytes(mail.source, policy=policy.default)["To"]) for mail in bench.smtp.sent]


@pytest.mark.parametrize("mark", [",", ";"])
def test_a_name_with_a_comma_gets_an_answer(redis_url: str, mark: str) -> None:
    bench = bench_of(redis_url)
    hand_in(bench, source(From=f"Beispiel{mark} Anna <anna@example.net>"))
    assert recipients(bench) == [f'"Beispiel{mark} Anna" <anna@example.net>']


# --- a web form that writes from the mailbox's own address --------------------------------------------------

FORM = {"From": f"Formular <{AGENT}>", "Reply_To": "Anna <anna@example.net>"}


def test_a_web_form_is_held_and_names_its_ways_out(redis_url: str) -> None:
    bench = bench_of(redis_url)
    id_ = hand_in(bench, source(**FORM))
    record = bench.store.messages.get(id_)
    assert record.state is State.HELD
    assert "anna@example.net" in record.reason
    assert "EMAIL_ALLOWED_ROBOTS" in record.reason
    assert release(bench, id_) is State.REPLIED
    assert recipients(bench) == ["Anna <anna@example.net>"]


@pytest.mark.parametrize(
    "fields",
    [
        {"Reply_To": f"{AGENT}, Anna <anna@example.net>"}, {"Auto_Submitted": "no"},
        {"Auto_Submitted": "No; x=y", "Sender": "www-data@web1.example.net"},
    ],
)  # fmt: skip
def test_other_forms_are_known_too(redis_url: str, fields: dict[str, str]) -> None:
    bench = bench_of(redis_url)
    id_ = hand_in(bench, source(**FORM | fields))
    assert bench.store.messages.get(id_).state is State.HELD
    assert release(bench, id_) is State.REPLIED
    assert recipients(bench) == ["Anna <anna@example.net>"]


def test_a_web_form_may_be_allowed(redis_url: str) -> None:
    bench = bench_of(redis_url, allowed_robots=(AGENT,))
    hand_in(bench, source(**FORM))
    hand_in(bench, source(**FORM | {"Message_ID": "<2@example.net>", "Reply_To": "bob@example.net"}))
    assert recipients(bench) == ["Anna <anna@example.net>", "bob@example.net"]
    assert [request.history for request in bench.agent.asked] == [(), ()]


def test_two_customers_of_a_form_without_ids_share_no_thread(redis_url: str) -> None:
    bench = bench_of(redis_url, allowed_robots=(AGENT,))
    hand_in(bench, source("Mein Geheimnis", **FORM | {"Message_ID": ""}))
    hand_in(bench, source(**FORM | {"Message_ID": "", "Reply_To": "bob@example.net"}))
    assert [request.history for request in bench.agent.asked] == [(), ()]


@pytest.mark.parametrize(
    "fields",
    [
        {"Reply_To": ""}, {"Reply_To": AGENT}, {"Auto_Submitted": "auto-replied"},
        {"In_Reply_To": "<q@example.net>"},
        {"Reply_To": f"agent+x@{AGENT.partition('@')[2]}"},
    ],
)  # fmt: skip
@pytest.mark.parametrize("allowed", [(), (AGENT,)])
def test_our_own_mail_is_no_form(redis_url: str, fields: dict[str, str], allowed: tuple[str, ...]) -> None:
    bench = bench_of(redis_url, allowed_robots=allowed)
    id_ = hand_in(bench, source(**FORM | fields))
    assert bench.store.messages.get(id_).state is State.IGNORED
    assert bench.smtp.sent == []


def test_what_is_released_never_answers_ourselves(redis_url: str) -> None:
    bench = bench_of(redis_url)
    id_ = hand_in(bench, source(From=AGENT))
    assert release(bench, id_) is State.FAILED
    assert "our own address" in bench.store.messages.get(id_).reason
    assert bench.smtp.sent == []


def test_what_we_send_is_no_form(redis_url: str) -> None:
    bench = bench_of(redis_url, allowed_robots=("agent@cleo.test", AGENT))
    hand_in(bench, source())
    again = Bench(
        redis_url, policy=Policy(frozenset({AGENT, "agent@cleo.test"}), allowed_robots=("agent@cleo.test",))
    )
    id_ = hand_in(again, bench.smtp.sent[0].source)
    assert again.store.messages.get(id_).state is State.IGNORED


# --- mail that cannot be read, and reactions ----------------------------------------------------------------

PGP = "-----BEGIN PGP MESSAGE-----\r\n\r\nabcd\r\n-----END PGP MESSAGE-----"


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        (PGP, "text/plain"),
        ("MIIB", "application/pkcs7-mime; smime-type=enveloped-data"),
        ("eJ8+", "application/ms-tnef"),
    ],
)
def test_a_mail_that_cannot_be_read_is_held_and_the_agent_hears_why(
    redis_url: str, text: str, kind: str
) -> None:
    bench = bench_of(redis_url, refused="ignore")
    id_ = hand_in(bench, source(text, kind))
    record = bench.store.messages.get(id_)
    assert (record.state, bench.agent.asked) == (State.HELD, [])
    assert "not read" in record.reason or "not opened" in record.reason
    assert release(bench, id_) is State.REPLIED
    assert any("not read" in note or "not opened" in note for note in bench.agent.asked[0].message.notes)


def test_what_html_hides_is_told_to_the_agent_and_in_the_record(redis_url: str) -> None:
    bench = bench_of(redis_url)
    id_ = hand_in(bench, source("<p>Bitte 5 Stühle.</p><p style='display:none'>10</p>", "text/html"))
    assert bench.agent.asked[0].message.notes == ("hidden text dropped",)
    assert "hidden text dropped" in [entry["reason"] for entry in bench.store.messages.history(id_)]


def test_what_was_left_out_beside_a_text_is_told(redis_url: str) -> None:
    bench = bench_of(redis_url)
    body = "--B\r\n\r\nBitte 5 Stühle.\r\n--B\r\nContent-Type: application/ms-tnef\r\n\r\neJ8+\r\n--B--"
    hand_in(bench, source(body, "multipart/mixed; boundary=B"))
    assert bench.agent.asked[0].message.notes == ("winmail.dat (Outlook TNEF) not opened",)


GMAIL = (
    "--B\r\nContent-Type: text/plain; charset=utf-8\r\n\r\n👍\r\n--B\r\n"
    'Content-Type: text/vnd.google.email-reaction+json\r\n\r\n{"emoji":"👍","version":1}\r\n--B--'
)
REACTIONS = [
    (GMAIL, "multipart/alternative; boundary=B"),
    ("👍\r\n\r\nAnna Beispiel reacted to your message:\r\n", "text/plain; charset=utf-8"),
    ("Anna Beispiel hat auf Ihre Nachricht reagiert:\r\n\r\nVon: Support\r\n", "text/plain; charset=utf-8"),
    ("[like] Anna Beispiel a réagi à votre message :\r\n", "text/plain; charset=utf-8"),
    ("❤️ Anna Beispiel hat über Gmail reagiert", "text/plain; charset=utf-8"),
]


@pytest.mark.parametrize(("text", "kind"), REACTIONS)
def test_a_reaction_gets_no_letter_back(redis_url: str, text: str, kind: str) -> None:
    bench = bench_of(redis_url)
    id_ = hand_in(bench, source(text, kind, In_Reply_To="<q@example.com>", Subject="Re: Frage"))
    record = bench.store.messages.get(id_)
    assert (record.state, bench.smtp.sent) == (State.IGNORED, [])
    assert "reaction" in record.reason


@pytest.mark.parametrize(
    "text",
    [
        "Anna reacted to your message: she is not pleased.",
        "👍",
        "Niemand hat auf meine Nachricht reagiert!",
        "Niemand reagiert.",
    ],
)
def test_a_person_who_writes_about_a_reaction_is_answered(redis_url: str, text: str) -> None:
    bench = bench_of(redis_url)
    id_ = hand_in(bench, source(text, In_Reply_To="<q@example.com>", Subject="Re: Frage"))
    assert bench.store.messages.get(id_).state is State.REPLIED


# --- release of what was ignored ----------------------------------------------------------------------------


def test_what_was_ignored_can_be_released(redis_url: str) -> None:
    bench = bench_of(redis_url)
    bench.agent.script = [Answer(ignore="spam"), Answer("Ja.")]
    by_agent = hand_in(bench, source())
    by_rule = hand_in(
        bench, source(Message_ID="<2@example.net>", Subject="Automatic reply: x", Precedence="bulk")
    )
    dismissed = hand_in(bench, source(PGP, Message_ID="<3@example.net>"))
    bench.deciding.dismiss(dismissed, by="cli")
    for id_ in (by_agent, by_rule, dismissed):
        assert bench.store.messages.get(id_).state is State.IGNORED
        assert release(bench, id_) is State.REPLIED
    assert len(bench.smtp.sent) == 3


def test_an_answer_that_may_have_left_is_not_released_again(redis_url: str) -> None:
    bench = bench_of(redis_url)
    bench.smtp.script = [ConnectionResetError("after DATA")]
    id_ = hand_in(bench, source())
    assert bench.store.messages.get(id_).state is State.UNCERTAIN
    bench.deciding.dismiss(id_, by="cli")
    with pytest.raises(WrongState, match="may have been sent"):
        bench.deciding.release(id_, by="cli")


def test_what_was_replied_is_not_released(redis_url: str) -> None:
    bench = bench_of(redis_url)
    id_ = hand_in(bench, source())
    with pytest.raises(WrongState, match="is replied; only held and ignored ones can be released"):
        bench.deciding.release(id_, by="cli")


SEALED = "MIAGCSqGSIb3DQEHA6CAMIACAQAxAAAA"  # EnvelopedData
_PART = "--B\r\nContent-Type: {}\r\nContent-Transfer-Encoding: {}\r\n\r\n{}\r\n"
_FOOTER = "--B\r\nContent-Type: text/plain\r\n\r\nVirengeprüft.\r\n--B--"


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        (_PART.format("application/pkcs7-mime; name=smime.p7m", "base64", SEALED) + _FOOTER, ""),
        (_PART.format("application/ms-tnef; name=winmail.dat", "base64", "eJ8+") + _FOOTER, ""),
        (_PART.format("application/octet-stream", "base64", SEALED) + "--B--", ""),
        (
            _PART.format("text/plain", "7bit", "")
            + _PART.format("application/pgp-encrypted", "7bit", "Version: 1")
            + _PART.format("application/octet-stream; name=encrypted.asc", "7bit", PGP)
            + "--B--",
            "",
        ),
        (PGP, "application/octet-stream; name=brief.pgp"),
        (PGP, "application/pgp; x-action=encrypt"),
        (f"Hallo,\r\n\r\n{PGP}\r\n\r\nGruß Anna", "text/plain; charset=utf-8"),
    ],
)
def test_what_stands_around_an_encrypted_text_is_no_text(redis_url: str, text: str, kind: str) -> None:
    bench = bench_of(redis_url)
    id_ = hand_in(bench, source(text, kind or "multipart/mixed; boundary=B"))
    record = bench.store.messages.get(id_)
    assert (record.state, bench.agent.asked) == (State.HELD, [])
    assert "not read" in record.reason or "not opened" in record.reason


@pytest.mark.parametrize(
    "text",
    [
        "Anna Beispiel reagierte auf Ihre Nachricht:\r\n\r\nVon: Support\r\n",
        "Anna reagerede på din besked",
        "Anna Beispiel reagoi viestiisi",
        "Anna zareagovala na vaši zprávu:",
        "Anna 回应了您的邮件",
        "Anna さんがメッセージにリアクションしました",
        "Liked “Gern, ich schicke sie Ihnen.”",
        "Reacted 👍 to “Gern.”",
        "👍 to “Gern.”",
        "A aimé « Gern. »",
    ],
)
def test_reactions_of_other_languages_and_programs(redis_url: str, text: str) -> None:
    bench = bench_of(redis_url)
    id_ = hand_in(bench, source(text, In_Reply_To="<q@example.com>", Subject="Re: Frage"))
    assert bench.store.messages.get(id_).state is State.IGNORED


@pytest.mark.parametrize(
    "text",
    [
        "Ich habe auf Ihre Nachricht reagiert.\r\n\r\nWann kommt die Ware?",
        "Wir haben auf Ihre E-Mail reagiert.",
        "Our customer reacted to your message\r\nand wants to know more.",
        "Nous avons réagi à votre message.",
        'Switch to "Premium".',
        "„Premium“ gefällt mir",
        "Liked “A”.\r\n\r\nAnd when will it come?",
    ],
)
def test_people_who_write_like_a_reaction_are_answered(redis_url: str, text: str) -> None:
    bench = bench_of(redis_url)
    id_ = hand_in(bench, source(text, In_Reply_To="<q@example.com>", Subject="Re: Frage"))
    assert bench.store.messages.get(id_).state is State.REPLIED
