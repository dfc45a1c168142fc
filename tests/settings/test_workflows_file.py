"""The file of workflows: one line for each fault, which says where it is."""

from __future__ import annotations

from pathlib import Path

import pytest

from cleo_email.errors import SettingsError
from cleo_email.settings import read_settings


def faults(path: Path, text: str) -> list[str]:
    path.write_text(text)
    with pytest.raises(SettingsError) as caught:
        read_settings({"CLEO_WORKFLOWS": str(path)}, dotenv=None)
    return list(caught.value.faults)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("x = ", ["no TOML"]),
        ("[workflow.x]", ["'workflow'"]),
        ("workflows = 3", ["no table"]),
        ("[workflows]\nx = 3", ["[workflows.x]"]),
        ('[workflows.x]\nsubjekt = "a"', ["subjekt", "subject"]),
        ("[workflows.x]\nsubject = 3", ["subject"]),
        ('[workflows.x]\nschedule = "61 * * * *"\nusers = []', ["schedule", "cron"]),
        ('[workflows.x]\nschedule = "* * * * * *"\nusers = []', ["schedule", "five"]),
        ('[workflows.x]\nschedule = "0 0 30 2 *"\nusers = []', ["schedule"]),
        ('[workflows.x]\nschedule = "0 8 * * *"', ["users"]),
        ('[workflows.x]\ntimezone = "Mars/Olympus"', ["timezone", "Europe/Berlin"]),
        ('[workflows.x]\nusers = ["nobody"]', ["users", "nobody"]),
        ('[workflows.x]\nnew_room = "no"', ["new_room"]),
        ('[workflows.x]\nattachments = [{filename = "a", content = "!"}]', ["entry 1", "base64"]),
        ('[workflows.x]\nattachments = [{filename = "../a", content = ""}]', ["entry 1", "name"]),
        ('[workflows.x]\nattachments = ["/etc/passwd"]', ["entry 1", "package.module:callable"]),
        ('[workflows.x]\nattachments = [{filename = "a"}]', ["entry 1", "callable"]),
    ],
)
def test_a_fault_of_the_file_is_one_line_that_says_where(tmp_path: Path, text: str, words: list[str]) -> None:
    (line,) = faults(tmp_path / "w.toml", text)
    assert line.startswith("CLEO_WORKFLOWS: ")
    assert all(word in line for word in words), line


def test_every_fault_has_its_line_and_a_missing_file_too(tmp_path: Path) -> None:
    text = '[workflows.x]\nsubject = 3\nusers = ["a"]\n[workflows.y]\nschedule = "x"\n'
    assert len(faults(tmp_path / "w.toml", text)) == 4
    with pytest.raises(SettingsError, match=r"CLEO_WORKFLOWS: found .*No such file"):
        read_settings({"CLEO_WORKFLOWS": str(tmp_path / "none.toml")}, dotenv=None)


def test_dates_in_the_data_become_texts_and_a_user_counts_once(tmp_path: Path) -> None:
    (tmp_path / "w.toml").write_text(
        '[workflows.x]\nusers = ["Anna <anna@a.test>", "ANNA@a.test", "bob@a.test"]\n'
        'workflow_data = {on = 2026-11-30, list = [07:30:00, 1.5, true]}\nsubject = " Week "\n'
    )
    settings = read_settings({"CLEO_WORKFLOWS": str(tmp_path / "w.toml")}, dotenv=None)
    assert settings.workflows is not None
    workflow = settings.workflows["x"]
    assert workflow.workflow_data == {"on": "2026-11-30", "list": ["07:30:00", 1.5, True]}
    assert [user.key for user in workflow.users] == ["anna@a.test", "bob@a.test"]
    assert (workflow.id, workflow.subject, workflow.timezone, workflow.new_room) == ("x", "Week", "UTC", True)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('[workflows.x]\nid = "y"', ["id", "an unknown name"]),
        ("[workflows.x]\nusers = [3]", ["users, entry 1"]),
        ('[workflows.x]\nusers = "anna@a.test"', ["users", "found 'anna@a.test'"]),
        ('[workflows.x]\nattachments = [{callable = "a:b", size = "1"}]', ["entry 1", "'size'"]),
        ('[workflows.x]\nmodel = "  "', ["model", "a text"]),
        ('[workflows." "]', ["the id ' '"]),
    ],
)
def test_more_that_is_refused(tmp_path: Path, text: str, words: list[str]) -> None:
    (line,) = faults(tmp_path / "w.toml", text)
    assert all(word in line for word in words), line
