"""Turn an answer's Markdown into the HTML that mail programs show.

Programs drop ``<style>``, and so does the first reply: each element has its style in itself. The only
colours are a grey and a blue that are seen on white as on black, so that a dark window keeps its own.
"""

import functools
import html
import re
from collections.abc import Callable, Sequence

import nh3
from markdown_it import MarkdownIt
from markdown_it.renderer import RendererHTML
from markdown_it.rules_core import StateCore
from markdown_it.rules_inline import StateInline, emphasis, strikethrough
from markdown_it.rules_inline.state_inline import Delimiter
from markdown_it.token import Token
from markdown_it.utils import EnvType, OptionsDict

_SCHEMES = {"http", "https", "mailto", "tel"}
_OF_A_CELL = {"align", "nowrap"}
_ATTRIBUTES = {
    "a": {"href", "title"}, "ol": {"start"}, "li": {"value"}, "td": _OF_A_CELL, "th": _OF_A_CELL
}  # fmt: skip
_SHORT_CELL = 16  # characters; amounts, dates and names are not broken
_LONGEST = 200_000  # characters; beyond it the text is shown as it is

_FONT = "-apple-system,'Segoe UI',Roboto,Arial,sans-serif"
_TEXT = f"font:15px/1.5 {_FONT};word-break:break-word"  # break-word: no long word is wider than the window
_MONOSPACE = "Consolas,Menlo,monospace;word-break:break-word"
_CELL = f"{_TEXT};border:1px solid #999;padding:4px 6px;min-width:3em;vertical-align:top"
_STYLES = {
    "p": f"{_TEXT};margin:0 0 1em",
    "ul": "margin:0 0 .75em;padding:0 0 0 1.6em",
    "ol": "margin:0 0 .75em;padding:0 0 0 1.9em",
    "li": f"{_TEXT};margin:0 0 .25em",
    "blockquote": f"{_TEXT};margin:0 0 1em;padding:0 0 0 12px;border-left:3px solid #999",
    "pre": f"font:13px/1.45 {_MONOSPACE};white-space:pre-wrap;margin:0 0 1em;padding:8px 12px;"
    "border:1px solid #999;border-radius:4px",
    "code": f"font-size:13px;font-family:{_MONOSPACE}",
    "a": "color:#2f7de0;word-break:break-word",
    "hr": "border:0;border-top:1px solid #999;margin:1.5em 0",
    "sub": "font-size:75%;line-height:0",
    "sup": "font-size:75%;line-height:0",
    # A table with too many columns for a telephone is moved in its frame; the words of its head stay whole.
    "div": "overflow-x:auto;max-width:100%;margin:0 0 1em",
    "table": "border-collapse:collapse",
    "th": f"{_CELL};font-weight:bold;word-break:normal",
    "td": _CELL,
    **{
        f"h{level}": f"font:bold {size}px/1.3 {_FONT};word-break:break-word;margin:1.2em 0 .5em"
        for level, size in enumerate((22, 19, 17, 15, 15, 15), 1)
    },
}
_TAGS = {*_STYLES, *"br em s strong tbody thead tr".split()}
_INLINE = {tag: {"style": style} for tag, style in _STYLES.items()}

_PAGE = """\
<!DOCTYPE html>
<html>
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<meta name="color-scheme" content="light dark">
</head>
<body dir="auto">
{body}
</body>
</html>
"""


def to_html(*parts: str) -> str:
    """Return an HTML page for Markdown (clean text, ``\\n`` line ends); single line ends stay visible.

    What is left open in one of the ``parts``, such as a block of code, ends with it.
    """
    return _PAGE.format(body="\n".join(_fragment(part) for part in parts))


def _fragment(markdown: str) -> str:
    if len(markdown) > _LONGEST:
        return f'<pre style="{_STYLES["pre"]}">{html.escape(markdown)}</pre>'
    return nh3.clean(
        _renderer().render(markdown),
        tags=_TAGS,
        attributes=_ATTRIBUTES,
        set_tag_attribute_values=_INLINE,
        url_schemes=_SCHEMES,
        link_rel="noopener noreferrer",
    ).strip("\n")


