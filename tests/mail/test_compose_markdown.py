"""The HTML half: what the agent meant, and nothing that acts by itself."""

from __future__ import annotations

import re
import threading
import time

import pytest

from cleo_email.mail import markdown as module
from cleo_email.mail.markdown import to_html


def body(text: str) -> str:
    found = re.search(r'<body dir="auto">\n(.*)\n</body>', to_html(text), re.DOTALL)
    assert found
    return re.sub(r' style="[^"]*"', "", found[1])


@pytest.mark.parametrize(
    ("text", "html"),
    [
        ("one\ntwo", "<p>one<br>\ntwo</p>"),
        ("**b** *i* ~~s~~ `c`", "<p><strong>b</strong> <em>i</em> <s>s</s> <code>c</code></p>"),
        ("# T\n\n3. x\n4. y", '<h1>T</h1>\n<ol start="3">\n<li>x</li>\n<li>y</li>\n</ol>'),
        ("> q", "<blockquote>\n<p>q</p>\n</blockquote>"),
        ("```py\na < b\n```", "<pre><code>a &lt; b\n</code></pre>"),
        ("AT&T <b>", "<p>AT&amp;T &lt;b&gt;</p>"),
        ("---", "<hr>"),
        ("", ""),
    ],
)
def test_markdown(text: str, html: str) -> None:
    assert body(text) == html


def test_tables_keep_their_alignment() -> None:
    html = body("|a|b|\n|-|-:|\n|1|2|")
    assert '<th align="right" nowrap="nowrap">b</th>' in html
    assert '<td nowrap="nowrap">1</td>' in html


@pytest.mark.parametrize(
    "link", ["https://example.org/x?a=1&b=2", "http://example.org", "mailto:a@example.org"]
)
def test_links(link: str) -> None:
    href = link.replace("&", "&amp;")
    assert f'<a href="{href}" rel="noopener noreferrer">t</a>' in body(f"[t]({link})")
    assert f'<a href="{href}"' in body(f"<{link}>")


@pytest.mark.parametrize(
    "link",
    [
        "javascript:alert(1)",
        "JaVaScRiPt:x",
        "data:text/html,x",
        "//evil.example/x",
        "/path",
        "file:///etc",
        "cid:1",
    ],
)
def test_other_links_stay_text(link: str) -> None:
    html = body(f"[t]({link}) and ![i]({link})")
    assert "<a" not in html
    assert f"[t]({link})" in html


@pytest.mark.parametrize(
    "text",
    [
        "![x](https://evil.example/?secret)",
        "![x][r]\n\n[r]: https://evil.example/?secret",
        "<img src=https://evil.example/?secret>",
        "<style>body{background:url(https://evil.example)}</style>",
        '<div style="background:url(https://evil.example)">x</div>',
        "<script>x</script>",
        '<a href="https://e.example" onclick="x">y</a>',
        "<iframe src=https://evil.example></iframe>",
        "<svg/onload=x>",
        '[a](https://e.example "t\\" onmouseover=\\"x")',
        '```"><img src=x>\nx\n```',
        "|a|\n|-|\n|<img src=x>|",
        "&lt;img src=x&gt;",
        "<https://e.example/><img/src=x>",
    ],
)
def test_nothing_loads_or_runs(text: str) -> None:
    html = body(text)
    tags = re.findall(r"<(/?[a-z0-9]+)((?:[^>\"]|\"[^\"]*\")*)>", html)
    assert {tag.strip("/") for tag, _ in tags} <= {
        "p",
        "a",
        "br",
        "code",
        "pre",
        "table",
        "thead",
        "tbody",
        "tr",
        "th",
        "td",
        "div",
    }
    for _, attributes in tags:
        assert set(re.findall(r'([a-z]+)="', re.sub(r'"[^"]*"', '"', attributes))) <= {
            "href",
            "rel",
            "title",
            "align",
            "nowrap",
        }


def test_pictures_become_links_and_lose_nothing() -> None:
    assert body("![Diagram](https://e.example/a.png)") == (
        '<p><a href="https://e.example/a.png" rel="noopener noreferrer">Diagram</a></p>'
    )
    assert ">https://e.example/a.png</a>" in body("![](https://e.example/a.png)")
    assert body("[![in](https://e.example/a.png)](https://e.example)").count("<a ") == 1


def test_our_own_styles_load_nothing() -> None:
    page = to_html("x")
    assert "url(" not in page
    assert "@import" not in page
    assert "http" not in page


