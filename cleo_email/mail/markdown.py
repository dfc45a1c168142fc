"""The agent's Markdown as the HTML half of a mail.

What a model writes may have been steered by a stranger's mail. Hence no raw HTML, no images (a picture's
address could carry data out as soon as the mail is opened) and only links that a person has to click.
"""

from __future__ import annotations

import functools
import html
from collections.abc import Sequence

import nh3
from markdown_it import MarkdownIt
from markdown_it.renderer import RendererHTML
from markdown_it.token import Token
from markdown_it.utils import EnvType, OptionsDict

_SCHEMES = ("http", "https", "mailto")
_TAGS = {"a", "blockquote", "br", "code", "em", "hr", "li", "ol", "p", "pre", "s", "strong", "ul"}
_TAGS |= {"h1", "h2", "h3", "h4", "h5", "h6", "table", "tbody", "td", "th", "thead", "tr"}
_ATTRIBUTES = {"a": {"href", "title"}, "ol": {"start"}, "td": {"align"}, "th": {"align"}}
_LONGEST = 200_000  # characters; beyond it the text is shown as it is

_PAGE = """\
<!DOCTYPE html>
<html>
<head>
<meta charset="utf-8">
<style>
table {{ border-collapse: collapse; }}
th, td {{ border: 1px solid #bbb; padding: 3px 8px; }}
blockquote {{ margin: 0 0 0 6px; padding-left: 10px; border-left: 3px solid #bbb; }}
pre {{ white-space: pre-wrap; }}
</style>
</head>
<body dir="auto">
{body}
</body>
</html>
"""


def to_html(markdown: str) -> str:
    """A whole HTML page for ``markdown`` (clean text, ``\\n`` line ends); single line ends stay visible."""
    if len(markdown) > _LONGEST:
        return _PAGE.format(body=f"<pre>{html.escape(markdown)}</pre>")
    rendered = _renderer().render(markdown)
    safe = nh3.clean(
        rendered,
        tags=set(_TAGS),
        attributes=_ATTRIBUTES,
        url_schemes=set(_SCHEMES),
        link_rel="noopener noreferrer",
    )
    return _PAGE.format(body=safe.strip("\n"))


class _Markdown(MarkdownIt):
    def validateLink(self, url: str) -> bool:  # noqa: N802 - the library's name
        """Other links, relative ones too, stay visible as they were written."""
        return url.lower().startswith(("http://", "https://", "mailto:"))


class _Renderer(RendererHTML):
    def image(self, tokens: Sequence[Token], idx: int, options: OptionsDict, env: EnvType) -> str:
        """A picture becomes its description, linked unless it already stands in a link."""
        source = str(tokens[idx].attrGet("src") or "")
        label = self.renderInlineAsText(tokens[idx].children, options, env).strip() or source
        depth = sum(token.nesting for token in tokens[:idx] if token.type in {"link_open", "link_close"})
        if depth:
            return html.escape(label)
        return f'<a href="{html.escape(source)}">{html.escape(label)}</a>'


@functools.cache
def _renderer() -> MarkdownIt:
    parser = _Markdown("commonmark", {"html": False, "breaks": True}, renderer_cls=_Renderer)
    parser.enable(["table", "strikethrough"])
    parser.add_render_rule("th_open", _cell)
    parser.add_render_rule("td_open", _cell)
    parser.render(
        "warm *up*\n\n|a|\n|-|\n|b|"
    )  # its rule tables are built on first use and by no lock guarded
    return parser


def _cell(self: RendererHTML, tokens: Sequence[Token], idx: int, options: OptionsDict, env: EnvType) -> str:
    """Alignment as an attribute: style attributes do not pass the allow-list."""
    style = str(tokens[idx].attrs.pop("style", ""))
    if style.startswith("text-align:"):
        tokens[idx].attrSet("align", style.removeprefix("text-align:"))
    return self.renderToken(tokens, idx, options, env)
