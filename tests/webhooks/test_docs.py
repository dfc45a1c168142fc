"""What the documentation of webhooks says can be done so."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from cleo_email.settings import Settings
from cleo_email.settings.model import WebhookSettings
from tests.support.channel import ROOT, Channel
from tests.webhooks.samples import SECRET, fields_body

TEXTS = [ROOT / "docs" / name for name in ("webhooks.md", "security.md")]


@pytest.mark.servers("curl", "openssl")
def test_the_signing_example_signs(tmp_path: Path, redis_url: str) -> None:
    blocks = re.findall(r"```sh\n(.*?)```", TEXTS[0].read_text(), re.DOTALL)
    (script,) = [block for block in blocks if "openssl" in block]
    env = {"EMAIL_SMTP_HOST": "127.0.0.1", "REDIS_URL": redis_url, "EMAIL_WEBHOOK_SECRET": SECRET}
    (tmp_path / "mail.json").write_bytes(fields_body(1))
    with Channel(tmp_path, env) as channel:
        channel.start_web()
        done = subprocess.run(
            ["sh", "-c", script],
            cwd=tmp_path,
            env={"PATH": "/usr/bin:/bin", "SECRET": SECRET, "CLEO_URL": f"http://127.0.0.1:{channel.port}"},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert '"accepted"' in done.stdout, done.stdout + done.stderr
        assert len(channel.records()) == 1


@pytest.mark.parametrize("path", TEXTS, ids=lambda path: path.name)
def test_every_setting_that_is_named_exists(path: Path) -> None:
    known = {field.alias for field in Settings.model_fields.values()} | {
        "CLEO_URL",
        "CLEO_SECRET_FILE",
        "CLEO_SECRET",
    }
    named = set(re.findall(r"\b(?:EMAIL|CLEO)_[A-Z_]*[A-Z]\b", path.read_text()))
    assert named - known == set()


def test_every_webhook_setting_is_documented() -> None:
    text = TEXTS[0].read_text()
    missing = [field.alias for field in WebhookSettings.model_fields.values() if str(field.alias) not in text]
    assert missing == []


def test_links_lead_somewhere() -> None:
    for path in TEXTS:
        for target in re.findall(r"\]\(([^)#:]+)\)", path.read_text()):
            assert (path.parent / target).exists(), f"{path.name}: {target}"
