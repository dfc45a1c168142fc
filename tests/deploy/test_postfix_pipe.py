"""The pipe from Postfix to the webhook: what it ends with decides whether Postfix keeps the mail."""

from __future__ import annotations

import re
import shutil
import smtplib
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import postfix
from tests.support.channel import ROOT, Channel
from tests.webhooks.samples import SECRET, mail

pytestmark = pytest.mark.servers("curl", "postfix", "dovecot")

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
    assert pipe(channel, mail(1), secret="wrong-webhook-secret-3f9c") == LATER
    assert pipe(channel, mail(1), port=1) == LATER
    assert pipe(channel, mail(1, text="x" * 6000)) == NEVER
    assert pipe(channel, b"") == NEVER
    assert channel.records() == []


@pytest.mark.parametrize(
    ("content", "said"),
    [(None, "cannot read {file}"), (SECRET, '{file} has no line "X-Webhook-Secret: ..."')],
)
def test_a_file_without_the_secret_in_its_form_is_told_of(
    tmp_path: Path, content: str | None, said: str
) -> None:
    file = tmp_path / "secret"
    if content is not None:
        file.write_text(f"{content}\n")
    done = subprocess.run(
        ["sh", str(ROOT / "deploy" / "postfix-pipe"), "anna@example.test", "agent@cleo.test"],
        input=mail(1),
        env={"PATH": "/usr/bin:/bin", "CLEO_URL": "http://127.0.0.1:1", "CLEO_SECRET_FILE": str(file)},
        capture_output=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == LATER
    assert done.stdout.decode().startswith(said.format(file=file)), "Postfix logs it with the mail"
    assert SECRET.encode() not in done.stdout + done.stderr


class PostfixWithPipe(postfix.PostfixAndDovecot):
    """With the lines that the documentation gives for master.cf, main.cf and the transport."""

    def __init__(self, channel: Channel) -> None:
        super().__init__(
            {"ann@example.com": "secret"},
            extra="cleo_destination_recipient_limit = 1\ntransport_maps = inline:{agent@cleo.test=cleo:}\n",
        )
        self._channel = channel

    def _configure(self) -> None:
        super()._configure()
        # The user of the pipe may not look into the test's own folder.
        script = shutil.copy(ROOT / "deploy" / "postfix-pipe", self.home)
        secret = self.home / "webhook-secret"
        secret.write_text(f"X-Webhook-Secret: {SECRET}\n")
        secret.chmod(0o644)
        text = (ROOT / "docs" / "webhooks.md").read_text()
        found = re.search(r"^cleo +unix .*\n +flags=.*$", text, re.MULTILINE)
        assert found, "the documentation has no line for master.cf"
        call = (
            f"/usr/bin/env CLEO_URL=http://127.0.0.1:{self._channel.port} CLEO_SECRET_FILE={secret} {script}"
        )
        line = found[0].replace("user=cleo", "user=nobody").replace("/usr/local/bin/postfix-pipe", call)
        with (self.home / "config" / "master.cf").open("a") as file:
            file.write(f"{line}\n")


def test_a_real_postfix_hands_its_mail_over(channel: Channel) -> None:
    if reason := postfix.missing():
        pytest.skip(reason)
    with PostfixWithPipe(channel) as servers:
        account = servers.account("ann@example.com")
        with smtplib.SMTP("localhost", account.port, timeout=20) as client:
            client.starttls(context=servers.dovecot.ssl_context())
            client.login(account.login.user, account.login.password)
            client.sendmail("ann@example.com", ["agent@cleo.test"], mail(1, text=".dots\n.\nend"))
            client.sendmail("", ["agent@cleo.test"], mail(2))
        channel.wait(lambda: len(channel.records()) == 2, 20)
        states = {record["message_id"]: record["state"] for record in channel.records()}
        assert states == {"<m1@example.test>": "received", "<m2@example.test>": "ignored"}, servers.log()
