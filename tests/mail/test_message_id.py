"""Our own Message-IDs: what they prove to us, and what they do not prove for anybody else."""

from __future__ import annotations

import string
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cleo_email.mail.message_id import NO_PROOF, Proof, Signer, derive_key, new_message_id
from cleo_email.mail.model import Address, InboundEmail
from cleo_email.mail.thread import by_sender, choose_thread, quoted_ids

KEY = derive_key(b"one")
ANNA, BOB, MALLORY = Address("Anna@Example.test"), Address("bob@example.test"), Address("mallory@evil.test")
ROOT = "<root@example.test>"


def signer(*keys: bytes, domain: str = "cleo.test") -> Signer:
    return Signer(domain, lambda: keys or (KEY,))


def make(thread: str, *people: Address, by: Signer | None = None, nonce: bytes = b"12345678") -> str:
    token = (by or signer()).token(thread, people, nonce)
    return new_message_id("cleo.test", token=token)


def reply(sender: Address, *references: str, in_reply_to: str = "") -> InboundEmail:
    return InboundEmail(
        message_id="<reply@example.test>",
        in_reply_to=(in_reply_to,) if in_reply_to else references[-1:],
        references=references,
        from_=(sender,),
    )


def judge(mail: InboundEmail, by: Signer | None = None) -> Proof:
    return (by or signer()).judge(mail, quoted_ids(mail))


def test_an_id_is_short_and_plain() -> None:
    ours = make(ROOT, ANNA)
    assert len(ours) <= 50
    assert set(ours) <= set(string.ascii_lowercase + string.digits + "<>@.-")
    assert len(new_message_id("mail.a-rather-long-name.example", token=ours[1:-1].split("@")[0])) <= 70


def test_a_reply_proves_its_thread_without_any_record() -> None:
    ours = make(ROOT, ANNA)
    assert judge(reply(ANNA, ROOT, ours)) == Proof(ROOT)
    assert judge(reply(Address("anna@EXAMPLE.test"), ROOT, "<another@example.test>", ours)) == Proof(ROOT)
    assert judge(reply(ANNA, ours.upper(), ROOT)) == Proof(ROOT), "clients that change the case"


def test_a_mail_that_begins_a_thread_names_it() -> None:
    ours = make("", ANNA)
    assert judge(reply(ANNA, ours)) == Proof(ours)


def test_a_thread_that_is_named_by_its_sender() -> None:
    mail = reply(ANNA, make(by_sender(reply(ANNA)), ANNA))
    assert judge(mail) == Proof(by_sender(mail))


def test_each_of_three_recipients_is_known_and_a_fourth_is_not() -> None:
    people = [Address(f"p{number}@example.test") for number in range(4)]
    ours = make(ROOT, *people)
    assert [judge(reply(person, ROOT, ours)).thread for person in people] == [ROOT, ROOT, ROOT, ""]


def test_a_copied_id_opens_nothing_and_closes_the_thread_it_is_quoted_with() -> None:
    ours = make(ROOT, ANNA)
    stolen = reply(MALLORY, ROOT, ours)
    proof = judge(stolen)
    assert proof == Proof(denied=True)
    assert choose_thread(stolen, {}, {}, proof) == "<reply@example.test>"
    assert choose_thread(reply(ANNA, ROOT, ours), {}, {}, Proof(ROOT)) == ROOT


def test_an_id_moved_to_another_thread_is_denied() -> None:
    ours = make(ROOT, ANNA)
    assert judge(reply(ANNA, "<other@example.test>", ours)).denied


def test_a_proven_thread_that_has_people_without_the_sender_stays_closed() -> None:
    mail = reply(ANNA, ROOT, make(ROOT, ANNA))
    assert choose_thread(mail, {}, {ROOT: frozenset({"mallory@evil.test"})}, Proof(ROOT)) != ROOT
    assert choose_thread(mail, {}, {ROOT: frozenset({"anna@example.test"})}, Proof(ROOT)) == ROOT


def test_ids_of_others_are_none_of_our_business() -> None:
    foreign = ["<cleo-0123456789abcdef0123456789abcdef@cleo.test>", "<x@y>", "<cleo-@cleo.test>", "<>"]
    other_domain = make(ROOT, ANNA).replace("cleo.test", "cleo.example")
    for id_ in (*foreign, other_domain, make(ROOT, ANNA, by=signer(derive_key(b"other")))):
        assert judge(reply(ANNA, ROOT, id_)) == NO_PROOF


def test_a_replaced_key_still_proves() -> None:
    old, new = derive_key(b"old"), derive_key(b"new")
    ours = make(ROOT, ANNA, by=signer(old))
    assert judge(reply(ANNA, ROOT, ours), signer(new, old)) == Proof(ROOT)
    assert make(ROOT, ANNA, by=signer(new, old)) == make(ROOT, ANNA, by=signer(new))


def test_every_change_of_a_character_is_noticed() -> None:
    ours = make(ROOT, ANNA)
    left = ours[1 : ours.index("@")]
    for at in range(len("cleo-"), len(left)):
        for letter in "abcdefghijklmnopqrstuvwxyz234567.":
            if letter == left[at]:
                continue
            forged = f"<{left[:at]}{letter}{left[at + 1 :]}@cleo.test>"
            assert judge(reply(ANNA, ROOT, forged)).thread == "", forged


@given(st.lists(st.text(alphabet="abcdefg234567.@<>-", max_size=60), max_size=20))
def test_nothing_that_is_quoted_proves_anything_by_accident(ids: list[str]) -> None:
    assert judge(reply(ANNA, *[f"<cleo-{id_}@cleo.test>" for id_ in ids])).thread == ""


def test_a_flood_of_ids_costs_little() -> None:
    ids = [make(f"<{number}@x>", BOB, nonce=number.to_bytes(8, "big")) for number in range(1000)]
    begun = time.process_time()
    assert judge(reply(ANNA, *ids)).denied
    assert time.process_time() - begun < 1.0


@pytest.mark.parametrize("sender", ["", "no-at", "ä@straße.example", "a" * 5000 + "@x.example"])
def test_senders_of_every_kind(sender: str) -> None:
    assert judge(reply(Address(sender), ROOT, make(ROOT, ANNA))).thread == ""
