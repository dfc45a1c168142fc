"""HTML as a person sees it: line ends, columns, what is struck, raised, ticked, or drawn by a font."""

from __future__ import annotations

import time

import pytest

from cleo_email.mail.html import html_to_text


@pytest.mark.parametrize(
    ("html", "text"),
    [
        ('<p style="white-space: pre-wrap;">a\n\n1. b\n2. c</p>', "a\n\n1. b\n2. c"),
        ('<style>.m{white-space:pre-wrap}</style><div class="m">a\n  b</div>', "a\n  b"),
        ('<div style="white-space:pre-line">a\n   b  c\nd</div>', "a\nb c\nd"),
        ('<div style="white-space:pre">a\nb</div><p>c\nd</p>', "a\nb\n\nc d"),
        ('<div style="white-space:break-spaces">a\nb</div>', "a\nb"),
        ('<pre style="white-space:normal">a\nb</pre>', "a b"),
        ("<pre>a\n  b <b>c</b>\nd</pre>", "a\n  b c\nd"),
        (
            '<div style="white-space:pre-wrap">a <span style="white-space:nowrap">b\nc</span>\nd</div>',
            "a b c\nd",
        ),
        ('<div style="white-space:pre-wrap">\n<p>a</p>\n<p>b</p>\n</div>', "a\n\nb"),
        ("<p>a\n b</p>", "a b"),
    ],
)
def test_line_ends_that_are_shown_are_kept(html: str, text: str) -> None:
    assert html_to_text(html).text == text


def table(*rows: str, attributes: str = "", cell: str = "td") -> str:
    """Cells are parted by bars: ``a|b`` or, with attributes, ``colspan=2:a|b``."""

    def one(text: str) -> str:
        span, _, words = text.rpartition(":")
        return f"<{cell} {span}>{words}</{cell}>"

    lines = ("".join(map(one, row.split("|"))) for row in rows)
    return f"<table {attributes}>{''.join(f'<tr>{line}</tr>' for line in lines)}</table>"


@pytest.mark.parametrize(
    ("html", "rows"),
    [
        (
            table("Artikel|Farbe|Menge", "Stuhl||5", "Tisch|rot|&nbsp;"),
            ["Artikel | Farbe | Menge", "Stuhl | - | 5", "Tisch | rot | -"],
        ),
        (table("A|B|C", "||Summe", "1|2|3"), ["A | B | C", "- | - | Summe", "1 | 2 | 3"]),
        (table("A|B|C", "a|b|", "||c", cell="th"), ["A | B | C", "a | b | -", "- | - | c"]),
        (table("A|colspan=2:B", "a|b|c", "colspan=2:Summe|7"), ["A | B | -", "a | b | c", "Summe | - | 7"]),
        (table("A|B", "rowspan=2:x|1", "2", "y|3"), ["A | B", "x | 1", "- | 2", "y | 3"]),
        (
            table("A|B|C", "rowspan=3:x|rowspan=2:y|1", "2", "z|3"),
            ["A | B | C", "x | y | 1", "- | - | 2", "- | z | 3"],
        ),
        (table("A||B", "1||2", "3||4"), ["A | B", "1 | 2", "3 | 4"]),  # a column of spaces
        (
            table("colspan=3:Ihre Bestellung", "A|B|C", "a||c", "d|e|f"),
            ["Ihre Bestellung", "A | B | C", "a | - | c", "d | e | f"],
        ),
        (table("A|B", "a|b", "c|"), ["A | B", "a | b", "c | -"]),
        ("<table><thead><tr><th>A<th>B<tbody><tr><td><p></p><td><p>b</p></table>", ["A | B", "- | b"]),
        (
            table("A|B|C", "<p>a</p>|<p>&nbsp;</p>|2<br>zwei", "1|x|2"),
            ["A | B | C", "a | - | 2 zwei", "1 | x | 2"],
        ),
    ],
)
def test_a_value_stays_in_its_column(html: str, rows: list[str]) -> None:
    lines = html_to_text(f"<p>x</p>{html}<p>Danke</p>").text.split("\n")
    assert [line for line in lines if line and line not in ("x", "Danke")] == rows


