from __future__ import annotations

import io
import os
import re
import select
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from cleo_email.embedded.supervisor import Command, Pace, Supervisor
from cleo_email.errors import CleoError

FAST = Pace(first_delay=0.02, longest_delay=0.1, healthy_after=60, grace=10)

# A child that says its pid, ends in good order on SIGTERM and otherwise lives on.
LIVING = """
import os, signal
signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])  # a handler and pause() would race with each other
os.write(1, f"pid {os.getpid()}\\n".encode())  # in one piece, whatever else writes there
signal.sigwait([signal.SIGTERM])
os.write(1, b"bye\\n")
"""
# A child that does not end on SIGTERM, and has a child of its own that does not either.
STUBBORN = """
import os, signal, subprocess, sys
signal.signal(signal.SIGTERM, signal.SIG_IGN)
if len(sys.argv) == 1:
    child = subprocess.Popen([sys.executable, __file__, "child"])
    os.write(1, f"grandchild {child.pid}\\n".encode())
os.write(1, f"pid {os.getpid()}\\n".encode())  # in one piece, whatever else writes there
while True:
    signal.pause()
"""
# Runs a supervisor in a main thread. Arguments: grace in seconds, then name=script ...
MAIN = """
import sys
from cleo_email.embedded.supervisor import Command, Pace, Supervisor
commands = [Command(name, [sys.executable, path]) for name, path in (a.split("=") for a in sys.argv[2:])]
sys.exit(Supervisor(commands, pace=Pace(0.05, 0.2, 60, float(sys.argv[1]))).run())
"""


class Script:
    """Writes little programs and gives the command that runs one."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def path(self, name: str, text: str) -> Path:
        path = self.folder / f"{name}.py"
        path.write_text(text)
        return path

    def __call__(self, name: str, text: str) -> Command:
        return Command(name, [sys.executable, str(self.path(name, text))])


@pytest.fixture
def script(tmp_path: Path) -> Script:
    return Script(tmp_path)


class Lines(io.FileIO):
    """A pipe for what processes write, which a test can wait on."""

    def __init__(self) -> None:
        self._source, sink = os.pipe()
        super().__init__(sink, "w")
        self.text = ""
        self._more = threading.Condition()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        while piece := os.read(self._source, 65536):
            with self._more:
                self.text += piece.decode("utf-8", "replace")
                self._more.notify_all()
        os.close(self._source)

    def whole(self) -> str:
        """All that was written, once nobody is left who could write more."""
        self.close()
        self._reader.join(30)
        assert not self._reader.is_alive()
        return self.text

    def wait_for(self, pattern: str, count: int = 1, timeout: float = 20) -> list[str]:
        with self._more:
            met = self._more.wait_for(lambda: len(re.findall(pattern, self.text)) >= count, timeout)
            assert met, f"{pattern!r} did not come {count} times in:\n{self.text}"
            return re.findall(pattern, self.text)


@pytest.fixture
def output() -> Iterator[Lines]:
    with Lines() as lines:
        yield lines


@contextmanager
def running(supervisor: Supervisor) -> Iterator[Callable[[], int]]:
    """In a thread; gives a function that waits for the end and returns the exit status."""
    status: list[int] = []
    thread = threading.Thread(target=lambda: status.append(supervisor.run()))
    thread.start()

    def wait() -> int:
        thread.join(30)
        assert not thread.is_alive()
        return status[0]

    try:
        yield wait
    finally:
        supervisor.stop()
        thread.join(30)


def gone(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    # A zombie whose new parent has not come round to reaping it runs no more either.
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return True


def assert_gone(pid: int, timeout: float = 10) -> None:
    deadline = time.monotonic() + timeout
    while not gone(pid):
        assert time.monotonic() < deadline, f"process {pid} still runs"
        select.select([], [], [], 0.01)


# --- output -------------------------------------------------------------------------------------------------


def test_both_streams_of_all_children_go_to_the_output(script: Script, output: Lines) -> None:
    text = """
