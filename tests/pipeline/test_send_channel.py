"""Cleo speaks first on real servers: large files, replies of real clients' shapes, kills, workflows."""

from __future__ import annotations

import random
import threading
from concurrent.futures import ThreadPoolExecutor
from email import message_from_bytes, policy
from email.message import EmailMessage
from pathlib import Path
from typing import Any

import pytest
from redis import Redis

from benchmarks.sends import run
from tests.support.agent_server import AgentServer
from tests.support.channel import Rig, pss_mb
from tests.support.mails import AGENT, text_of

pytestmark = pytest.mark.servers("dovecot")

ANNA = "anna@example.test"
CRLF = "\r\n"


def multipart(fields: dict[str, str], filename: str, data: bytes) -> tuple[bytes, dict[str, str]]:
    """A form with one file, as RFC 7578 has it."""
    parts = [f'name="{name}"\r\n\r\n{value}\r\n'.encode() for name, value in fields.items()]
    parts.append(f'name="attachments"; filename="{filename}"\r\n\r\n'.encode() + data + b"\r\n")
    lines = b"".join(b"--limit\r\nContent-Disposition: form-data; " + part for part in parts)
    return lines + b"--limit--\r\n", {"Content-Type": "multipart/form-data; boundary=limit"}


# --- large files --------------------------------------------------------------------------------------------


def test_five_large_files_at_once_arrive_as_they_were_in_bounded_memory(
    tmp_path: Path, redis_url: str
) -> None:
    data = random.Random(1).randbytes(20_000_000)
    body, headers = multipart({"to": AGENT, "subject": "large", "body": "see"}, "large.bin", data)
    # Base64 makes 27.4 MB of them, more than the 25 MiB that are allowed by default.
    with Rig(tmp_path, redis_url, env={"EMAIL_MAX_MESSAGE_BYTES": "41943040"}) as rig:
        web, worker = rig.start_web(), rig.start_worker()
        rig.wait(lambda: rig.get("/readyz")[0] == 200)
        over = threading.Event()
        peak: list[float] = []

        def watch() -> None:
            while not over.wait(0.1) and web.poll() is None:
                peak.append(pss_mb(web.pid) + pss_mb(worker.pid))

        watcher = threading.Thread(target=watch)
        watcher.start()
        with ThreadPoolExecutor(5) as pool:
            answers = list(pool.map(lambda _: rig.call("POST", "/email/send", body, headers), range(5)))
        assert [status for status, _, _ in answers] == [202] * 5
        rig.wait(lambda: len(rig.records("replied")) == 5, 60)
        over.set()
        watcher.join()
        assert max(peak) < 400, f"{max(peak):.0f} MB"
        rig.deliver(rig.smtp.mails[0].source)
        with rig.imap() as client:
            client.select_folder("INBOX", readonly=True)
            (uid,) = client.search("ALL")
            arrived = client.fetch([uid], ["BODY.PEEK[]"])[uid][b"BODY[]"]
    message = message_from_bytes(arrived, policy=policy.default)
    (file,) = message.iter_attachments()  # type: ignore[union-attr]
    assert file.get_filename() == "large.bin"
    assert file.get_payload(decode=True) == data


# --- replies ------------------------------------------------------------------------------------------------


def gmail(ids: dict[str, str]) -> list[str]:
    return [
        "MIME-Version: 1.0",
        *(f"{name}: {value}" for name, value in ids.items()),
        "Subject: Re: Ihr Bericht",
        'Content-Type: multipart/alternative; boundary="000000000000a1"',
        "",
        "--000000000000a1",
        'Content-Type: text/plain; charset="UTF-8"',
        "",
        "Danke, gmail!",
        "",
        f"Am Di., 24. Nov. 2026 um 09:00 Uhr schrieb <{AGENT}>:",
        "",
        "> Hier ist er.",
        ">",
        "",
        "--000000000000a1",
        'Content-Type: text/html; charset="UTF-8"',
        "",
        '<div dir="ltr">Danke, gmail!</div><br><div class="gmail_quote"><div dir="ltr" class="gmail_attr">'
        f"Am Di., 24. Nov. 2026 um 09:00 Uhr schrieb &lt;{AGENT}&gt;:<br></div>"
        '<blockquote class="gmail_quote">Hier ist er.</blockquote></div>',
        "--000000000000a1--",
        "",
    ]


