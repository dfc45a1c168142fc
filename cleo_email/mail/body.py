"""Find the parts of a mail that are its text, and those that are attachments."""

import re
from typing import Final

from cleo_email.errors import UnreadableMessage
from cleo_email.mail.attachment import safe_filename
from cleo_email.mail.decoding import clean, decode, drop_tags, says_something
from cleo_email.mail.headers import decode_header, parse_header_value
from cleo_email.mail.mime import Part, read_headers, split
from cleo_email.mail.model import AttachedFile, Body, ParseLimits
from cleo_email.mail.smime import is_cms, signed_content

# --- format=flowed ----------------------------------------------------------------------------------------


def _unflow(text: str, *, delsp: bool) -> str:
    """Join the soft line breaks of ``text``, which has ``\\n`` line ends (RFC 3676 section 4).

    With ``delsp`` (the DelSp parameter) the blank that marks a soft break is not part of the text.
    """
    paragraphs: list[tuple[int, list[str]]] = []  # depth of quotation, pieces
    goes_on = False
    for line in text.split("\n"):
        content = line.lstrip(">")
        depth = len(line) - len(content)
        content = content.removeprefix(" ")  # space-stuffing, section 4.4
        # The signature separator ends with a blank and still is a line of its own (section 4.3).
        separator = content == "-- "
        if not goes_on or separator or depth != paragraphs[-1][0]:
            paragraphs.append((depth, []))
        goes_on = content.endswith(" ") and not separator
        paragraphs[-1][1].append(content[:-1] if goes_on and delsp else content)
    return "\n".join(_quoted(depth, "".join(pieces)) for depth, pieces in paragraphs)


def _quoted(depth: int, text: str) -> str:
    return f"{'>' * depth} {text}" if depth and text else ">" * depth or text


# --- text and attachments ---------------------------------------------------------------------------------

HTML_TYPES: Final = frozenset({"text/html", "application/xhtml+xml", "text/x-amp-html", "text/watch-html"})
_PLAIN: Final = frozenset({"text/plain", "text/markdown", "text/enriched", "text/richtext"})
_ENRICHED: Final = frozenset({"text/enriched", "text/richtext"})

# What senders put into the plain alternative when they wrote HTML only. It counts only in a short text
# beside an HTML part that says more.
_PLACEHOLDERS: Final = (
    "html|in your browser|view this email|view this message|im browser|multi-part message in mime format"
    "|mime-compatible|no plain text|no text version|keine textversion|keine text-version"
    "|dans votre navigateur|en su navegador|nel browser"
).split("|")
# PNG, PDF, JPEG, GIF and ZIP (Office files too), which some programs send as text/plain.
_BINARY: Final = (b"\x89PNG", b"%PDF-", b"\xff\xd8\xff", b"GIF8", b"PK\x03\x04")
_DATA_URI: Final = re.compile(rb"data:[\w/+.;=-]{0,100}?;base64,[A-Za-z0-9+/=%\r\n]*+", re.IGNORECASE)
_TAG: Final = re.compile(
    r"\s*+<(?:!--|/?(?:html|head|body|meta|style|div|p|br|span|table|font)\b)", re.IGNORECASE
)
_MAX_PLACEHOLDER: Final = 500
_WORDS: Final = re.compile(r"\w+")
# What an HTML document says of its charset, near its beginning.
_META: Final = re.compile(
    rb"""(?:<meta\b[^>]{0,200}?\bcharset\s{0,3}=\s{0,3}["']?|<\?xml\b[^>]{0,60}?\bencoding\s{0,3}=\s{0,3}["'])"""
    rb"""([A-Za-z0-9_.:-]{2,40})""",
    re.IGNORECASE,
)
_META_WITHIN: Final = 4096  # bytes
_HEAD: Final = 1000  # bytes
_MAX_NOTES: Final = 50
_TNEF: Final = frozenset({"application/ms-tnef", "application/vnd.ms-tnef"})
_SMIME: Final = frozenset({"application/pkcs7-mime", "application/x-pkcs7-mime", "application/p7m"})
# The signature of a multipart/signed, in which some programs send the text, too.
_SMIME_SIGNATURE: Final = frozenset({"application/pkcs7-signature", "application/x-pkcs7-signature"})
_PGP: Final = frozenset({"application/pgp-encrypted", "application/pgp"})
_PGP_BEGIN: Final = b"-----BEGIN PGP MESSAGE-----"
_PGP_NOT_READ: Final = "PGP: encrypted mail not read"
_RIGHTS: Final = "application/x-microsoft-rpmsg-message"
_PGP_ARMOUR: Final = re.compile(r"^-----BEGIN PGP MESSAGE-----", re.MULTILINE)  # a quoted one has marks
_MAX_SALUTATION: Final = 60  # characters
_MAX_SEALS: Final = 3  # a signed mail inside of a signed mail


