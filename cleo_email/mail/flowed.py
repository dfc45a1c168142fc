"""text/plain with format=flowed (RFC 3676) as lines of whole paragraphs."""

from __future__ import annotations


def unflow(text: str, *, delsp: bool = False) -> str:
    """Join the soft line breaks of ``text``, which has ``\\n`` line ends (RFC 3676 section 4).

    ``delsp`` is the DelSp parameter: the blank that marks a soft break is not part of the text.
    """
    out: list[str] = []
    paragraph: list[str] = []
    depth = 0
    for line in text.split("\n"):
        content = line.lstrip(">")
        quoted = len(line) - len(content)
        content = content.removeprefix(" ")  # space-stuffing, section 4.4
        if paragraph and (quoted != depth or content == "-- "):
            out.append(_joined(paragraph, depth))
            paragraph = []
        depth = quoted
        # The signature separator ends with a blank and still is a line of its own (section 4.3).
        soft = content.endswith(" ") and content != "-- "
        paragraph.append(content[:-1] if soft and delsp else content)
        if not soft:
            out.append(_joined(paragraph, depth))
            paragraph = []
    if paragraph:
        out.append(_joined(paragraph, depth))
    return "\n".join(out)


def _joined(paragraph: list[str], depth: int) -> str:
    text = "".join(paragraph)
    if not depth:
        return text
    return ">" * depth + " " + text if text else ">" * depth
