"""A Redis Cluster and a Sentinel are refused, before a mail is accepted that nobody could answer."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from cleo_email.cli.check import examine_redis
from cleo_email.errors import StoreUnavailable
from cleo_email.settings import read_settings
from cleo_email.store import Identity, Store
from cleo_email.store.connection import connect_web, connect_worker
from tests.support.channel import ROOT, Channel
from tests.support.ports import free_ports
from tests.support.redis_server import RedisOnPort
from tests.support.web import BASE

SLOTS = 16_384
INSTEAD = {
    "cluster": "is a Redis Cluster, which is not supported: use a Redis with cluster mode disabled",
    "shard": "is a Redis Cluster, which is not supported: use a Redis with cluster mode disabled",
    "sentinel": "is a Sentinel, which is not supported: name the primary, by an address that follows it",
}


def cluster(stack: ExitStack, directory: Path, size: int) -> str:
    """The URL of one of the nodes, once they know each other and serve every slot."""
    # The usual port of the bus, 10,000 above the other, may be one of the system's for outgoing connections.
    buses = free_ports(size)
    nodes = [
        stack.enter_context(
            RedisOnPort(directory / f"{bus}", "--cluster-enabled", "yes", "--cluster-port", str(bus))
        )
        for bus in buses
    ]
    clients = [stack.enter_context(node.client()) for node in nodes]
    for number, client in enumerate(clients):
        first, after = (SLOTS * at // size for at in (number, number + 1))
        client.execute_command("CLUSTER ADDSLOTSRANGE", first, after - 1)
        client.execute_command("CLUSTER MEET", "127.0.0.1", nodes[0].port, buses[0])
    until = time.monotonic() + 60
    for client in clients:
        while (info := client.execute_command("CLUSTER INFO"))["cluster_state"] != "ok" or int(
            info["cluster_known_nodes"]
        ) < size:
            assert time.monotonic() < until
            time.sleep(0.05)
    return nodes[0].url


def sentinels(stack: ExitStack, directory: Path) -> str:
    """The URL of one of three, once they know each other and their primary."""
    primary = stack.enter_context(RedisOnPort(directory / "primary"))
    config = f"sentinel monitor mymaster 127.0.0.1 {primary.port} 2\n"
    trio = [
        stack.enter_context(RedisOnPort(directory / f"{number}", "--sentinel", config=config))
        for number in range(3)
    ]
    until = time.monotonic() + 60
    with trio[0].client() as client:
        while client.sentinel_masters()["mymaster"]["num-other-sentinels"] < 2:
            assert time.monotonic() < until
            time.sleep(0.05)
    return trio[0].url


@pytest.fixture(scope="module", params=INSTEAD)
def server(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[str, str]]:
    """A URL, and what is said about it."""
    folder = tmp_path_factory.mktemp(request.param)
    with ExitStack() as stack:
        if request.param == "sentinel":
            url = sentinels(stack, folder)
        else:
            url = cluster(stack, folder, 3 if request.param == "cluster" else 1)
        yield url, INSTEAD[request.param]


def test_web_worker_run_and_check_refuse_it_in_one_line(server: tuple[str, str], tmp_path: Path) -> None:
    url, said = server
    env = {"EMAIL_SMTP_HOST": "127.0.0.1", "REDIS_URL": url}
    bind = ["--bind", "127.0.0.1:0", "--pythonpath", str(ROOT)]
    (tmp_path / "channel").mkdir()
    with Channel(tmp_path / "channel", env) as channel:
        for argv in (
            [str(ROOT / "worker.py")],
            ["-m", "gunicorn", *bind, "wsgi:app"],
            ["-m", "gunicorn", *bind, "--preload", "wsgi:app"],
            ["-m", "cleo_email", "run", "--bind", f"unix:{tmp_path}/run.sock"],
        ):
            channel.log.write_text("")
            assert channel.start(*argv).wait(60) == 3, channel.log.read_text()
            told = [line for line in channel.log.read_text().splitlines() if "REDIS_URL" in line]
            assert len(told) == 1
            assert said in told[0]
            assert "Traceback" not in channel.log.read_text()
        checked = channel.run("check")
        assert checked.returncode == 1
        assert [said in line for line in checked.stdout.splitlines() if " redis " in line] == [True]


@pytest.mark.parametrize("options", ["", "?protocol=2"])
def test_one_that_comes_later_takes_no_mail(server: tuple[str, str], options: str) -> None:
    """The process was started while nothing answered there; it is no time to end it."""
    url, said = server
    for redis in (connect_web(url + options), connect_worker(url + options, connections=2)):
        for _ in range(3):
            with pytest.raises(StoreUnavailable, match=said):
                Store(redis).messages.first_of(Identity("x"))
        redis.close()


def test_a_web_process_that_meets_it_later_answers_503(server: tuple[str, str]) -> None:
    url, said = server
    from cleo_email.web.app import create_app  # as gunicorn has done while Redis was away

    web = create_app(read_settings({**BASE, "REDIS_URL": url}, dotenv=None)).test_client()
    mail = {"from_address": "a@b.test", "to_address": "c@d.test", "subject": "s", "body": "b"}
    assert web.post("/email/incoming", json=mail).status_code == 503
    ready = web.get("/readyz")
    assert ready.status_code == 503
    assert said in ready.json["error"]
    (finding,) = examine_redis(read_settings({**BASE, "REDIS_URL": url}, dotenv=None))
    assert finding.level == "wrong"
    assert said in finding.text


def test_an_absent_redis_is_waited_for(tmp_path: Path) -> None:
    env = {"EMAIL_SMTP_HOST": "127.0.0.1", "REDIS_URL": f"unix://{tmp_path}/nothing.sock"}
    with Channel(tmp_path, env) as channel:
        channel.start_web()
        worker = channel.start_worker()
        with pytest.raises(subprocess.TimeoutExpired):
            worker.wait(3)
        status, said = channel.get("/readyz")
        assert status == 503
        assert "start Redis" in said["error"]
