"""How often a mailbox is logged into when its server is bent, over minutes that pass at once."""

from __future__ import annotations

import base64
import contextlib
import dataclasses
import itertools
from collections import defaultdict
from collections.abc import Callable, Iterator
from datetime import UTC, datetime

import pytest
from redis import Redis

from cleo_email.errors import MailboxError
from cleo_email.imap.folders import Folders
from cleo_email.imap.mailbox import Mailbox
from cleo_email.mail.model import OutboundEmail
from cleo_email.pipeline.drafts import DraftFolder
from cleo_email.pipeline.last_look import LastLook
from cleo_email.pipeline.logins import (
    LOGINS,
    LOGINS_MS,
    LoginsUsedUp,
    limit_listener_logins,
    limit_logins,
    limit_spare_logins,
)
from cleo_email.pipeline.poll import Poller
from cleo_email.pipeline.receive import Receiver
from cleo_email.pipeline.takeover import SharedFolders, Takeover
from cleo_email.screening.screen import Policy
from cleo_email.store import Effects, Identity, Record, State, Store, Ticks, new_id
from cleo_email.store.queue import WakeQueue
from tests.support.bench import FakeClock, signer_on, upkeep_of
from tests.support.imap_server import Answer, FakeImapServer, HangUp, Message, Session, hang_up, says
from tests.support.mails import mail

INTERVAL_S = 20
COPIES = 20


class SimulatedTicks(Ticks):
    """Ticks on the clock of the test, which all workers share."""

    def __init__(self, redis: Redis, clock: FakeClock) -> None:
        super().__init__(redis)
        self._clock, self._until = clock, defaultdict[str, int](int)

    def tick(self, name: str, every_ms: int) -> bool:
        due = self._until[name] <= self._clock.now
        if due:
            self.next_tick(name, every_ms)
        return due

    def next_tick(self, name: str, ms: int) -> None:
        self._until[name] = self._clock.now + max(ms, 1)

    def tick_left_ms(self, name: str) -> int:
        return max(self._until[name] - self._clock.now, 0) or -2

    def rest(self, name: str, ms: int) -> None:
        self.next_tick(f"rest:{name}", ms)

    def resting(self, name: str) -> bool:
        return self.tick_left_ms(f"rest:{name}") > 0


