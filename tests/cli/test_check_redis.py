"""``cleo-email check`` uses Redis as mail does, and says what to do about each fault of it."""

from __future__ import annotations

import re
import shutil
import socketserver
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from redis import Redis
from redis.exceptions import RedisError

from cleo_email.cli.check import CheckResult, examine_redis
from cleo_email.embedded.mailserver import AGENT, CUSTOMER, Certificates
from cleo_email.errors import SettingsError
from cleo_email.settings import read_settings
from cleo_email.store.faults import _RIGHTS
from tests.support.channel import Channel
from tests.support.http_server import ThreadedServer
from tests.support.mail_server import FaithfulMailServer
from tests.support.ports import free_port
from tests.support.redis_server import RedisOnPort
from tests.support.web import BASE

STORE = Path(__file__).resolve().parent.parent.parent / "cleo_email" / "store"
PASSWORD = "a#b/c?d@e:f%g"
ESCAPED = "a%23b%2Fc%3Fd%40e%3Af%25g"


def examine(url: str) -> list[CheckResult]:
    return list(examine_redis(read_settings({**BASE, "REDIS_URL": url}, dotenv=None)))


def only(url: str) -> str:
    """The text of the one finding, which is that it is wrong."""
    (finding,) = examine(url)
    assert finding.level == "wrong"
    return finding.text


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisOnPort]:
    with RedisOnPort(tmp_path_factory.mktemp("redis")) as server:
        yield server


@pytest.fixture
def redis(server: RedisOnPort) -> Iterator[Redis]:
    """The server as new; what the test makes of it is taken back."""
    with server.client() as client:
        client.flushall()
        yield client


def address(server: RedisOnPort, login: str = "", rest: str = "0") -> str:
    return f"redis://{login}127.0.0.1:{server.port}/{rest}"


def test_the_probe_does_all_that_the_scripts_do() -> None:
    """Else a right that one of them lacks would be found out by a mail."""
    calls = {
        path.stem: set(re.findall(r"redis\.call\('(\w+)'", path.read_text())) for path in STORE.glob("*.lua")
    }
    probed = calls.pop("probe")
    assert set().union(*calls.values()) <= probed


def test_a_good_redis_keeps_nothing_of_the_check(server: RedisOnPort, redis: Redis) -> None:
    assert not [finding for finding in examine(server.url) if finding.level == "wrong"]
    assert redis.keys() == []


# --- passwords and rights -----------------------------------------------------------------------------------


@pytest.mark.parametrize("rest", ["0", "0?protocol=2"])
def test_passwords(server: RedisOnPort, redis: Redis, rest: str) -> None:
    redis.config_set("requirepass", PASSWORD)
    try:
        assert "wants a password: REDIS_URL=redis://USER:PASSWORD@" in only(address(server, "", rest))
        for login in (":wrong@", "nobody:wrong@", f":{ESCAPED}x@"):
            said = only(address(server, login, rest))
            assert "refuses the user or the password" in said
            assert "write # as %23" in said
            assert "wrong" not in said
        assert examine(address(server, f":{ESCAPED}@", rest))[0].level == "ok"
    finally:
        redis.config_set("requirepass", "")
    if rest != "0":
        assert "has no password: take the one out" in only(address(server, ":x@", rest))


@pytest.mark.parametrize("password", ["a#b", "a/b", "a?b", "1#2", "6379/0", "12?x"])
@pytest.mark.parametrize("user", ["", "user"])
def test_a_password_that_cuts_the_url_is_found_when_it_is_read(password: str, user: str) -> None:
    """What follows the # would be gone, and the user's name be taken for the host."""
    with pytest.raises(SettingsError) as raised:
        read_settings({**BASE, "REDIS_URL": f"redis://{user}:{password}@redis.test:6379/0"}, dotenv=None)
    (line,) = raised.value.faults
    assert "in a password write # as %23, / as %2F, ? as %3F" in line
    assert password not in line.partition("expected")[0]


