"""Fixtures that several rooms share, and what becomes of tests whose servers or corpora are missing.

``@pytest.mark.servers("dovecot", "postfix")`` names the programs that a test needs: without one of them it is
skipped, and the run says so at its end. With ``CLEO_REQUIRE_SERVERS=1`` such a skip is a failure. A skip for
want of the corpora never is: they are no part of the repository, and messages of our own prove the same.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import TypeVar

import pytest

from cleo_email.embedded.mailserver import Certificates, write_certificates
from tests.support.corpora import CORPORA, MISSING
from tests.support.mail_server import FaithfulMailServer
from tests.support.redis_server import RedisServer
from tests.support.signals import give_children_default_signals

_SEARCH_PATH = os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/usr/local/sbin"])
_INSTALL = re.compile(r"(apt-get|pip) install")
Report = TypeVar("Report", pytest.TestReport, pytest.CollectReport)
_PACKAGES = {
    "redis-server": "redis-server",
    "dovecot": "dovecot-imapd dovecot-lmtpd",
    "postfix": "postfix",
    "nginx": "nginx-light",
    "chromium": "chromium",
    "promtool": "prometheus",
}


# --- fixtures -----------------------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def corpora() -> Path:
    """Folder of real messages: ``CLEO_CORPORA``, else ``../shared/corpora`` beside the project."""
    if not CORPORA.is_dir():
        pytest.skip(MISSING)
    return CORPORA


@pytest.fixture(scope="session")
def redis_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    """One Redis for the whole run; a test that kills or stops it starts a ``RedisServer`` of its own."""
    with RedisServer(tmp_path_factory.mktemp("redis")) as server:
        yield server


@pytest.fixture
def redis_url(redis_server: RedisServer) -> str:
    """The URL of an empty Redis."""
    with redis_server.client() as client:
        client.flushall()
    return redis_server.url


@pytest.fixture(scope="session")
def ca(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    """A certificate authority with a server certificate for localhost, 127.0.0.1 and ::1."""
    return write_certificates(tmp_path_factory.mktemp("certificates"))


@pytest.fixture
def mail_server(tmp_path: Path, ca: Certificates) -> Iterator[FaithfulMailServer]:
    """Empty mailboxes of an agent and a customer, by IMAP and SMTP with TLS."""
    with FaithfulMailServer(tmp_path, certificates=ca) as server:
        yield server


def pytest_configure() -> None:
    give_children_default_signals()


@pytest.hookimpl(optionalhook=True, wrapper=True)
def pytest_xdist_auto_num_workers() -> Generator[None, int, int]:
    """Two workers for each core: half of the time passes with waiting for processes and for their clocks."""
    cores = yield
    return cores if "PYTEST_XDIST_AUTO_NUM_WORKERS" in os.environ else 2 * cores


# --- script/test --quick ------------------------------------------------------------------------------------

# What starts the whole channel, kills it, or waits for its clocks: two thirds of the time of all tests.
SLOW = (
    *(
        "cli",
        "crash",
        "deploy",
        "embedded",
        "examples",
        "test_channel.py",
        "test_package.py",
        "test_postfix.py",
    ),
    *(
        "test_two_instances.py",
        "test_walk.py",
        "monitoring/test_prometheus.py",
        "oauth/test_channel_oauth.py",
    ),
    *("monitoring/test_events.py", "imap/test_faults.py", "mail/test_compose_properties.py"),
    *("pipeline/test_who_sees_what.py", "web/test_hardening.py", "worker/test_process.py"),
    *("pipeline/test_login_limit.py", "pipeline/test_people_model.py", "pipeline/test_poll_histories.py"),
    *("pipeline/test_poll_marks.py", "pipeline/test_poll_poison.py", "pipeline/test_recover.py"),
    *("pipeline/test_send_channel.py", "screening/test_slow_dns.py", "smtp/test_servers.py"),
    *("smtp/test_transaction.py", "store/test_failover.py", "store/test_unsupported_servers.py"),
    *(
        "web/operator/test_browser.py",
        "web/test_bodies.py",
        "web/test_openapi.py",
        "webhooks/test_odd_fields.py",
    ),
    *("worker/test_arrival.py", "worker/test_async_agent.py", "worker/test_schedulers.py"),
)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--quick", action="store_true", help="leave out tests that take seconds each, or servers"
    )


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if config.getoption("--quick"):
        slow = tuple(str(Path(__file__).parent / name) for name in SLOW)
        left_out = {
            one for one in items if one.get_closest_marker("servers") or str(one.path).startswith(slow)
        }
        config.hook.pytest_deselected(items=list(left_out))
        items[:] = [one for one in items if one not in left_out]


# --- missing servers ----------------------------------------------------------------------------------------


def pytest_runtest_setup(item: pytest.Item) -> None:
    for marker in item.iter_markers("servers"):
        missing = [name for name in marker.args if not shutil.which(name, path=_SEARCH_PATH)]
        if missing:
            packages = " ".join(_PACKAGES.get(name, name) for name in missing)
            pytest.skip(f"{', '.join(missing)} not installed: apt-get install {packages}")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    if report.skipped and MISSING in str(report.longrepr):
        # As if skipped at one place: then the summary has one line for them all.
        report.longrepr = (__file__, 0, f"Skipped: {MISSING}")
    return _forbidden_skip(report, needs_servers=item.get_closest_marker("servers") is not None)


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(
    collector: pytest.Collector,
) -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    report = yield
    return _forbidden_skip(report, needs_servers=False)


def _forbidden_skip(report: Report, *, needs_servers: bool) -> Report:
    """Turn a skip into a failure where the servers must be there."""
    if not report.skipped or hasattr(report, "wasxfail") or not os.environ.get("CLEO_REQUIRE_SERVERS"):
        return report
    reason = str(report.longrepr[2] if isinstance(report.longrepr, tuple) else report.longrepr)
    if MISSING not in reason and (needs_servers or _INSTALL.search(reason)):
        report.outcome = "failed"
        report.longrepr = f"CLEO_REQUIRE_SERVERS is set, and this was skipped: {reason}"
    return report


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    reports = terminalreporter.stats.get("skipped", [])
    skipped = sum(
        "servers" in getattr(report, "keywords", ()) or bool(_INSTALL.search(str(report.longrepr)))
        for report in reports
    )
    if skipped:
        terminalreporter.section("SERVERS MISSING", sep="!", red=True, bold=True)
        terminalreporter.line(
            f"{skipped} tests against real servers did not run; the lines below name the packages."
        )