@pytest.mark.parametrize(
    ("html", "text"),
    [
        (table("|Hallo", "|Welt"), "Hallo\nWelt"),
        (table("Logo|Anna Beispiel", "|Tel. 123"), "Logo | Anna Beispiel\nTel. 123"),
        (table("A|B", "|b", "a|b", attributes="role=presentation"), "A | B\nb\na | b"),
        (table(table("a|b", "c|d") + "|x", "|y"), "a | b\nc | d | x\ny"),
        ("<table><tr><td>a</td></tr><tr><td></td></tr></table>", "a"),
    ],
)
def test_a_table_for_the_layout_gets_no_marks(html: str, text: str) -> None:
    assert html_to_text(html).text == text


@pytest.mark.parametrize(
    ("html", "text"),
    [
        ("bestellen <s>5</s> 7", "bestellen ~~5~~ 7"), ("<del>rote</del> blaue", "~~rote~~ blaue"),
        ("<strike>a b</strike>c", "~~a b~~c"), ('<span style="text-decoration: line-through">a</span> b',
        "~~a~~ b"),
        ('<span style="text-decoration-line:line-through">a</span> b', "~~a~~ b"),
        ("<style>.x{text-decoration:line-through red}</style><b class=x>a</b> b", "~~a~~ b"),
        ('<span style="text-decoration:underline">a</span> <u>b</u> <ins>c</ins>', "a b c"),
        ('<s style="text-decoration:none">a</s>', "a"), ("<s> </s>x<s></s>", "x"),
        ("10<sup>3</sup> m<sup>2</sup> x<sup>-1</sup>", "10³ m² x⁻¹"), ("H<sub>2</sub>O CO<sub>2</sub>",
        "H₂O CO₂"),
        ("1<sup>st</sup> 2<sup>nd</sup> 1<sup>er</sup> n<sup>o</sup> X<sup>®</sup>", "1st 2nd 1er no X®"),
        ("x<sup>n</sup> a<sub>i</sub>", "x^n a_i"), ('10<span style="vertical-align:super">3</span>', "10³"),
        ('<td style="vertical-align:top">3</td>', "3"),
        ("<input type=checkbox checked> Ja <input type=checkbox> Nein", "[x] Ja [ ] Nein"),
        ("<input type=radio checked>Rot<input type=radio>Blau", "[x] Rot [ ] Blau"),
        ("Name: <input value='Anna'><input type=hidden value=x><input type=password value=y>", "Name: Anna"),
        ("<select><option>S<option selected>M<option>L</select>", "M"),
        ("<select><option>S<option>M</select>", "S"),
    ],
)  # fmt: skip
def test_what_no_longer_holds_and_what_stands_higher_or_is_ticked(html: str, text: str) -> None:
    assert html_to_text(html).text == text


@pytest.mark.parametrize(
    ("html", "text"),
    [
        ("danke <span style='font-family:Wingdings'>J</span>", "danke ☺"),
        ('<font face="Wingdings">à</font> x', "→ x"),
        ('<span style="font-family:\'Wingdings\',serif">L</span>', "☹"),
        ("<span style='font:12.0pt Wingdings'>J</span>", "☺"),
        ("<style>.w{font-family:Wingdings}</style><i class=w>ü</i> Ja", "✓ Ja"),
        ("<font face=Wingdings>þ</font> Ja <font face=Wingdings>¨</font> Nein", "☑ Ja ☐ Nein"),
        ("<span style='font-family:\"Wingdings 2\"'>R</span> Ja", "☑ Ja"),
        ("<span style='font-family:Wingdings'>\uf04a</span>", "☺"),
        ("<i style='font-family:Symbol'>·<b style='font:7pt \"Times New Roman\"'>&nbsp; </b></i>x", "•  x"),
        ("<span style='font-family:Symbol'>a</span> = 5<span style='font-family:Symbol'>°</span>", "α = 5°"),
        ("<span style='font-family:Wingdings'><b style='font-family:Arial'>J</b></span>", "J"),
        ("<span style='font-family:Arial,Wingdings'>J</span>", "J"),
        ("<span style='font-family:WingdingsX'>J</span>", "J"),
    ],
)  # fmt: skip
def test_letters_of_a_symbol_font(html: str, text: str) -> None:
    assert html_to_text(html).text == text


