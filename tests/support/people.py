"""People beside the agent: a bench with a mailbox in which they answer, send drafts and throw them away."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from email import message_from_bytes, policy
from email.message import EmailMessage
from typing import Any, Protocol

from imapclient import IMAPClient  # type: ignore[import-untyped]
from redis import Redis

from cleo_email.imap.folders import Folders
from cleo_email.mail.compose import compose_reply
from cleo_email.mail.message_id import Signer
from cleo_email.mail.model import Address, Answer
from cleo_email.mail.parse import parse
from cleo_email.pipeline.drafts import DraftFolder
from cleo_email.pipeline.last_look import LastLook
from cleo_email.pipeline.takeover import SharedFolders, Takeover
from cleo_email.store import Accepted, Effects, Record, State, Store
from tests.support.bench import FROM, Bench
from tests.support.folders import FakeFolders
from tests.support.mails import CRLF

DRAFT_TEXT = (
    "Good morning, we are open from nine to five on weekdays. Do you want us to keep the parcel for you?"
)


def written(
    to: str,
    text: str,
    *,
    message_id: str = "<person@client.test>",
    answers: str = "",
    references: str = "",
    extra: str = "",
    subject: str = "Re: Question",
) -> bytes:
    """A mail as a person's client sends it."""
    lines = [
        f"From: Petra <{FROM.addr}>",
        f"To: {to}",
        f"Subject: {subject}",
        f"Message-ID: {message_id}",
        *([f"In-Reply-To: {answers}"] if answers else []),
        *([f"References: {references}"] if references else []),
        *([extra] if extra else []),
        "MIME-Version: 1.0",
        "Content-Type: text/plain; charset=utf-8",
        "",
        text,
        "",
    ]
    return CRLF.join(lines).encode()


class Hands(Protocol):
    """What a person does in the mailbox with a mail client."""

    def file(self, source: bytes) -> None: ...
    def drafts(self) -> list[bytes]: ...
    def save(self, source: bytes) -> None: ...
    def delete_drafts(self) -> None: ...
    def deliver(self, source: bytes) -> str: ...
    def flag(self, place: str) -> None: ...


class FakeHands:
    def __init__(self, folders: FakeFolders) -> None:
        self.folders = folders

    def file(self, source: bytes) -> None:
        assert self.folders.sent is not None
        self.folders.sent[self.folders.next_uid()] = source

    def drafts(self) -> list[bytes]:
        return list((self.folders.drafts or {}).values())

    def save(self, source: bytes) -> None:
        assert self.folders.drafts is not None
        self.folders.drafts[self.folders.next_uid()] = source

    def delete_drafts(self) -> None:
        (self.folders.drafts or {}).clear()

    def deliver(self, source: bytes) -> str:
        return f"{self.folders.validity}/{self.folders.next_uid()}"

    def flag(self, place: str) -> None:
        self.folders.flagged.add(place)


class ImapHands:
    def __init__(self, client: IMAPClient) -> None:
        self.client = client
        for name in ("Sent", "Drafts"):
            if not client.folder_exists(name):
                client.create_folder(name)

    def file(self, source: bytes) -> None:
        self.client.append("Sent", source, ["\\Seen"])

    def drafts(self) -> list[bytes]:
        self.client.select_folder("Drafts")
        found = self.client.fetch(self.client.search(), ["BODY.PEEK[]"])
        return [items[b"BODY[]"] for _, items in sorted(found.items())]

    def save(self, source: bytes) -> None:
        self.client.append("Drafts", source, ["\\Draft"])

    def delete_drafts(self) -> None:
        self.client.select_folder("Drafts")
        if uids := self.client.search():
            self.client.delete_messages(uids)
            self.client.expunge()

    def deliver(self, source: bytes) -> str:
        self.client.append("INBOX", source)
        found = self.client.select_folder("INBOX")
        return f"{found[b'UIDVALIDITY']}/{max(self.client.search())}"

    def flag(self, place: str) -> None:
        self.client.select_folder("INBOX")
        self.client.add_flags([int(place.partition("/")[2])], ["\\Answered"])


