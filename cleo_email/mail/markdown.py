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

_SCHEMES = {"http", "https", "mailto"}
_TAGS = set(
    "a blockquote br code em h1 h2 h3 h4 h5 h6 hr li ol p pre s strong table tbody td th thead tr ul".split()
)
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
    """Return an HTML page for ``markdown`` (clean text, ``\\n`` line ends); single line ends stay visible."""
    if len(markdown) > _LONGEST:
        return _PAGE.format(body=f"<pre>{html.escape(markdown)}</pre>")
    safe = nh3.clean(
        _renderer().render(markdown),
        tags=_TAGS,
        attributes=_ATTRIBUTES,
        url_schemes=_SCHEMES,
        link_rel="noopener noreferrer",
    )
    return _PAGE.format(body=safe.strip("\n"))


class _Markdown(MarkdownIt):
    def validateLink(self, url: str) -> bool:  # noqa: N802 - the library's name
        """Return whether ``url`` becomes a link; others, relative ones too, stay visible as written."""
        return url.lower().startswith(("http://", "https://", "mailto:"))


class _Renderer(RendererHTML):
    def image(self, tokens: Sequence[Token], idx: int, options: OptionsDict, env: EnvType) -> str:
        """Write a picture as its description, linked unless it already stands in a link."""
        source = str(tokens[idx].attrGet("src") or "")
        label = self.renderInlineAsText(tokens[idx].children, options, env).strip() or source
        depth = sum(token.nesting for token in tokens[:idx] if token.type in {"link_open", "link_close"})
        text = html.escape(label)
        return text if depth else f'<a href="{html.escape(source)}">{text}</a>'


@functools.cache
def _renderer() -> MarkdownIt:
    parser = _Markdown("commonmark", {"html": False, "breaks": True}, renderer_cls=_Renderer)
    parser.enable(["table", "strikethrough"])
    parser.add_render_rule("th_open", _cell)
    parser.add_render_rule("td_open", _cell)
    # The library builds its tables of rules on first use, without a lock.
    parser.render("warm *up*\n\n|a|\n|-|\n|b|")
    return parser


def _cell(self: RendererHTML, tokens: Sequence[Token], idx: int, options: OptionsDict, env: EnvType) -> str:
    """Write the alignment as an attribute: style attributes do not pass the allow-list."""
    style = str(tokens[idx].attrs.pop("style", ""))
    if style.startswith("text-align:"):
        tokens[idx].attrSet("align", style.removeprefix("text-align:"))
    return self.renderToken(tokens, idx, options, env)
