"""Kept-alive sessions: reuse, staleness, limits, deadlines, threads."""

from __future__ import annotations

import json
import os
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from cleo_email.accounts import Login, SmtpAccount
from cleo_email.errors import StoreUnavailable, SubmissionError, SubmissionUnavailable, SubmissionUncertain
from cleo_email.smtp.pool import Submitter
from cleo_email.smtp.session import SmtpConnection, SmtpTimeouts, own_name
from tests.smtp.test_transaction import HASTY, LARGE, PATIENT, mail_to
from tests.support.smtp_server import Fault, SmtpServer, read_mails

ROOT = Path(__file__).resolve().parent.parent.parent


@pytest.fixture
def server() -> Iterator[SmtpServer]:
    with SmtpServer() as running:
        yield running


@pytest.fixture
def submitter(server: SmtpServer) -> Iterator[Submitter]:
    with Submitter(server.account(), context=server.client_context(), timeouts=PATIENT) as made:
        yield made


@pytest.fixture
def hasty(server: SmtpServer) -> Iterator[Submitter]:
    with Submitter(server.account(), context=server.client_context(), timeouts=HASTY) as made:
        yield made


def send(submitter: Submitter) -> None:
    submitter.submit(mail_to(), before_end_of_data=lambda: None)


def test_one_connection_carries_many_mails(server: SmtpServer, submitter: Submitter) -> None:
    for _ in range(20):
        send(submitter)
    assert len(server.mails) == 20
    assert server.connections == 1
    assert sum(line.startswith("AUTH") for line in server.commands) == 1


def test_a_connection_is_replaced_after_its_share(server: SmtpServer) -> None:
    with Submitter(
        server.account(), context=server.client_context(), timeouts=PATIENT, mails_per_connection=3
    ) as submitter:
        for _ in range(7):
            send(submitter)
    assert [mail.connection for mail in server.mails] == [1, 1, 1, 2, 2, 2, 3]
    server.wait_for(lambda seen: seen.commands.count("QUIT") == 3)


def test_an_idle_connection_is_closed(server: SmtpServer) -> None:
    with Submitter(
        server.account(), context=server.client_context(), timeouts=PATIENT, idle_seconds=0.1
    ) as submitter:
        send(submitter)
        server.wait_for(lambda seen: seen.open_connections == 0)
        assert server.commands[-1] == "QUIT"
        send(submitter)
        server.wait_for(lambda seen: seen.open_connections == 0)
    assert server.connections == 2