@pytest.mark.parametrize(
    "piece",
    ["<table><tr><td>", "<td colspan=100 rowspan=100>a", "<table><tr><td></td><td>a</td></tr></table>",
    "<s>a", "<sup>2",
     "<blockquote>a", "a:<blockquote>b</blockquote>", "<select><option>a", "<input type=checkbox>",
     "<tr><td rowspan=99>"],
)  # fmt: skip
def test_long_ones_take_little_time(piece: str) -> None:
    begin = time.process_time()
    html_to_text(f"<table>{piece * (500_000 // len(piece))}")
    html_to_text(piece * (500_000 // len(piece)))
    assert time.process_time() - begin < 6


@pytest.mark.parametrize(
    ("html", "text"),
    [
        ('<div style="white-space-collapse: preserve;">a\n  b</div>', "a\n  b"),
        ('<div style="white-space-collapse: preserve-breaks">a\n  b</div>', "a\nb"),
        ("<textarea>a\n b</textarea>", "a\n b"),
        ("<s>Wir <b>kommen</b> am <i>Montag</i></s> Dienstag", "~~Wir kommen am Montag~~ Dienstag"),
        ("10<sup>2,5</sup> und 10<sup>1/2</sup> und e<sup>-kt</sup>", "10^(2,5) und 10^(1/2) und e^(-kt)"),
        ("T<sub>0,5</sub> und CO<sub>2eq</sub>", "T₀,₅ und CO₂eq"),
        ("<span role=checkbox aria-checked=true></span>A", "[x] A"),
        ("<ul><li role=checkbox aria-checked=false>A</li></ul>", "- [ ] A"),
        ("<ol type=a><li>x</li><li value=28>y</li><li>z</li></ol>", "a. x\nab. y\nac. z"),
        ("<ol style='list-style-type: upper-roman' start=4><li>x</li></ol>", "IV. x"),
        ("<ol><li>x</li><li value=7>y</li></ol>", "1. x\n7. y"),
        ("<font face=Wingdings>Œ</font> eins", "❶ eins"),
        (
            "<table><tr><th>A<th>B<th>C</tr><tr><td>1<td><img alt='' src=x><td>3</tr></table>",
            "A | B | C\n1 | - | 3",
        ),
        (
            "<table><tr><th>A<th>B<th>C</tr><tr><td>1<td><td><table><tr><td>3<td>4</tr></table></tr></table>",
            "A | B | C\n1 | - | 3 4",
        ),
        (
            "<table border=1><tr><td>Name<td>Ort</tr><tr><td>Ben<td>Weg 2<br>Köln</tr></table>",
            "Name | Ort\nBen | Weg 2 Köln",
        ),
        (
            "<table><tr><th>A<th>B<th>C</tr>"
            "<tr><td style='white-space:pre-wrap'>1\n2<td><td><ul><li>x<li>y</ul></tr></table><p>z",
            "A | B | C\n1 2 | - | x y\n\nz",
        ),
        ("<table><tr><td rowspan=0>A<td>1<td>2</tr><tr><td>3<td>4</tr></table>", "A | 1 | 2\n- | 3 | 4"),
    ],
)
def test_what_other_programs_write_for_the_same(html: str, text: str) -> None:
    assert html_to_text(html).text == text
