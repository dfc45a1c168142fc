"""Forms are read as bytes, whole or not at all."""

from __future__ import annotations

import time
import tracemalloc
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cleo_email.webhooks.forms import MAX_FIELDS, Form, read_form
from tests.webhooks.samples import multipart

KIND = "multipart/form-data; boundary=xYzZY"
URLENCODED = "application/x-www-form-urlencoded"


def named(form: Form) -> list[tuple[str, bytes]]:
    return [(part.name, part.content) for part in form.fields]


@given(
    fields=st.lists(st.tuples(st.text("abc[]-", min_size=1, max_size=8), st.binary(max_size=80)), max_size=8)
)
def test_what_was_put_in_comes_out(fields: list[Any]) -> None:
    fields = [(name, value) for name, value in fields if b"\r\n--xYzZY" not in b"\r\n" + value]
    assert named(read_form(KIND, multipart(fields))) == fields


@given(st.binary(max_size=400))
@settings(max_examples=300)
def test_nothing_raises(body: bytes) -> None:
    for kind in (
        KIND,
        URLENCODED,
        "",
        "multipart/form-data",
        "text/plain",
        "multipart/form-data; boundary=\xff",
    ):
        assert isinstance(read_form(kind, body), Form)
    assert isinstance(read_form(KIND, b"--xYzZY\r\n" + body + b"\r\n--xYzZY--"), Form)


def test_a_form_that_was_cut_off_has_no_fields() -> None:
    body = multipart([("a", "1"), ("b", "2")])
    end = body.rindex(b"--")
    assert len(read_form(KIND, body).fields) == 2
    assert all(read_form(KIND, body[:at]).fields == [] for at in range(end))


@pytest.mark.parametrize(
    "odd",
    [
        b"garbage without a header",
        b"X: " + b"a" * 9000 + b'\r\nContent-Disposition: form-data; name="cc"\r\n\r\nb',
        b'Content-Disposition: form-data; name="zz"\n\nb',
        b'Content-Disposition: attachment; name="b"\r\n\r\nnot a field of the form',
        b"Content-Disposition: form-data\r\n\r\nwithout a name",
    ],
)
def test_one_odd_part_costs_no_other(odd: bytes) -> None:
    whole = multipart([("a", "1"), ("b", "2")])
    body = b"--xYzZY\r\n" + odd + b"\r\n" + whole
    assert named(read_form(KIND, body)) == [("a", b"1"), ("b", b"2")]


def test_type_and_headers_are_written_as_rfc_9110_and_5322_allow() -> None:
    folded = b'--xYzZY\r\ncontent-disposition: Form-Data;\r\n name="a"\r\n\r\n1\r\n--xYzZY--\r\n'
    assert named(read_form("Multipart/Form-Data; Boundary=xYzZY", folded)) == [("a", b"1")]


def test_a_boundary_that_only_begins_like_ours_is_none() -> None:
    inner = b"before\r\n--xYzZYx\r\nafter\r\n--xYzZY-"
    assert (
        read_form(KIND, multipart([("a", b"before\r\n--xYz\r\nafter")])).bytes("a")
        == b"before\r\n--xYz\r\nafter"
    )
    assert read_form(KIND, multipart([("a", inner)])) == Form()


def test_blanks_after_a_boundary_and_text_around_the_parts_are_allowed() -> None:
    body = (
        b"preamble\r\n--xYzZY  \r\nContent-Disposition: form-data; name=a\r\n\r\n1\r\n--xYzZY--\r\nepilogue"
    )
    assert named(read_form(KIND, body)) == [("a", b"1")]


def test_files_and_fields() -> None:
    form = read_form(KIND, multipart([("f", ('ü \\"x.txt', "text/plain", b"\xff")), ("g", "v")]))
    file = form.file("f")
    assert file is not None
    assert (file.content_type, file.content, form.bytes("f"), form.text("g")) == (
        "text/plain",
        b"\xff",
        b"\xff",
        "v",
    )
    assert form.file("g") is None
    assert not form.has("h")


@pytest.mark.parametrize(
    ("sent", "meant"),
    [
        (r"\share\mail\f.msg", r"\share\mail\f.msg"),
        (r"C:\Reports\new.txt", r"C:\Reports\new.txt"),
        (r"\\share\\mail\\f.msg", r"\share\mail\f.msg"),
        (r"a\"b\\.txt", r'a"b\.txt'),
        ("a%22b.txt", 'a"b.txt'),
    ],
)
def test_only_quotes_and_backslashes_are_escaped_in_a_file_name(sent: str, meant: str) -> None:
    form = read_form(KIND, multipart([("f", (sent, "text/plain", b"x"))]))
    assert [file.filename for file in form.files] == [meant]


@pytest.mark.parametrize("shift", range(4))
def test_urlencoded_takes_memory_for_what_it_holds_and_not_for_each_escape(shift: int) -> None:
    """A stranger may send it where a provider signs a field of the form: it is read before it is proved."""
    data = b"x" * shift + b"%C3%BC" * 300_000 + b"%"
    tracemalloc.start()
    form = read_form(URLENCODED, b"a=" + data)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert form.bytes("a") == b"x" * shift + "ü".encode() * 300_000 + b"%"
    assert peak < 5 * len(data)


def test_urlencoded_keeps_every_byte() -> None:
    form = read_form(URLENCODED + "; charset=utf-8", b"a=%FF+%00%2B&b=&c&a=%C3%BC")
    assert named(form) == [("a", b"\xff \x00+"), ("b", b""), ("a", "ü".encode())]
    assert form.bytes("a") == "ü".encode()
    assert form.is_ambiguous("a")
    assert not form.is_ambiguous("b", "c")


@pytest.mark.parametrize("kind", [KIND, URLENCODED])
def test_too_many_fields_are_none(kind: str) -> None:
    many = [("a", "1")] * (MAX_FIELDS + 5)
    body = multipart(many) if kind == KIND else b"&".join([b"a=1"] * (MAX_FIELDS + 5))
    assert read_form(kind, body) == Form()


def test_a_large_form_is_read_quickly() -> None:
    body = multipart([("email", b"\r\n-" * 5_000_000)])
    begun = time.process_time()
    assert len(read_form(KIND, body).bytes("email")) == 15_000_000
    assert time.process_time() - begun < 1  # 0.05


def test_a_part_that_is_no_utf_8_or_has_no_name_loses_no_other() -> None:
    parts = [
        b'Content-Disposition: form-data; name=a; filename="gr\xfc\xdfe.txt"\r\n\r\n\xfc',
        b"Content-Type: text/plain\r\n\r\nx",
        b"Content-Disposition: form-data; name=b\r\n\r\n1",
    ]
    body = b"".join(b"--xYzZY\r\n" + part + b"\r\n" for part in parts) + b"--xYzZY--\r\n"
    form = read_form(KIND, body)
    assert [(file.name, file.content) for file in form.files] == [("a", b"\xfc")]
    assert named(form) == [("b", b"1")]


def test_a_part_without_content_may_share_its_blank_line_with_the_boundary() -> None:
    head = b'--xYzZY\r\nContent-Disposition: form-data; name=a; filename=""\r\n\r\n'
    file = read_form(KIND, head + b"--xYzZY--").file("a")
    assert file is not None
    assert (file.filename, file.content) == ("", b"")


def test_json_in_a_field_is_read_where_it_is_no_utf_8() -> None:
    form = read_form(KIND, multipart([("envelope", b'{"from": "a\xfc@b.test"}'), ("bad", b"[")]))
    assert form.json("envelope").text("from") == "a\ufffd@b.test"
    assert form.json("bad") == form.json("absent") == {}
