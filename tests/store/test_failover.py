"""After a failover kept connections lead to a server that does not lead any more: they are left."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import quote

import pytest
from redis import Redis
from redis.exceptions import ReadOnlyError, ResponseError

from cleo_email.embedded.mailserver import AGENT, CUSTOMER
from cleo_email.errors import StoreUnavailable
from cleo_email.mail.model import AttachedFile
from cleo_email.store import Arrival, Identity, Record, Start, State, Store, new_id
from cleo_email.store.connection import connect_web, connect_worker
from cleo_email.store.faults import is_of_a_failover
from cleo_email.store.queue import WakeQueue
from tests.support.channel import Channel
from tests.support.mail_server import FaithfulMailServer
from tests.support.redis_server import MovableAddress, RedisOnPort, RedisServer

NOW = 1_795_000_000_000


class Pair:
    """A primary, its replica, and the address of whichever leads."""

    def __init__(self, old: RedisOnPort, new: RedisOnPort, address: MovableAddress) -> None:
        self.old, self.new, self.address = old, new, address

    def promote(self) -> None:
        """Let the replica lead, and the address with it; the old primary is another matter."""
        with self.new.client() as new:
            until = time.monotonic() + 20
            while new.info("replication")["master_link_status"] != "up":
                assert time.monotonic() < until
                time.sleep(0.02)
            with self.old.client() as old:
                old.set("last", 1)
                assert old.wait(1, 10_000) == 1
            new.replicaof("NO", "ONE")
        self.address.target = self.new.port

    def demote(self) -> None:
        with self.old.client() as old:
            old.replicaof("127.0.0.1", str(self.new.port))

    def lose_its_primary(self) -> None:
        """The old primary is a replica that nobody feeds, and says so."""
        with self.old.client() as old:
            old.config_set("replica-serve-stale-data", "no")
            old.replicaof("127.0.0.1", "9")

    def hang(self) -> None:
        os.kill(self.old.pid, signal.SIGSTOP)

    def be_killed(self) -> None:
        os.kill(self.old.pid, signal.SIGKILL)

    def be_cut_off(self) -> None:
        """The old primary does not know of the new one, and has lost its replicas."""
        with self.old.client() as old:
            old.config_set("min-replicas-to-write", 1)
            until = time.monotonic() + 20
            while True:  # the promoted replica disconnects by and by
                try:
                    old.set("probe", 1)
                except ResponseError:
                    return
                assert time.monotonic() < until
                time.sleep(0.02)


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[Pair]:
    with (
        RedisOnPort(tmp_path / "old", "--repl-diskless-sync-delay", "0") as old,
        RedisOnPort(tmp_path / "new", "--replicaof", "127.0.0.1", str(old.port)) as new,
        MovableAddress(old.port) as address,
    ):
        yield Pair(old, new, address)


FATES = ("demote", "lose_its_primary", "be_cut_off")


def start(number: int) -> Start:
    record = Record(new_id(NOW + number), State.RECEIVED, f"<{number}@x>", NOW, workflow="{}")
    return Start(record, Identity(f"print-{number}"), ["anna@example.test"])


def by_script(store: Store, redis: Redis) -> None:
    one = start(1)
    assert not store.messages.accept(one.record, b"mail", one.identity, one.people).duplicate


def by_scripts_in_a_transaction(store: Store, redis: Redis) -> None:
    found = store.messages.accept_together(
        [start(2), start(3)], batch="b", files=[AttachedFile("a.txt", "text/plain", b"a")]
    )
    assert [one.duplicate for one in found] == [False, False]


def by_transaction(store: Store, redis: Redis) -> None:
    assert store.health.poll_fault("a fault") == 1


def by_batch(store: Store, redis: Redis) -> None:
    batch = [Arrival(one.record, b"mail", one.identity, one.people) for one in (start(4), start(5))]
    assert [one and one.duplicate for one in store.messages.accept_each(batch)] == [False, False]


def by_wake_ups(store: Store, redis: Redis) -> None:
    assert WakeQueue(redis).wake_each(["<a@b>", "<c@d>"]) == 2


def by_set(store: Store, redis: Redis) -> None:
    assert store.ticks.tick("x", 60_000)


@pytest.mark.parametrize("fate", FATES)
@pytest.mark.parametrize("connect", [connect_web, lambda url: connect_worker(url, connections=4)])
@pytest.mark.parametrize(
    "write", [by_set, by_script, by_transaction, by_scripts_in_a_transaction, by_batch, by_wake_ups]
)
def test_a_write_on_a_kept_connection_reaches_the_new_primary(
    pair: Pair, connect: Callable[[str], Redis], write: Callable[[Store, Redis], None], fate: str
) -> None:
    redis = connect(pair.address.url)
    store = Store(redis)
    store.health.try_writes()  # the connection is kept, and scripts are known to the old primary alone
    store.messages.accept(start(9).record, b"mail", Identity("print-9"), [])
    assert WakeQueue(redis).wake_each(["<e@f>"]) == 1
    pair.promote()
    getattr(pair, fate)()
    with pair.new.client() as new:
        kept = new.dbsize()
    write(store, redis)
    with pair.new.client() as new:
        assert new.dbsize() > kept, "it was written there"
    store.health.try_writes()
    redis.close()


def test_the_idle_connections_leave_as_well(pair: Pair) -> None:
    """What only reads would else show for ever what the old primary has."""
    redis = connect_worker(pair.address.url, connections=8)
    kept = [redis.connection_pool.get_connection() for _ in range(5)]
    for connection in kept:
        redis.connection_pool.release(connection)
    before = pair.address.accepted
    assert before == 5
    pair.promote()
    pair.demote()
    redis.set("a", 1)
    assert not any(connection.is_connected for connection in kept[:-1])
    redis.close()


def test_a_blocking_read_goes_on_at_the_new_primary(pair: Pair) -> None:
    """The demoted primary ends it by UNBLOCKED."""
    redis = connect_worker(pair.address.url, connections=4)
    found: list[object] = []
    waiting = threading.Thread(target=lambda: found.append(redis.blmove("from", "to", 10, "RIGHT", "LEFT")))
    waiting.start()
    with pair.old.client() as old:
        until = time.monotonic() + 10
        while old.info("clients")["blocked_clients"] == 0:
            assert time.monotonic() < until
            time.sleep(0.01)
    pair.promote()
    pair.demote()
    with pair.new.client() as new:
        new.rpush("from", "job")
    waiting.join(20)
    assert found == [b"job"]
    redis.close()


def test_without_a_new_primary_the_error_says_what_is_wrong(pair: Pair) -> None:
    store = Store(connect_web(pair.address.url))
    store.health.try_writes()
    with pair.old.client() as old:
        old.replicaof("127.0.0.1", "9")
    for _ in range(3):
        with pytest.raises(StoreUnavailable, match=r"read-only replica: name the primary"):
            store.health.try_writes()


@pytest.mark.parametrize(
    "text",
    [
        "Error running script (call to f_2a): @user_script:9: @user_script: 9: -READONLY You can't write",
        "Error running script (call to f_2a): @user_script:9: READONLY You can't write against a replica.",
        "Transaction discarded because of: READONLY You can't write against a read only replica.",
        "Command # 1 (EVALSHA 1 x) of pipeline caused error: NOREPLICAS Not enough good replicas to write.",
        "NOREPLICAS Not enough good replicas to write.",
        "UNBLOCKED force unblock from blocking operation, instance state changed (master -> replica?)",
        "MASTERDOWN Link with MASTER is down",
        "-LOADING Redis is loading the dataset in memory",
    ],
)
def test_words_of_other_versions_are_known(text: str) -> None:
    assert is_of_a_failover(ResponseError(text))


@pytest.mark.parametrize(
    "text",
    [
        "Command # 1 (SET subject : READONLY) of pipeline caused error: WRONGTYPE Operation against a key",
        "WRONGTYPE Operation against a key holding the wrong kind of value",
        "MISCONF Redis is configured to save RDB snapshots",
        "unknown command 'READONLYX'",
    ],
)
def test_a_command_that_may_have_run_is_not_repeated(text: str) -> None:
    assert not is_of_a_failover(ResponseError(text))
    assert is_of_a_failover(ReadOnlyError("You can't write against a read only replica."))


# --- the processes ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("fate", [*FATES, "be_killed", "hang"])
def test_web_poll_and_worker_go_on_within_twenty_seconds(
    pair: Pair, mail_server: FaithfulMailServer, tmp_path: Path, fate: str
) -> None:
    env = mail_server.environment(pair.address.url)
    with Channel(tmp_path, env) as channel:

        def replied(number: int) -> bool:
            message_id = f"<{number}@customer.test>"
            body = {
                "from_address": CUSTOMER,
                "to_address": AGENT,
                "subject": "Hours",
                "body": "Open?",
                "message_id": message_id,
            }
            status, _ = channel.post(body)
            if status != 200:  # a duplicate by then
                return False
            found = channel.get(f"/email/messages?state=replied&message_id={quote(message_id)}")[1]
            return bool(found.get("messages"))

        channel.start_web()
        channel.start_worker()
        channel.wait(lambda: channel.get("/readyz")[0] == 200, 60)
        channel.wait(lambda: replied(1), 60)
        pair.promote()
        getattr(pair, fate)()
        with pair.new.client() as new:
            new.delete("cleo:pulse")  # else an old heartbeat would count
        begun = time.monotonic()
        channel.wait(lambda: replied(2), 60)
        channel.wait(lambda: channel.get("/readyz")[0] == 200, 60)
        took = time.monotonic() - begun
        print(f"{fate}: working again after {took:.1f} s")
        # A server that hangs is waited for, for REDIS_ANSWER_S; the heartbeat comes every ten seconds.
        assert took < (30 if fate == "hang" else 20)


def test_readyz_tells_that_nothing_can_be_written(pair: Pair, tmp_path: Path) -> None:
    env = {"EMAIL_SMTP_HOST": "127.0.0.1", "REDIS_URL": pair.address.url}
    with Channel(tmp_path, env) as channel:
        channel.start_web()
        channel.start_worker()
        channel.wait(lambda: channel.get("/readyz")[0] == 200, 60)
        with pair.old.client() as old:
            old.replicaof("127.0.0.1", "9")  # it still answers, and reads well
        status, said = channel.get("/readyz")
        assert status == 503
        assert "read-only replica" in said["error"]
        assert channel.get("/healthz")[0] == 200
        with pair.old.client() as old:
            old.replicaof("NO", "ONE")
        channel.wait(lambda: channel.get("/readyz")[0] == 200, 20)


def test_a_restart_that_forgets_the_scripts_costs_no_mail(tmp_path: Path) -> None:
    with RedisServer(tmp_path / "redis") as server:
        redis = connect_worker(server.url, connections=2)
        store = Store(redis)
        by_script(store, redis)
        server.kill()
        server.start()
        by_scripts_in_a_transaction(store, redis)
        store.health.try_writes()
        redis.close()