class PeopleBench(Bench):
    """A bench whose answers may wait in ``folders``, where ``hands`` are a person's."""

    def __init__(
        self,
        url: str | Redis,
        folders: Folders | FakeFolders,
        hands: Hands,
        *,
        mode: str = "thread",
        drafts: bool = True,
        colleagues: tuple[str, ...] = (),
        **rules: Any,
    ) -> None:
        super().__init__(url, **rules)
        self.hands = hands
        self.folders = SharedFolders(folders, timer=lambda: self.clock() / 1000)  # type: ignore[arg-type]
        own = frozenset({FROM.addr})
        self.takeover = Takeover(
            self.store, self.folders, own, mode=mode, colleagues=colleagues, clock=self.clock
        )
        self.drafts = DraftFolder(self.store, self.folders, self.takeover, enabled=drafts, clock=self.clock)
        self.delivery.people = LastLook(self.takeover, self.drafts)
        self.look()  # from here on Sent counts

    def look(self) -> None:
        """What a poll does after it has read the inbox."""
        self.drafts.watch()
        self.upkeep()

    def upkeep(self) -> None:
        if ids := self.store.drafting.due(self.clock()):
            self.drafts.keep_up(ids)

    def look_twice(self) -> None:
        """Two looks with so much time between that what is missing is missing for good."""
        self.look()
        self.clock.pass_(4)
        self.upkeep()
        self.look()

    def draft(self, source: bytes, text: str = DRAFT_TEXT, **way: Any) -> Accepted:
        """Receive a mail whose answer waits for a person, as a draft."""
        accepted = self.receive(source, **way)
        self.answer_waits(accepted, text)
        self.upkeep()
        return accepted

    def answer_waits(self, accepted: Accepted, text: str = DRAFT_TEXT) -> None:
        let_wait(self.store, self.signer, accepted.id, self.clock(), text)

    def approve(self, accepted: Accepted) -> None:
        approve(self.store, accepted.id, self.clock())

    def move(self, record: Record, to: State, effects: Effects, **more: Any) -> None:
        self.store.messages.move(record.id, to, now=self.clock(), reason="", effects=effects, **more)

    def kept(self, accepted: Accepted) -> EmailMessage:
        answer = self.store.messages.answer(accepted.id)
        assert answer is not None
        found = message_from_bytes(answer.source, policy=policy.default)
        assert isinstance(found, EmailMessage)
        return found

    def turns(self, thread: str) -> list[Record]:
        """The records of what people wrote, oldest first."""
        page, _ = self.store.messages.page(thread_id=thread)
        return [self.store.messages.get(one.id) for one in reversed(page) if one.ingress == "person"]


def let_wait(store: Store, signer: Signer, id_: str, now: int, text: str = DRAFT_TEXT) -> None:
    """Give a received mail an answer that waits for a person."""
    record, mail = store.messages.get(id_), parse(store.messages.source(id_) or b"")
    to = [Address(record.from_address)]
    outbound = compose_reply(
        mail,
        Answer(text),
        from_=FROM,
        to=to,
        message_id=signer.new(to, record.thread_id),
        date=datetime.fromtimestamp(now / 1000, UTC),
    )
    store.messages.move(id_, State.ANSWERING, now=now)
    fields = {"text": mail.text, "answer_text": text}
    effects = Effects(fields, answer=outbound, pop=True, drafting=now, unless_taken=True)
    store.messages.move(id_, State.REVIEW, now=now, effects=effects)


def approve(store: Store, id_: str, now: int) -> None:
    """Let an answer leave that waits for a person."""
    fields = {"decided": "approve", "answered_by": "anna"}
    effects = Effects(fields, push=True, drafting=now)
    store.messages.move(id_, State.SUBMITTING, now=now, effects=effects, only_from=[State.REVIEW])


def readers(record: Record) -> list[str]:
    return list(json.loads(record.recipients or "[]"))
