"""Each process loads what it uses: a line of help needs no servers, and who takes mail in sends none."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

SETTINGS = {
    "ENABLED_CLIENTS": "email",
    "EMAIL_USER": "agent@cleo.test",
    "EMAIL_PASSWORD": "x",
    "EMAIL_SMTP_HOST": "127.0.0.1",
    "EMAIL_IMAP_HOST": "127.0.0.1",
    "CLEO_AGENT": "echo",
}
HELP = "from cleo_email.cli import main; main(['--help'])"
# What a completion of the shell asks for (click, "Shell Completion").
COMPLETION = """
import os
os.environ |= {"_CLEO_EMAIL_COMPLETE": "bash_complete", "COMP_WORDS": "cleo-email me", "COMP_CWORD": "1"}
from cleo_email.cli import command_line
try:
    command_line(prog_name="cleo-email")
except SystemExit:
    pass
"""
WEB = """
from cleo_email.web.app import from_environment
app = from_environment()
app.test_client().get("/healthz")
parts = app.extensions["cleo_email"]
parts.receiver, parts.webhooks
"""
WORKER = """
from cleo_email.app import App, start_process
import cleo_email.worker.process
app = App.for_worker(start_process())
app.answerer, app.poller, app.sweeper, app.workflow_starter
"""
SERVERS = {"imaplib", "imapclient", "smtplib", "pycurl", "dkim", "dns.resolver"}
FEW_NEED = {"markdown_it", "nh3", "croniter", "cryptography.x509", "cryptography.hazmat.primitives.hashes"}
OURS = {"cleo_email.oauth.tokens", "cleo_email.oauth.endpoint", "cleo_email.embedded.redis"}


@pytest.mark.parametrize(
    ("code", "unwanted"),
    [
        ("import cleo_email", SERVERS | FEW_NEED | OURS | {"redis", "pydantic", "flask", "click", "email"}),
        (HELP, SERVERS | FEW_NEED | OURS | {"redis", "pydantic", "flask", "rq", "cleo_email.app"}),
        (COMPLETION, SERVERS | FEW_NEED | OURS | {"redis", "pydantic", "flask", "rq", "cleo_email.app"}),
        (
            "import cleo_email.settings",
            SERVERS | FEW_NEED | OURS | {"flask", "rq", "redis", "cleo_email.app"},
        ),
        (WEB, SERVERS | FEW_NEED | OURS | {"cleo_email.pipeline.answer"}),
        (WORKER, {"flask", "pycurl", "dkim", "dns.resolver", "croniter", "cryptography.x509"} | OURS),
    ],
    ids=["package", "help", "completion", "settings", "web", "worker"],
)
def test_a_process_loads_what_it_uses(code: str, unwanted: set[str], tmp_path: Path) -> None:
    drop = ("EMAIL_", "CLEO_", "REDIS_URL", "COVERAGE_")
    env = {name: value for name, value in os.environ.items() if not name.startswith(drop)}
    shown = f"{code}\nimport sys; print('loaded', *sys.modules)"
    command = [sys.executable, "-c", shown]
    done = subprocess.run(
        command, env={**env, **SETTINGS}, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=True
    )
    said, _, loaded = done.stdout.rpartition("loaded ")
    assert not unwanted & set(loaded.split())
    if code in (HELP, COMPLETION):
        assert "messages" in said