def test_a_path_of_a_unix_socket_may_have_any_letter() -> None:
    for url in ("unix:///run/a@b/redis.sock?db=0", "redis://:p@host:6379/0", "rediss://u:a%23b@host/1"):
        read = read_settings({**BASE, "REDIS_URL": url}, dotenv=None)
        assert read.redis_url.get_secret_value() == url


@pytest.mark.parametrize(
    "rules",
    [
        ["~cleo:*", "+@all"],
        ["~rq:*", "+@all"],
        ["~*", "+@all", "-@scripting"],
        ["~*", "+@all", "-blmove"],
        ["~*", "+@all", "-@blocking"],
        ["~*", "+@all", "-lpos"],
        ["~*", "+@all", "-zremrangebyscore"],
        ["~*", "+@all", "-@transaction"],
        ["~*", "+@read", "+@connection", "+@scripting"],
        ["%R~*", "+@all"],
    ],
)
def test_a_right_that_is_missing(server: RedisOnPort, redis: Redis, rules: list[str]) -> None:
    redis.execute_command("ACL SETUSER", "limited", "reset", "on", ">p", *rules)
    said = only(address(server, "limited:p@"))
    assert "does not permit its user what is needed; grant it on the server: ACL SETUSER NAME" in said


def test_the_rights_that_the_words_name_are_enough_for_web_and_worker(
    server: RedisOnPort, redis: Redis, mail_server: FaithfulMailServer, tmp_path: Path
) -> None:
    rules = _RIGHTS.removeprefix("ACL SETUSER NAME ").partition(",")[0].split()
    redis.execute_command("ACL SETUSER", "granted", "reset", "on", ">p", *rules)
    redis.execute_command("ACL LOG", "RESET")
    env = mail_server.environment(address(server, "granted:p@"))
    assert not [finding for finding in examine(env["REDIS_URL"]) if finding.level == "wrong"]
    with Channel(tmp_path, env) as channel:
        channel.start_web()
        channel.start_worker()
        body = {"from_address": CUSTOMER, "to_address": AGENT, "subject": "s", "body": "b"}
        assert channel.post(body)[0] == 202
        channel.wait(lambda: channel.records("replied"))
        channel.wait(lambda: channel.get("/readyz")[0] == 200)
    refused = [
        entry for entry in redis.execute_command("ACL LOG") if entry["object"] not in ("client|setinfo",)
    ]
    assert not refused


# --- what answers there -------------------------------------------------------------------------------------


@contextmanager
def bent(answer: bytes) -> Iterator[str]:
    """A server that gives this answer to whatever it is told."""

    class Handler(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            while self.request.recv(65536):
                if not answer:
                    return
                self.request.sendall(answer)

    with ThreadedServer(("127.0.0.1", 0), Handler) as found:
        yield f"127.0.0.1:{found.server_address[1]}"


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", "leads to what is no Redis"),
        (b"220 mail ESMTP\r\n", "leads to what is no Redis"),
        (b"* OK IMAP4 ready\r\n", "leads to what is no Redis"),
        (b"\x15\x03\x01\x00\x02\x02\x46", "write rediss://"),
        (b"", "rediss:// for redis://"),
        (b"-LOADING Redis is loading the dataset in memory\r\n", "is still loading its data"),
        (b"-ERR unknown command 'HELLO', with args beginning with: '3'\r\n", "?protocol=2"),
        (b"-DENIED Redis is running in protected mode because\r\n", "(protected-mode)"),
        (b"-ERR max number of clients reached\r\n", "raise maxclients"),
        (
            b"-MISCONF Errors writing to the AOF file: No space left on device\r\n",
            "is its disk full or read-only?",
        ),
        (b"-BUSY Redis is busy running a script.\r\n", "does not answer as it should: BUSY Redis is busy"),
        (b"-MOVED 866 10.0.0.7:6379\r\n", "is a Redis Cluster"),
        (b"-CROSSSLOT Keys in request don't hash to the same slot\r\n", "is a Redis Cluster"),
        (b"-ERR Script attempted to access a non local key in a cluster node\r\n", "is a Redis Cluster"),
    ],
)
def test_answers_of_others(answer: bytes, words: str) -> None:
    with bent(answer) as place:
        assert words in only(f"redis://{place}/0")


