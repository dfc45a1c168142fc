"""``cleo-email demo`` as a newcomer sees it."""

from __future__ import annotations

from pathlib import Path

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