class BodyReader:
    """Reads the body of one message. What its headers say about a part is a claim that the part may disprove.

    At once it finds out which parts are the text and which are files; ``read`` does the rest, once.
    ``charset`` is the one that the text declares, ``unread`` says why the text itself could not be read,
    ``notes`` are remarks for the record, each once. Nothing here raises.
    """

    def __init__(self, root: Part, limits: ParseLimits) -> None:
        self._limits = limits
        self._left = limits.text_bytes  # how much text may still be shown
        self._notes: list[str] = []
        self._files: list[tuple[Part, str]] = []  # with their names
        self._bodies: dict[int, bytes | None] = {}  # by identity of the part; None for a file
        self._texts: dict[int, str] = {}  # by identity of the part: an alternative is looked at twice
        self._opened: list[Part] = []  # the mails inside of signatures
        self._met: list[Part] = []  # texts so far
        self._is_footer = False  # a text that could not be read came before any other
        self._spare: list[Part] = []  # attached text that is not marked as such: shown if there is no other
        self._read: Body | None = None
        self.unread = ""
        self.charset = _declared_charset(root)
        self._chosen = self._plan(root)
        bodies = [self._body(part) or b"" for part in self._chosen]
        if self.unread or self._spare or any(map(_may_be_pgp, bodies)):
            self.read()  # the text decides whether the mail counts as read

    @property
    def notes(self) -> tuple[str, ...]:
        return tuple(self._notes)

    @property
    def attached_types(self) -> tuple[str, ...]:
        return tuple(part.content_type for part, _ in self._files)

    def read(self) -> Body:
        if self._read is None:
            text = self._whole_text()
            self._read = Body(text, tuple(_file(part, name) for part, name in self._files), self.notes)
        return self._read

    def _whole_text(self) -> str:
        text = self._join(self._chosen)
        if not text.strip() and self._spare:
            text = self._join(self._spare[:1])
        text, tagged = drop_tags(text)
        if tagged:
            self._note("hidden text dropped")
        is_read = says_something(text) and not self._is_footer
        armour = "-----BEGIN PGP" in text and _PGP_ARMOUR.search(text)
        if armour:
            self.unread = "PGP: encrypted text in the body not read"
            is_read = not _is_salutation(text[: armour.start()])
        self._note(self.unread)
        if is_read and not self.unread.startswith("protected"):
            self.unread = ""
        return text

    def _join(self, parts: list[Part]) -> str:
        texts = [text.strip("\n") for text in map(self._text, parts) if text.strip()]
        return "\n\n".join(texts)

    def _note(self, remark: str) -> None:
        if remark and remark not in self._notes and len(self._notes) < _MAX_NOTES:
            self._notes.append(remark)

    # --- the walk -----------------------------------------------------------------------------------

    def _plan(self, part: Part) -> list[Part]:
        """Return the leaves below ``part`` that make the text, and file all others as attachments."""
        if not part.is_multipart:
            return self._plan_leaf(part)
        kind = part.content_type
        if kind == "multipart/alternative":
            return self._choose([self._plan(child) for child in part.children])
        if kind == "multipart/related":
            return self._plan_related(part)
        protocol = part.type.parameters.get("protocol", "").lower()  # RFC 1847
        if kind == "multipart/encrypted":
            pgp = "pgp" in protocol or not protocol
            self.unread = _PGP_NOT_READ if pgp else "encrypted mail not read"
            self._is_footer = not self._has_begun()
        if kind == "multipart/signed":
            method = "PGP" if "pgp" in protocol else "S/MIME"
            self._note(f"signed with {method}, signature not checked")
        return [leaf for child in part.children for leaf in self._plan(child)]

    def _plan_related(self, part: Part) -> list[Part]:
        """Return the leaves of the root part (RFC 2387), which is the text; everything else belongs to it."""
        start = part.type.parameters.get("start", "").strip().strip("<>")
        root = next((c for c in part.children if start and c.content_id == start), part.children[0])
        chosen = self._plan(root)
        for child in part.children:
            if child is root:
                continue
            if child.is_multipart:
                extra = self._plan(child)
                chosen = chosen or extra
            elif not chosen and child.content_type in HTML_TYPES | _PLAIN:
                chosen = self._plan_leaf(child)
            else:
                self._attach(child)
        return chosen

    def _plan_leaf(self, part: Part) -> list[Part]:
        kind = part.content_type
        if _may_be_opened(part) and (inner := self._open(part)) is not None:
            return self._plan(inner)
        # A multipart without a single part is read as what it is in practice: text.
        textual = kind in HTML_TYPES or kind in _PLAIN or kind.startswith("multipart/")
        if not textual or part.disposition.value == "attachment":
            self._attach(part)
            if kind.startswith("text/") and kind != "text/rfc822-headers" and not part.disposition.value:
                self._spare.append(part)
            return []
        if _declared_name(part) and part.raw_header("content-disposition"):
            self._attach(part)
            self._spare.append(part)
            return []
        self._met.append(part)
        return [part]

    def _has_begun(self) -> bool:
        """Return whether a text that says something was met."""
        return any(_head(part).strip() for part in self._met)

    def _open(self, part: Part) -> Part | None:
        """Return the mail inside of an S/MIME signature, None where it is encrypted or cannot be read."""
        content = signed_content(part.body()) if len(self._opened) < _MAX_SEALS else None
        if not content:
            return None
        try:
            inner = split(content, self._limits)
        except UnreadableMessage:
            return None
        self._opened.append(inner)
        self._note("signed with S/MIME, signature not checked")
        self.charset = self.charset or _declared_charset(inner)
        return inner

    def _choose(self, alternatives: list[list[Part]]) -> list[Part]:
        """Return the first plain alternative that says something, else the last that does."""
        plain = [leaves for leaves in alternatives if leaves and leaves[0].content_type not in HTML_TYPES]
        other = [leaves for leaves in alternatives if leaves and leaves[0].content_type in HTML_TYPES]
        rich = [leaves for leaves in other if leaves[0].content_type == "text/html"] or other
        for leaves in plain:
            text = self._join(leaves)
            if says_something(text) and not (rich and self._stands_in(text.strip(), rich[-1])):
                return leaves
        for leaves in reversed(rich):
            if says_something(self._join(leaves)):
                return leaves
        return plain[0] if plain else []

    def _stands_in(self, plain: str, rich: list[Part]) -> bool:
        """Return whether a plain alternative only stands in for an HTML part that says more.

        It says so ("your program shows no HTML"), or hardly any of its words stand in the HTML part.
        """
        if len(plain) > _MAX_PLACEHOLDER:
            return False
        if _TAG.match(plain):  # the source of the HTML
            return True
        named = any(word in plain.lower() for word in _PLACEHOLDERS)
        if named and len(self._join(rich).strip()) > 2 * len(plain):
            return True
        words = _WORDS.findall(plain.lower())
        source = decode(rich[0].body(), rich[0].type.parameters.get("charset", "")).text.lower()
        if words and 2 * sum(word in source for word in words) >= len(words):
            return False  # mostly so, and much faster than reading the HTML
        text = self._join(rich)
        others = set(_WORDS.findall(text.lower()))
        longer = len(text.strip()) > (1 if named else 2) * len(plain)
        return longer and 2 * sum(word in others for word in words) <= len(words)

    # --- leaves -------------------------------------------------------------------------------------

    def _text(self, part: Part) -> str:
        if id(part) not in self._texts:
            self._texts[id(part)] = self._read_text(part)
        return self._texts[id(part)]

    def _body(self, part: Part) -> bytes | None:
        """Return as much of a text as may still be shown, undecoded; attach what is no text, or too long."""
        if id(part) not in self._bodies:
            self._bodies[id(part)] = self._read_body(part)
        return self._bodies[id(part)]

    def _read_body(self, part: Part) -> bytes | None:
        body = part.body()
        if body.startswith(_BINARY):
            self._note("a file declared as text is attached")
            self._attach(part)
            return None
        if len(body) > self._left and part.content_type in HTML_TYPES:
            body = _DATA_URI.sub(b"", body)  # pictures inside of the HTML, often larger than all of its text
        if len(body) > self._left:
            self._note(f"text cut at {self._limits.text_bytes} bytes, the whole is attached")
            if part not in self._spare:
                self._attach(part)
            body = body[: self._left]
        self._left -= len(body)
        return body

    def _read_text(self, part: Part) -> str:
        body = self._body(part)
        if body is None:
            return ""
        named = _META.search(body, 0, _META_WITHIN) if part.content_type in HTML_TYPES else None
        hint = named[1].decode("ascii") if named else ""
        decoded = decode(body, part.type.parameters.get("charset", ""), hint)
        self._note(decoded.note)
        text = clean(decoded.text)
        # Some programs declare HTML as plain text.
        looks_like_html = text[:200].lstrip().lower().startswith(("<!doctype html", "<html"))
        if part.content_type in HTML_TYPES | _ENRICHED or looks_like_html:
            # With the first HTML: 4 MB less in each process until then.
            from cleo_email.mail.html import html_to_text

            converted = html_to_text(text)
            if converted.hidden_dropped:
                self._note("hidden text dropped")
            if converted.not_understood:
                self._note(
                    "HTML styles not understood: text that they hide may be here, text that they show may not"
                )
            return converted.text
        if part.type.parameters.get("format", "").lower() == "flowed":
            return _unflow(text, delsp=part.type.parameters.get("delsp", "").lower() == "yes")
        return text

    def _attach(self, part: Part) -> None:
        kind = part.content_type
        name = _declared_name(part, self.charset)
        name = name or (self._subject_of(part) if kind == "message/rfc822" else "")
        filename = safe_filename(name, kind, len(self._files) + 1)
        remark = _unopened(part, filename)
        self._note(remark)
        if remark.endswith(_NOT_READ):
            self.unread = remark
            # Servers and lists add a text below; a file that a person encrypted has a name of their own.
            named = _NAMED_BY_PROGRAMS.match(filename.lower()) is not None
            self._is_footer = self._is_footer or (named and not self._has_begun())
        self._files.append((part, filename))

    def _subject_of(self, part: Part) -> str:
        """Return the subject of an enclosed mail as its file name."""
        try:
            headers = read_headers(part.body()[: self._limits.header_bytes], self._limits)
        except UnreadableMessage:
            return ""
        subject = next((decode_header(value) for name, value in headers if name == "subject"), "")
        return f"{subject.replace('/', '_')}.eml" if subject.strip() else ""