class Installation:
    """Two workers on one Redis and one bent server; ``pass_`` lets time pass for all of them."""

    def __init__(self, url: str, server: FakeImapServer) -> None:
        self.redis, self.server, self.clock = Redis.from_url(url), server, FakeClock()
        self.store = Store(self.redis, account="ann@localhost")
        self.store.ticks = SimulatedTicks(self.redis, self.clock)
        self.store.mailbox.set_sent_mode("client")
        self.began = self.clock.now
        self.workers = [self._worker() for _ in range(2)]
        self._turns = itertools.cycle(self.workers)
        self.logins: list[float] = []  # seconds since the beginning
        self.accepted: dict[int, float] = {}  # by UID

    def _worker(self) -> Poller:
        policy, clock = Policy(frozenset({"agent@cleo.test"})), self.clock
        wake, signer = WakeQueue(self.redis), signer_on(self.redis)
        receiver = Receiver(self.store, wake, policy, signer, max_age_days=7, retention_days=90, clock=clock)
        mailbox = Mailbox(self.server.account(), ssl_context=self.server.ssl_context())
        upkeep = upkeep_of(self.store, mailbox, receiver, clock=clock)
        rest = {"max_bytes": 10**6, "max_age_days": 7, "interval_s": INTERVAL_S}
        return Poller(self.store, mailbox, receiver, upkeep, **rest, clock=clock)

    @property
    def seconds(self) -> float:
        return (self.clock.now - self.began) / 1000

    def expect(self, number: int, state: State) -> Record:
        """An answer whose copy is to be put into Sent, or is looked for there."""
        now = self.clock.now
        ours = f"<ours-{number}@cleo.test>"
        record = Record(new_id(now + number), State.SUBMITTING, f"<{number}@x>", now, now - 60_000)
        record = dataclasses.replace(record, reply_message_id=ours)
        source = f"Message-ID: {ours}\r\n\r\nhello\r\n".encode()
        answer = OutboundEmail(ours, "agent@cleo.test", ("anna@example.test",), source)
        self.store.messages.accept(record, b"", Identity(record.id), (), answer=answer)
        due = {"filing" if state is State.REPLIED else "settling": now}
        self.store.messages.move(record.id, state, now=now, effects=Effects(pop=True, **due))
        return record

    def deliver(self, number: int) -> None:
        when = datetime.fromtimestamp(self.clock.now / 1000, UTC).strftime('"%d-%b-%Y %H:%M:%S +0000"')
        self.server.inbox.append(Message(mail(number), date=when))

    def pass_(self, seconds: int, *, each: Callable[[int], object] = lambda _second: None) -> None:
        """Do, second by second, what the tickers of the workers would do."""
        for _ in range(seconds):
            second = int(self.seconds)
            each(second)
            for due, work in ((self._poll_is_due, Poller.run), (self._upkeep_is_due, Poller.run_upkeep)):
                before = len(self.server.sent("AUTHENTICATE"))
                if due(second):
                    with contextlib.suppress(MailboxError):
                        work(next(self._turns))
                now = len(self.server.sent("AUTHENTICATE"))
                self.logins += [self.seconds] * (now - before)
            for uid, message in enumerate(self.server.inbox, 1):
                if "$CleoAccepted" in message.flags:
                    self.accepted.setdefault(uid, self.seconds)
            self.clock.pass_(1)

    def _poll_is_due(self, _second: int) -> bool:
        return self.store.ticks.tick("poll", INTERVAL_S * 1000)

    def _upkeep_is_due(self, second: int) -> bool:
        work = (self.store.filing, self.store.settling, self.store.fetching)
        return second % 2 == 0 and any(one.due(self.clock.now, 1) for one in work)

    def most_logins(self) -> int:
        """Return the largest number of logins in any three minutes."""
        window = LOGINS_MS / 1000
        return max(
            (sum(begin <= at < begin + window for at in self.logins) for begin in self.logins), default=0
        )


@pytest.fixture
def server() -> Iterator[FakeImapServer]:
    with FakeImapServer() as server:
        server.capabilities = "AUTH=PLAIN LOGINDISABLED NAMESPACE"
        server.answers["NAMESPACE"] = lambda session, tag, rest: session.send(
            "* NAMESPACE NIL NIL NIL", f"{tag} OK done"
        )
        yield server


@pytest.fixture
def place(redis_url: str, server: FakeImapServer) -> Iterator[Installation]:
    installation = Installation(redis_url, server)
    yield installation
    for worker in installation.workers:
        worker.mailbox.close()


def then_hang_up(session: Session, tag: str, rest: str) -> None:
    session.usual(tag, rest)
    raise HangUp


def odd_folders(*lines: bytes) -> Answer:
    def list_(session: Session, tag: str, rest: str) -> None:
        session.send(*lines)
        session.usual(tag, rest)

    return list_


ODD_NAMES = odd_folders(
    b'* LIST () "/" "R&D"', b'* LIST () "/" "&"', b'* LIST () "/" "&AOk"', b'* LIST () "/" "\xe9t\xe9"'
)
BENT: dict[str, dict[str, Answer]] = {
    "in order": {},
    "names that are no modified UTF-7": {"LIST": ODD_NAMES},
    "NAMESPACE refused": {"NAMESPACE": says("NO not here")},
    "NAMESPACE unknown": {"NAMESPACE": says("BAD unknown command")},
    "NAMESPACE ends the connection": {"NAMESPACE": hang_up},
    "LIST ends the connection": {"LIST": hang_up},
    "LIST refused": {"LIST": says("NO [SERVERBUG] no")},
    "APPEND ends the connection": {"APPEND": hang_up},
    "APPEND refused": {"APPEND": says("NO [OVERQUOTA] full")},
    "SELECT of Sent refused": {"EXAMINE": says("NO [NOPERM] not yours")},
    "SELECT of Sent ends the connection": {"EXAMINE": hang_up},
    "STORE ends the connection": {"UID STORE": hang_up},
    "a connection ends after each command": dict.fromkeys(
        ("SELECT", "UID SEARCH", "UID FETCH", "NOOP", "UID STORE", "APPEND"), then_hang_up
    ),
    "a connection ends at the greeting": {"CAPABILITY": hang_up},
    "the login is refused": {"AUTHENTICATE": says("NO LOGIN failed.")},
    "the login is refused for now": {"AUTHENTICATE": says("NO [LIMIT] too many connections")},
    "FETCH ends the connection": {"UID FETCH": hang_up},
    "SELECT ends the connection": {"SELECT": hang_up},
    "SELECT refused": {"SELECT": says("NO [NOPERM] no")},
    "SEARCH ends the connection": {"UID SEARCH": hang_up},
}


