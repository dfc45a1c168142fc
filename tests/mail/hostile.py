"""Mails made to take a reader long, much memory, or down. Each builder gives the bytes of one."""

from __future__ import annotations

import base64
from collections.abc import Callable

_MB = 1_000_000
_HTML = b"From: a@example.org\r\nSubject: x\r\nContent-Type: text/html; charset=utf-8\r\n\r\n"
_TEXT = b"From: a@example.org\r\nSubject: x\r\n\r\n"


def _headers(*lines: bytes) -> bytes:
    return b"\r\n".join(lines) + b"\r\n\r\nHello\r\n"


def nested_multiparts(levels: int = 10_000) -> bytes:
    head = b"".join(
        b"Content-Type: multipart/mixed; boundary=b%d\r\n\r\n--b%d\r\n" % (n, n) for n in range(levels)
    )
    return b"From: a@example.org\r\n" + head + b"\r\nHello\r\n"


def same_boundary_nested(levels: int = 40, lines: int = 200_000) -> bytes:
    head = b"".join(
        b"Content-Type: multipart/mixed; boundary=%s\r\n\r\n--%s\r\n" % (b"a" * n, b"a" * n)
        for n in range(1, levels)
    )
    return b"From: a@example.org\r\n" + head + b"\r\n" + b"--ab\r\n--aab\r\n" * lines


def many_parts(count: int = 100_000) -> bytes:
    return b"Content-Type: multipart/mixed; boundary=x\r\n\r\n" + b"--x\r\n\r\na\r\n" * count


def text_parts(count: int = 450) -> bytes:
    part = b"--x\r\nContent-Type: text/html\r\n\r\n" + b"<p>Am 3.2.2025 schrieb x:</p>" * 1000 + b"\r\n"
    return b"Content-Type: multipart/mixed; boundary=x\r\n\r\n" + part * count + b"--x--\r\n"