def _file(part: Part, filename: str) -> AttachedFile:
    content_id, disposition = part.content_id, part.disposition.value
    return AttachedFile(
        filename=filename,
        content_type=part.content_type,
        content=part.body(),
        content_id=content_id,
        inline=disposition == "inline" or bool(content_id and not disposition),
        charset=part.type.parameters.get("charset", "")[:40],
    )


def _may_be_pgp(body: bytes) -> bool:
    """Return whether the text may hold encrypted text, by letters that no program writes in another way."""
    return b"PGP" in (body.replace(b"\0", b"") if b"\0" in body else body)  # UTF-16


def _declared_name(part: Part, charset: str = "") -> str:
    """Return the file name; raw characters in it are read as ``charset`` where they are not UTF-8."""
    for header, of, parameter in (
        ("content-disposition", part.disposition, "filename"),
        ("content-type", part.type, "name"),
    ):
        if name := of.parameters.get(parameter, ""):
            raw = part.raw_header(header)
            if raw.isascii() and b"\x1b" not in raw:
                return name
            return parse_header_value(decode(raw, hint=charset).text).parameters.get(parameter, "") or name
    return ""


def _declared_charset(part: Part) -> str:
    """Return the first charset that a part of a text declares."""
    waiting = [part]
    while waiting:
        one = waiting.pop()
        if charset := one.type.parameters.get("charset", ""):
            return charset
        waiting.extend(reversed(one.children))
    return ""


