"""A server that comes back on its port must find it free: no outgoing connection may have been given it."""

from __future__ import annotations

import itertools
import socket

import pytest

from tests.support import ports


def test_no_outgoing_connection_is_given_one_of_the_ports() -> None:
    found = ports.free_ports(50)
    with socket.create_server((ports.HOST, 0)) as server:
        for _ in range(50):
            with socket.create_connection(server.getsockname()) as client:
                assert client.getsockname()[1] > max(found)


def test_a_port_is_given_once_and_nobody_listens_there() -> None:
    found = [*ports.free_ports(100), ports.free_port()]
    assert len(set(found)) == len(found)
    with socket.create_server((ports.HOST, 0)) as taken:
        assert taken.getsockname()[1] not in found
    for port in found:
        socket.create_server((ports.HOST, port)).close()


def test_a_taken_port_is_passed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    free = ports.free_port()
    with socket.create_server((ports.HOST, 0)) as taken:
        monkeypatch.setattr(ports, "_ports", itertools.cycle([taken.getsockname()[1], free]))
        assert ports.free_port() == free


def test_processes_of_one_run_have_no_port_in_common(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTEST_XDIST_WORKER_COUNT", "3")
    shares = []
    for worker in ("gw0", "gw1", "gw2"):
        monkeypatch.setenv("PYTEST_XDIST_WORKER", worker)
        shares.append(set(itertools.islice(ports.candidates(), 7000)))
    assert all(len(share) == 7000 for share in shares)
    assert len(set().union(*shares)) == 21_000
