"""The folder of sent mail on servers that mark none, name it oddly, or answer LIST and NAMESPACE oddly."""

from __future__ import annotations

from datetime import UTC, datetime
from unicodedata import normalize

import pytest
from imapclient.imap_utf7 import encode  # type: ignore[import-untyped]

from cleo_email.errors import MailboxUnavailable
from cleo_email.imap.mailbox import Mailbox
from cleo_email.imap.session import folder_name
from cleo_email.imap.special_use import SENT, usual_names
from tests.support.imap_server import Answer, FakeImapServer, Session, bye, first, hang_up, says

WHEN = datetime(2026, 3, 1, 11, 30, tzinfo=UTC)
COPY = b"Message-ID: <1@x>\r\n\r\nhello\r\n"

LOCALISED = (
    "已发送 已传送 寄件備份 送信済み 送信済みアイテム 보낸_편지함 Отправленные Надіслані Odeslané Wysłane"
    " Elküldött Trimise Gönderilmiş Απεσταλμένα Lähetetyt Saadetud Nosūtītie Išsiųsta פריטים_שנשלחו المرسلة"
    " Itens_enviados Enviadas Elementi_inviati Sendte_elementer Skickade_objekt Éléments_envoyés Gesendet"
    " Odoslané Poslano Изпратени Послато Đã_gửi Terkirim ส่งแล้ว"
).split()


@pytest.fixture(autouse=True)
def unmarked(server: FakeImapServer) -> None:
    server.sent_mark = ""
    server.folders.pop("Sent")


def lists(*lines: bytes) -> Answer:
    def answer(session: Session, tag: str, rest: str) -> None:
        session.send(b'* LIST () "/" INBOX', *lines, f"{tag} OK done")

    return answer


def add(server: FakeImapServer, name: str) -> str:
    raw = encode(name).decode("ascii")
    server.folders[raw] = []
    return str(raw)


@pytest.mark.parametrize("name", [name.replace("_", " ") for name in LOCALISED])
@pytest.mark.parametrize("place", ["", "INBOX.", "inbox/", "capitals", "decomposed"])
def test_a_localised_folder_gets_no_second_one_beside_it(
    name: str, place: str, server: FakeImapServer, box: Mailbox
) -> None:
    server.delimiter = place[-1] if place.endswith((".", "/")) else "/"
    told = {"capitals": name.upper(), "decomposed": normalize("NFD", name)}.get(place, place + name)
    raw = add(server, told)
    add(server, "Archive")
    box.append_sent(COPY, WHEN)
    assert [message.source for message in server.folders[raw]] == [COPY]
    assert server.sent("CREATE") == []
    assert box.look_up(SENT)[0] == told
    assert box.find_in_sent("<1@x>") is True


@pytest.mark.parametrize(
    "name", ["Boîte d'envoi", "Outbox", "Postausgang", "发件箱", "Исходящие", "דואר יוצא"]
)
def test_a_folder_for_mail_that_is_still_to_be_sent_is_none(
    name: str, server: FakeImapServer, box: Mailbox
) -> None:
    add(server, name)
    assert box.look_up(SENT) == ("", False)


def test_the_names_are_a_line_each_and_the_marked_folder_comes_first(
    server: FakeImapServer, box: Mailbox
) -> None:
    assert len(usual_names()) > 150
    assert next(iter(usual_names())) == "sent"
    add(server, "Sent")
    server.sent_mark = add(server, "Gesendet")
    assert box.look_up(SENT)[0] == "Gesendet"


def test_the_prefix_of_the_namespace_is_no_part_of_the_name(server: FakeImapServer, box: Mailbox) -> None:
    server.capabilities += " NAMESPACE"
    server.answers["NAMESPACE"] = namespaces('(("mail/" "/")) NIL NIL')
    add(server, "mail/已发送")
    assert box.look_up(SENT)[0] == "mail/已发送"


# --- names that are none --------------------------------------------------------------------------------

BAD_NAMES = [b"R&D", b"&", b"&AOk", b"&AO-k", b"&&&", b"caf\xe9", "送信済み".encode(), b"&2D0-", b"a\\\\b"]


@pytest.mark.parametrize("bad", BAD_NAMES)
def test_a_name_that_is_no_modified_utf7_spoils_no_other(
    bad: bytes, server: FakeImapServer, box: Mailbox
) -> None:
    server.folders["Gesendet"] = []
    server.answers["LIST"] = lists(b'* LIST () "/" "%b"' % bad, b'* LIST () "/" Gesendet')
    expected = "送信済み" if bad.startswith("送".encode()) else "Gesendet"
    assert box.look_up(SENT)[0] in (expected, "Gesendet")
    assert box.open().exists == 3
    assert box.logins == 1


