"""``cleo-email demo`` as a newcomer sees it."""

from __future__ import annotations

import re
import signal
import smtplib
import ssl
from pathlib import Path

import pytest
from imapclient import IMAPClient

from cleo_email.embedded.mailserver import AGENT, CUSTOMER
from tests.support.channel import Channel


def test_it_says_who_answers_and_leaves_nothing_behind(tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    with Channel(tmp_path, {"HOME": str(home), "XDG_RUNTIME_DIR": ""}) as channel:
        done = channel.run("demo")
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("answers with the text that it got") == 1
    assert done.stdout.count("In-Reply-To: ") == 2
    assert list(home.iterdir()) == [], "such as gunicorn's control socket"


def test_keep_names_both_mailboxes_and_a_client_that_does_not_trust_them_costs_a_line(tmp_path: Path) -> None:
    with Channel(tmp_path, {}) as channel:
        process = channel.start("-m", "cleo_email", "demo", "--keep")
        channel.wait(
            lambda: process.poll() is not None or "Ctrl-C ends it all" in channel.log.read_text(), 60
        )
        said = channel.log.read_text()
        ports = {
            name: int(port) for name, port in re.findall(r"^  (IMAP|SMTP)  127\.0\.0\.1:(\d+)", said, re.M)
        }
        people = dict(re.findall(r"^  (?:customer|agent) +(\S+)  password  (\S+)$", said, re.M))
        assert set(people) == {CUSTOMER, AGENT}
        (ca,) = set(re.findall(r"SSL_CERT_FILE=(\S+)\. It ends", said))
        trusting = ssl.create_default_context(cafile=ca)
        for user, password in people.items():
            with IMAPClient("127.0.0.1", ports["IMAP"], ssl_context=trusting, timeout=10) as imap:
                imap.login(user, password)
                assert imap.select_folder("INBOX")[b"EXISTS"] > 0
        for _ in range(2):
            with smtplib.SMTP("127.0.0.1", ports["SMTP"], timeout=10) as smtp:
                with pytest.raises(ssl.SSLCertVerificationError):
                    smtp.starttls(context=ssl.create_default_context())
                smtp.close()
        channel.wait(lambda: channel.log.read_text().count("does it trust its CA?") == 2)
        process.send_signal(signal.SIGINT)
        assert process.wait(40) == 0
        assert "Traceback" not in channel.log.read_text()