class _Markdown(MarkdownIt):
    def validateLink(self, url: str) -> bool:  # noqa: N802 - the library's name
        """Return whether ``url`` becomes a link; others, relative ones too, stay visible as written."""
        return url.lower().startswith(("http://", "https://", "mailto:", "tel:"))

    def normalizeLink(self, url: str) -> str:  # noqa: N802 - the library's name
        """Return ``url`` percent-encoded; ``www.example.com`` and ``a@example.com`` get a scheme."""
        if _ADDRESS.fullmatch(url):
            url = _scheme(url) + url
        return super().normalizeLink(url)


class _Renderer(RendererHTML):
    def image(self, tokens: Sequence[Token], idx: int, options: OptionsDict, env: EnvType) -> str:
        """Write a picture as its description, linked unless it already stands in a link."""
        source = str(tokens[idx].attrGet("src") or "")
        label = self.renderInlineAsText(tokens[idx].children, options, env).strip() or source
        depth = sum(token.nesting for token in tokens[:idx] if token.type in {"link_open", "link_close"})
        text = html.escape(label)
        return text if depth else f'<a href="{html.escape(source)}">{text}</a>'

    def table_open(self, tokens: Sequence[Token], idx: int, options: OptionsDict, env: EnvType) -> str:
        return "<div>" + self.renderToken(tokens, idx, options, env)

    def table_close(self, tokens: Sequence[Token], idx: int, options: OptionsDict, env: EnvType) -> str:
        return self.renderToken(tokens, idx, options, env).rstrip("\n") + "</div>\n"

    def th_open(self, tokens: Sequence[Token], idx: int, options: OptionsDict, env: EnvType) -> str:
        """Write the alignment as an attribute: style attributes do not pass the allow-list."""
        token = tokens[idx]
        style = str(token.attrs.pop("style", ""))
        if token.tag == "th" or style:  # a head is centred by itself
            token.attrSet("align", style.removeprefix("text-align:") or "left")
        if len(tokens[idx + 1].content) <= _SHORT_CELL:
            token.attrSet("nowrap", "nowrap")
        return self.renderToken(tokens, idx, options, env)

    td_open = th_open


@functools.cache
def _renderer() -> MarkdownIt:
    parser = _Markdown("commonmark", {"html": False, "breaks": True}, renderer_cls=_Renderer)
    parser.enable(["table", "strikethrough"])
    parser.disable("lheading")  # a name above "---" is a signature, not a heading
    inline = parser.inline.ruler
    inline.at("emphasis", _delimiters(emphasis.tokenize))
    inline.at("strikethrough", _delimiters(strikethrough.tokenize))
    inline.before("escape", "url", _url)
    inline.before("escape", "windows_path", _windows_path)
    inline.before("autolink", "html_tag", _html_tag)
    parser.core.ruler.push("addresses", _addresses)
    parser.core.ruler.push("numbers", _numbers)
    # The library builds its tables of rules on first use, without a lock.
    parser.render("warm *up*\n\n|a|\n|-|\n|b|")
    return parser


# --- what models write otherwise than CommonMark reads it ---------------------------------------------------

Rule = Callable[[StateInline, bool], bool]
_OPENS_NOTHING = frozenset(",.;:!?)]}…、。，；：！？」』）】”“»")
_CJK = "\u2e80"  # the first of these characters
_NAME_GOES_ON = re.compile(r"[.][A-Za-z]|\(\)")
_POINTS = frozenset(".:;!?,\"'")


