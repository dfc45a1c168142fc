"""The main job from outside: mail in by IMAP and webhook, one threaded answer each, on real servers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.agent_server import AgentServer
from tests.support.channel import Rig
from tests.support.mails import AGENT, mail, text_of

pytestmark = pytest.mark.servers("dovecot")


@pytest.fixture
def rig(tmp_path: Path, redis_url: str) -> Iterator[Rig]:
    with Rig(tmp_path, redis_url) as rig:
        yield rig


def post_body(number: int, **fields: str) -> dict[str, str]:
    return {
        "from_address": f"Caller {number} <caller{number}@example.test>",
        "to_address": AGENT,
        "subject": f"Web {number}",
        "body": f"This is web question {number}.",
        "message_id": f"<w{number}@example.test>",
        **fields,
    }


def test_forty_mails_by_both_ways_are_answered_once_each_in_order_and_threaded(rig: Rig) -> None:
    rig.start_web()
    rig.deliver(*(mail(n) for n in range(19)))
    rig.deliver(
        mail(19, sender="customer0@example.test", subject="Re: Question 0", references="<q0@example.test>")
    )
    for n in range(19):
        status, answer = rig.post(post_body(n))
        assert (status, answer["status"], answer["thread_id"]) == (202, "accepted", f"<w{n}@example.test>")
    last = post_body(
        19, from_address="caller0@example.test", subject="AW: Web 0", references="<w0@example.test>"
    )
    status, answer = rig.post(last)
    assert (status, answer["thread_id"]) == (202, "<w0@example.test>")
    assert rig.unseen() == 20, "nothing may be marked before a worker has stored it"

    rig.start_worker()
    rig.wait(lambda: len(rig.records("replied")) == 40)

    records = rig.records()
    assert len(records) == 40
    replies = rig.replies()
    assert len(replies) == 40
    answered = Counter(reply["In-Reply-To"] for reply in replies)
    assert set(answered.values()) == {1}
    assert set(answered) == {record["message_id"] for record in records}
    for reply in replies:
        assert reply["References"].split()[-1] == reply["In-Reply-To"]
        assert reply["Subject"].startswith("Re: ")
        assert not reply["Subject"].startswith("Re: Re:")
        assert reply["Auto-Submitted"] == "auto-replied"
    order = [reply["In-Reply-To"] for reply in replies]
    for first, second in (
        ("<q0@example.test>", "<q19@example.test>"),
        ("<w0@example.test>", "<w19@example.test>"),
    ):
        assert order.index(first) < order.index(second)
        late = next(reply for reply in replies if reply["In-Reply-To"] == second)
        assert late["References"].split() == [first, second]
    assert rig.unseen() == 0
    with rig.imap() as client:
        client.select_folder("INBOX", readonly=True)
        rig.wait(lambda: len(client.search(["ANSWERED", "KEYWORD", "$CleoReplied"])) == 20)


def test_only_the_final_answer_is_mailed_whatever_tools_come_before(tmp_path: Path, redis_url: str) -> None:
    with AgentServer(tools=3) as agent, Rig(tmp_path, redis_url, env={"CLEO_AGENT": agent.url}) as rig:
        rig.start_worker()
        rig.deliver(mail(1, text="What is it?"))
        rig.smtp.wait_for(lambda server: len(server.mails) == 1, 20)
        rig.start_web()
        rig.wait(lambda: rig.records("replied"))
        (reply,) = rig.replies()
        assert text_of(reply) == "final: What is it?"
        assert b"tool result" not in rig.smtp.mails[0].source
        assert b"thinking" not in rig.smtp.mails[0].source
        (asked,) = agent.requests()
        assert asked["key"] == asked["id"] == rig.records()[0]["id"]
        assert asked["message"]["from_address"] == "customer1@example.test"


def test_the_same_mail_by_imap_and_by_webhook_gets_one_reply(rig: Rig) -> None:
    rig.start_web()
    rig.start_worker()
    rig.deliver(mail(1))
    rig.smtp.wait_for(lambda server: len(server.mails) == 1, 20)
    status, answer = rig.post(
        post_body(
            1, from_address="customer1@example.test", subject="Question 1", message_id="<q1@example.test>"
        )
    )
    assert (status, answer["status"]) == (200, "duplicate")
    status, first = rig.post(post_body(2, message_id="<q2@example.test>", subject="Question 2",
                                               from_address="customer2@example.test"))  # fmt: skip
    assert status == 202
    rig.deliver(mail(2))
    rig.wait(lambda: rig.unseen() == 0)
    rig.wait(lambda: len(rig.records("replied")) == 2)
    records = rig.records()
    assert {record["id"] for record in records} == {answer["id"], first["id"]}
    with rig.imap() as client:
        client.select_folder("INBOX", readonly=True)
        rig.wait(lambda: len(client.search(["ANSWERED"])) == 2)
    assert Counter(reply["In-Reply-To"] for reply in rig.replies()) == {
        "<q1@example.test>": 1,
        "<q2@example.test>": 1,
    }


def test_two_threads_of_one_sender_at_once_get_their_own_answers(tmp_path: Path, redis_url: str) -> None:
    with AgentServer(delay=0.5) as agent, Rig(tmp_path, redis_url, env={"CLEO_AGENT": agent.url}) as rig:
        rig.deliver(
            mail(1, sender="anna@example.test", text="about apples"),
            mail(2, sender="anna@example.test", text="about pears"),
        )
        rig.start_worker()
        rig.smtp.wait_for(lambda server: len(server.mails) == 2, 20)
        answers = {reply["In-Reply-To"]: text_of(reply) for reply in rig.replies()}
        assert answers == {
            "<q1@example.test>": "final: about apples",
            "<q2@example.test>": "final: about pears",
        }
        assert all(request["history"] == [] for request in agent.requests())


def test_a_thread_goes_on_with_its_history_and_a_stranger_gets_none_of_it(
    tmp_path: Path, redis_url: str
) -> None:
    with AgentServer() as agent, Rig(tmp_path, redis_url, env={"CLEO_AGENT": agent.url}) as rig:
        rig.start_web()
        rig.start_worker()
        rig.post(post_body(1, from_address="anna@example.test", body="my secret is 4711"))
        rig.smtp.wait_for(lambda server: len(server.mails) == 1, 20)
        ours = rig.replies()[0]["Message-ID"]
        # A client that leaves References out: our own Message-ID alone leads to the thread.
        status, answer = rig.post(
            post_body(2, from_address="Anna <ANNA@example.test>", in_reply_to=ours, body="and now?")
        )
        assert (status, answer["thread_id"]) == (202, "<w1@example.test>")
        # Somebody who was told the ids quotes them.
        quoting = {"in_reply_to": ours, "references": f"<w1@example.test> {ours}"}
        status, answer = rig.post(post_body(3, from_address="mallory@example.test", **quoting))
        assert (status, answer["thread_id"]) == (202, "<w3@example.test>")
        rig.wait(lambda: len(rig.records("replied")) == 3)
        histories = {request["message"]["message_id"]: request["history"] for request in agent.requests()}
        assert histories["<w2@example.test>"] == [
            {"role": "user", "content": "my secret is 4711"},
            {"role": "assistant", "content": "final: my secret is 4711"},
        ]
        assert histories["<w3@example.test>"] == []


@pytest.mark.parametrize("rights", ["lrp", "lrwp"])
def test_a_mailbox_that_may_only_be_read_is_told_of_until_it_may_be_written(
    tmp_path: Path, redis_url: str, rights: str
) -> None:
    """RFC 4314: without ``s`` nothing can be marked as seen. Nothing is answered then, and nothing lost."""
    with Rig(tmp_path, redis_url) as rig:
        rules = rig.dovecot.home / "acl"
        rules.write_text(f"INBOX user={AGENT} {rights}\n")
        plugins = f"mail_plugins = acl\nplugin {{\n  acl = vfile:{rules}\n}}\n"
        rig.dovecot.stop()
        rig.dovecot.extra = plugins
        rig.dovecot.start()
        rig.deliver(mail(1), mail(2))
        rig.start_web()
        rig.start_worker()
        rig.wait(lambda: "read-only" in str(rig.get("/readyz")[1]))
        done = rig.run("check")
        assert done.returncode == 1
        (line,) = [line for line in done.stdout.splitlines() if line.startswith("WRONG")]
        assert "imap" in line
        assert "READ-ONLY" in line
        assert rig.records() == []
        rules.write_text(f"INBOX user={AGENT} lrwstip\n")
        rig.wait(lambda: len(rig.records("replied")) == 2)
        rig.wait(lambda: not rig.unseen())
        assert len(rig.replies()) == 2


@pytest.mark.parametrize("which", ["imap", "smtp"])
def test_a_server_whose_certificate_is_not_trusted_is_refused(
    tmp_path: Path, redis_url: str, which: str
) -> None:
    with Rig(tmp_path, redis_url) as rig:
        half = tmp_path / "half.pem"
        other = rig.smtp.ca.cert_pem.bytes() if which == "imap" else rig.dovecot.ca_file.read_bytes()
        half.write_bytes(other)
        done = rig.run("check", SSL_CERT_FILE=str(half))
        assert done.returncode == 1
        (line,) = [line for line in done.stdout.splitlines() if line.startswith("WRONG")]
        assert which in line
        assert "SSL_CERT_FILE" in line
        rig.env["SSL_CERT_FILE"] = str(half)
        rig.start_web()
        rig.start_worker()
        if which == "imap":
            rig.deliver(mail(1))
            rig.wait(lambda: "SSL_CERT_FILE" in rig.get("/readyz")[1]["error"])
            assert rig.records() == []
        else:
            rig.post(post_body(1))
            rig.wait(lambda: rig.records("failed"))
            assert "SSL_CERT_FILE" in rig.records("failed")[0]["reason"]
        assert rig.smtp.mails == []


def test_a_killed_worker_loses_and_doubles_nothing(tmp_path: Path, redis_url: str) -> None:
    env = {"EMAIL_CONCURRENCY": "20"}
    with (
        AgentServer(delay=0.5) as agent,
        Rig(tmp_path, redis_url, env={"CLEO_AGENT": agent.url, **env}) as rig,
    ):
        rig.deliver(*(mail(n) for n in range(60)))
        rig.start_web()
        worker = rig.start_worker()
        rig.smtp.wait_for(lambda server: len(server.mails) >= 25, 30)
        rig.kill(worker)
        rig.start_worker()
        done = ("replied", "uncertain")
        rig.wait(lambda: sum(len(rig.records(state)) for state in done) == 60, 60)
        answered = Counter(reply["In-Reply-To"] for reply in rig.replies())
        assert set(answered.values()) == {1}
        lost = {record["message_id"] for record in rig.records()} - set(answered)
        assert lost <= {record["message_id"] for record in rig.records("uncertain")}
        assert len(answered) + len(lost) == 60
