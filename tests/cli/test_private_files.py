"""What lies in the data directory, and in .env, is for one user alone."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from cleo_email.cli.check import examine
from cleo_email.cli.run import api_token
from cleo_email.embedded.redis import EmbeddedRedis


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_the_token_is_made_once_and_for_one_user(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    token = api_token(tmp_path / "var")
    file = tmp_path / "var" / "api-token"
    file.chmod(0o644)
    assert api_token(tmp_path / "var") == token == file.read_text().strip()
    assert len(token) == 64
    assert mode(file) == 0o600
    told = capsys.readouterr().err
    assert str(file) in told
    assert token not in told


def test_the_token_is_never_written_through_a_link(tmp_path: Path) -> None:
    (tmp_path / "api-token").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(OSError, match="api-token"):
        api_token(tmp_path)


def test_a_directory_that_others_could_read_is_closed(tmp_path: Path) -> None:
    folder = tmp_path / "redis"
    folder.mkdir(mode=0o755)
    with EmbeddedRedis(folder):
        assert mode(folder) == 0o700


@pytest.mark.parametrize(("given", "told"), [(0o644, True), (0o640, True), (0o600, False)])
def test_check_tells_who_can_read_the_secrets(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, given: int, told: bool
) -> None:
    monkeypatch.chdir(tmp_path)
    file = tmp_path / ".env"
    file.write_text("ENABLED_CLIENTS=email\nEMAIL_PASSWORD=x\n")
    file.chmod(given)
    assert any("chmod 600 .env" in result.text for result in examine()) == told