def _delimiters(tokenize: Rule) -> Rule:
    """Return the rule of ``*`` and ``~~`` without CommonMark's condition for punctuation beside letters.

    By that condition ``**Note:**text`` is not bold, nor is anything in brackets in the middle of Chinese or
    Japanese text. What stands in a product, a power or a path is no emphasis.
    """

    def rule(state: StateInline, silent: bool) -> bool:
        known, start = len(state.delimiters), state.pos
        if not tokenize(state, silent):
            return False
        before = state.src[start - 1] if start else " "
        after = state.src[state.pos] if state.pos < state.posMax else " "
        if state.src[start] == "_":
            _underscores(state.delimiters[known:], before, after, state.src[state.pos : state.pos + 2])
            return True
        single = state.pos - start == 1
        plain = before.isalnum() and after.isalnum() and max(before, after) < _CJK
        literal = plain and (single or (before.isdigit() and after.isdigit()))
        literal = literal or (before in "/\\" and after in "/\\.")
        literal = literal or (
            (single and before in ")]" and after in "([") or (before in ")]²³" and after.isdigit())
        )
        for one in state.delimiters[known:]:
            if literal:
                one.open = one.close = False
                continue
            if not (single and before.isascii() and before not in _POINTS):
                one.close = one.close or not before.isspace()
            if not (single and after.isascii() and after not in _POINTS):
                opens_nothing = after in _OPENS_NOTHING and not (after == "“" and before >= _CJK)
                one.open = one.open or not (after.isspace() or opens_nothing)
        return True

    return rule


def _underscores(delimiters: Sequence[Delimiter], before: str, after: str, following: str) -> None:
    """Let ``_`` stand beside Chinese or Japanese punctuation, and not end in ``__init__.py``."""
    name_goes_on = _NAME_GOES_ON.match(following) is not None
    for one in delimiters:
        if before >= _CJK and not before.isalnum():
            one.close = True
        if after >= _CJK and not after.isalnum() and after not in _OPENS_NOTHING:
            one.open = True
        one.close = one.close and not name_goes_on


_TAG = re.compile(r"<br *+/?>\n?|<(su[bp])>(?=[^<\n]{1,200}</\1>)|</su[bp]>", re.IGNORECASE)


def _html_tag(state: StateInline, silent: bool) -> bool:
    found = _TAG.match(state.src, state.pos)
    if found and found[0][1] == "/":  # else it ends nothing
        before = state.src[max(0, state.pos - 205) : state.pos].lower()
        found = found if found[0].lower().replace("/", "") in before else None
    if found and not silent:
        if found[0][1] in "bB":
            state.push("hardbreak", "br", 0)
        else:
            state.push("html_inline", "", 0).content = found[0]
    state.pos = found.end() if found else state.pos
    return found is not None


_PATH_START = re.compile(r"(?<![^\W_])[A-Za-z]:\Z|%\w{1,40}%\Z|(?<![\w.])\.{1,2}\Z|\bHK\w{1,20}\Z")
_PATH = re.compile(
    r'(?>\\(?:[^\\/:*?"<>|`,;\n]{0,100}[^\\/:*?"<>|`,;\s])?(?=\\))*+\\(?:\*(?=\.|\s|\Z)|[^\\/:*?"<>|`\s])*'
)
_ESCAPED = re.compile(r"(?:\\\\[^\\]+)+(?:\\\\)?")  # as CommonMark wants it: C:\\Users\\anna
_UNC = re.compile(r"\\\\(?=[\w.$-]{1,100}\\)[\w.$-]+")


def _windows_path(state: StateInline, silent: bool) -> bool:
    r"""Keep the backslashes of ``C:\new\_folder`` and ``\\server\_share``, which escape nothing there."""
    start = state.pos
    if state.src[start] != "\\":
        return False
    end, server = start, None
    if not _PATH_START.search(state.src[max(0, start - 42) : start]):
        if (server := _UNC.match(state.src, start)) is None:
            return False
        end = server.end()
    found = _PATH.match(state.src, end)
    state.pos = found.end() if found else end
    path = state.src[start : state.pos]
    if not server and _ESCAPED.fullmatch(path):
        path = path.replace("\\\\", "\\")
    if not silent:
        state.append_pending(path)
    return True


