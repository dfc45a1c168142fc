"""New mail is answered at once, by real workers on a real server whose poll would come ten minutes later."""

from __future__ import annotations

import signal
import time
from pathlib import Path

import pytest

from tests.support import dovecot
from tests.support.channel import Rig
from tests.support.mails import mail

pytestmark = pytest.mark.servers("dovecot")
LEASE = "cleo:lock:idle"


def test_mail_is_answered_at_once_whichever_worker_is_killed(tmp_path: Path) -> None:
    if reason := dovecot.missing():
        pytest.skip(reason)
    with Rig(tmp_path, env={"EMAIL_POLL_INTERVAL_SECONDS": "600"}) as rig, rig.redis.client() as redis:

        def listens() -> bool:
            return bool(redis.exists(LEASE)) and int(redis.hget("cleo:pulse", "idle_since") or 0) > 0

        first = rig.start_worker()
        rig.wait(listens)
        second = rig.start_worker()
        rig.wait(lambda: rig.log.read_text().count("worker started") == 2)
        rig.deliver(mail(1))
        rig.wait(lambda: len(rig.smtp.mails) == 1)
        killed = redis.get(LEASE)
        rig.kill(first)
        rig.deliver(mail(2))
        began = time.monotonic()
        rig.wait(lambda: redis.get(LEASE) not in (None, killed), 60)
        rig.wait(lambda: len(rig.smtp.mails) == 2, 60)
        assert time.monotonic() - began < 60, "long before the next poll"
        rig.deliver(mail(3))
        rig.wait(lambda: len(rig.smtp.mails) == 3)
        assert rig.log.read_text().count("by itself (IDLE)") == 2
        checked = rig.run("check").stdout
        assert "the server has IDLE, and a worker listens since" in checked
        second.send_signal(signal.SIGTERM)
        second.wait(20)
        assert not redis.exists(LEASE), "it gives the lease back"

        rig.start_worker(EMAIL_IDLE="0")
        rig.wait(lambda: rig.log.read_text().count("worker started") == 3)
        assert "EMAIL_IDLE=0 switches off" in rig.run("check", EMAIL_IDLE="0").stdout
        assert not redis.exists(LEASE)
