"""HTML to text: structure kept, hidden text left out."""

from __future__ import annotations

from typing import Final, NamedTuple

from selectolax.lexbor import LexborHTMLParser, LexborNode

from cleo_email.mail.charsets import clean
from cleo_email.mail.html_guard import is_expensive, strip_markup
from cleo_email.mail.html_style import Look, Styles
from cleo_email.mail.html_writer import TextWriter

_NO_TEXT: Final = frozenset(
    [
        "head",
        "script",
        "style",
        "noscript",
        "template",
        "title",
        "meta",
        "link",
        "object",
        "embed",
        "applet",
        "iframe",
        "svg",
        "math",
        "audio",
        "video",
        "canvas",
        "select",
        "datalist",
    ]
)
_PARAGRAPHS: Final = frozenset(
    ["p", "h1", "h2", "h3", "h4", "h5", "h6", "table", "pre", "dl", "fieldset", "figure"]
)
_BLOCKS: Final = frozenset(
    [
        "address",
        "article",
        "aside",
        "body",
        "caption",
        "center",
        "dd",
        "details",
        "div",
        "dt",
        "figcaption",
        "footer",
        "form",
        "header",
        "hgroup",
        "html",
        "legend",
        "main",
        "nav",
        "section",
        "summary",
        "tbody",
        "tfoot",
        "thead",
        "tr",
    ]
)
_LISTS: Final = frozenset({"ul", "ol", "menu", "dir"})
_SCHEMES: Final = ("http://", "https://", "mailto:", "tel:", "ftp://")
_MAX_URL: Final = 2000
_MAX_ALT: Final = 300


class HtmlText(NamedTuple):
    """``hidden_dropped`` says that there was text which a person would not have seen."""

    text: str
    hidden_dropped: bool


def html_to_text(html: str) -> HtmlText:
    """Give the text of an HTML document as a person sees it. Never raises; takes linear time.

    Lists become ``- item`` lines, links ``text (url)`` where the two differ, table rows lines with ``|``
    between the cells, quotes ``> `` lines, images their alternative text in brackets.
    """
    source = clean(html)
    if is_expensive(source):
        text, hidden = strip_markup(source)
        return HtmlText(clean(text), hidden)
    walker = _Walker(LexborHTMLParser(source))
    walker.walk()
    return HtmlText(clean(walker.writer.result()), walker.hidden)


class _Walker:
    """Goes through the tree without recursion and tells the writer what it meets."""

    def __init__(self, parser: LexborHTMLParser) -> None:
        self._root = parser.root
        self.writer = TextWriter()
        self.hidden = False
        self._styles = Styles([node.text(deep=False) for node in parser.css("style")])
        self._counters: list[int] = []  # of the open lists; -1 for those without numbers
        self._rows: list[int] = []  # where the open table rows began
        self._links: list[int] = []

    def walk(self) -> None:
        if self._root is None:
            return
        node: LexborNode = self._root
        looks = [self._styles.initial]  # what the children of each open element inherit
        while True:
            look = self._enter(node, looks[-1])
            if look is not None:
                if (child := node.first_child) is not None:
                    looks.append(look)
                    self._styles.cascade.open(node.tag or "", node.attributes)
                    node = child
                    continue
                self._leave(node, look)
            while (sibling := node.next) is None:
                parent = node.parent
                if len(looks) == 1 or parent is None:
                    return
                node = parent
                self._styles.cascade.close(node.tag or "", node.attributes)
                self._leave(node, looks.pop())
            node = sibling

    def _enter(self, node: LexborNode, outer: Look) -> Look | None:
        """Begin ``node``; None says that nothing below it matters."""
        tag = node.tag or ""
        if tag == "-text":
            self._text(node.text_content or "", outer)
            return None
        if tag in _NO_TEXT or tag.startswith(("-", "!")):
            return None
        attributes = node.attributes
        look = self._styles.look(tag, attributes, outer)
        if not look.gone:
            self._begin(tag, attributes, look)
        return look

    def _text(self, text: str, look: Look) -> None:
        if look.readable:
            self.writer.text(text)
        elif not self.hidden and text.strip(" \t\r\n\f\u00a0\u200b\u200c\u200d\u00ad\u034f\u2007\ufeff"):
            self.hidden = True

    def _begin(self, tag: str, attributes: dict[str, str | None], look: Look) -> None:
        writer = self.writer
        if tag == "br":
            writer.line_break()
        elif tag in _PARAGRAPHS:
            writer.block(_gap(tag, attributes))
            writer.preformatted += tag == "pre"
        elif tag in ("td", "th"):
            if self._rows:
                writer.cell(self._rows[-1])
        elif tag == "tr":
            writer.block(1)
            self._rows.append(writer.mark())
        elif tag in _BLOCKS:
            writer.block(1)
        elif tag == "blockquote":
            writer.quote(1)
        elif tag in _LISTS:
            self._begin_list(tag, attributes)
        elif tag == "li":
            writer.item(self._marker())
        elif tag == "a":
            self._links.append(writer.mark())
        elif tag == "hr":
            self._rule()
        elif tag == "img" and look.readable:
            self._image(attributes)

    def _leave(self, node: LexborNode, look: Look) -> None:
        tag = node.tag or ""
        if look.gone:
            return
        writer = self.writer
        if tag in _PARAGRAPHS:
            writer.preformatted -= tag == "pre"
            writer.block(_gap(tag, node.attributes))
        elif tag == "tr":
            self._rows.pop()
            writer.end_row()
        elif tag in _BLOCKS or tag == "li":
            writer.block(1)
        elif tag == "blockquote":
            writer.quote(-1)
        elif tag in _LISTS:
            self._counters.pop()
            writer.list(-1)
            writer.block(1 if self._counters else 2)
        elif tag == "a":
            self._end_link(node.attributes.get("href") or "", self._links.pop())

    def _begin_list(self, tag: str, attributes: dict[str, str | None]) -> None:
        start = attributes.get("start") or "1"
        first = int(start) if start.isascii() and start.isdigit() and len(start) < 6 else 1
        self.writer.block(1 if self._counters else 2)
        self.writer.list(1)
        self._counters.append(first if tag == "ol" else -1)

    def _marker(self) -> str:
        if not self._counters or self._counters[-1] < 0:
            return "- "
        self._counters[-1] += 1
        return f"{self._counters[-1] - 1}. "

    def _rule(self) -> None:
        self.writer.block(1)
        self.writer.text("---")
        self.writer.block(1)

    def _image(self, attributes: dict[str, str | None]) -> None:
        alt = " ".join((attributes.get("alt") or "")[:_MAX_ALT].split())
        tiny = any((attributes.get(side) or "").strip() in ("0", "1") for side in ("width", "height"))
        if alt and not tiny:
            self.writer.text(f"[{alt}]")

    def _end_link(self, href: str, mark: int) -> None:
        url = href.strip()
        shown = self.writer.since(mark).strip()
        if not shown or len(url) > _MAX_URL or not url.lower().startswith(_SCHEMES):
            return
        if _bare(shown) != _bare(url):
            self.writer.text(f" ({''.join(url.split())})")


def _gap(tag: str, attributes: dict[str, str | None]) -> int:
    """Outlook writes each line as a paragraph without a margin."""
    if tag == "table" or (tag == "p" and (attributes.get("class") or "").startswith("Mso")):
        return 1
    return 2


def _bare(url: str) -> str:
    url = "".join(url.lower().split())
    for prefix in ("mailto:", "tel:", "http://", "https://", "www."):
        url = url.removeprefix(prefix)
    return url.rstrip("/")