# Neither quotes nor what stands beside a URL in Chinese, Japanese and Korean text belong to it.
_URL_CHARACTERS = r"[^\s<>\"`\\^{|}„“”«»‘’\u3000-\u30ff\u3400-\u9fff\uac00-\ud7af\uff00-\uffef]{1,2000}"
_LETTER = r"A-Za-z0-9\u00c0-\u024f\u0370-\u04ff"
_HTTP = re.compile(rf"(?<![{_LETTER}])https?://(?=\w|\[){_URL_CHARACTERS}", re.IGNORECASE)
_ADDRESS = re.compile(
    rf"(?<![{_LETTER}@._/%+-])(?:www\.(?=[{_LETTER}]){_URL_CHARACTERS}|"
    rf"[{_LETTER}._%+-]{{1,64}}@(?:[{_LETTER}-]{{1,63}}\.){{1,8}}[A-Za-z\u00c0-\u04ff]{{2,24}}(?![{_LETTER}@_]))",
    re.IGNORECASE,
)


def _without_punctuation(url: str) -> str:
    """Take off what ends the sentence around a URL; a bracket belongs to it if it was opened there."""
    while url:
        last = url[-1]
        closes = last in ")]" and url.count(last) > url.count("(" if last == ")" else "[")
        if not (closes or last in ".,:;!?'*_~…"):
            break
        url = url[:-1]
    return url


def _url(state: StateInline, silent: bool) -> bool:
    """Link a bare URL. It is found before any emphasis, as many URLs have underscores."""
    if silent or state.linkLevel or state.src[state.pos] != ":":
        return False
    scheme = re.search(r"https?\Z", state.pending[-5:], re.IGNORECASE)
    found = _HTTP.match(state.src, state.pos - len(scheme[0])) if scheme else None
    if not scheme or not found:
        return False
    url = _without_punctuation(found[0])
    state.pending = state.pending[: -len(scheme[0])]
    state.push("link_open", "a", 1).attrs = {"href": state.md.normalizeLink(url)}
    state.push("text", "", 0).content = url
    state.push("link_close", "a", -1)
    state.pos = found.start() + len(url)
    return True


def _addresses(state: StateCore) -> None:
    """Link bare mail addresses and ``www.example.com``."""
    for block in state.tokens:
        if not block.children or not ("@" in block.content or "www." in block.content.lower()):
            continue
        tokens: list[Token] = []
        depth = 0
        for token in block.children:
            depth += token.nesting if token.type in {"link_open", "link_close"} else 0
            if token.type == "text" and not depth:
                tokens += _linked(token.content, state.md)
            else:
                tokens.append(token)
        block.children = tokens


def _numbers(state: StateCore) -> None:
    """Show the number that an item has: "1. October", "5. October" are no 1 and 2. All alike are counted."""
    open_lists: list[list[int]] = []  # the number that the item before has, and the one that it shows
    for token in state.tokens:
        if token.type.endswith("_list_open"):
            open_lists.append([])
        elif token.type.endswith("_list_close"):
            open_lists.pop()
        elif token.type == "list_item_open" and token.info.isdigit():
            number, last = int(token.info), open_lists[-1]
            shown = last[1] + 1 if last and number in (last[0], last[1] + 1) else number
            if last and shown != last[1] + 1:
                token.attrSet("value", str(shown))
            open_lists[-1] = [number, shown]


def _scheme(address: str) -> str:
    return "https://" if address.lower().startswith("www.") else "mailto:"


def _linked(text: str, parser: MarkdownIt) -> list[Token]:
    tokens, end = [], 0
    for found in _ADDRESS.finditer(text):
        shown = _without_punctuation(found[0])
        tokens += [
            Token("text", "", 0, content=text[end : found.start()]),
            Token("link_open", "a", 1, attrs={"href": parser.normalizeLink(_scheme(shown) + shown)}),
            Token("text", "", 0, content=shown),
            Token("link_close", "a", -1),
        ]
        end = found.start() + len(shown)
    return [*tokens, Token("text", "", 0, content=text[end:])]