def test_nothing_waits_for_a_delayed_acknowledgement(
    server: SmtpServer, submitter: Submitter, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Small writes sent at once in the handshake cost 40 ms, and so does a final dot that is not."""
    seen: list[tuple[str, bool]] = []
    opened: list[SmtpConnection] = []
    secure = SmtpConnection.secure

    def look(moment: str) -> None:
        assert opened[-1].sock is not None
        seen.append((moment, opened[-1].sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) != 0))

    def looked_at(connection: SmtpConnection, context: ssl.SSLContext, host: str) -> None:
        opened.append(connection)
        look("handshake")
        secure(connection, context, host)

    monkeypatch.setattr(SmtpConnection, "secure", looked_at)
    for _ in range(2):
        submitter.submit(mail_to(), before_end_of_data=lambda: look("dot"))
    assert seen == [("handshake", False), ("dot", True), ("dot", True)]
    assert len(server.mails) == 2


def test_close_says_quit(server: SmtpServer, submitter: Submitter) -> None:
    send(submitter)
    submitter.close()
    server.wait_for(lambda seen: seen.open_connections == 0)
    assert server.commands[-1] == "QUIT"
    submitter.close()


def test_a_restarted_server_is_not_noticed(server: SmtpServer, submitter: Submitter) -> None:
    send(submitter)
    server.hang_up_all()
    server.wait_for(lambda seen: seen.open_connections == 0)
    send(submitter)
    assert len(server.mails) == 2


@pytest.mark.parametrize("stage", ["mail", "rcpt", "data", "body"])
@pytest.mark.parametrize("action", ["drop", "silence", "421 4.4.2 idle for too long"])
def test_a_stale_connection_is_replaced_once(
    server: SmtpServer, hasty: Submitter, stage: str, action: str
) -> None:
    send(hasty)
    if (stage, action) == ("body", "silence"):
        stage = "data"  # after a silent body the outcome is uncertain
    server.inject(f"{stage}={action}")
    calls: list[int] = []
    hasty.submit(mail_to(size=LARGE if stage == "body" else 0), before_end_of_data=lambda: calls.append(1))
    assert len(server.mails) == 2
    assert server.connections == 2
    assert calls == [1]


@pytest.mark.parametrize("stage", ["mail", "data"])
def test_a_second_failure_is_reported(server: SmtpServer, submitter: Submitter, stage: str) -> None:
    send(submitter)
    server.inject(f"{stage}*0=drop")
    with pytest.raises(SubmissionUnavailable):
        send(submitter)
    assert server.connections == 2
    assert len(server.mails) == 1


@pytest.mark.parametrize("reply", ["452 4.5.3 too many mails in this session", "530 5.7.57 log in again"])
def test_a_session_at_its_own_limit_is_replaced(server: SmtpServer, submitter: Submitter, reply: str) -> None:
    send(submitter)
    server.inject(f"mail={reply}")
    send(submitter)
    assert [mail.connection for mail in server.mails] == [1, 2]


@pytest.mark.parametrize("stage", ["mail", "rcpt", "data", "body"])
@pytest.mark.parametrize(
    "reply",
    [
        "530 5.7.0 Authentication required",
        "535 5.7.8 log in first",
        "538 5.7.11 encryption required",
        "550 5.7.1 session expired",
        "550 5.1.1 unknown",
        "450 4.7.1 too many mails in this session",
        "503 5.5.1 bad sequence",
        "550 5.4.5 daily limit exceeded",
    ],
)
def test_a_refusal_on_a_kept_session_counts_once_a_new_one_brings_it_too(
    server: SmtpServer, submitter: Submitter, stage: str, reply: str
) -> None:
    send(submitter)
    server.inject(f"{stage}={reply}")
    calls: list[int] = []
    mail = mail_to(size=LARGE if stage == "body" else 0)
    submitter.submit(mail, before_end_of_data=lambda: calls.append(1))
    assert [one.connection for one in server.mails] == [1, 2]
    assert calls == [1]


def test_one_of_two_recipients_refused_on_a_kept_session(server: SmtpServer, submitter: Submitter) -> None:
    send(submitter)
    server.inject("rcpt/bob=550 5.7.1 relaying denied")
    receipt = submitter.submit(mail_to("alice@example.org", "bob@example.org"), before_end_of_data=list)
    assert not receipt.refused
    assert [len(one.recipients) for one in server.mails] == [1, 2]


def test_doubts_in_vain_cost_few_logins(server: SmtpServer, submitter: Submitter) -> None:
    """Many unknown recipients one after the other: each is refused, and no session is at fault."""
    send(submitter)
    server.inject("rcpt*0=550 5.1.1 unknown")
    for _ in range(20):
        with pytest.raises(SubmissionError, match=r"5\.1\.1"):
            send(submitter)
    assert server.connections == 2


@pytest.mark.parametrize("reply", ["530 5.7.0 log in", "535 5.7.8 no", "550 5.1.1 unknown", "451 4.3.0 no"])
def test_after_the_dot_a_refusal_counts_at_once(server: SmtpServer, submitter: Submitter, reply: str) -> None:
    send(submitter)
    server.inject(f"dot={reply}")
    with pytest.raises(SubmissionError, match=reply):
        send(submitter)
    assert server.connections == 1


@pytest.mark.parametrize("action", ["drop", "accept+drop", "silence"])
def test_after_the_dot_nothing_is_tried_twice(server: SmtpServer, hasty: Submitter, action: str) -> None:
    send(hasty)
    server.inject(f"dot={action}")
    with pytest.raises(SubmissionUncertain):
        send(hasty)
    assert server.connections == 1
    assert len(server.mails) == (2 if "accept" in action else 1)


def test_421_after_the_dot_is_not_tried_again_here(server: SmtpServer, submitter: Submitter) -> None:
    send(submitter)
    server.inject("dot=421 4.3.2 shutting down")
    calls: list[int] = []
    with pytest.raises(SubmissionUnavailable):
        submitter.submit(mail_to(), before_end_of_data=lambda: calls.append(1))
    assert calls == [1]
    assert server.connections == 1


def test_a_refused_mail_leaves_a_clean_session(server: SmtpServer, submitter: Submitter) -> None:
    server.inject("rcpt=550 5.1.1 unknown", "dot=451 4.3.0 not now", "dot=550 5.7.1 spam")
    for _ in range(3):
        with pytest.raises(SubmissionError):
            send(submitter)
    send(submitter)
    assert server.connections == 1
    assert server.commands.count("RSET") == 3
    assert server.mails[0].recipients == ("alice@example.org",)


def test_a_session_that_refuses_rset_is_given_up(server: SmtpServer, submitter: Submitter) -> None:
    server.inject("rcpt=550 5.1.1 unknown", "rset=drop")
    with pytest.raises(SubmissionError, match=r"5\.1\.1"):
        send(submitter)
    send(submitter)
    assert server.connections == 2


def test_a_raising_hook_costs_the_connection(server: SmtpServer, submitter: Submitter) -> None:
    def hook() -> None:
        raise StoreUnavailable("away")

    send(submitter)
    with pytest.raises(StoreUnavailable):
        submitter.submit(mail_to(), before_end_of_data=hook)
    server.wait_for(lambda seen: seen.incomplete == 1)
    send(submitter)
    assert [mail.connection for mail in server.mails] == [1, 2]


@pytest.mark.parametrize("stage", ["connect", "ehlo", "mail", "data"])
@pytest.mark.parametrize("action", ["drip", "silence", "flood"])
def test_the_total_deadline_holds_against_a_server_that_plays_for_time(
    server: SmtpServer, stage: str, action: str
) -> None:
    slow = SmtpTimeouts(connect=60, read=60, end_of_data=0.2, total=0.7)
    server.inject(f"{stage}*0={action}")
    with Submitter(server.account(), context=server.client_context(), timeouts=slow) as submitter:
        began = time.monotonic()
        with pytest.raises(SubmissionUnavailable):
            send(submitter)
        took = time.monotonic() - began
    assert took < 10
    if action != "flood":  # which ends at once: it is no answer
        assert took > slow.total - slow.end_of_data - 0.01  # what is left is for the final dot


def test_the_deadline_holds_against_a_server_that_does_not_read(server: SmtpServer) -> None:
    slow = SmtpTimeouts(connect=60, read=60, end_of_data=0.2, total=1.2)
    server.inject("mail=wait")  # the gate stays shut: what follows is never read
    with Submitter(server.account(), context=server.client_context(), timeouts=slow) as submitter:
        began = time.monotonic()
        with pytest.raises(SubmissionUnavailable):
            submitter.submit(mail_to(size=20_000_000), before_end_of_data=lambda: None)
        assert 0.99 < time.monotonic() - began < 20


def test_at_most_four_connections(server: SmtpServer) -> None:
    server.inject("dot*0=wait")
    patient = SmtpTimeouts(read=10, end_of_data=10, total=30)
    with Submitter(server.account(), context=server.client_context(), timeouts=patient) as submitter:
        threads = [threading.Thread(target=send, args=(submitter,)) for _ in range(12)]
        for thread in threads:
            thread.start()
        server.wait_for(lambda seen: seen.commands.count("DATA") == 4)
        assert server.connections == 4
        server.gate.set()
        for thread in threads:
            thread.join(20)
        assert server.connections == 4
        assert len(server.mails) == 12


def test_no_free_connection_is_temporary(server: SmtpServer) -> None:
    server.inject("dot=wait")
    patient = SmtpTimeouts(read=20, end_of_data=20, total=21)
    with Submitter(
        server.account(), context=server.client_context(), timeouts=patient, max_connections=1
    ) as submitter:
        thread = threading.Thread(target=send, args=(submitter,))
        thread.start()
        server.wait_for(lambda seen: "DATA" in seen.commands)
        with pytest.raises(SubmissionUnavailable, match="became free"):
            send(submitter)
        server.gate.set()
        thread.join(20)
    assert len(server.mails) == 1


def test_a_session_in_use_at_close_ends_with_its_mail(server: SmtpServer) -> None:
    server.inject("dot=wait")
    patient = SmtpTimeouts(read=10, end_of_data=10, total=30)
    submitter = Submitter(server.account(), context=server.client_context(), timeouts=patient)
    thread = threading.Thread(target=send, args=(submitter,))
    thread.start()
    server.wait_for(lambda seen: "DATA" in seen.commands)
    submitter.close()
    server.gate.set()
    thread.join(20)
    server.wait_for(lambda seen: seen.open_connections == 0)
    assert len(server.mails) == 1


@pytest.mark.parametrize(
    ("hostname", "address", "name"),
    [
        ("mail.example.org", "192.0.2.1", "mail.example.org"),
        ("localhost", "127.0.0.1", "[127.0.0.1]"),
        ("my_host.example", "192.0.2.1", "[192.0.2.1]"),
        ("büro.local", "192.0.2.1", "[192.0.2.1]"),
        ("host.1", "192.0.2.1", "[192.0.2.1]"),
        ("-a.example.org", "fe80::1%eth0", "[IPv6:fe80::1]"),
        ("", "::1", "[IPv6:::1]"),
        ("x" * 300 + ".org", "", "[127.0.0.1]"),
    ],
)
def test_the_name_in_ehlo(hostname: str, address: str, name: str) -> None:
    assert own_name(hostname, address) == name


def test_the_server_as_a_process(tmp_path: Path) -> None:
    command = [
        sys.executable,
        "-m",
        "tests.support.smtp_server",
        "--directory",
        str(tmp_path),
        "--fault",
        "dot=accept+drop",
    ]
    with subprocess.Popen(
        command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=os.environ
    ) as process:
        assert process.stdout is not None
        ready = json.loads(process.stdout.readline())
        context = ssl.create_default_context(cafile=ready["ca"])
        account = SmtpAccount("127.0.0.1", ready["port"], Login("cleo", "geheim"))
        with Submitter(account, context=context, timeouts=PATIENT) as submitter:
            with pytest.raises(SubmissionUncertain):
                send(submitter)
            send(submitter)
        process.communicate(b"", timeout=30)
        assert process.returncode == 0
    mails = list(read_mails(tmp_path))
    assert [mail.recipients for mail in mails] == [("alice@example.org",)] * 2
    assert mails[0].source == mail_to().source


def test_the_language_of_faults() -> None:
    assert Fault.parse("rcpt/bob@+2*3=450 4.2.0 a=b") == Fault("rcpt", "450 4.2.0 a=b", "bob@", 2, 3)
    assert Fault.parse("dot=drop") == Fault("dot", "drop")
    with pytest.raises(ValueError, match="not a fault"):
        Fault.parse("nowhere=drop")