HOSTILE = ["[" * 20_000, "> " * 20_000, "*a_ " * 20_000, "`" * 50_000, "![" * 20_000, "<" * 100_000]
HOSTILE += [
    "|a" * 20_000 + "\n" + "|-" * 20_000,
    "[a](" * 20_000,
    "&" * 100_000,
    "\\" * 100_000,
    "a\n" * 50_000,
]
HOSTILE += ["http://" * 28_000, "https://a" + ")" * 190_000, "a@" * 90_000, "a@b." * 40_000, "www." * 40_000]
HOSTILE += [
    "C:\\" * 60_000,
    "C:" + "\\x y" * 40_000,
    "\\\\a\\" * 40_000,
    "<sub>" * 40_000,
    "<br" * 60_000,
    "a*「" * 60_000,
]
HOSTILE += ["%" * 150_000, "https://" + "a" * 190_000, "<sup>a</sup" * 18_000]
HOSTILE += [
    "- " * 20_000,
    "x" * 3_000_000,
    "[a]: b\n" * 20_000,
    "*" * 100_000,
    "~~a" * 30_000,
    "\"'" * 50_000,
]


@pytest.mark.parametrize("text", HOSTILE, ids=lambda text: ascii(text[:4]))
def test_hostile_markdown_takes_seconds_at_most(text: str) -> None:
    began = time.process_time()
    to_html(text)
    assert time.process_time() - began < 10


def test_very_long_text_is_shown_as_it_is() -> None:
    assert "<pre>&lt;b&gt;*x" in body("<b>*x" * 50_000)