def test_a_host_that_is_none_and_a_port_where_nobody_listens(tmp_path: Path) -> None:
    assert "start Redis, or: cleo-email run" in only(f"redis://127.0.0.1:{free_port()}/0")
    assert "start Redis, or: cleo-email run" in only(f"unix://{tmp_path}/nothing.sock")
    assert "has a host name that nobody knows" in only("redis://no-such-host.invalid:6379/0")


@pytest.mark.servers("redis-server")  # the embedded one is built without TLS
def test_tls(tmp_path: Path, ca: Certificates, monkeypatch: pytest.MonkeyPatch) -> None:
    tls = free_port()
    pem = ("--tls-cert-file", str(ca.cert_file), "--tls-key-file", str(ca.key_file))
    options = ("--tls-port", str(tls), *pem, "--tls-ca-cert-file", str(ca.ca_file))
    monkeypatch.delenv("SSL_CERT_FILE", raising=False)
    with RedisOnPort(tmp_path, *options, "--tls-auth-clients", "no") as server:
        assert "(a private CA: SSL_CERT_FILE" in only(f"rediss://127.0.0.1:{tls}/0")
        assert "rediss:// for redis://" in only(f"redis://127.0.0.1:{tls}/0")
        assert "does not speak TLS on that port" in only(f"rediss://127.0.0.1:{server.port}/0")
        assert examine(f"rediss://127.0.0.1:{tls}/0?ssl_cert_reqs=none")[0].level == "ok"
        monkeypatch.setenv("SSL_CERT_FILE", str(ca.ca_file))
        assert examine(f"rediss://127.0.0.1:{tls}/0")[0].level == "ok"
        with server.client() as client:
            client.config_set("tls-auth-clients", "yes")
        assert "ssl_certfile=PATH" in only(f"rediss://127.0.0.1:{tls}/0")


# --- a server that answers and takes nothing ----------------------------------------------------------------


def be_full(redis: Redis) -> None:
    redis.config_set("maxmemory", 1)


def be_a_replica(redis: Redis) -> None:
    redis.replicaof("127.0.0.1", "9")


def lack_replicas(redis: Redis) -> None:
    redis.config_set("min-replicas-to-write", 1)


def lose_its_folder(redis: Redis) -> None:
    folder = Path(redis.config_get("dir")["dir"])
    redis.config_set("save", "1 1")
    shutil.rmtree(folder)
    until = time.monotonic() + 20
    while redis.info("persistence")["rdb_last_bgsave_status"] == "ok":
        with pytest.MonkeyPatch.context():
            try:
                redis.set("a", 1)
                redis.bgsave()
            except RedisError:
                pass
        assert time.monotonic() < until
        time.sleep(0.05)


@pytest.mark.parametrize(
    ("harm", "words"),
    [
        (be_full, "is full: raise maxmemory"),
        (be_a_replica, "is a read-only replica: name the primary"),
        (lack_replicas, "has too few replicas"),
        (lose_its_folder, "is its disk full or read-only?"),
    ],
)
def test_a_redis_that_answers_and_takes_nothing(
    tmp_path: Path, harm: Callable[[Redis], None], words: str
) -> None:
    with RedisOnPort(tmp_path / "redis") as server, server.client() as redis:
        assert examine(server.url)[0].level == "ok"
        harm(redis)
        assert words in only(server.url)


def test_limits(tmp_path: Path) -> None:
    with RedisOnPort(tmp_path, "--maxclients", "1") as server:
        assert "has no database of that number" in only(f"redis://127.0.0.1:{server.port}/99")
        with server.client() as one:
            one.ping()
            assert "raise maxclients" in only(server.url)


def test_a_service_that_refuses_info_is_used_all_the_same(server: RedisOnPort, redis: Redis) -> None:
    redis.execute_command(
        "ACL SETUSER", "hosted", "reset", "on", ">p", "~*", "+@all", "-@dangerous", "-@admin"
    )
    levels = [finding.level for finding in examine(address(server, "hosted:p@")) if finding.what == "redis"]
    assert levels == ["warning"]
