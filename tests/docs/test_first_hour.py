"""What README tells a newcomer to type works as it stands there."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from cleo_email.settings import read_settings
from cleo_email.web.app import create_app
from tests.support.channel import ROOT

README = (ROOT / "README.md").read_text("utf-8")


def test_the_example_of_a_webhook_is_answered_under_the_example_of_a_dotenv(
    tmp_path: Path, redis_url: str
) -> None:
    file = re.search(r"cat > \.env\) <<'END'\n(.*?)END\n", README, re.DOTALL)
    posted = re.search(
        r"email/incoming -H 'Content-Type: application/json' -d '(\{.*?\})'", README, re.DOTALL
    )
    assert file
    assert posted
    (tmp_path / ".env").write_text(file[1])
    settings = read_settings({"REDIS_URL": redis_url}, dotenv=tmp_path / ".env")
    web = create_app(settings).test_client()
    answer = web.post("/email/incoming", data=posted[1], content_type="application/json")
    assert (answer.status_code, answer.json and answer.json["status"]) == (202, "accepted")
    id_ = json.loads(answer.data)["id"]
    assert web.get(f"/email/messages/{id_}").json["state"] == "received"


@pytest.mark.parametrize("page", ["README.md", "docs/operation.md"])
def test_the_way_from_a_trial_to_a_server_is_the_command_that_there_is(page: str) -> None:
    assert "cleo-email recover --from var" in (ROOT / page).read_text("utf-8")