def outlook(ids: dict[str, str]) -> list[str]:
    return [
        "Subject: AW: Ihr Bericht",
        "Thread-Topic: Ihr Bericht",
        "Thread-Index: AdxeU0Y2l3Jb6gZQRCmTgQ2mYw0bBwAAQxqQ",
        *(f"{name}: {value}" for name, value in ids.items()),
        "X-MS-Has-Attach:",
        "MIME-Version: 1.0",
        'Content-Type: text/plain; charset="iso-8859-1"',
        "Content-Transfer-Encoding: quoted-printable",
        "",
        "Danke, outlook!",
        "",
        f"Von: {AGENT} <{AGENT}>",
        "Gesendet: Dienstag, 24. November 2026 09:00",
        "An: Anna <anna@example.test>",
        "Betreff: Ihr Bericht",
        "",
        "Hier ist er.",
        "",
    ]


def apple(ids: dict[str, str]) -> list[str]:
    return [
        "Content-Type: text/plain; charset=utf-8",
        "Mime-Version: 1.0 (Mac OS X Mail 16.0 \\(3826.300.87\\))",
        "Subject: Re: Ihr Bericht",
        "X-Mailer: Apple Mail (2.3826.300.87)",
        *(f"{name}: {value}" for name, value in ids.items()),
        "",
        "Danke, apple!",
        "",
        f"> Am 24.11.2026 um 09:00 schrieb {AGENT}:",
        "> ",
        "> Hier ist er.",
        "",
    ]


CLIENTS = {"gmail": gmail, "outlook": outlook, "apple": apple}


def test_replies_of_every_client_land_in_the_thread_with_and_without_references(
    tmp_path: Path, redis_url: str
) -> None:
    with AgentServer() as agent, Rig(tmp_path, redis_url, env={"CLEO_AGENT": agent.url}) as rig:
        rig.start_web()
        rig.start_worker()
        threads: dict[str, str] = {}
        for client, shape in CLIENTS.items():
            for kind in ("both", "In-Reply-To", "References"):
                body = {"to": f"Anna <{ANNA}>", "subject": "Ihr Bericht", "body": "Hier ist er."}
                status, sent = rig.post(body, "/email/send")
                assert status == 202
                names = ("In-Reply-To", "References") if kind == "both" else (kind,)
                own = f"<{client}-{kind}@example.test>"
                threads[own] = sent["thread_id"]
                head = [f"From: Anna <{ANNA}>", f"To: {AGENT}", f"Message-ID: {own}"]
                head.append("Date: Tue, 24 Nov 2026 10:00:00 +0100")
                rig.deliver(CRLF.join(head + shape(dict.fromkeys(names, sent["message_id"]))).encode())
        rig.wait(lambda: len(rig.records("replied")) == 2 * len(threads))
        found = {
            record["message_id"]: record["thread_id"] for record in rig.records() if record["message_id"]
        }
        assert found == threads
        asked = {one["message"]["message_id"]: one for one in agent.requests()}
        for own in threads:
            client = own[1:].partition("-")[0]
            assert asked[own]["message"]["text"].strip() == f"Danke, {client}!"
            assert asked[own]["history"] == [{"role": "assistant", "content": "Hier ist er."}]
        for reply in rig.replies():
            if own := reply["In-Reply-To"]:
                assert reply["References"].split()[-1] == own


# --- kills --------------------------------------------------------------------------------------------------


def test_kills_of_web_and_worker_lose_and_double_nothing(tmp_path: Path, redis_url: str) -> None:
    with Rig(tmp_path, redis_url) as rig:
        result = run(rig, count=30, kills=2, rng=random.Random(7), wait_s=60)
    assert (result.answered, result.lost, result.doubled) == (30, 0, 0)
    assert result.delivered + result.uncertain >= 30


