"""Polls may also be asked for from outside, by whatever scheduler an operator already has."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from redis import Redis
from rq import Queue

from tests.support.channel import Rig
from tests.support.mails import mail

pytestmark = pytest.mark.servers("dovecot")
# Any whole number is taken. The worker's own schedule then polls at its start only.
NEVER = {"EMAIL_POLL_INTERVAL_SECONDS": "3000000000000", "EMAIL_IDLE": "0"}


def settled(rig: Rig) -> None:
    """The worker's first poll is over."""
    rig.start_web()
    rig.start_worker()
    rig.wait(lambda: rig.get("/readyz")[0] == 200)


def test_the_command_polls_in_its_own_process_and_extra_ticks_are_harmless(
    tmp_path: Path, redis_url: str
) -> None:
    with Rig(tmp_path, redis_url, env=NEVER) as rig:
        settled(rig)
        rig.deliver(mail(1))
        done = rig.run("poll", "--json")
        assert json.loads(done.stdout)["accepted"] == 1, done.stderr
        rig.smtp.wait_for(lambda server: len(server.mails) == 1, 20)
        assert "0 new mails" in rig.run("poll").stdout
        assert len(rig.records()) == 1


def test_a_pickled_job_as_rq_scheduler_writes_it(tmp_path: Path, redis_url: str) -> None:
    with Rig(tmp_path, redis_url, env=NEVER) as rig, Redis.from_url(redis_url) as redis:
        settled(rig)
        rig.deliver(mail(1))
        for _ in range(5):
            Queue("cleo-email-mailbox", connection=redis).enqueue("cleo_email.jobs.poll")
        rig.smtp.wait_for(lambda server: len(server.mails) == 1, 20)
        rig.wait(lambda: len(rig.records("replied")) == 1)
        assert len(rig.replies()) == 1


def test_rq_cron(tmp_path: Path, redis_url: str) -> None:
    config = tmp_path / "cron_config.py"
    config.write_text(
        "from rq import cron\nfrom cleo_email.jobs import poll\n\n"
        'cron.register(poll, queue_name="cleo-email-mailbox", interval=1)\n'
    )
    with Rig(tmp_path, redis_url, env=NEVER) as rig:
        settled(rig)
        rig.deliver(mail(1))
        rq = Path(sys.executable).with_name("rq")
        with subprocess.Popen(
            [rq, "cron", "--url", redis_url, str(config)],
            env=rig.env,
            cwd=tmp_path,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        ) as scheduler:
            try:
                rig.smtp.wait_for(lambda server: len(server.mails) == 1, 20)
            finally:
                scheduler.kill()