def _is_salutation(text: str) -> bool:
    """Return whether ``text``, which stands above an encrypted one, says nothing by itself."""
    text = text.strip()
    return (
        len(text) <= _MAX_SALUTATION and "\n" not in text and not text.endswith((".", ":", "?", "？", "。"))
    )


def _head(part: Part) -> bytes:
    """Return how the body begins: much faster than all of it where that is a large file."""
    return part.body(_HEAD)


def _is_sealed(part: Part) -> bool:
    """Return whether it is an encrypted mail, or a signed one that lies inside of its signature."""
    if part.content_type == "application/octet-stream":
        name = _declared_name(part).lower()
        return name.endswith(".p7m") or (not name and is_cms(_head(part)))
    return part.content_type in _SMIME


def _may_be_opened(part: Part) -> bool:
    if part.content_type == "application/octet-stream" and _declared_name(part).lower().endswith(".p7s"):
        return True
    return _is_sealed(part) or part.content_type in _SMIME_SIGNATURE


_NAMED_BY_PROGRAMS: Final = re.compile(
    r"smime\.p7|win(?:mail)?\.dat|attachment-\d|encrypted\.asc|.*versions? ident"
)
_NOT_READ: Final = ("not opened", "not read")


def _unopened(part: Part, filename: str) -> str:
    """Return a remark on a part that holds something to read which is not opened here."""
    kind = part.content_type
    if kind in _TNEF or filename.lower() == "winmail.dat":
        return "winmail.dat (Outlook TNEF) not opened"
    if kind in _PGP or _head(part).lstrip().startswith(_PGP_BEGIN):
        return _PGP_NOT_READ
    if _is_sealed(part):
        return "S/MIME: encrypted or sealed mail not read"
    if kind == _RIGHTS or filename.lower() == "message.rpmsg":
        return "protected mail (Microsoft rights management) not read"
    if kind in ("text/calendar", "application/ics"):
        method = "".join(c for c in part.type.parameters.get("method", "")[:20] if c.isalpha())
        return f"calendar entry ({method.upper()})" if method else "calendar entry"
    return "PGP key attached" if kind == "application/pgp-keys" else ""
