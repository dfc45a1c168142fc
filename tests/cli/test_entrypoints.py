"""Starting and stopping the two processes of the Procfile."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from cleo_email.embedded.mailserver import AGENT as DEMO_AGENT
from cleo_email.embedded.mailserver import CUSTOMER, Certificates, MailServer
from cleo_email.settings import read_settings
from tests.support.agent_server import AgentServer
from tests.support.channel import ROOT, Channel, Rig
from tests.support.mails import mail

WRONG = {
    "ENABLED_CLIENTS": "email",
    "EMAIL_PASSWORD": "hunter2-pass-3f9c",
    "EMAIL_SMTP_PORT": "abc",
    "EMAIL_USER": "a@b.test",
}


def run(*argv: str, cwd: Path, **env: str) -> subprocess.CompletedProcess[str]:
    clean = {
        k: v for k, v in os.environ.items() if not k.startswith(("EMAIL_", "CLEO_", "REDIS_", "ENABLED_"))
    }
    return subprocess.run(
        [sys.executable, *argv],
        cwd=cwd,
        env={**clean, **env},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )


@pytest.mark.parametrize(
    "argv",
    [
        ["-m", "gunicorn", "--pythonpath", str(ROOT), "--bind", "127.0.0.1:0", "wsgi:app"],
        [str(ROOT / "worker.py")],
        ["-m", "cleo_email", "run"],
    ],
)
def test_wrong_settings_end_the_process_with_a_line_per_fault_and_status_3(
    argv: list[str], tmp_path: Path
) -> None:
    done = run(*argv, cwd=tmp_path, PYTHONPATH=str(ROOT), **WRONG)
    assert done.returncode == 3, done.stderr
    assert "EMAIL_SMTP_PORT: found 'abc', expected a whole number from 1 to 65535" in done.stderr
    assert "EMAIL_SMTP_HOST: found nothing" in done.stderr
    assert "Traceback" not in done.stderr
    assert "hunter2-pass-3f9c" not in done.stderr + done.stdout


def test_an_agent_that_nobody_is_ends_the_worker_with_status_3(tmp_path: Path) -> None:
    env = {
        **WRONG,
        "EMAIL_SMTP_PORT": "587",
        "EMAIL_SMTP_HOST": "127.0.0.1",
        "CLEO_AGENT": "no.such.module:answer",
    }
    done = run(str(ROOT / "worker.py"), cwd=tmp_path, **env)
    assert done.returncode == 3
    assert done.stderr.startswith("cleo-email: CLEO_AGENT: ")


def test_a_worker_whose_channel_is_off_says_so_and_stays_idle(tmp_path: Path, redis_url: str) -> None:
    with Channel(tmp_path, {"ENABLED_CLIENTS": "teams", "REDIS_URL": redis_url}) as channel:
        worker = channel.start_worker()
        channel.wait(lambda: "not enabled" in channel.log.read_text())
        assert worker.poll() is None
        worker.send_signal(signal.SIGTERM)
        assert worker.wait(30) == 0


def test_a_dotenv_file_is_enough(tmp_path: Path, redis_url: str) -> None:
    lines = {**WRONG, "EMAIL_SMTP_PORT": "587", "EMAIL_SMTP_HOST": "127.0.0.1", "REDIS_URL": redis_url}
    (tmp_path / ".env").write_text("\n".join(f"{name}={value}" for name, value in lines.items()))
    done = run("-m", "cleo_email", "messages", "list", cwd=tmp_path, PYTHONPATH=str(ROOT))
    assert (done.returncode, done.stdout) == (0, "no messages\n"), done.stderr


@pytest.mark.servers("dovecot")
def test_sigterm_takes_no_more_work_and_finishes_what_it_has(tmp_path: Path, redis_url: str) -> None:
    with AgentServer(delay=3) as agent, Rig(tmp_path, redis_url, env={"CLEO_AGENT": agent.url}) as rig:
        rig.start_web()
        worker = rig.start_worker()
        rig.deliver(mail(1))
        rig.wait(lambda: len(agent.requests()) == 1)
        worker.send_signal(signal.SIGTERM)
        rig.wait(lambda: "taking no more work" in rig.log.read_text())
        rig.deliver(mail(2))
        assert worker.wait(20) == 0
        assert [reply["In-Reply-To"] for reply in rig.replies()] == ["<q1@example.test>"]
        assert rig.unseen() == 1
        rig.start_worker()
        rig.smtp.wait_for(lambda server: len(server.mails) == 2, 20)


def test_run_answers_from_a_directory_with_a_blank_and_tells_of_a_taken_port(
    tmp_path: Path, ca: Certificates
) -> None:
    """RQ reads CLIENT INFO, which redis-py cannot split where the socket's path has a blank."""
    folder = tmp_path / "a b"
    folder.mkdir()
    with MailServer(tmp_path / "mail", certificates=ca) as server:
        account = server.smtp_account(DEMO_AGENT)
        env = {
            "EMAIL_SMTP_HOST": "127.0.0.1",
            "EMAIL_SMTP_PORT": str(server.smtp_port),
            "EMAIL_USER": DEMO_AGENT,
            "EMAIL_PASSWORD": account.login.password,
            "SSL_CERT_FILE": str(ca.ca_file),
            "REDIS_URL": "",
        }
        with Channel(folder, env) as channel:
            bind = f"127.0.0.1:{channel.port}"
            process = channel.start("-m", "cleo_email", "run", "--bind", bind)
            channel.wait(lambda: process.poll() is not None or channel.get("/healthz")[0] == 200, 20)
            fields = {"from_address": CUSTOMER, "to_address": DEMO_AGENT, "subject": "s", "body": "b"}
            assert channel.post(fields)[0] == 202
            channel.wait(lambda: channel.records("replied"))
            done = channel.run("check")
            assert "worker    at work" in done.stdout, "the embedded Redis was found"
            taken = channel.run("run", "--bind", bind)
            assert taken.returncode == 1
            assert "--bind" in taken.stderr
            process.send_signal(signal.SIGTERM)
            assert process.wait(30) == 0


