"""The pipe from Postfix to the webhook: what it ends with decides whether Postfix keeps the mail."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.channel import ROOT, Channel
from tests.ingress.samples import SECRET, mail

pytestmark = pytest.mark.servers("curl")

STORED, NEVER, LATER = 0, 65, 75  # sysexits.h


@pytest.fixture
def channel(tmp_path: Path, redis_url: str) -> Iterator[Channel]:
    env = {
        "EMAIL_SMTP_HOST": "127.0.0.1",
        "REDIS_URL": redis_url,
        "EMAIL_WEBHOOK_SECRET": SECRET,
        "EMAIL_MAX_MESSAGE_BYTES": "5000",
    }
    with Channel(tmp_path, env) as running:
        running.start_web()
        yield running


def pipe(
    channel: Channel, source: bytes, *, secret: str = SECRET, sender: str = "anna@example.test", port: int = 0
) -> int:
    file = channel.directory / "secret"
    file.write_text(f"X-Webhook-Secret: {secret}\n")
    done = subprocess.run(
        ["sh", str(ROOT / "deploy" / "postfix-pipe"), sender, "agent@cleo.test"],
        input=source,
        env={
            "PATH": "/usr/bin:/bin",
            "CLEO_URL": f"http://127.0.0.1:{port or channel.port}",
            "CLEO_SECRET_FILE": str(file),
        },
        capture_output=True,
        timeout=60,
        check=False,
    )
    assert secret.encode() not in done.stdout + done.stderr
    return done.returncode


def test_a_mail_is_stored_byte_for_byte_with_its_envelope(channel: Channel) -> None:
    source = mail(1, text="caf\u00e9\n.\n..dots\n")
    assert pipe(channel, source) == STORED
    assert pipe(channel, source) == STORED, "one that comes again is the same"
    (record,) = channel.records()
    assert (record["message_id"], record["state"]) == ("<m1@example.test>", "received")


def test_the_null_sender_arrives_as_such(channel: Channel) -> None:
    assert pipe(channel, mail(2), sender="") == STORED
    assert channel.records()[0]["state"] == "ignored"


def test_what_can_be_mended_is_kept_and_what_cannot_goes_back(channel: Channel) -> None:
    assert pipe(channel, mail(1), secret="wrong") == LATER
    assert pipe(channel, mail(1), port=1) == LATER
    assert pipe(channel, mail(1, text="x" * 6000)) == NEVER
    assert pipe(channel, b"") == NEVER
    assert channel.records() == []