def test_first_use_from_many_threads() -> None:
    module._renderer.cache_clear()
    results: list[str] = []
    text = "|a|\n|-|\n|~~*x*~~ ![i](https://e.example)|"
    threads = [threading.Thread(target=lambda: results.append(to_html(text))) for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert set(results) == {to_html(text)}
    assert len(results) == 16


# --- what models write otherwise than CommonMark reads it ---------------------------------------------------


@pytest.mark.parametrize(
    ("text", "html"),
    [
        (
            "**wichtig:**Text und **noch:**mehr",
            "<strong>wichtig:</strong>Text und <strong>noch:</strong>mehr",
        ),
        ("**「重要」**です", "<strong>「重要」</strong>です"),
        (
            "これは**「重要」**です。*「強調」*です",
            "これは<strong>「重要」</strong>です。<em>「強調」</em>です",
        ),
        ("**重要：**请看", "<strong>重要：</strong>请看"),
        ("한국어**'중요'**입니다", "한국어<strong>'중요'</strong>입니다"),
        ("„**Preis**“ und **„Preis“**gilt", "„<strong>Preis</strong>“ und <strong>„Preis“</strong>gilt"),
        ("siehe*„Preis“*hier, *wichtig:*Text", "siehe<em>„Preis“</em>hier, <em>wichtig:</em>Text"),
        ("**fett**schrift, ***x:***y, ~~alt:~~neu", None),
    ],
)
def test_emphasis_beside_punctuation(text: str, html: str | None) -> None:
    html = html or "<strong>fett</strong>schrift, <em><strong>x:</strong></em>y, <s>alt:</s>neu"
    assert body(text) == f"<p>{html}</p>"


@pytest.mark.parametrize(
    "text",
    [
        "5*3*2 = 30, a*b*c, 5*(3+2)*4, 2**3**4",
        "snake_case_name und noch_ein_name",
        "src/**/*.py und tests/**/*.py",
        "Preis**, Menge**.",
        r"C:\new\_folder\*.txt und D:\_x",
        r"\\server\_share\x, C:\Program Files\_x",
        r"%TEMP%\_a, ..\_b",
        "a * b * c",
        "http:// und www. und @ und a@b",
    ],
)
def test_what_is_no_markdown_stays(text: str) -> None:
    assert body(text) == f"<p>{text}</p>"


def test_escapes_outside_of_paths_work() -> None:
    assert body(r"\*kein\* snake\_case **C:\new\_x**") == (
        r"<p>*kein* snake_case <strong>C:\new\_x</strong></p>"
    )


@pytest.mark.parametrize(
    ("text", "html"),
    [
        ("a<br>b<BR/>\nc", "a<br>\nb<br>\nc"),
        ("H<sub>2</sub>O, m<sup>**2**</sup>", "H<sub>2</sub>O, m<sup><strong>2</strong></sup>"),
        ("<sup> bleibt", "&lt;sup&gt; bleibt"),
        ("`<br>`", "<code>&lt;br&gt;</code>"),
        ("Grüße\nAnna\n---\nFirma", "Grüße<br>\nAnna</p>\n<hr>\n<p>Firma"),
    ],
)
def test_tags_for_lines_and_small_letters(text: str, html: str) -> None:
    assert body(text) == f"<p>{html}</p>"
    if "\n" not in text:
        assert f">{html}</td>" in body(f"|a|\n|-|\n|{text}|")


@pytest.mark.parametrize(
    ("text", "href", "shown"),
    [
        ("Siehe https://example.com/a_b_/__init__.py.", "https://example.com/a_b_/__init__.py", None),
        ("(https://de.example/Foo_(bar))", "https://de.example/Foo_(bar)", None),
        ("**https://x.example/y**!", "https://x.example/y", None),
        ("HTTP://x.example?a=1&b=2, ja", "HTTP://x.example?a=1&amp;b=2", None),
        ("見て、https://x.example/aをどうぞ", "https://x.example/a", None),
        ("„https://x.example/a“", "https://x.example/a", None),
        ("www.example.com, ja", "https://www.example.com", "www.example.com"),
        ("info_de@firma.example.", "mailto:info_de@firma.example", "info_de@firma.example"),
        ("お問い合わせはinfo@example.jpまで", "mailto:info@example.jp", "info@example.jp"),
        ("|a|\n|-|\n|https://x.example/y|", "https://x.example/y", None),
    ],
)
def test_bare_addresses_are_links(text: str, href: str, shown: str | None) -> None:
    html = body(text)
    assert f'<a href="{href}" rel="noopener noreferrer">{shown or href}</a>' in html
    assert html.count("<a ") == 1


@pytest.mark.parametrize(
    "text", ["`https://x.example`", "```\nwww.example.com\n```", "ftp://x.example", "xhttps://x.example"]
)
def test_no_links_in_code_or_of_other_schemes(text: str) -> None:
    assert "<a " not in body(text)


def test_a_link_holds_no_other() -> None:
    assert body("[https://x.example a@x.example](https://y.example)").count("<a ") == 1


def test_every_element_has_its_style_and_no_colour_for_one_background_only() -> None:
    page = to_html(
        "# a\n\nb [c](https://d.example) `e`\n\n- f\n\n1. g\n\n> h\n\n```\ni\n```\n\n|j|\n|-|\n|k|\n\n---\n"
    )
    for tag, attributes in re.findall(r"<([a-z][a-z0-9]*)([^>]*)>", page.partition("<body")[2]):
        assert "style=" in attributes or tag in {"thead", "tbody", "tr"}, tag
    assert "<style" not in page
    assert not re.search(r"background|[ ;\"]color:(?!#2f7de0)", page)


def test_what_is_left_open_in_one_part_ends_with_it() -> None:
    assert "<p" in to_html("```\ncode", "notice").partition("</pre>")[2]


@pytest.mark.parametrize(
    ("text", "html"),
    [
        ("请看**“重点”**内容和**“二”**", "请看<strong>“重点”</strong>内容和<strong>“二”</strong>"),
        ("__注意：__请", "<strong>注意：</strong>请"),
        ("请_（注）_看，文件_名_称", "请<em>（注）</em>看，文件_名_称"),
        ("__init__.py, __main__()", "__init__.py, __main__()"),
        ("(a)*(b)*(c), (3+4)*5*(2)", "(a)*(b)*(c), (3+4)*5*(2)"),
        ("3 m²*2 m²*4, Maß*Zahl*Öl", "3 m²*2 m²*4, Maß*Zahl*Öl"),
        ("a</sub>b", "a&lt;/sub&gt;b"),
        (r"C:\\Users\\_x", r"C:\Users\_x"),
    ],
)
def test_emphasis_and_signs_as_they_were_meant(text: str, html: str) -> None:
    assert body(text) == f"<p>{html}</p>"


@pytest.mark.parametrize(
    ("text", "href"),
    [
        ("请访问https://a.example/x。", "https://a.example/x"),
        ("[Firma](www.a.example)", "https://www.a.example"),
        ("[a@b.example](a@b.example)", "mailto:a@b.example"),
        ("[anrufen](tel:+4930123)", "tel:+4930123"),
    ],
)
def test_links_that_lack_their_scheme_or_a_blank_before_them(text: str, href: str) -> None:
    assert body(text).count("<a ") == 1
    assert f'<a href="{href}"' in body(text)


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("1. Oktober\n\n5. Oktober\n6. z", ["", "5", ""]),
        ("1. a\n1. b\n1. c", ["", "", ""]),
        ("3. x\n\n2019. y\n\n1. z", ["", "2019", "1"]),
        ("1. a\n   1. b\n   3. c\n2. d", ["", "", "3", ""]),
    ],
)
def test_an_item_has_the_number_that_was_written(text: str, values: list[str]) -> None:
    assert re.findall(r'<li(?: value="(\d+)")?>', body(text)) == values
