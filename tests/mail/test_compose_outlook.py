"""Thread-Index: a child of the parent's, with the time since the thread began (MS-OXOMSG 2.2.1.3)."""

from __future__ import annotations

import base64
from datetime import UTC, datetime, timedelta

import pytest

from cleo_email.mail.compose import child_index

# Seen in the wild: Outlook's form of the header (sent 2025-03-13 03:41), and Exchange's with one answer.
BY_OUTLOOK = "AQHbk8nHpIdrU5wZekeXoY/5fqNYgQ=="
BY_EXCHANGE = "AQHVSAA1C9UcCSPPT0+nRWYWkHdsgqbtuGmA"
EPOCH = datetime(1601, 1, 1, tzinfo=UTC)


def split(index: str) -> tuple[bytes, int, int, int]:
    data = base64.b64decode(index)
    word = int.from_bytes(data[-5:-1], "big")
    return data[:-5], word >> 31, word & 0x7FFFFFFF, data[-1]


def started(raw: bytes, shift: int) -> datetime:
    return EPOCH + timedelta(microseconds=(int.from_bytes(raw, "big") << shift) // 10)


def test_an_hour_later() -> None:
    parent = base64.b64decode(BY_OUTLOOK.replace("AQHb", "Adth"))  # the form of clients: six bytes of time
    begin = started(parent[:6], 16)
    prefix, code, delta, last = split(
        child_index(base64.b64encode(parent).decode(), begin + timedelta(hours=1), 10)
    )
    assert prefix == parent
    assert code == 0
    assert delta == 36_000_000_000 >> 18
    assert last == 0xA0


def test_the_form_of_exchange_is_told_apart() -> None:
    parent = base64.b64decode(BY_OUTLOOK)
    begin = started(parent[1:6], 24)
    assert begin.year == 2025
    prefix, code, delta, _ = split(child_index(BY_OUTLOOK, begin + timedelta(days=2)))
    assert (prefix, code, delta) == (parent, 0, (2 * 86_400 * 10_000_000) >> 18)


def test_a_later_answer_counts_from_the_beginning_too() -> None:
    parent = base64.b64decode(BY_EXCHANGE)
    begin = started(parent[1:6], 24)
    prefix, code, delta, _ = split(child_index(BY_EXCHANGE, begin + timedelta(days=1)))
    assert (prefix, code, delta) == (parent, 0, (86_400 * 10_000_000) >> 18)


def test_after_years_the_coarser_unit_is_used() -> None:
    begin = started(base64.b64decode(BY_OUTLOOK)[1:6], 24)
    _, code, delta, _ = split(child_index(BY_OUTLOOK, begin + timedelta(days=365 * 3)))
    assert (code, delta) == (1, (365 * 3 * 86_400 * 10_000_000) >> 23)


def test_a_clock_that_runs_behind_counts_as_no_time() -> None:
    begin = started(base64.b64decode(BY_OUTLOOK)[1:6], 24)
    assert split(child_index(BY_OUTLOOK, begin - timedelta(days=1)))[1:3] == (0, 0)


def test_folded_headers_are_read() -> None:
    date = datetime(2026, 1, 1, tzinfo=UTC)
    assert child_index(BY_EXCHANGE[:20] + "\r\n " + BY_EXCHANGE[20:], date) == child_index(BY_EXCHANGE, date)


@pytest.mark.parametrize(
    "index",
    [
        "",
        "no base64!",
        BY_OUTLOOK[:-4],
        base64.b64encode(b"\x02" + bytes(21)).decode(),
        base64.b64encode(b"\x01" + bytes(22)).decode(),
        base64.b64encode(b"\x01" + bytes(21 + 5 * 200)).decode(),
        "ü" * 32,
    ],
)
def test_what_is_no_index_has_no_child(index: str) -> None:
    assert child_index(index, datetime(2026, 1, 1, tzinfo=UTC)) == ""