import os, signal
signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])
os.write(1, b"out \\xff\\n")
os.write(2, b"err\\nunfin")
signal.sigwait([signal.SIGTERM])
os.write(1, b"ished")
"""
    supervisor = Supervisor([script("web", text)], output=output, pace=FAST)
    with running(supervisor) as wait:
        output.wait_for("err")
        supervisor.stop()
        assert wait() == 0
    assert output.whole() == "out \ufffd\nerr\nunfinished"


def test_an_output_of_its_own_takes_what_several_children_say(script: Script, output: Lines) -> None:
    supervisor = Supervisor([script("web", LIVING), script("worker", LIVING)], output=output, pace=FAST)
    with running(supervisor) as wait:
        pids = output.wait_for(r"(?m)^pid (\d+)$", count=2)
        assert {int(pid) for pid in pids} == set(supervisor.pids.values())
        supervisor.stop()
        assert wait() == 0


def test_without_an_output_the_children_write_where_we_write(script: Script, tmp_path: Path) -> None:
    command = script("web", "import sys\nprint('plain', flush=True)\nsys.exit(3)")
    done = subprocess.run(
        [
            sys.executable,
            "-c",
            "import sys; from cleo_email.embedded.supervisor import *; "
            "sys.exit(Supervisor([Command('web', sys.argv[1:])]).run())",
            *command.argv,
        ],
        capture_output=True,
        text=True,
        check=False,
        timeout=30,
    )
    assert done.returncode == 3
    assert done.stdout == "plain\n"
    assert done.stderr == "cleo-email: web ended with a settings fault; stopping everything\n"


def test_a_reader_that_went_away_stops_nothing(script: Script) -> None:
    source, sink = os.pipe()
    os.close(source)
    alive = script.folder / "alive"
    text = f"import pathlib\npathlib.Path({str(alive)!r}).open('a').write('x')\n"
    with io.FileIO(sink, "w") as output:
        supervisor = Supervisor([script("web", text)], output=output, pace=FAST)
        with running(supervisor) as wait:
            deadline = time.monotonic() + 20
            while not alive.exists() or alive.stat().st_size < 3:
                assert time.monotonic() < deadline
                select.select([], [], [], 0.01)
            supervisor.stop()
            assert wait() == 0


# --- restarts -----------------------------------------------------------------------------------------------


def test_a_child_that_ends_is_started_again_later_each_time_and_the_others_go_on(
    script: Script, output: Lines
) -> None:
    commands = [script("bad", "import sys; sys.exit(1)"), script("good", LIVING)]
    supervisor = Supervisor(commands, output=output, pace=FAST)
    with running(supervisor) as wait:
        delays = output.wait_for(r"exit status 1; starting it again in ([\d.]+) s", count=5)
        good = supervisor.pids["good"]
        supervisor.stop()
        assert wait() == 0
    assert delays[:5] == ["0.02", "0.04", "0.08", "0.1", "0.1"]
    assert re.findall(r"pid (\d+)", output.whole()) == [str(good)]


def test_the_product_waits_1_s_to_30_s_between_starts_and_28_s_for_the_end() -> None:
    assert Pace() == Pace(first_delay=1, longest_delay=30, healthy_after=60, grace=28)


def test_health_brings_the_delay_back(script: Script, output: Lines) -> None:
    pace = Pace(first_delay=0.02, longest_delay=10, healthy_after=0, grace=10)
    supervisor = Supervisor([script("bad", "raise SystemExit(0)")], output=output, pace=pace)
    with running(supervisor):
        delays = output.wait_for(r"exit status 0; starting it again in ([\d.]+) s", count=4)
    assert set(delays) == {"0.02"}


def test_a_killed_child_takes_what_it_started_along_before_it_is_started_again(
    script: Script, output: Lines
) -> None:
    pace = Pace(first_delay=0.02, longest_delay=0.1, grace=0.2)
    supervisor = Supervisor([script("web", STUBBORN)], output=output, pace=pace)
    with running(supervisor) as wait:
        first = int(output.wait_for(r"grandchild (\d+)")[0])
        output.wait_for(rf"pid {first}\n")
        os.kill(supervisor.pids["web"], signal.SIGKILL)
        output.wait_for("was ended by SIGKILL; starting it again")
        second = int(output.wait_for(r"grandchild (\d+)", count=2)[1])
        assert_gone(first)
        os.kill(supervisor.pids["web"], signal.SIGKILL)
        output.wait_for(r"grandchild (\d+)", count=3)
        assert_gone(second)
        supervisor.stop()
        assert wait() == 0
    for pid in re.findall(r"pid (\d+)", output.whole()):
        assert_gone(int(pid))


def test_a_program_that_is_not_there_is_named(script: Script, output: Lines) -> None:
    supervisor = Supervisor([Command("web", ["/no/such/program"])], output=output, pace=FAST)
    with running(supervisor):
        output.wait_for(r"/no/such/program: ", count=2)


def test_a_folder_that_is_not_there_does_not_end_the_supervisor(script: Script, output: Lines) -> None:
    absent = Command("bad", [sys.executable, "-c", ""], cwd=script.folder / "absent")
    supervisor = Supervisor([absent, script("good", LIVING)], output=output, pace=FAST)
    with running(supervisor) as wait:
        output.wait_for("bad .*could not be started: .*absent", count=2)
        output.wait_for("pid")
        supervisor.stop()
        assert wait() == 0


def test_a_settings_fault_ends_everything_with_its_status(script: Script, output: Lines) -> None:
    commands = [script("web", "import sys; sys.exit(3)"), script("worker", LIVING)]
    with running(Supervisor(commands, output=output, pace=FAST)) as wait:
        assert wait() == 3
    assert "starting it again" not in output.whole()
    for pid in re.findall(r"pid (\d+)", output.whole()):
        assert_gone(int(pid))


def test_the_environment_is_the_one_given(script: Script, output: Lines) -> None:
    text = "import os, signal\nprint(sorted({*os.environ} - {'LC_CTYPE'}), flush=True)\nsignal.pause()"
    argv = script("web", text).argv
    supervisor = Supervisor([Command("web", argv, env={"ONLY": "this"})], output=output, pace=FAST)
    with running(supervisor):
        assert output.wait_for(r"\[.*\]") == ["['ONLY']"]


def test_a_command_is_printed_without_its_environment() -> None:
    secret = "password-3f9c"
    assert secret not in repr(Command("web", ["x"], env={"EMAIL_PASSWORD": secret}))


def test_the_keeper_is_called_and_its_faults_are_reported(script: Script, output: Lines) -> None:
    calls: list[float] = []

    def keeper() -> None:
        calls.append(time.monotonic())
        raise CleoError("the cellar is flooded")

    with running(Supervisor([script("web", LIVING)], output=output, keeper=keeper, pace=FAST)) as wait:
        output.wait_for("the cellar is flooded", count=2)
    assert 0.9 < calls[1] - calls[0] < 20
    assert wait() == 0


# --- the end ------------------------------------------------------------------------------------------------


@contextmanager
def supervisor_process(grace: float, *scripts: str) -> Iterator[tuple[subprocess.Popen[bytes], Lines]]:
    command = [sys.executable, "-c", MAIN, str(grace), *scripts]
    with Lines() as output:
        process = subprocess.Popen(command, stdout=output, stderr=output)
        try:
            yield process, output
        finally:
            process.kill()
            process.wait()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal_stops_every_child_in_good_order(script: Script, number: signal.Signals) -> None:
    one, two = script.path("one", LIVING), script.path("two", LIVING)
    with supervisor_process(20, f"one={one}", f"two={two}") as (process, output):
        pids = output.wait_for(r"pid (\d+)", count=2)
        process.send_signal(number)
        assert process.wait(20) == 0
        output.wait_for("bye", count=2)
    for pid in pids:
        assert_gone(int(pid))


def test_a_child_that_does_not_end_is_killed_after_the_grace_with_all_that_it_started(script: Script) -> None:
    stubborn = script.path("stubborn", STUBBORN)
    with supervisor_process(0.3, f"stubborn={stubborn}") as (process, output):
        pids = output.wait_for(r"(?m)^pid (\d+)", count=2)
        begun = time.monotonic()
        process.terminate()
        assert process.wait(20) == 0
        assert time.monotonic() - begun >= 0.3
        output.wait_for("did not end in time; killed")
    for pid in pids:
        assert_gone(int(pid))


def test_a_second_ctrl_c_does_not_wait(script: Script) -> None:
    stubborn, living = script.path("stubborn", STUBBORN), script.path("living", LIVING)
    with supervisor_process(600, f"stubborn={stubborn}", f"living={living}") as (process, output):
        output.wait_for(r"(?m)^pid (\d+)", count=3)
        process.send_signal(signal.SIGINT)
        output.wait_for("bye")  # the first one has arrived
        process.send_signal(signal.SIGINT)
        assert process.wait(20) == 0


def test_a_repeated_sigterm_changes_nothing(script: Script) -> None:
    slow = LIVING.replace('os.write(1, b"bye\\n")', 'os.write(1, b"bye\\n"); os.read(os.open(F, 0), 1)')
    fifo = script.folder / "fifo"
    os.mkfifo(fifo)
    path = script.path("slow", f"import os\nF = {str(fifo)!r}\n{slow}")
    with supervisor_process(600, f"slow={path}") as (process, output):
        output.wait_for(r"pid (\d+)")
        process.terminate()
        output.wait_for("bye")
        process.terminate()
        process.terminate()
        release = os.open(fifo, os.O_RDWR)  # does not wait for a reader
        os.write(release, b"x")
        assert process.wait(20) == 0
        os.close(release)
    assert "killed" not in output.whole()


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux can bind a child to its parent")
def test_children_do_not_outlive_a_supervisor_that_is_killed(script: Script) -> None:
    one = script.path("one", LIVING)
    with supervisor_process(20, f"one={one}") as (process, output):
        pid = int(output.wait_for(r"pid (\d+)")[0])
        process.kill()
        process.wait()
        assert_gone(pid)


def test_it_leaves_no_zombie_and_gives_the_signals_back(script: Script) -> None:
    """A supervisor in a main thread, observed from inside its process."""
    text = """
import signal, sys, threading, subprocess, os
from cleo_email.embedded.supervisor import *
before = [signal.getsignal(n) for n in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGCHLD)]
s = Supervisor([Command("x", [sys.executable, "-c", "pass"])], pace=Pace(0.01, 0.01, 60, 5))
threading.Timer(0.5, s.stop).start()
assert s.run() == 0
after = [signal.getsignal(n) for n in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGCHLD)]
assert before == after, (before, after)
try:
    os.waitpid(-1, os.WNOHANG)
except ChildProcessError:
    print("clean")
"""
    done = subprocess.run(
        [sys.executable, "-c", text], capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.endswith("clean\n")
    assert "x ended with exit status 0" in done.stderr