# --- workflows ----------------------------------------------------------------------------------------------

FLOWS = """
[workflows.weekly]
subject = "Your week"
language = "de"
users = ["anna@example.test", "bob@example.test"]
schedule = "0 8 * * *"
attachments = [{filename = "numbers.csv", callable = "flow:numbers"}]
"""
FLOW = """
import base64
def numbers(workflow):
    return workflow["workflow_id"].encode()
def answer(request):
    text = request["message"]["text"].strip() or "Hello"
    known = (request["workflow"] or {}).get("workflow_data")
    file = {"filename": "agent.txt", "content": base64.b64encode(b"from the agent").decode()}
    return {"reply": f"{text} / {request['language']} / {known}", "attachments": [file]}
"""


def flows(tmp_path: Path, redis_url: str) -> Rig:
    (tmp_path / "flow.py").write_text(FLOW)
    (tmp_path / "flows.toml").write_text(FLOWS)
    env = {"CLEO_AGENT": "flow:answer", "CLEO_WORKFLOWS": str(tmp_path / "flows.toml")}
    return Rig(tmp_path, redis_url, env=env)


def names(message: EmailMessage) -> list[str | None]:
    return [part.get_filename() for part in message.iter_attachments()]


def test_a_workflow_writes_and_the_users_reply_goes_on_with_it(tmp_path: Path, redis_url: str) -> None:
    with flows(tmp_path, redis_url) as rig:
        rig.start_web("--chdir", str(tmp_path))
        rig.start_worker()
        start: dict[str, Any] = {
            "workflow_id": "weekly",
            "user_ids": [f"Anna <{ANNA}>"],
            "channel": "email",
            "workflow_data": {"a": 1},
            "attachments": [{"filename": "own.txt", "content": "b3du"}],
        }
        status, answer = rig.post(start, "/workflows")
        assert status == 202, answer
        (started,) = answer["ids"]
        rig.smtp.wait_for(lambda server: len(server.mails) == 1, 20)
        (mail,) = rig.replies()
        assert (mail["To"], mail["Subject"], mail["Message-ID"]) == (
            f"Anna <{ANNA}>",
            "Your week",
            started["thread_id"],
        )
        assert text_of(mail) == "Hello / de / {'a': 1}"
        assert names(mail) == ["own.txt", "numbers.csv", "agent.txt"]
        head = [f"From: {ANNA}", f"To: {AGENT}", "Message-ID: <r@example.test>", "Subject: AW: Your week"]
        rig.deliver(CRLF.join([*head, f"In-Reply-To: {mail['Message-ID']}", "", "Thanks", ""]).encode())
        rig.smtp.wait_for(lambda server: len(server.mails) == 2, 20)
        reply = rig.replies()[1]
        assert text_of(reply) == "Thanks / de / {'a': 1}"
        assert (reply["Subject"], names(reply)) == ("Re: Your week", ["agent.txt"])
        assert rig.records()[0]["thread_id"] == started["thread_id"]


def test_a_time_that_was_missed_is_made_up_for_once_by_two_workers(tmp_path: Path, redis_url: str) -> None:
    with flows(tmp_path, redis_url) as rig:
        rig.start_web("--chdir", str(tmp_path))
        first = rig.start_worker()
        with Redis.from_url(redis_url) as redis:
            rig.wait(lambda: redis.hlen("cleo:schedules") == 1)
            rig.kill(first)
            (name,) = redis.hkeys("cleo:schedules")  # type: ignore[misc]
            redis.hset("cleo:schedules", name, 0)
        rig.start_worker()
        rig.start_worker()
        rig.wait(lambda: len(rig.records("replied")) == 2)
        assert sorted(mail["To"] for mail in rig.replies()) == [ANNA, "bob@example.test"]
        assert len(rig.records()) == 2
