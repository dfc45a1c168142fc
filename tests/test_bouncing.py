"""A bounce is attached to the delivery that it reports on, and never shown to the agent."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.agent_server import AgentServer
from tests.rig import Rig, mail

pytestmark = pytest.mark.servers("dovecot")

BOUNCE = """\
Return-Path: <>
From: Mail Delivery System <MAILER-DAEMON@mx.example.test>
To: agent@cleo.test
Subject: Undelivered Mail Returned to Sender
Message-ID: <bounce1@mx.example.test>
MIME-Version: 1.0
Content-Type: multipart/report; report-type=delivery-status; boundary=b

--b
Content-Type: text/plain

I'm sorry to have to inform you that your message could not be delivered.

--b
Content-Type: message/delivery-status

Reporting-MTA: dns; mx.example.test

Final-Recipient: rfc822; customer1@example.test
Action: failed
Status: 5.1.1
Diagnostic-Code: smtp; 550 5.1.1 user unknown

--b
Content-Type: text/rfc822-headers

From: agent@cleo.test
Message-ID: {message_id}

--b--
"""


def test_a_bounce_lands_on_the_record_of_the_delivery(tmp_path: Path, redis_url: str) -> None:
    with AgentServer() as agent, Rig(tmp_path, redis_url, env={"CLEO_AGENT": agent.url}) as rig:
        rig.channel.start_web()
        rig.channel.start_worker()
        rig.deliver(mail(1))
        rig.channel.wait(lambda: rig.channel.records("replied"))
        (record,) = rig.channel.records("replied")
        rig.deliver(BOUNCE.format(message_id=record["reply_message_id"]).replace("\n", "\r\n").encode())
        rig.channel.wait(lambda: rig.channel.records("ignored"))
        after = rig.channel.get(f"/email/messages/{record['id']}")[1]
        assert after["state"] == "replied"
        assert after["reason"].startswith("bounced: 5.1.1 customer1@example.test: ")
        assert "user unknown" in after["reason"]
        assert after["history"][-1]["reason"] == after["reason"]
        assert len(agent.requests()) == 1
        assert len(rig.replies()) == 1