@pytest.mark.parametrize("raw", ["送信済み".encode(), b"R&D"])
@pytest.mark.parametrize("quote", [b'"', b""])
def test_a_folder_is_opened_by_its_name_as_the_server_spells_it(
    raw: bytes, quote: bytes, server: FakeImapServer, box: Mailbox
) -> None:
    server.folders[raw.decode()] = []
    server.answers["LIST"] = lists(b'* LIST (\\Sent) "/" ' + quote + raw + quote)
    box.append_sent(COPY, WHEN)
    assert box.find_in_sent("<1@x>") is True
    assert [message.source for message in server.folders[raw.decode()]] == [COPY]
    assert box.logins == 1


@pytest.mark.parametrize(
    "line",
    [
        b"* LIST () NIL Gesendet",
        b'* LIST () "/" {8}\r\nGesendet',
        b'* LIST (\\HasNoChildren) "\\\\" "Gesendet"',
        b'* LIST () "/" Gesendet ("CHILDINFO" ("SUBSCRIBED"))',
        b'* LIST () "/" "Gesendet" ("CHILDINFO" ("SUBSCRIBED"))',
        b'* LIST (\\Marked \\X-Odd)  "/"  "Gesendet"',
        b'* LIST () "." INBOX.Gesendet',
        b"* LIST () NIL INBOX.Gesendet",
    ],
)
def test_lines_of_every_kind_are_read(line: bytes, server: FakeImapServer, box: Mailbox) -> None:
    server.answers["LIST"] = lists(line)
    server.folders |= {"Gesendet": [], "INBOX.Gesendet": []}
    assert box.look_up(SENT)[0].casefold().endswith("gesendet")


@pytest.mark.parametrize(
    "line",
    [
        b"* LIST",
        b"* LIST ",
        b"* LIST (",
        b'* LIST () "/" "a"b"',
        b'* LIST () "/" "',
        b'* LIST () "/"',
        b"* LIST NIL NIL NIL",
        b'* LIST (((( "/" x',
        b'* LIST () "/" ""',
        b'* LIST () "/" {5}\r\na\r\nbc',
        b'* LSUB () "/" "other"',
        b'* LIST (\\\xff) "/" x',
        b'* LIST () "/" 12',
        b'* LIST () "/" NIL',
    ],
)
def test_a_line_that_cannot_be_read_ends_no_connection(
    line: bytes, server: FakeImapServer, box: Mailbox
) -> None:
    server.folders["Gesendet"] = []
    server.answers["LIST"] = lists(line, b'* LIST () "/" "Gesendet"')
    assert box.look_up(SENT)[0] == "Gesendet"
    assert box.logins == 1


def test_a_special_list_that_is_refused_is_asked_for_plainly(server: FakeImapServer, box: Mailbox) -> None:
    server.capabilities += " SPECIAL-USE"
    add(server, "Gesendet")
    server.answers["LIST"] = first(says("NO [CANNOT] not so"))
    assert box.look_up(SENT)[0] == "Gesendet"


# --- NAMESPACE ------------------------------------------------------------------------------------------


def namespaces(text: str) -> Answer:
    return lambda session, tag, rest: session.send(f"* NAMESPACE {text}", f"{tag} OK done")


@pytest.mark.parametrize(
    "answer",
    [
        says("NO not here"),
        says("NO [NOPERM] not here"),
        says("BAD unknown command"),
        says("OK and nothing said"),
        *map(namespaces, ("NIL NIL NIL", "((((", "", "NIL", '((NIL "/")) NIL NIL', "(()) NIL NIL", '"x')),
        *map(namespaces, ("() NIL NIL", "(12) NIL NIL", "((12 NIL)) NIL NIL")),
    ],
)
def test_whatever_is_wrong_with_namespace_means_none(
    answer: Answer, server: FakeImapServer, box: Mailbox
) -> None:
    server.capabilities += " NAMESPACE"
    server.answers["NAMESPACE"] = answer
    box.append_sent(COPY, WHEN)
    assert [message.source for message in server.folders["Sent"]] == [COPY]
    assert box.logins == 1


@pytest.mark.parametrize("fault", [hang_up, bye("what?"), lambda session, tag, rest: session.send("garbage")])
def test_a_question_for_the_namespace_that_ends_the_connection_is_asked_once(
    fault: Answer, server: FakeImapServer, box: Mailbox
) -> None:
    server.capabilities += " NAMESPACE"
    server.answers["NAMESPACE"] = fault
    with pytest.raises(MailboxUnavailable):
        box.append_sent(COPY, WHEN)
    box.append_sent(COPY, WHEN)
    assert len(server.folders["Sent"]) == 1
    assert len(server.sent("NAMESPACE")) == 1


def test_the_namespace_is_not_asked_for_where_the_folder_is_marked(
    server: FakeImapServer, box: Mailbox
) -> None:
    server.capabilities += " NAMESPACE"
    server.sent_mark = add(server, "Whatever")
    server.answers["NAMESPACE"] = hang_up
    assert box.look_up(SENT)[0] == "Whatever"


def test_names_for_people() -> None:
    assert folder_name(b"&XfJT0ZAB-") == "已发送"
    assert folder_name("Entwürfe") == "Entwürfe"
    assert folder_name(b"caf\xe9") == "caf\ufffd"
    for bad in BAD_NAMES:
        assert folder_name(bad)
