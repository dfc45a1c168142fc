"""People beside the agent: drafts that they send, change or delete, and answers of their own."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from email import message_from_bytes
from typing import Any

import pytest
from imapclient import IMAPClient  # type: ignore[import-untyped]

from cleo_email.errors import MailboxUnavailable, SubmissionUnavailable
from cleo_email.imap.folders import Folders
from cleo_email.imap.session import RefusedForGood, RefusedForNow
from cleo_email.mail.model import Address, Answer, Receipt
from cleo_email.pipeline.drafts import DELETED, EDITED, TAKEN_OUT
from cleo_email.pipeline.handoff import HandOver
from cleo_email.pipeline.withdrawal import ANSWERED
from cleo_email.store import Accepted, Effects, State
from tests.support import dovecot as dovecot_module
from tests.support.bench import FROM
from tests.support.dovecot import Dovecot
from tests.support.folders import FakeFolders
from tests.support.mails import mail
from tests.support.people import DRAFT_TEXT, FakeHands, ImapHands, PeopleBench, readers, written

CUSTOMER = "customer1@example.test"
OWN_WORDS = "Hallo, das mache ich selbst: morgen rufe ich an. Petra"
_USERS = [f"user{number}@example.com" for number in range(300)]
_unused = iter(_USERS)

Make = Callable[..., PeopleBench]


@pytest.fixture(scope="module")
def dovecot() -> Iterator[Dovecot]:
    if reason := dovecot_module.missing():
        pytest.skip(reason)
    with Dovecot(dict.fromkeys(_USERS, "secret")) as server:
        yield server


@pytest.fixture(params=["fake", pytest.param("dovecot", marks=pytest.mark.servers("dovecot"))])
def make(request: pytest.FixtureRequest, redis_url: str) -> Iterator[Make]:
    """A bench beside which people work in the mailbox: in memory, and on a real server."""
    if request.param == "fake":
        folders = FakeFolders()
        yield lambda **rules: PeopleBench(redis_url, folders, FakeHands(folders), **rules)
        return
    server, user = request.getfixturevalue("dovecot"), next(_unused)
    context = server.ssl_context()
    account = server.account(user)
    with (
        Folders(account, ssl_context=context) as real,
        IMAPClient("localhost", port=account.port, ssl_context=context, timeout=20) as client,
    ):
        client.login(user, "secret")
        hands = ImapHands(client)
        yield lambda **rules: PeopleBench(redis_url, real, hands, **rules)


@pytest.fixture
def bench(make: Make) -> PeopleBench:
    return make()


@pytest.fixture
def folders() -> FakeFolders:
    return FakeFolders()


def state(bench: PeopleBench, accepted: Accepted) -> tuple[State, str]:
    record = bench.record(accepted)
    return record.state, record.reason


def send_it(bench: PeopleBench, *changes: tuple[bytes, bytes], delete_first: bool = False) -> None:
    """A person sends the draft that lies there, as it is or changed."""
    (source,) = bench.hands.drafts()
    for old, new in changes:
        assert old in source
        source = source.replace(old, new)
    if delete_first:
        bench.hands.delete_drafts()
        bench.look()
    bench.hands.file(source)
    if not delete_first:
        bench.look()
        bench.hands.delete_drafts()


def assert_sent_by_a_person(bench: PeopleBench, first: Accepted, *, changed: bool) -> None:
    record = bench.record(first)
    assert record.state is State.REPLIED
    assert record.reason == ("a person sent the draft, changed" if changed else "a person sent the draft")
    assert record.answered_by == "mailbox"
    assert bench.store.messages.history(first.id)[-1]["by"] == "mailbox"
    assert bench.store.threads.person(first.thread_id) is None
    assert bench.turns(first.thread_id) == []
    assert bench.store.drafts.all() == {}
    assert bench.hands.drafts() == []
    bench.work(first.thread_id)
    assert bench.smtp.sent == []


# --- a draft ------------------------------------------------------------------------------------------------


def test_an_answer_that_waits_lies_in_drafts_as_a_person_would_send_it(bench: PeopleBench) -> None:
    first = bench.draft(mail(1))
    (source,) = bench.hands.drafts()
    kept = bench.store.messages.answer(first.id)
    assert kept is not None
    assert b"auto-submitted" not in source.lower()
    assert b"x-auto-response-suppress" not in source.lower()
    assert kept.message_id.encode() in source
    assert b"In-Reply-To: <q1@example.test>" in source
    assert source.partition(b"\r\n\r\n")[2] == kept.source.partition(b"\r\n\r\n")[2]
    bench.look_twice()
    assert bench.hands.drafts() == [source]
    assert bench.record(first).state is State.REVIEW


@pytest.mark.parametrize("delete_first", [False, True])
def test_a_draft_that_is_sent_as_it_is(bench: PeopleBench, delete_first: bool) -> None:
    first = bench.draft(mail(1))
    send_it(bench, delete_first=delete_first)
    bench.look_twice()
    assert_sent_by_a_person(bench, first, changed=False)
    assert bench.record(first).answer_text == DRAFT_TEXT


NEW_ID = "a Message-ID of its own"
CHANGES = ("changed", NEW_ID, "In-Reply-To only", "all words changed")


@pytest.mark.parametrize("delete_first", [False, True])
@pytest.mark.parametrize("how", CHANGES)
def test_a_draft_that_a_client_makes_its_own(bench: PeopleBench, how: str, delete_first: bool) -> None:
    first = bench.draft(mail(1))
    kept = bench.kept(first)
    if how == "changed":
        send_it(bench, (b"nine to five", b"ten to six"), delete_first=delete_first)
    else:
        text = OWN_WORDS if how == "all words changed" else DRAFT_TEXT
        if how == "all words changed" or delete_first:
            bench.hands.delete_drafts()
            bench.look()
        references = "<q1@example.test>" if how != "In-Reply-To only" else ""
        source = written(CUSTOMER, text, answers="<q1@example.test>", references=references)
        bench.hands.file(source)
        bench.look()
        bench.hands.delete_drafts()
    bench.look_twice()
    changed = how not in (NEW_ID, "In-Reply-To only")
    assert_sent_by_a_person(bench, first, changed=changed)
    record = bench.record(first)
    if how == "changed":
        assert "ten to six" in record.answer_text
    else:
        assert record.reply_message_id == "<person@client.test>"
        ours = bench.store.threads.by_our_ids(["<person@client.test>", str(kept["Message-ID"])])
        assert set(ours.values()) == {(first.thread_id, first.id)}
    assert readers(record) == [CUSTOMER]


def test_the_recipients_of_a_changed_draft_are_those_who_got_it(bench: PeopleBench) -> None:
    first = bench.draft(mail(1))
    send_it(bench, (CUSTOMER.encode(), b"boss@example.test"))
    bench.look_twice()
    record = bench.record(first)
    assert readers(record) == ["boss@example.test"]
    assert bench.store.threads.has_met("boss@example.test", bench.clock.now + 1)
    assert "boss@example.test" in bench.store.threads.people([first.thread_id])[first.thread_id]


def test_a_draft_that_is_deleted(bench: PeopleBench) -> None:
    first = bench.draft(mail(1))
    bench.hands.delete_drafts()
    bench.look()
    assert bench.record(first).state is State.REVIEW  # perhaps it is being sent
    bench.clock.pass_(2)
    bench.look()
    assert bench.record(first).state is State.REVIEW
    bench.clock.pass_(2)
    bench.upkeep()
    assert state(bench, first) == (State.IGNORED, DELETED)
    assert bench.store.drafts.all() == {}


@pytest.mark.parametrize("how", ["gone", "refused"])
def test_drafts_that_cannot_be_looked_at_were_not_deleted(
    redis_url: str, folders: FakeFolders, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    """A folder that was renamed, or that a server leaves out once, decides nothing. Sent is read."""
    bench = PeopleBench(redis_url, folders, FakeHands(folders))
    first, second = bench.draft(mail(1)), bench.draft(mail(2))
    kept, folders.drafts = folders.drafts, None
    if how == "refused":

        def refuse(_places: object) -> None:
            raise RefusedForGood("Drafts: NO not now")

        monkeypatch.setattr(folders, "drafts_there", refuse)
    for _ in range(3):
        bench.look_twice()
    assert bench.drafts.fault
    assert state(bench, first)[0] is State.REVIEW
    answer_it(bench, 2)
    with suppress(RefusedForNow, RefusedForGood):  # its draft cannot be taken out
        bench.look_twice()
    assert state(bench, second) == (State.IGNORED, "answered by a person")
    bench.approve(first)
    bench.work(first.thread_id)
    assert state(bench, first)[0] is State.SUBMITTING
    assert "cannot be taken out of Drafts" in bench.record(first).reason
    monkeypatch.undo()
    folders.drafts = kept
    bench.look_twice()
    assert bench.drafts.fault == ""
    bench.work(first.thread_id)
    assert state(bench, first)[0] is State.REPLIED
    assert bench.hands.drafts() == []


def test_a_draft_that_is_moved_elsewhere_and_sent_from_there_later(bench: PeopleBench) -> None:
    first = bench.draft(mail(1))
    (source,) = bench.hands.drafts()
    bench.hands.delete_drafts()
    bench.look_twice()
    assert bench.record(first).state is State.IGNORED
    bench.hands.file(source)
    bench.look()
    assert state(bench, first) == (State.REPLIED, "a person sent the draft")


@pytest.mark.parametrize("new_id", [False, True])
def test_a_draft_that_is_edited_saved_and_sent_later(bench: PeopleBench, new_id: bool) -> None:
    first = bench.draft(mail(1))
    (source,) = bench.hands.drafts()
    edited = source.replace(b"nine to five", b"ten to six")
    if new_id:
        edited = edited.replace(str(bench.kept(first)["Message-ID"]).encode(), b"<new@client.test>")
    bench.hands.delete_drafts()
    bench.hands.save(edited)
    bench.look_twice()
    draft = bench.store.drafts.get(first.id)
    assert draft is not None
    assert draft.edited
    assert bench.record(first).state is State.REVIEW
    bench.clock.pass_(3600)
    send_it(bench)
    bench.look_twice()
    assert_sent_by_a_person(bench, first, changed=True)


def test_a_draft_whose_server_gives_new_uids_is_not_edited(bench: PeopleBench) -> None:
    first = bench.draft(mail(1))
    (source,) = bench.hands.drafts()
    bench.hands.delete_drafts()
    bench.hands.save(source)
    bench.look_twice()
    draft = bench.store.drafts.get(first.id)
    assert draft is not None
    assert not draft.edited
    assert bench.record(first).state is State.REVIEW


def test_a_draft_of_what_is_no_more_in_review_is_removed(bench: PeopleBench) -> None:
    first = bench.draft(mail(1))
    bench.move(bench.record(first), State.HELD, Effects(drafting=bench.clock()))
    bench.upkeep()
    assert bench.hands.drafts() == []
    assert bench.store.drafts.all() == {}


def test_without_drafts_the_answer_waits_all_the_same(make: Make) -> None:
    bench = make(drafts=False)
    first = bench.draft(mail(1))
    bench.look_twice()
    assert bench.hands.drafts() == []
    assert bench.record(first).state is State.REVIEW


def test_a_drafts_folder_that_is_read_only_is_told_once(redis_url: str, folders: FakeFolders) -> None:
    bench = PeopleBench(redis_url, folders, FakeHands(folders))
    folders.refusal = RefusedForGood("Drafts is read-only for this login")
    first = bench.draft(mail(1))
    assert state(bench, first) == (State.REVIEW, "no draft: Drafts is read-only for this login")
    bench.store.drafting.add(first.id, 0)
    bench.upkeep()
    bench.look_twice()
    assert state(bench, first) == (State.REVIEW, "no draft: Drafts is read-only for this login")


@pytest.mark.parametrize("text", [DRAFT_TEXT, OWN_WORDS])
def test_a_draft_that_begins_a_thread_is_sent_by_a_client_that_gives_it_another_id(
    bench: PeopleBench, text: str
) -> None:
    first = bench.receive(
        mail(1, message_id="<q1@example.test>").replace(b"Message-ID: <q1@example.test>", b"X: y")
    )
    bench.answer_waits(first)
    bench.upkeep()
    subject = str(bench.kept(first)["Subject"])
    bench.hands.file(written(CUSTOMER, text, subject=subject))
    bench.look()
    if text == DRAFT_TEXT:
        bench.hands.delete_drafts()
        bench.look_twice()
        assert_sent_by_a_person(bench, first, changed=False)
    else:
        assert bench.record(first).state is State.REVIEW


# --- approval -----------------------------------------------------------------------------------------------


def test_an_approved_answer_leaves_after_its_draft(bench: PeopleBench) -> None:
    first = bench.draft(mail(1))
    bench.approve(first)
    bench.smtp.during = lambda: left.append(len(bench.hands.drafts()))
    left: list[int] = []
    bench.work(first.thread_id)
    assert left == [0]
    assert bench.record(first).state is State.REPLIED
    assert len(bench.smtp.sent) == 1
    bench.look_twice()
    assert bench.hands.drafts() == []
    assert len(bench.smtp.sent) == 1


@pytest.mark.parametrize("upkeep_first", [False, True])
def test_one_approves_and_another_sends_the_draft(bench: PeopleBench, upkeep_first: bool) -> None:
    first = bench.draft(mail(1))
    bench.approve(first)
    send_draft = bench.hands.drafts()[0]
    bench.hands.file(send_draft)
    bench.hands.delete_drafts()
    if upkeep_first:
        bench.upkeep()
    bench.work(first.thread_id)
    bench.look_twice()
    assert_sent_by_a_person(bench, first, changed=False)


@pytest.mark.parametrize("filed", ["before the draft is out", "after it is out", "after it waits again"])
def test_one_approves_and_another_sends_the_draft_under_an_id_of_its_own(
    bench: PeopleBench, filed: str
) -> None:
    """By then no draft is known any more; what was sent still is that answer, and no takeover."""
    first = bench.draft(mail(1))
    (source,) = bench.hands.drafts()
    own = re.sub(rb"Message-ID: <[^>]+>", b"Message-ID: <own@outlook.test>", source)
    bench.approve(first)
    if filed == "before the draft is out":
        bench.hands.file(own)
        bench.upkeep()
    elif filed == "after it is out":
        bench.upkeep()
        bench.hands.file(own)
    else:
        bench.hands.delete_drafts()
        bench.upkeep()
        bench.hands.file(own)
    bench.work(first.thread_id)
    bench.look_twice()
    assert_sent_by_a_person(bench, first, changed=False)


@pytest.mark.parametrize("upkeep_first", [False, True])
def test_a_draft_that_vanishes_at_the_moment_of_approval_stops_the_answer(
    bench: PeopleBench, upkeep_first: bool
) -> None:
    first = bench.draft(mail(1))
    (source,) = bench.hands.drafts()
    bench.approve(first)
    bench.hands.delete_drafts()
    if upkeep_first:
        bench.upkeep()
    bench.work(first.thread_id)
    assert state(bench, first) == (State.REVIEW, TAKEN_OUT)
    bench.look_twice()
    assert state(bench, first) == (State.REVIEW, TAKEN_OUT)  # and no new draft beside the one under way
    assert bench.hands.drafts() == []
    if upkeep_first:
        bench.approve(first)
        bench.work(first.thread_id)
        assert len(bench.smtp.sent) == 1
    else:
        bench.hands.file(source)
        bench.look()
        assert_sent_by_a_person(bench, first, changed=False)


def test_a_draft_that_is_edited_at_the_moment_of_approval_stops_the_answer(bench: PeopleBench) -> None:
    first = bench.draft(mail(1))
    (source,) = bench.hands.drafts()
    bench.approve(first)
    bench.hands.delete_drafts()
    bench.hands.save(source.replace(b"nine to five", b"ten to six"))
    bench.work(first.thread_id)
    assert state(bench, first) == (State.REVIEW, EDITED)
    bench.look_twice()
    assert len(bench.hands.drafts()) == 1
    send_it(bench)
    bench.look_twice()
    assert_sent_by_a_person(bench, first, changed=True)


@pytest.mark.parametrize("renamed", [False, True])
def test_an_approval_while_an_edited_draft_is_being_saved_stops_the_answer(
    bench: PeopleBench, renamed: bool
) -> None:
    """A client stores the new draft before it removes the old one: for a moment there are two."""
    first = bench.draft(mail(1))
    bench.hands.save(edited(bench, renamed=renamed))
    bench.approve(first)
    bench.work(first.thread_id)
    assert (state(bench, first), bench.smtp.sent) == ((State.REVIEW, EDITED), [])
    (left,) = bench.hands.drafts()
    bench.hands.file(left)
    bench.hands.delete_drafts()
    bench.look_twice()
    assert_sent_by_a_person(bench, first, changed=True)


@pytest.mark.parametrize("renamed", [False, True])
def test_an_answer_in_another_way_while_an_edited_draft_is_being_saved(
    bench: PeopleBench, renamed: bool
) -> None:
    first = bench.draft(mail(1))
    bench.hands.file(written(CUSTOMER, OWN_WORDS, answers="<q1@example.test>"))
    bench.hands.save(edited(bench, renamed=renamed))
    bench.look_twice()
    assert state(bench, first) == (State.IGNORED, ANSWERED)
    assert bench.hands.drafts() == []


def test_a_draft_that_a_person_begins_beside_ours_stays(bench: PeopleBench) -> None:
    first = bench.draft(mail(1))
    bench.hands.save(written(CUSTOMER, OWN_WORDS, answers="<q1@example.test>"))
    bench.approve(first)
    bench.work(first.thread_id)
    assert state(bench, first)[0] is State.REPLIED
    (left,) = bench.hands.drafts()
    assert OWN_WORDS.encode() in left


def test_a_draft_that_is_edited_where_the_process_that_removes_it_has_died(bench: PeopleBench) -> None:
    first = bench.draft(mail(1))
    bench.approve(first)
    draft = bench.store.drafts.get(first.id)
    assert draft
    bench.store.drafts.put(first.id, replace(draft, removing=True))
    source = edited(bench)
    bench.hands.delete_drafts()
    bench.hands.save(source)
    bench.work(first.thread_id)
    assert (state(bench, first), bench.smtp.sent) == ((State.REVIEW, EDITED), [])


def test_the_draft_of_an_earlier_answer_makes_way_for_that_of_the_new_one(bench: PeopleBench) -> None:
    """A thread that is taken over and handed back before the mailbox was looked at."""
    first = bench.draft(mail(1))
    bench.deciding.take_over(first.id, by="anna")
    bench.deciding.hand_back(first.id, by="anna")
    bench.answer_waits(first, f"{DRAFT_TEXT} And more.")
    bench.look_twice()
    (left,) = bench.hands.drafts()
    assert b"And more." in left
    assert state(bench, first)[0] is State.REVIEW


def test_a_draft_that_is_edited_after_the_approval_is_not_thrown_away(bench: PeopleBench) -> None:
    first = bench.draft(mail(1))
    bench.approve(first)
    source = edited(bench)
    bench.hands.delete_drafts()
    bench.hands.save(source)
    bench.look()
    assert (state(bench, first), len(bench.hands.drafts())) == ((State.REVIEW, EDITED), 1)


def edited(bench: PeopleBench, *, renamed: bool = False) -> bytes:
    """The draft that lies there, with another text."""
    (source,) = bench.hands.drafts()
    if renamed:
        ours = str(message_from_bytes(source)["Message-ID"]).encode()
        source = source.replace(ours, b"<of-the-client@client.test>")
    return source.replace(b"nine to five", b"ten to six")


def test_an_approved_answer_waits_for_the_mailbox(redis_url: str, folders: FakeFolders) -> None:
    bench = PeopleBench(redis_url, folders, FakeHands(folders))
    first = bench.draft(mail(1))
    bench.approve(first)
    folders.fault = MailboxUnavailable("no route")
    bench.work(first.thread_id)
    wanted = "waiting: the draft cannot be taken out of Drafts: no route"
    assert state(bench, first) == (State.SUBMITTING, wanted)
    folders.fault = None
    steps = bench.history(first)
    bench.clock.pass_(3)
    bench.work(first.thread_id)
    assert state(bench, first) == (State.SUBMITTING, wanted), "the connection rests"
    assert bench.history(first) == steps
    bench.clock.pass_(30)
    bench.work(first.thread_id)
    assert len(bench.smtp.sent) == 1


def test_an_approved_answer_waits_for_the_last_look(redis_url: str, folders: FakeFolders) -> None:
    """The draft is out, but whether somebody has sent it cannot be seen."""
    bench = PeopleBench(redis_url, folders, FakeHands(folders))
    first = bench.draft(mail(1))
    (source,) = bench.hands.drafts()
    bench.approve(first)

    def cut(name: str) -> None:
        if name == "sent_after":
            folders.fault = MailboxUnavailable("no route")

    folders.before = cut
    bench.work(first.thread_id)
    assert bench.record(first).state is State.SUBMITTING
    assert "Sent cannot be read" in bench.record(first).reason
    folders.before, folders.fault = (lambda _name: None), None
    bench.hands.file(source)
    bench.clock.pass_(31)
    bench.look()
    assert_sent_by_a_person(bench, first, changed=False)


def test_a_newer_answer_leaves_after_the_older_draft(bench: PeopleBench) -> None:
    first = bench.draft(mail(1))
    bench.move(bench.record(first), State.IGNORED, Effects(drafting=bench.clock()), only_from=[State.REVIEW])
    second = bench.receive(mail(2, sender=CUSTOMER, references="<q1@example.test>"))
    left: list[int] = []
    bench.smtp.during = lambda: left.append(len(bench.hands.drafts()))
    bench.work(second.thread_id)
    assert left == [0]
    assert bench.record(second).state is State.REPLIED


# --- a person's own answer ----------------------------------------------------------------------------------


def answer_it(bench: PeopleBench, number: int = 1, **fields: Any) -> None:
    wanted = {"answers": f"<q{number}@example.test>", "message_id": f"<person{number}@client.test>"}
    bench.hands.file(written(CUSTOMER, OWN_WORDS, **wanted | fields))


def assert_answered_by_a_person(bench: PeopleBench, first: Accepted, *, taken: bool = True) -> None:
    record = bench.record(first)
    assert (record.state, record.reason) == (State.IGNORED, "answered by a person")
    assert record.answered_by == "mailbox"
    assert record.text
    assert bench.store.messages.history(first.id)[-1]["by"] == "mailbox"
    (turn,) = bench.turns(first.thread_id)
    assert turn.state is State.REPLIED
    assert turn.answer_text == OWN_WORDS
    assert readers(turn) == [CUSTOMER]
    assert (bench.store.threads.person(first.thread_id) is not None) is taken
    bench.work(first.thread_id)
    bench.look_twice()
    bench.work(first.thread_id)
    assert bench.smtp.sent == []
    assert bench.hands.drafts() == []
    assert len(bench.turns(first.thread_id)) == 1


def test_an_answer_before_the_agent_begins(bench: PeopleBench) -> None:
    first = bench.receive(mail(1))
    answer_it(bench)
    bench.look()
    assert_answered_by_a_person(bench, first)
    assert bench.agent.asked == []


def test_an_answer_while_the_agent_thinks(bench: PeopleBench) -> None:
    first = bench.receive(mail(1))
    answer = bench.agent.answer

    def think(request: Any, *, deadline: float) -> Any:
        answer_it(bench)
        bench.look()
        return answer(request, deadline=deadline)

    bench.agent.answer = think  # type: ignore[method-assign]
    bench.work(first.thread_id)
    assert_answered_by_a_person(bench, first)


def test_an_answer_while_smtp_is_to_be_tried_again(bench: PeopleBench) -> None:
    first = bench.receive(mail(1))
    bench.smtp.script = [SubmissionUnavailable("450 later"), Receipt("250 ok")]
    bench.work(first.thread_id)
    assert bench.record(first).state is State.SUBMITTING
    answer_it(bench)
    bench.clock.pass_(20)
    bench.work(first.thread_id)
    assert_answered_by_a_person(bench, first)


def test_an_answer_just_before_the_final_dot(bench: PeopleBench) -> None:
    first = bench.receive(mail(1))
    submit = bench.smtp.submit

    def slow(mail: Any, *, before_end_of_data: Callable[[], None]) -> Receipt:
        answer_it(bench)
        return submit(mail, before_end_of_data=before_end_of_data)

    bench.smtp.submit = slow  # type: ignore[method-assign]
    bench.work(first.thread_id)
    assert bench.smtp.tries == 1
    assert_answered_by_a_person(bench, first)


def test_an_answer_in_another_way_while_the_draft_lies_there(bench: PeopleBench) -> None:
    first = bench.draft(mail(1))
    answer_it(bench)
    bench.look_twice()
    assert_answered_by_a_person(bench, first)


def test_an_answer_that_came_before_the_mail_was_fetched(bench: PeopleBench) -> None:
    answer_it(bench)
    bench.look()
    first = bench.receive(mail(1))
    bench.work(first.thread_id)
    assert_answered_by_a_person(bench, first)


def test_an_answer_that_came_before_the_mail_was_fetched_is_seen_at_the_poll(bench: PeopleBench) -> None:
    answer_it(bench)
    bench.look()
    first = bench.receive(mail(1))
    bench.look()
    assert_answered_by_a_person(bench, first)
    assert bench.agent.asked == []


def test_with_mail_the_thread_stays_the_agents(make: Make) -> None:
    bench = make(mode="mail")
    first = bench.receive(mail(1))
    answer_it(bench)
    bench.look()
    assert_answered_by_a_person(bench, first, taken=False)
    second = bench.receive(mail(2, sender=CUSTOMER, references="<q1@example.test>"))
    bench.work(second.thread_id)
    assert bench.record(second).state is State.REPLIED


def test_with_off_nobody_takes_anything_over(make: Make) -> None:
    bench = make(mode="off")
    first, second = bench.receive(mail(1)), bench.draft(mail(2))
    answer_it(bench)
    bench.look()
    bench.work(first.thread_id)
    assert bench.record(first).state is State.REPLIED
    assert bench.turns(first.thread_id) == []
    send_it(bench)
    bench.look_twice()
    assert state(bench, second) == (State.REPLIED, "a person sent the draft")


def test_newer_mail_of_the_thread_is_held(bench: PeopleBench) -> None:
    first = bench.receive(mail(1))
    bench.clock.pass_(1)
    second = bench.receive(mail(2, sender=CUSTOMER, references="<q1@example.test>"))
    assert first.thread_id == second.thread_id
    bench.answer_waits(second)
    bench.upkeep()
    answer_it(bench)
    bench.look_twice()
    assert bench.record(first).state is State.IGNORED
    record = bench.record(second)
    assert (record.state, record.reason, record.with_person) == (State.HELD, "a person has this thread", 1)
    assert record.text
    assert bench.store.messages.answer(second.id) is None
    assert bench.hands.drafts() == []


def test_older_mail_of_the_thread_is_answered_too(bench: PeopleBench) -> None:
    first = bench.receive(mail(1))
    bench.clock.pass_(1)
    second = bench.receive(mail(2, sender=CUSTOMER, references="<q1@example.test>"))
    answer_it(bench, 2)
    bench.look()
    for one in (first, second):
        assert state(bench, one) == (State.IGNORED, "answered by a person")


def test_a_follow_up_to_an_answer_of_ours_is_a_turn(bench: PeopleBench) -> None:
    first = bench.receive(mail(1))
    bench.work(first.thread_id)
    ours = bench.record(first).reply_message_id
    bench.hands.file(bench.smtp.sent[0].source)
    answer_it(bench, answers=ours)
    bench.look()
    assert bench.record(first).state is State.REPLIED
    assert [turn.answer_text for turn in bench.turns(first.thread_id)] == [OWN_WORDS]
    assert bench.store.threads.person(first.thread_id)


def test_a_reply_to_the_mail_about_a_hand_over_answers_what_was_handed_over(bench: PeopleBench) -> None:
    over = HandOver(
        bench.store,
        bench.wake,
        bench.signer,
        FROM,
        (Address("boss@firma.test"),),
        own=frozenset(),
        max_bytes=10**6,
    )
    bench.answering.hand_over = over
    bench.agent.script = [Answer(handoff="angry")]
    first = bench.receive(mail(1, sender=CUSTOMER))
    bench.clock.pass_(60)
    later = bench.receive(mail(2, sender=CUSTOMER, references="<q1@example.test>"))
    bench.work(first.thread_id)
    told = next(one for one in bench.store.messages.page()[0] if one.ingress == "handoff")
    bench.work(first.thread_id)
    bench.hands.file(written(CUSTOMER, "I see to it.", answers=told.reply_message_id))
    bench.look()
    assert state(bench, first) == (State.IGNORED, "answered by a person")
    assert state(bench, later) == (State.HELD, "a person has this thread")


def test_a_reply_to_the_person_leads_to_the_thread(bench: PeopleBench) -> None:
    first = bench.receive(mail(1))
    answer_it(bench)
    bench.look()
    second = bench.receive(mail(2, sender=CUSTOMER, references="<person1@client.test>"))
    assert second.thread_id == first.thread_id


def test_a_handed_back_thread_is_not_taken_by_the_same_mail(bench: PeopleBench) -> None:
    first = bench.receive(mail(1))
    answer_it(bench)
    bench.look()
    assert bench.store.threads.hand_back(first.thread_id)
    validity, _ = bench.store.mailbox.sent_cursor() or (0, 0)
    bench.store.mailbox.set_sent_cursor(validity, 0)  # as another process may that was slower
    bench.look()
    assert bench.store.threads.person(first.thread_id) is None
    assert len(bench.turns(first.thread_id)) == 1


def test_what_was_sent_already_stays_sent(bench: PeopleBench) -> None:
    first = bench.receive(mail(1))
    bench.work(first.thread_id)
    answer_it(bench)
    bench.look()
    assert bench.record(first).state is State.REPLIED
    assert len(bench.turns(first.thread_id)) == 1


@pytest.mark.parametrize("rewritten", [False, True])
def test_our_own_copies_are_never_a_persons(bench: PeopleBench, rewritten: bool) -> None:
    first = bench.receive(mail(1))
    bench.work(first.thread_id)
    copy = bench.smtp.sent[0].source
    if rewritten:
        copy = copy.replace(bench.record(first).reply_message_id.encode(), b"<server@outlook.test>")
    bench.hands.file(copy)
    bench.look()
    assert bench.turns(first.thread_id) == []
    assert bench.store.threads.person(first.thread_id) is None
    assert bench.record(first).state is State.REPLIED


def test_a_server_that_files_what_it_then_refuses(bench: PeopleBench) -> None:
    """The copy in Sent is ours, though nothing was sent: the answer is not lost for it."""
    first = bench.receive(mail(1))
    bench.smtp.script = [SubmissionUnavailable("451 later"), Receipt("250 ok")]
    bench.work(first.thread_id)
    kept = bench.store.messages.answer(first.id)
    assert kept is not None
    bench.hands.file(kept.source)
    bench.look()
    assert bench.record(first).state is State.SUBMITTING
    bench.clock.pass_(20)
    bench.work(first.thread_id)
    assert bench.record(first).state is State.REPLIED


@pytest.mark.parametrize(
    "fields",
    [
        {"extra": "Auto-Submitted: auto-replied"},  # an absence note
        {"answers": "<unknown@example.test>"},
        {"answers": ""},
        {"subject": "WG: Question", "to": "chef@elsewhere.test"},
        {"subject": "Fwd: Question", "to": "chef@elsewhere.test"},
        {"to": "ben@cleo.test"},
        {"to": "ben@partner.test"},
    ],
)
def test_what_is_no_answer_to_the_customer(make: Make, fields: dict[str, str]) -> None:
    bench = make(colleagues=("@partner.test",))
    first = bench.receive(mail(1))
    wanted = {"answers": "<q1@example.test>"} | fields
    bench.hands.file(written(wanted.pop("to", CUSTOMER), OWN_WORDS, **wanted))
    bench.look()
    bench.work(first.thread_id)
    assert bench.record(first).state is State.REPLIED
    assert bench.turns(first.thread_id) == []


@pytest.mark.parametrize(
    "fields",
    [
        {"answers": "", "references": "<q1@example.test>"},
        {"answers": "<unknown@example.test>", "references": "<q1@example.test> <unknown@example.test>"},
        {"to": f"anna.second@example.test, {CUSTOMER}"},
        {"to": "anna.second@example.test"},
        {"to": "", "extra": f"Bcc: {CUSTOMER}"},
        {"extra": "Auto-Submitted: no"},
    ],
)
def test_what_is_an_answer_to_the_customer(bench: PeopleBench, fields: dict[str, str]) -> None:
    first = bench.receive(mail(1))
    wanted = {"answers": "<q1@example.test>"} | fields
    bench.hands.file(written(wanted.pop("to", CUSTOMER), OWN_WORDS, **wanted))
    bench.look()
    assert state(bench, first) == (State.IGNORED, "answered by a person")


def test_an_address_of_a_public_mail_domain_is_no_colleagues(bench: PeopleBench) -> None:
    """The mailbox is at such a domain, and a person answers another address of the customer there."""
    bench.takeover.own = frozenset({FROM.addr, "me@gmail.com"})
    first = bench.receive(mail(1, sender=CUSTOMER))
    home = "customer.at.home@gmail.com"
    bench.hands.file(written(home, OWN_WORDS, answers="<q1@example.test>"))
    bench.look()
    assert state(bench, first) == (State.IGNORED, "answered by a person")


def test_whom_a_person_writes_to_is_known_from_then_on(bench: PeopleBench) -> None:
    bench.hands.file(written("new@example.test", "Hello", subject="Offer"))
    bench.look()
    assert bench.store.threads.has_met("new@example.test", bench.clock.now + 1)


def test_a_quote_below_the_answer_is_left_out(bench: PeopleBench) -> None:
    first = bench.receive(mail(1))
    quote = "\r\n\r\nAm 24.11.2026 um 09:00 schrieb Customer 1:\r\n> This is question 1.\r\n"
    bench.hands.file(written(CUSTOMER, OWN_WORDS + quote, answers="<q1@example.test>"))
    bench.look()
    assert bench.turns(first.thread_id)[0].answer_text == OWN_WORDS


# --- the flag -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("last", [False, True])
def test_a_flag_that_somebody_set_is_an_answer(bench: PeopleBench, last: bool) -> None:
    place = bench.hands.deliver(mail(1))
    first = bench.receive(mail(1), mailbox=place)
    bench.hands.flag(place)
    if not last:
        bench.look()
    bench.work(first.thread_id)
    assert state(bench, first) == (State.IGNORED, "answered by a person")
    assert bench.smtp.sent == []
    assert bench.store.threads.person(first.thread_id)


def test_a_flag_at_a_draft_that_is_sent_is_no_takeover(bench: PeopleBench) -> None:
    place = bench.hands.deliver(mail(1))
    first = bench.draft(mail(1), mailbox=place)
    bench.hands.flag(place)
    bench.look()
    assert bench.record(first).state is State.REVIEW
    send_it(bench)
    bench.look_twice()
    assert_sent_by_a_person(bench, first, changed=False)


def test_a_flag_at_a_draft_that_stays_is_a_takeover(bench: PeopleBench) -> None:
    place = bench.hands.deliver(mail(1))
    first = bench.draft(mail(1), mailbox=place)
    bench.hands.flag(place)
    bench.look_twice()
    bench.look()
    assert state(bench, first) == (State.IGNORED, "answered by a person")
    assert bench.hands.drafts() == []


def test_a_released_mail_is_answered_in_spite_of_the_flag(bench: PeopleBench) -> None:
    place = bench.hands.deliver(mail(1))
    first = bench.receive(mail(1), mailbox=place)
    bench.hands.flag(place)
    bench.look()
    bench.store.threads.hand_back(first.thread_id)
    bench.deciding.release(first.id, by="cli")
    bench.look()
    bench.work(first.thread_id)
    record = bench.record(first)
    assert (record.state, record.answered_by) == (State.REPLIED, "")


# --- how Sent is read ---------------------------------------------------------------------------------------


def test_what_stood_in_sent_before_the_installation_counts_nothing(make: Make, redis_url: str) -> None:
    bench = make()
    bench.redis.flushall()
    answer_it(bench)
    first = bench.receive(mail(1))
    bench.look()
    bench.work(first.thread_id)
    assert bench.record(first).state is State.REPLIED


def test_where_there_is_no_sent_answers_leave(redis_url: str) -> None:
    folders = FakeFolders(sent=None)
    bench = PeopleBench(redis_url, folders, FakeHands(folders))
    first = bench.receive(mail(1))
    bench.work(first.thread_id)
    assert bench.record(first).state is State.REPLIED
    folders.sent = {}
    second = bench.receive(mail(2))
    bench.hands.file(written("customer2@example.test", OWN_WORDS, answers="<q2@example.test>"))
    bench.look()
    assert state(bench, second) == (State.IGNORED, "answered by a person")


def test_a_sent_folder_made_anew_is_read_from_two_days_ago(redis_url: str, folders: FakeFolders) -> None:
    bench = PeopleBench(redis_url, folders, FakeHands(folders))
    first = bench.receive(mail(1))
    folders.validity = 8
    answer_it(bench)
    bench.look()
    assert_answered_by_a_person(bench, first)
    assert bench.store.mailbox.sent_cursor() == (8, max(folders.sent or {}))


def test_a_mailbox_that_is_away_stops_no_answer(
    redis_url: str, folders: FakeFolders, caplog: pytest.LogCaptureFixture
) -> None:
    bench = PeopleBench(redis_url, folders, FakeHands(folders))
    folders.fault = MailboxUnavailable("no route")
    for number in range(3):
        bench.work(bench.receive(mail(number)).thread_id)
    assert len(bench.smtp.sent) == 3
    assert folders.calls.count("sent_after") == 2  # the first look of the bench, and one for all three
    assert len([1 for line in caplog.records if "last look" in line.getMessage()]) == 1


def test_an_answer_costs_one_look(redis_url: str, folders: FakeFolders) -> None:
    bench = PeopleBench(redis_url, folders, FakeHands(folders))
    folders.calls.clear()
    bench.work(bench.receive(mail(1)).thread_id)
    assert folders.calls == ["sent_after"]


# --- several at once ----------------------------------------------------------------------------------------


def test_upkeep_may_remove_the_draft_while_the_answer_is_about_to_leave(bench: PeopleBench) -> None:
    """The submission has read that there is a draft, and upkeep is faster: nobody else took it out."""
    first = bench.draft(mail(1))
    bench.approve(first)
    hold = bench.store.locks.hold

    def after_upkeep(name: str) -> Any:
        if name == "drafts":
            bench.store.locks.hold = hold  # type: ignore[method-assign]
            bench.upkeep()
        return hold(name)

    bench.store.locks.hold = after_upkeep  # type: ignore[method-assign]
    bench.work(first.thread_id)
    assert bench.record(first).state is State.REPLIED
    assert len(bench.smtp.sent) == 1
