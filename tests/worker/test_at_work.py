"""A worker takes no more conversations than it can work at; those that wait for their agent do not count."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest

from cleo_email.runtime import AtWork


def test_who_waits_for_an_agent_leaves_room() -> None:
    at_work = AtWork(1)
    assert at_work.await_room(0)
    at_work.begin()
    assert not at_work.await_room(0)
    with at_work.waiting():
        assert at_work.await_room(0)
    assert not at_work.await_room(0)
    at_work.end()
    assert at_work.await_room(0)


def test_room_is_found_as_soon_as_it_is_there() -> None:
    at_work = AtWork(1)
    at_work.begin()
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(at_work.await_room, 60)
        at_work.end()
        assert waiting.result(30)


def test_an_agent_that_fails_counts_again() -> None:
    at_work = AtWork(2)
    at_work.begin()
    with pytest.raises(ValueError, match="the agent"), at_work.waiting():
        raise ValueError("the agent")
    at_work.begin()
    assert not at_work.await_room(0)