def alternatives(count: int = 450) -> bytes:
    part = b"--x\r\nContent-Type: text/plain\r\n\r\nhtml\r\n--x\r\nContent-Type: text/html\r\n\r\n \r\n"
    return b"Content-Type: multipart/alternative; boundary=x\r\n\r\n" + part * (count // 2) + b"--x--\r\n"


def dashes(size: int = 40 * _MB) -> bytes:
    return b"Content-Type: multipart/mixed; boundary=x\r\n\r\n--x\r\n\r\n" + b"--\n" * (size // 3)


def parameter_sections(count: int = 100_000) -> bytes:
    sections = b"".join(b"; n*%d=a" % number for number in range(count))
    return _headers(b"Content-Type: text/plain" + sections)


def base64_with_padding(size: int = 20 * _MB) -> bytes:
    head = b"Content-Type: application/pdf\r\nContent-Transfer-Encoding: base64\r\n\r\n"
    return head + b"YQ==\r\n" * (size // 6)


def big_attachment(size: int = 60 * _MB) -> bytes:
    body = base64.encodebytes(b"\x00\x01\x02" * (size // 4))
    return b"Content-Type: application/pdf\r\nContent-Transfer-Encoding: base64\r\n\r\n" + body


def blowing_up() -> bytes:
    opened = b"".join(b"<b a=%d>" % number for number in range(3000))
    return _HTML + b"<p>" + opened + b"</p>" + b"<p>x</p>" * 3000


def wide_tag() -> bytes:
    return _HTML + b"<a " + b" ".join(b"a%d=1" % n for n in range(100_000)) + b">x</a>"


def sheet() -> bytes:
    return (
        _HTML
        + b"<style>"
        + b"/*" * 50_000
        + b".a{" * 50_000
        + b"</style>"
        + b"<p class='a a a'>x</p>" * 40_000
    )


def many_rules() -> bytes:
    rules = b"".join(b"q%d .c%d{display:block}" % (n, c) for n in range(40) for c in range(30))
    element = b"<p class='" + b" ".join(b"c%d" % c for c in range(30)) + b"'>x"
    return _HTML + b"<style>" + rules + b"</style>" + element * 9000


def punycode_charset() -> bytes:
    return b"Content-Type: text/plain; charset=punycode\r\n\r\n" + b"a" * _MB + b"-" + b"b" * 100_000


HOSTILE: dict[str, Callable[[], bytes]] = {
    "10,000 nested multiparts": nested_multiparts,
    "40 nested multiparts, boundaries alike": same_boundary_nested,
    "100,000 parts": many_parts,
    "450 parts of HTML": text_parts,
    "450 alternatives": alternatives,
    "40 MB of --": dashes,
    "100,000 headers": lambda: b"X-A: b\r\n" * 100_000 + b"\r\nHello",
    "one header of 40 MB": lambda: b"Subject: " + b"a" * (40 * _MB),
    "one folded header of 1 MB": lambda: b"Subject: " + b"a\r\n " * (_MB // 4) + b"\r\n\r\nHello",
    "one line of 40 MB": lambda: b"a" * (40 * _MB),
    "text line of 40 MB": lambda: _TEXT + b"a " * (20 * _MB),
    "40 MB of emoji": lambda: _TEXT + "😀".encode() * (10 * _MB),
    "40 MB of NUL": lambda: _TEXT + b"\0" * (40 * _MB),
    "40 MB of carriage returns": lambda: b"\r" * (40 * _MB),
    "1 MB of < in HTML": lambda: _HTML + b"<" * _MB,
    "1 MB of > in HTML": lambda: _HTML + b">" * _MB,
    "1 MB of &# in HTML": lambda: _HTML + b"&#" * (_MB // 2),
    "1 MB of <!-- in HTML": lambda: _HTML + b"<!--" * (_MB // 4),
    "1 MB of <div> in HTML": lambda: _HTML + b"<div>" * (_MB // 5),
    "1 MB of <blockquote> in HTML": lambda: _HTML + b"<blockquote>x" * (_MB // 13),
    "1 MB of <b> in HTML": lambda: _HTML + b"<b>x" * (_MB // 4),
    "1 MB of <li> in HTML": lambda: _HTML + b"<ul><li>x" * (_MB // 9),
    "1 MB of <a href> in HTML": lambda: _HTML + b"<a href=http://a>x" * (_MB // 18),
    "1 MB of <table> in HTML": lambda: _HTML + b"<table><tr><td>x" * (_MB // 16),
    "1 MB of wrong end tags in HTML": lambda: _HTML + b"<div></x>" * (_MB // 9),
    "1 MB of styled <p> in HTML": lambda: _HTML + b"<p style='color:#fff;a:b'>x" * (_MB // 27),
    "1 MB of open quotes in HTML": lambda: _HTML + b"<a b='" * (_MB // 6) + b'<a b="' * 100,
    "1 MB of blanks in <pre>": lambda: _HTML + b"<pre>" + b" " * _MB + b"x",
    "HTML that multiplies": blowing_up,
    "a tag of 100,000 attributes": wide_tag,
    "a hostile style sheet": sheet,
    "1,200 rules for each element": many_rules,
    "1 MB of <": lambda: _TEXT + b"<" * _MB,
    "1 MB of >": lambda: _TEXT + b">" * _MB,
    "1 MB of > lines": lambda: _TEXT + b">\n" * (_MB // 2),
    "1 MB of > and text lines": lambda: _TEXT + b">\na\n" * (_MB // 4),
    "1 MB of commas": lambda: _TEXT + b"," * _MB,
    "1 MB of blank lines": lambda: _TEXT + b"x" + b"\n" * _MB,
    "1 MB of blanks": lambda: _TEXT + b"x\n" + b" " * _MB + b"x",
    "1 MB of Am x schrieb": lambda: _TEXT + b"Am x schrieb " * (_MB // 13),
    "1 MB of Am x schrieb: lines": lambda: _TEXT + b"Am x schrieb:\n" * (_MB // 14),
    "1 MB of wrapped Am 1 lines": lambda: _TEXT + b"Am 1 \nschrieb\n:\n" * (_MB // 16),
    "1 MB of On On On": lambda: _TEXT + b"On " * (_MB // 3),
    "1 MB of On lines": lambda: _TEXT + b"On\n" * (_MB // 3),
    "1 MB of Von: lines": lambda: _TEXT + b"Von: a\n" * (_MB // 7),
    "1 MB of label lines": lambda: _TEXT + b"a:\nCc: a\n\n" * (_MB // 10),
    "1 MB of -- lines": lambda: _TEXT + b"x\n-- \n" * (_MB // 6),
    "1 MB of dashes": lambda: _TEXT + b"-" * _MB,
    "1 MB flowed": lambda: b"Content-Type: text/plain; format=flowed\r\n\r\n" + b"> a \n" * (_MB // 5),
    "1 MB of commas in To": lambda: _headers(b"To: " + b"," * (_MB - 100)),
    "1 MB of ( in To": lambda: _headers(b"To: " + b"(" * (_MB - 100)),
    "1 MB of quotes in To": lambda: _headers(b"To: " + b'"\\' * (_MB // 2 - 100)),
    "1 MB of < in To": lambda: _headers(b"To: " + b"<" * (_MB - 100)),
    "1 MB of letters in To": lambda: _headers(b"To: " + b"a" * (_MB - 100)),
    "1 MB of @ in To": lambda: _headers(b"To: " + b"@" * (_MB - 100)),
    "1 MB of addresses in To": lambda: _headers(b"To: " + b"a@b.c, " * (_MB // 7 - 100)),
    "1 MB of ids in References": lambda: _headers(b"References: " + b"<a@b> " * (_MB // 6 - 100)),
    "1 MB of open ids in References": lambda: _headers(b"References: " + b"<a" * (_MB // 2 - 100)),
    "1 MB of =? in Subject": lambda: _headers(b"Subject: " + b"=?" * (_MB // 2 - 100)),
    "1 MB of encoded words": lambda: _headers(b"Subject: " + b"=?a?q?=?=" * (_MB // 9 - 100)),
    "1 MB of Re: in Subject": lambda: _headers(b"Subject: " + b"Re: " * (_MB // 4 - 100)),
    "1 MB of blanks in Subject": lambda: _headers(b"Subject: Re" + b" " * (_MB - 100) + b"x"),
    "1 MB of ; in Content-Type": lambda: _headers(b"Content-Type: text/plain" + b";" * (_MB - 100)),
    "1 MB of a in Content-Type": lambda: _headers(b"Content-Type: " + b"a" * (_MB - 100)),
    "1 MB of open quotes in Content-Type": lambda: _headers(
        b"Content-Type: text/plain; " + b'a="\\' * (_MB // 4 - 100)
    ),
    "100,000 parameter sections": parameter_sections,
    "a date of 1 MB": lambda: _headers(b"Date: " + b"1 " * (_MB // 2 - 100)),
    "20 MB of padded base64": base64_with_padding,
    "60 MB attachment": big_attachment,
    "40 MB of quoted-printable": lambda: (
        b"Content-Transfer-Encoding: quoted-printable\r\n\r\n" + b"=\r\n" * 13 * _MB
    ),
    "charset punycode": punycode_charset,
}