COURTESY = {
    name for name in BENT if any(word in name for word in ("Sent", "APPEND", "LIST", "NAME", "names"))
}


@pytest.mark.parametrize("bent", BENT)
def test_no_server_makes_more_than_six_logins_in_three_minutes(
    bent: str, place: Installation, server: FakeImapServer
) -> None:
    """And where only Sent is at fault, new mail is read at the usual pace, by a mailbox that is in order."""
    server.sent_mark = ""
    server.answers.update(BENT[bent])
    for number in range(COPIES):
        place.expect(number, State.REPLIED)
    place.expect(COPIES, State.UNCERTAIN)
    faults: set[str] = set()

    def each(second: int) -> None:
        if second % 50 == 10:
            place.deliver(second)
        faults.add(place.store.health.read().poll_fault)

    place.pass_(420, each=each)
    assert place.most_logins() <= LOGINS, [round(at) for at in place.logins]
    if bent in COURTESY or bent == "in order":
        delays = [at - (10 + 50 * (uid - 1)) for uid, at in place.accepted.items()]
        assert len(delays) >= 8
        assert max(delays) <= INTERVAL_S + 2
        assert faults == {""}
    if bent in ("in order", "names that are no modified UTF-7", "NAMESPACE refused", "NAMESPACE unknown"):
        assert len(place.logins) == len(place.workers)
        assert len(server.folders["Sent"]) == COPIES