def test_run_without_the_channel_ends_with_a_line(tmp_path: Path) -> None:
    done = run("-m", "cleo_email", "run", cwd=tmp_path, PYTHONPATH=str(ROOT))
    assert done.returncode == 3
    assert "ENABLED_CLIENTS" in done.stderr


def test_a_password_in_a_dotenv_file_is_taken_as_it_is(tmp_path: Path) -> None:
    file = tmp_path / ".env"
    file.write_text("EMAIL_PASSWORD='abc # def${HOME}'\n")
    settings = read_settings({}, dotenv=file)
    assert settings.password.get_secret_value() == "abc # def${HOME}"


def test_check_says_when_nobody_listens_where_the_agent_should_be(tmp_path: Path, redis_url: str) -> None:
    with Channel(
        tmp_path, {"REDIS_URL": redis_url, "EMAIL_SMTP_HOST": "127.0.0.1", "EMAIL_SMTP_PORT": "9"}
    ) as channel:
        done = channel.run("check", CLEO_AGENT="http://127.0.0.1:9/answer")
        (line,) = [line for line in done.stdout.splitlines() if line.startswith("WRONG    agent")]
        assert line.startswith("WRONG    agent     127.0.0.1:9 cannot be reached")
        assert line.endswith("(CLEO_AGENT)")
        model = {"CLEO_AGENT": "openai:gpt-x", "OPENAI_BASE_URL": "http://127.0.0.1:9/v1"}
        assert "or a firewall is between (OPENAI_BASE_URL)\n" in channel.run("check", **model).stdout
        with AgentServer() as agent:
            assert (
                "answers; path and token are tested by the first mail"
                in channel.run("check", CLEO_AGENT=agent.url).stdout
            )
            proxied = {"CLEO_AGENT": "http://agent.example:8000/x", "HTTP_PROXY": agent.url}
            assert "answers through the proxy 127.0.0.1:" in channel.run("check", **proxied).stdout
            proxied["HTTP_PROXY"] = "http://127.0.0.1:9"
            assert "cannot be reached through the proxy 127.0.0.1:9" in channel.run("check", **proxied).stdout
            # A loopback agent is not asked through it.
            proxied["CLEO_AGENT"] = agent.url
            assert (
                "answers; path and token are tested by the first mail"
                in channel.run("check", **proxied).stdout
            )
