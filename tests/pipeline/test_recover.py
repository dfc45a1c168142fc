"""After Redis was lost the mailbox shows what is still to be answered."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest
import redis as redis_client

from tests.support.agent_server import AgentServer
from tests.support.channel import Rig
from tests.support.mails import mail

pytestmark = pytest.mark.servers("dovecot")


def test_unanswered_mail_is_taken_up_again_and_answered_mail_is_not(tmp_path: Path, redis_url: str) -> None:
    with AgentServer() as agent, Rig(tmp_path, redis_url, env={"CLEO_AGENT": agent.url}) as rig:
        worker = rig.start_worker()
        rig.deliver(mail(1), mail(2))
        rig.smtp.wait_for(lambda server: len(server.mails) == 2, 20)
        with rig.imap() as imap:
            imap.select_folder("INBOX", readonly=True)
            rig.wait(lambda: len(imap.search(["ANSWERED"])) == 2)
        rig.smtp.inject(
            "mail*0=450 4.2.0 later"
        )  # accepted, thought about, not sent: then everything is lost
        rig.deliver(mail(3), mail(4, extra="Auto-Submitted: auto-replied"))
        rig.wait(lambda: rig.unseen() == 1 and len(agent.requests()) == 3)  # of the robot nobody is answered
        rig.kill(worker)
        with redis_client.Redis.from_url(redis_url) as client:
            client.flushall()
        rig.deliver(mail(5))
        with rig.imap() as imap:  # a person opened one that nobody accepted
            imap.select_folder("INBOX")
            imap.fetch(imap.search("UNSEEN"), ["BODY[]"])

        dry = json.loads(rig.run("recover", "--json").stdout)
        counts = ("answered", "taken_up", "ignored", "unknown", "applied")
        assert [dry[name] for name in counts] == [2, 1, 1, 1, False]
        text = rig.run("recover").stdout
        assert "nothing was changed" in text

        done = json.loads(rig.run("recover", "--json", "--apply").stdout)
        assert [done[name] for name in counts] == [2, 1, 1, 1, True]
        rig.smtp.clear_faults()
        rig.start_worker()
        rig.smtp.wait_for(lambda server: len(server.mails) == 3, 40)
        rig.start_web()
        rig.wait(lambda: len(rig.records("replied")) == 1)
        assert [r["message_id"] for r in rig.records("ignored")] == ["<q4@example.test>"]
        assert [r["message_id"] for r in rig.records("held")] == ["<q5@example.test>"]
        assert Counter(reply["In-Reply-To"] for reply in rig.replies()) == {
            "<q1@example.test>": 1,
            "<q2@example.test>": 1,
            "<q3@example.test>": 1,
        }
        again = json.loads(rig.run("recover", "--json", "--apply").stdout)
        assert again["taken_up"] == 0


def test_a_lost_flag_is_made_good_by_what_lies_in_sent(tmp_path: Path, redis_url: str) -> None:
    with Rig(tmp_path, redis_url) as rig:
        worker = rig.start_worker()
        rig.deliver(mail(1))
        rig.smtp.wait_for(lambda server: len(server.mails) == 1, 20)
        with rig.imap() as imap:
            rig.wait(lambda: imap.folder_exists("Sent") and imap.folder_status("Sent")[b"MESSAGES"] == 1)
            rig.kill(worker)
            imap.select_folder("INBOX")
            imap.set_flags(imap.search("ALL"), ["\\Seen", "$CleoAccepted"])
        with redis_client.Redis.from_url(redis_url) as client:
            client.flushall()
        done = json.loads(rig.run("recover", "--json", "--apply").stdout)
        assert (done["answered"], done["taken_up"]) == (1, 0)
        with rig.imap() as imap:
            imap.select_folder("INBOX", readonly=True)
            assert len(imap.search(["ANSWERED", "KEYWORD", "$CleoReplied"])) == 1
