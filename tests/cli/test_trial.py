"""From a trial with the embedded Redis to a server: nothing that is open is lost from sight."""

from __future__ import annotations

import signal
import subprocess
from pathlib import Path

import pytest

from tests.support.channel import Rig
from tests.support.mails import mail

EMBEDDED = {"REDIS_URL": ""}


def end_trial(rig: Rig, run: subprocess.Popen[bytes]) -> str:
    """End a ``cleo-email run`` and return what it says at its end."""
    run.send_signal(signal.SIGTERM)
    assert run.wait(40) == 0
    return rig.log.read_text("utf-8")


@pytest.mark.servers("dovecot", "redis-server")
def test_what_a_trial_leaves_open_is_told_and_taken_along_to_a_redis_of_another_version(
    tmp_path: Path, redis_url: str
) -> None:
    allowed = {"EMAIL_ALLOWED_SENDERS": "anna@example.test,@example.test"}
    with Rig(tmp_path, redis_url, env=allowed) as rig:
        rig.smtp.inject("mail*0=450 4.2.0 later")
        run = rig.start("-m", "cleo_email", "run", "--bind", f"127.0.0.1:{rig.port}", env=EMBEDDED)
        rig.wait(lambda: run.poll() is not None or rig.get("/healthz")[0] == 200, 20)
        rig.deliver(mail(1), mail(2), mail(3, sender="eve@example.net"))
        rig.wait(lambda: len(rig.records("held")) == 1 and len(rig.records()) == 3)
        rig.wait(lambda: all("450" in one["reason"] for one in rig.records("submitting")))
        with rig.imap() as imap:
            imap.select_folder("INBOX", readonly=True)
            rig.wait(lambda: len(imap.search(["OR", "KEYWORD", "$CleoAccepted", "KEYWORD", "$CleoHeld"])) == 3)
        said = end_trial(rig, run)
        assert "messages still open in var/redis: 2 waiting for an answer, 1 held." in said
        assert "cleo-email recover --from var" in said

        (line,) = [one for one in rig.run("check").stdout.splitlines() if "another one accepted" in one]
        assert line.startswith("warning  imap      3 of the newest")
        assert "cleo-email recover --from" in line

        dry = rig.run("recover", "--from", "var")
        assert (dry.returncode, "2 waiting for an answer, 1 held" in dry.stdout) == (0, True), dry
        assert "nothing was changed" in dry.stdout
        done = rig.run("recover", "--from", "var", "--apply")
        assert done.returncode == 0, done
        assert not (tmp_path / "var" / "redis").exists(), "a second run here would answer the same mail"
        assert "another one accepted" not in rig.run("check").stdout

        rig.smtp.clear_faults()
        rig.start_web()
        rig.start_worker()
        rig.wait(lambda: len(rig.records("replied")) == 2)
        assert len(rig.records("held")) == 1
        (held,) = rig.records("held")
        assert rig.run("messages", "release", held["id"]).returncode == 0
        rig.wait(lambda: len(rig.records("replied")) == 3)
        assert sorted(reply["In-Reply-To"] for reply in rig.replies()) == [
            f"<q{number}@example.test>" for number in (1, 2, 3)
        ]