def test_copies_that_a_server_takes_at_last_are_filed_once_each(
    place: Installation, server: FakeImapServer
) -> None:
    server.answers["APPEND"] = hang_up
    records = [place.expect(number, State.REPLIED) for number in range(COPIES)]
    place.pass_(300)
    assert server.folders["Sent"] == []
    faults = place.store.health.upkeep_faults()
    assert len(faults) == 1
    assert "EMAIL_SAVE_SENT" in faults[0]
    del server.answers["APPEND"]
    place.pass_(3 * 3600 // 10)
    filed = [message.source.split()[1].decode() for message in server.folders["Sent"]]
    assert sorted(filed) == sorted(record.reply_message_id for record in records)
    assert place.store.health.upkeep_faults() == []
    assert {record.told for record in place.store.messages.load([one.id for one in records])} == {""}


def test_logins_that_people_ask_for_count_for_nothing_and_are_never_refused(place: Installation) -> None:
    person = place.workers[0]
    for _ in range(LOGINS + 2):
        person.run(force=True)
        person.mailbox.close()
    assert person.mailbox.logins == LOGINS + 2
    person.run()
    assert place.store.health.read().polled > 0


def test_workers_that_start_again_and_again_rest_and_say_so(place: Installation) -> None:
    worker = place.workers[0]
    for _ in range(LOGINS):
        worker.run()
        worker.mailbox.close()
        place.clock.pass_(1)
    with pytest.raises(LoginsUsedUp, match=r"rests until \d\d:\d\d:\d\d UTC"):
        worker.run()
    assert "rests until" in place.store.health.read().poll_fault, "for /readyz and check"
    assert not place.store.ticks.resting("poll"), "another process may have a connection"
    place.pass_(LOGINS_MS // 1000 + 5)
    assert place.store.health.read().polled > place.began


def test_a_refused_login_rests_longer_each_time_whoever_tries(
    place: Installation, server: FakeImapServer
) -> None:
    server.answers["AUTHENTICATE"] = says("NO LOGIN failed.")
    place.pass_(900)
    gaps = [round(later - at) for at, later in zip(place.logins, place.logins[1:], strict=False)]
    assert [pytest.approx(gap, abs=2) for gap in gaps] == [60, 120, 300, 300]
    place.store.health.fresh_start()  # a worker that is started again tries at once, and rests as before
    place.store.ticks.rest("poll", 0)
    place.store.ticks.next_tick("poll", 0)
    place.clock.pass_(1)
    place.pass_(1)
    assert len(place.logins) == 6
    assert place.store.ticks.tick_left_ms("poll") > 298_000


@pytest.mark.parametrize("item", ["BODY.PEEK[]", "RFC822.SIZE"])
def test_bad_mails_at_the_head_that_cost_the_connection_stop_no_mail_behind_them(
    place: Installation, server: FakeImapServer, item: str
) -> None:
    """Also while each copy for Sent costs it too. After hours they have failed, each by itself."""
    bad = {3, 4, 5, 6, 7}

    def fetch(session: Session, tag: str, rest: str) -> None:
        if item in rest and bad & {uid for uid, _ in session._chosen(rest)}:
            raise HangUp
        session.usual(tag, rest)

    server.sent_mark = ""
    for number in (1, 2):
        place.deliver(number)
    place.pass_(30)
    for number in range(3, 13):
        place.deliver(number)
    server.answers.update({"UID FETCH": fetch, "APPEND": hang_up})
    for number in range(COPIES):
        place.expect(number + 100, State.REPLIED)
    place.pass_(900)
    assert place.accepted.keys() == {1, 2, *range(8, 13)}
    assert place.most_logins() <= LOGINS
    for _ in range(80):
        place.clock.pass_(400)
        place.pass_(21)
    assert place.store.messages.count(State.FAILED) == len(bad)


@pytest.mark.parametrize("bent", ["refused", "ended"])
def test_a_server_that_takes_one_connection_only_costs_the_poll_none_of_its_logins(
    place: Installation, server: FakeImapServer, bent: str
) -> None:
    """The one for Sent and Drafts fails at its login, each time later, and new mail is read as ever."""
    tries: list[float] = []
    every: list[float] = []

    def login(session: Session, tag: str, rest: str) -> None:
        every.append(place.seconds)
        session.send("+ ")
        if b"second" not in base64.b64decode(session.rfile.readline()):
            session.send(f"{tag} OK welcome")
            return
        tries.append(place.seconds)
        if bent == "ended":
            raise HangUp
        session.send(f"{tag} NO too many connections")

    server.answers["AUTHENTICATE"] = login
    folders = Folders(server.account("second"), ssl_context=server.ssl_context())
    folders.before_login = lambda: limit_spare_logins(place.store.ticks)
    shared = SharedFolders(folders, timer=lambda: place.seconds)
    takeover = Takeover(place.store, shared, frozenset({"agent@cleo.test"}), clock=place.clock)
    drafts = DraftFolder(place.store, shared, takeover, clock=place.clock)
    look = LastLook(takeover, drafts, timer=lambda: place.seconds)
    record = place.expect(1, State.REPLIED)
    for worker in place.workers:
        worker.upkeep.drafts = drafts
    faults: set[str] = set()

    def each(second: int) -> None:
        look.look(record)  # as a worker with much to send does
        if second % 50 == 10:
            place.deliver(second)
        if second % 100 == 99:
            place.workers[0].mailbox.close()
        faults.add(place.store.health.read().poll_fault)

    place.pass_(2000, each=each)
    gaps = [round(later - at) for at, later in itertools.pairwise(tries)]
    assert [pytest.approx(gap, abs=3) for gap in gaps] == [30, 60, 300, 900]
    place.logins = every
    assert place.most_logins() <= LOGINS
    assert faults == {""}
    delays = [at - (10 + 50 * (uid - 1)) for uid, at in place.accepted.items()]
    assert len(delays) >= 38
    assert max(delays) <= INTERVAL_S + 2


def test_a_worker_that_is_started_twice_logs_in_for_everything_each_time(redis_url: str) -> None:
    with Redis.from_url(redis_url) as redis:
        ticks = Ticks(redis)
        for _ in range(2):
            limit_logins(ticks)
            limit_listener_logins(ticks)
            limit_spare_logins(ticks)  # for Sent and Drafts
        for limit in (limit_logins, limit_listener_logins, limit_spare_logins):
            with pytest.raises(LoginsUsedUp):
                limit(ticks)
