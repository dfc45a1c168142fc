"""Bytes as clients really write them: charsets, transfer encodings, headers, alternatives, sealed mail."""

from __future__ import annotations

import base64
import time

import pytest

from cleo_email.mail.decoding import codec_of, decode, decode_base64, decode_transfer
from cleo_email.mail.headers import decode_words, header_text, parse_addresses
from cleo_email.mail.model import Address, InboundEmail
from cleo_email.mail.parse import parse
from cleo_email.mail.smime import signed_content


def mail(head: str, body: bytes | str) -> InboundEmail:
    data = body if isinstance(body, bytes) else body.encode()
    return parse(f"From: Anna <anna@example.net>\nTo: agent@example.com\n{head}\n\n".encode() + data)


# --- charsets -----------------------------------------------------------------------------------------------

ROW_13 = "①②㈱№髙"
SHIFTED = b"\x1b$B" + bytes.fromhex("2d212d222d6a2d62") + b"\x1b(B"  # ①②㈱№ in NEC's row 13


@pytest.mark.parametrize(
    "charset", ["", "us-ascii", "utf-8", "iso-2022-jp", "ISO-2022-JP-MS", "cp50220", "csISO2022JP"]
)
def test_japanese_of_seven_bits_is_known_by_its_escapes(charset: str) -> None:
    plain = "担当者様、明日までに。"
    assert decode(plain.encode("iso2022_jp"), charset) == (plain, "")
    assert decode(b"A " + SHIFTED + b" B\r\n" + "様".encode("iso2022_jp"), charset).text == "A ①②㈱№ B\r\n様"


@pytest.mark.parametrize("charset", ["eucJP-ms", "cp51932", "x-euc-jp", "euc-jp"])
def test_euc_with_the_characters_of_windows(charset: str) -> None:
    assert decode("見積 ".encode("euc_jp") + bytes.fromhex("ada1adea"), charset) == ("見積 ①㈱", "")


def test_japanese_in_headers_and_file_names() -> None:
    word = f"=?ISO-2022-JP?B?{base64.b64encode(SHIFTED).decode()}?="
    read = mail(
        f"Subject: {word}\nContent-Type: multipart/mixed; boundary=B",
        f'--B\n\nx\n--B\nContent-Type: application/pdf; name="{word}.pdf"\n\nx\n--B--\n',
    )
    assert read.subject == "①②㈱№"
    assert read.attachments[0].filename.endswith("①②㈱№.pdf")
    assert header_text(b" " + SHIFTED) == "①②㈱№"


TEXTS = {
    "big5": "您好，請給我報價單，謝謝。", "gb2312": "您好，请给我发报价单，谢谢。",
    "euc-kr": "안녕하세요. 견적서를 보내 주세요.",
    "shift_jis": "見積書を送ってください。", "euc-jp": "見積書を送ってください。",
    "iso-2022-jp": "見積書を送ってください。",
    "windows-1251": "Добрый день, пришлите счёт.", "windows-1253": "Καλημέρα, στείλτε μου το τιμολόγιο.",
    "koi8-r": "Добрый день, пришлите счёт.", "windows-1255": "שלום, שלחו לי את החשבונית",
    "tis-620": "สวัสดีครับ",
    "windows-1250": "Dobrý den, pošlete mi fakturu.", "iso-8859-7": "Καλημέρα, στείλτε μου.",
    "utf-8": "Größe, Straße, Übung",
}  # fmt: skip
BROKEN = {
    "big5": b"\xfa ", "gb2312": b"\xff ", "euc-kr": b"\xff ", "shift_jis": b"\xff ", "euc-jp": b"\xff ",
    "utf-8": b"\xff ",
    "windows-1251": b"\x98 ", "windows-1253": b"\xd2 ", "windows-1255": b"\xd9 ", "tis-620": b"\xfc ",
    "iso-8859-7": b"\xae ",
    "windows-1250": b"\x81 ", "iso-2022-jp": b"\x80 ",
}  # fmt: skip


@pytest.mark.parametrize("charset", TEXTS)
def test_one_bad_byte_costs_one_character(charset: str) -> None:
    text = TEXTS[charset]
    data = text.encode(charset)
    assert decode(data, charset) == (text, "")
    if charset in BROKEN:
        assert text in decode(BROKEN[charset] + data, charset).text
        assert text in decode(data + b" " + BROKEN[charset], charset).text


@pytest.mark.parametrize("charset", ["iso-8859-1", "windows-1252", "iso-8859-15", "windows-1251", "koi8-r",
"iso-8859-2",
                                     "windows-1250", "tis-620", "iso-8859-9", "macintosh"])  # fmt: skip
@pytest.mark.parametrize("text", ["Größe M – 5 Stück", "Добрый день", "見積書", "สวัสดี", "Žluťoučký kůň"])
def test_utf_8_under_another_name_is_utf_8(charset: str, text: str) -> None:
    if not (charset == "tis-620" and text != "สวัสดี"):
        assert decode(text.encode(), charset).text == text


@pytest.mark.parametrize("charset", ["gb2312", "gbk", "big5", "euc-kr", "shift_jis", "euc-jp", "iso-2022-jp"])
@pytest.mark.parametrize(
    "text", ["Größe – für 5 Stück", "Добрый день", "¿Cuánto cuesta el envío a España?", "Zażółć gęślą jaźń"]
)
def test_utf_8_under_the_name_of_a_double_byte_charset_is_utf_8(charset: str, text: str) -> None:
    assert decode(text.encode(), charset).text == text


@pytest.mark.parametrize("charset", ["gb2312", "big5", "euc-kr", "shift_jis", "euc-jp"])
def test_a_short_word_of_a_double_byte_charset_stays_what_it_is(charset: str) -> None:
    word = TEXTS[charset][:3]
    assert decode(word.encode(charset), charset) == (word, "")


OTHER_SCRIPTS = [
    name for name in TEXTS if name not in ("windows-1250", "iso-8859-7", "utf-8", "iso-2022-jp", "big5")
]


@pytest.mark.parametrize("charset", OTHER_SCRIPTS)
@pytest.mark.parametrize("declared", ["iso-8859-1", "windows-1252"])
def test_another_script_that_is_declared_as_western(charset: str, declared: str) -> None:
    text = TEXTS[charset] * 2
    assert decode(text.encode(charset), declared).text == text
    page = f'<html><head><meta charset="{charset}"></head><body><p class="x">{text}</p></body></html>'
    assert mail(f"Content-Type: text/html; charset={declared}", page.encode(charset)).text == text
    undeclared = page.replace(f'<meta charset="{charset}">', "")
    assert mail("Content-Type: text/html", undeclared.encode(charset)).text == text


@pytest.mark.parametrize("text", ["Größe äöüß", "Ça va? Déjà vu à Noël", "Ñandú ÁÉÍÓÚ", "Straße"])
def test_western_text_beside_a_wrong_meta_tag_stays_as_the_header_says(text: str) -> None:
    page = f'<meta charset="windows-1251"><p>{text}</p>'.encode("cp1252")
    assert mail("Content-Type: text/html; charset=iso-8859-1", page).text == text


@pytest.mark.parametrize(
    ("codec", "text"),
    [("koi8_u", "Їжак і ґанок, надішліть рахунок будь ласка"), ("iso8859_6", "مرحبا، أرسلوا لي الفاتورة")],
)
def test_more_scripts_without_a_declaration(codec: str, text: str) -> None:
    assert decode(text.encode(codec)).text == text


@pytest.mark.parametrize(
    ("charset", "text"),
    [("iso-8859-1", "Größe"), ("windows-1252", "Ã ist ein Buchstabe"), ("windows-1251", "Привет"),
    ("koi8-r", "Привет"),
     ("tis-620", "ยก"), ("iso-8859-7", "Γεια"), ("windows-1256", "مرحبا"), ("windows-1258", "Chào")],
)  # fmt: skip
def test_what_is_declared_truly_stays(charset: str, text: str) -> None:
    codec = codec_of(charset)
    assert decode(text.encode(codec), charset) == (text, "")


@pytest.mark.parametrize(
    ("name", "codec"),
    [
        ("cp50220", "iso2022_jp_ext"), ("eucJP-ms", "euc_jp"), ("x-gb18030", "gb18030"), ("win-1251",
        "cp1251"),
        ("windows1251", "cp1251"), ("x-cp1251", "cp1251"), ("cp-1252", "cp1252"), ("Windows-31J", "cp932"),
        ("x-sjis", "cp932"),
        ("cp936", "gb18030"), ("ms950", "big5hkscs"), ("ks_c_5601-1987", "cp949"), ("cp65001", "utf_8"),
        ("utf8mb4", "utf_8"),
        ("8859-2", "iso8859_2"), ("ISO8859-15", "iso8859_15"), ("iso_8859-2:1987", "iso8859_2"),
        ("x-mac-ce", "mac_latin2"),
        ("csWindows31J", "cp932"), ("x-windows-iso2022jp", "iso2022_jp_ext"), ("iso-ir-149", "cp949"),
        ("KOI8R", "koi8_r"), ("visual", "iso8859_8"), ("csISO88598I", "iso8859_8"), ("UCS-2", "utf_16_be"),
        ("tis-620-2533", "cp874"), ("ms-ansi", "cp1252"), ("x-mac-ukrainian", "mac_cyrillic"),
        ("csEUCKR", "cp949"), ("koi8-ru", "koi8_u"), ("x-euc-cn", "gb18030"), ("unheard-of", ""), ("zlib",
        ""), ("base64", ""),
    ],
)  # fmt: skip
def test_the_names_that_clients_use(name: str, codec: str) -> None:
    assert codec_of(name) == codec


@pytest.mark.parametrize(
    "head",
    [
        '<meta http-equiv="Content-Type" content="text/html; charset=iso-8859-2">',
        "<meta charset='windows-1250'>",
        "<META CHARSET=ISO-8859-2>", '<?xml version="1.0" encoding="iso-8859-2"?>',
    ],
)  # fmt: skip
@pytest.mark.parametrize("declared", ["", "; charset=us-ascii", "; charset=unknown"])
def test_a_document_that_names_its_own_charset(head: str, declared: str) -> None:
    codec = "cp1250" if "1250" in head else "iso8859_2"
    body = f"<html><head>{head}</head><body>Proszę o fakturę. Żółta łódź.</body></html>".encode(codec)
    assert mail(f"Content-Type: text/html{declared}", body).text == "Proszę o fakturę. Żółta łódź."
    utf8 = f"<html><head>{head}</head><body>Proszę</body></html>".encode()
    assert mail(f"Content-Type: text/html{declared}", utf8).text == "Proszę"


@pytest.mark.parametrize(
    ("charset", "subject"),
    [("windows-1251", "Запрос цены"), ("gb2312", "报价单"), ("iso-8859-2", "Żółta łódź")],
)
def test_raw_headers_are_in_the_charset_of_the_body(charset: str, subject: str) -> None:
    raw = subject.encode(charset)
    head = b"From: " + raw + b" <anna@example.net>\nSubject: " + raw + b"\n"
    single = parse(head + f"Content-Type: text/plain; charset={charset}\n\nx".encode())
    assert (single.subject, single.from_name) == (subject, subject)
    parts = "Content-Type: multipart/mixed; boundary=B\n\n"
    parts += f"--B\nContent-Type: text/plain; charset={charset}\n\nx\n--B\n"
    name = (
        b'Content-Type: application/pdf\nContent-Disposition: attachment; filename="'
        + raw
        + b'.pdf"\n\nx\n--B--\n'
    )
    several = parse(head + parts.encode() + name)
    assert (several.subject, several.attachments[0].filename) == (subject, f"{subject}.pdf")
    utf8 = parse(
        b"Subject: " + subject.encode() + f"\nContent-Type: text/plain; charset={charset}\n\nx".encode()
    )
    assert utf8.subject == subject


UNDECLARED = {name: TEXTS[name] for name in TEXTS if name not in ("windows-1250", "iso-8859-7", "utf-8")}


@pytest.mark.parametrize("charset", UNDECLARED)
@pytest.mark.parametrize("declared", ["", "us-ascii", "unheard-of"])
def test_another_script_is_known_where_nothing_is_declared(charset: str, declared: str) -> None:
    text = UNDECLARED[charset] * 2
    assert decode(text.encode(charset), declared).text == text


@pytest.mark.parametrize(
    "text",
    ["Grüße äöüß ÄÖÜ", "Çà va? É", "Ñandú ÁÉÍÓÚ", "ÄÖÜ ÄÖÜ ÄÖÜ ÄÖÜ", "“”–…€ “”–…€", "Überprüfen: ÄÄÄÄÄÄÄÄÄÄ"],
)
def test_western_text_stays_western(text: str) -> None:
    assert decode(text.encode("cp1252")).text == text


# --- transfer encodings -------------------------------------------------------------------------------------

ENCODED = base64.encodebytes(
    "Größe der Tür.\nViele Grüße\nAnna, und noch eine lange Zeile, damit es mehrere gibt.\n".encode()
)


@pytest.mark.parametrize(
    "written",
    [
        "base64;", '"base64"', "base64 (in 76 columns)", "BASE64", "base-64", " base64\r\n", "'base64'",
        "(x) base64", "base 64", "base_64", "charset=utf-8; base64", "8bit, base64", "mime-base64", "b64",
    ],
)  # fmt: skip
def test_base64_by_another_spelling(written: str) -> None:
    assert decode_transfer(ENCODED, written.encode()) == base64.decodebytes(ENCODED)


@pytest.mark.parametrize(
    "written",
    [
        "Quoted-Printable",
        "quoted_printable",
        "quoted printable",
        "quote-printable",
        "qp",
        '"quoted-printable"',
    ],
)
def test_quoted_printable_by_another_spelling(written: str) -> None:
    assert decode_transfer(b"Gr=C3=B6=  \r\n=C3=9Fe", written.encode()) == "Größe".encode()


@pytest.mark.parametrize("written", ["8bit;", "7bit", "binary", "", "none", "quoted-printable;"])
def test_other_encodings(written: str) -> None:
    assert decode_transfer(b"a=3Db", written.encode()) == (b"a=b" if "quoted" in written else b"a=3Db")


@pytest.mark.parametrize(
    "footer",
    ["\n--\nDiese Nachricht wurde geprueft.\nhttp://gateway.example.net/info\n",
    "\nDisclaimer\n\nThis mail is confidential.\n",
     "________________\nMailing list\nlist@example.org\n", "\n*** EXTERN ***\n",
     "\n[EXTERN]\n", "\nhttps://gateway.example.net/info\n", "\n==========\nDisclaimer\n==========\n"],
)  # fmt: skip
@pytest.mark.parametrize("line_end", ["\n", "\r\n"])
def test_a_footer_in_clear_text_below_base64(footer: str, line_end: str) -> None:
    data = (ENCODED.decode() + footer).replace("\n", line_end).encode()
    read = decode_base64(data)
    assert read.startswith(base64.decodebytes(ENCODED))
    assert read.decode().split()[-1] == footer.split()[-1]


@pytest.mark.parametrize("banner", ["[EXTERN]\n\n", "Hinweis: von aussen\n\n", "*** EXTERN ***\n\n"])
@pytest.mark.parametrize("line_end", ["\n", "\r\n"])
def test_a_banner_in_clear_text_above_base64(banner: str, line_end: str) -> None:
    data = (banner + ENCODED.decode()).replace("\n", line_end).encode()
    assert decode_base64(data) == banner.replace("\n", line_end).encode() + base64.decodebytes(ENCODED)


def test_base64_that_is_none_and_base64_with_blanks() -> None:
    text = b"Guten Tag,\nwann haben Sie offen?\n"
    assert decode_base64(text) == text
    spaced = b" ".join(ENCODED[at : at + 7] for at in range(0, len(ENCODED), 7))
    assert decode_base64(spaced) == base64.decodebytes(ENCODED)


@pytest.mark.parametrize(
    ("word", "text"),
    [
        ("=?ISO-8859-1?Q?Vorgang 4711: M=F6chten Sie =E4ndern??=", "Vorgang 4711: Möchten Sie ändern?"),
        ("=?UTF-8?Q?Wann?_Heute?=", "Wann? Heute"), ("=?UTF-8?B?R3LDtsOfZQ==", "Größe"),
        ("=?utf-16?B?//5HAHIA9gDfAGUA?=", "Größe"),
        ("=?UTF-8?Q?Gr=C3=B6=C3=9Fe?", "Größe"),
        ("=?UTF-8?Q?Gr=C3=B6=C3=9Fe?= M", "Größe M"), ("=?UTF-8?Q?Gr=C3=B6?==?UTF-8?Q?=C3=9Fe?=", "Größe"),
        ("a =?x?Q?b is how a word begins", "a =?x?Q?b is how a word begins"), ("Ist a=?b?", "Ist a=?b?"),
    ],
)  # fmt: skip
def test_malformed_encoded_words(word: str, text: str) -> None:
    assert decode_words(word) == text


@pytest.mark.parametrize(
    "piece", ["=?a?q?", "=?a?q?b", "=?a?q?b?", "=?a?q? ", "=?", "a,", "a;b,", "QUJD\n\n", "A b\n"]
)
def test_long_ones_take_linear_time(piece: str) -> None:
    begin = time.process_time()
    decode_words(piece * (1_000_000 // len(piece)))
    parse_addresses(piece * (500_000 // len(piece)))
    decode_base64(piece.encode() * (1_000_000 // len(piece)))
    assert time.process_time() - begin < 4


# --- people -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("written", "read"),
    [
        ("Beispiel, Anna <anna@example.net>", [Address("anna@example.net", "Beispiel, Anna")]),
        ("Beispiel; Anna <anna@example.net>", [Address("anna@example.net", "Beispiel; Anna")]),
        ("Müller, Dr. Anna, GmbH <a@b.example>", [Address("a@b.example", "Müller, Dr. Anna, GmbH")]),
        ("=?utf-8?Q?M=C3=BCller?=, Anna <a@b.example>", [Address("a@b.example", "Müller, Anna")]),
        ("Anna, <a@b.example>", [Address("a@b.example", "Anna")]),
        ("Beispiel, Anna <<a@b.example>>", [Address("a@b.example", "Beispiel, Anna")]),
        ("Anna [mailto:a@b.example]", [Address("a@b.example")]),
        ("c@d.example, Beispiel, Anna <a@b.example>, e@f.example",
         [Address("c@d.example"), Address("a@b.example", "Beispiel, Anna"), Address("e@f.example")]),
        ("Max <c@d.example>, Anna <a@b.example>", [Address("c@d.example", "Max"), Address("a@b.example",
        "Anna")]),
        ("root, daemon", [Address("root"), Address("daemon")]), ("undisclosed-recipients:;", []),
        ("Team: Beispiel, Max <m@x.example>;, c@d.example", [Address("m@x.example",
        "Beispiel, Max"), Address("c@d.example")]),
    ],
)  # fmt: skip
def test_a_comma_in_a_name(written: str, read: list[Address]) -> None:
    assert list(parse_addresses(written)) == read


# --- the alternative that says something --------------------------------------------------------------------

HTML = (
    "<p>Guten Tag, bitte senden Sie mir die Rechnung 4711 an den Musterweg 5 in Berlin. Danke und Grüße</p>"
)


@pytest.mark.parametrize(
    ("plain", "taken"),
    [
        ("", "html"), ("\u200b", "html"), ("\u00a0\n\u00a0", "html"), ("\ufeff\u200c\u2060", "html"),
        ("\u2800", "html"), (".", "html"),
        ("Ihr Programm kann dies nicht anzeigen.", "html"),
        ("お使いのメールソフトはHTMLに対応していません。", "html"),
        ("Please use a modern mail client.", "html"),
        ("Diese E-Mail enthält HTML. Bitte aktivieren Sie HTML in Ihrem Programm.", "html"),
        ("<p>Guten Tag, bitte senden Sie mir die Rechnung 4711.</p>", "html"),
        ("1 < 2, bitte die Rechnung 4711 an den Musterweg!", "plain"),
        ("Guten Tag, bitte senden Sie mir die Rechnung 4711.", "plain"),
        ("Bitte die Rechnung 4711 an den Musterweg!", "plain"),
    ],
)  # fmt: skip
def test_a_plain_part_that_says_nothing(plain: str, taken: str) -> None:
    body = (
        f"--B\nContent-Type: text/plain; charset=utf-8\n\n{plain}\n"
        f"--B\nContent-Type: text/html; charset=utf-8\n\n{HTML}\n--B--\n"
    )
    text = mail("Content-Type: multipart/alternative; boundary=B", body).text
    assert text == plain if taken == "plain" else "Danke und Grüße" in text


# --- mail whose text is sealed ------------------------------------------------------------------------------


def der(tag: int, *contents: bytes) -> bytes:
    content = b"".join(contents)
    size = len(content)
    length = bytes([size]) if size < 128 else bytes([0x82]) + size.to_bytes(2)
    return bytes([tag]) + length + content


def ber(tag: int, *contents: bytes) -> bytes:
    return bytes([tag, 0x80]) + b"".join(contents) + b"\0\0"


SIGNED, DATA = bytes.fromhex("06092a864886f70d010702"), bytes.fromhex("06092a864886f70d010701")
INNER = "Content-Type: text/plain; charset=utf-8\r\n\r\nBitte die Rechnung, Grüße\r\n".encode()


def sealed(*, indefinite: bool, kind: bytes = SIGNED, inner: bytes = INNER) -> bytes:
    part = ber if indefinite else der
    content = part(0x24, der(0x04, inner[:20]), der(0x04, inner[20:])) if indefinite else der(0x04, inner)
    holder = part(0x30, DATA, part(0xA0, content))
    return part(0x30, kind, part(0xA0, part(0x30, der(0x02, b"\1"), der(0x31), holder, der(0x31))))


@pytest.mark.parametrize("indefinite", [False, True])
@pytest.mark.parametrize("kind", ["application/pkcs7-mime; smime-type=signed-data",
"application/x-pkcs7-mime",
                                  'application/octet-stream; name="smime.p7m"'])  # fmt: skip
def test_the_text_inside_of_a_signature_is_read(indefinite: bool, kind: str) -> None:
    data = base64.encodebytes(sealed(indefinite=indefinite)).decode()
    read = mail(f"Content-Type: {kind}\nContent-Transfer-Encoding: base64", data)
    assert read.text == "Bitte die Rechnung, Grüße"
    assert (read.unread, read.attachments) == ("", ())
    assert read.notes[-1] == "signed with S/MIME, signature not checked"


@pytest.mark.parametrize(
    "kind",
    [
        "application/pkcs7-signature; name=smime.p7s",
        "application/x-pkcs7-signature",
        "application/p7m",
        "application/octet-stream; name=x.p7s",
        "application/octet-stream",
    ],
)
def test_the_text_inside_of_a_signature_of_another_name(kind: str) -> None:
    data = base64.encodebytes(sealed(indefinite=False)).decode()
    assert mail(f"Content-Type: {kind}\nContent-Transfer-Encoding: base64", data).text.startswith("Bitte")


def test_a_signature_that_a_gateway_wrapped_again() -> None:
    text = base64.encodebytes(sealed(indefinite=False)).decode()
    for one in (text, f"-----BEGIN CMS-----\n{text}-----END CMS-----\n"):
        assert mail("Content-Type: application/pkcs7-mime; name=smime.p7m", one).text.startswith("Bitte")


def test_a_signature_inside_of_a_signature_has_an_end() -> None:
    inner = INNER
    for _ in range(6):
        head = b"Content-Type: application/pkcs7-mime\r\nContent-Transfer-Encoding: binary\r\n\r\n"
        inner = head + sealed(indefinite=False, inner=inner)
    assert mail("Content-Type: application/pkcs7-mime", sealed(indefinite=False, inner=inner)).unread


@pytest.mark.parametrize("data", [b"", b"\x30", b"\x30\x80", b"\x30\x84\xff\xff\xff\xff",
b"0\x80" * 5000, b"\x24\x80" * 5000,
                                  sealed(indefinite=False, kind=DATA),
                                  sealed(indefinite=True)[:-30]])  # fmt: skip
def test_what_is_no_signed_data_holds_nothing(data: bytes) -> None:
    begin = time.process_time()
    content = signed_content(data)
    assert content is None or INNER.startswith(content)
    assert time.process_time() - begin < 1


PGP = "-----BEGIN PGP MESSAGE-----\n\nhQEMA8x0bXl0ZXN0\n=abcd\n-----END PGP MESSAGE-----\n"


@pytest.mark.parametrize(
    ("head", "body", "unread"),
    [
        ("Content-Type: application/pkcs7-mime; smime-type=enveloped-data", "MIIB", True),
        ("Content-Type: multipart/encrypted; protocol=\"application/pgp-encrypted\"; boundary=B",
         "--B\nContent-Type: application/pgp-encrypted\n\nVersion: 1\n"
         f"--B\nContent-Type: application/octet-stream\n\n{PGP}--B--\n", True),
        ("Content-Type: text/plain", PGP, True), ("Content-Type: text/plain",
        f"Siehe unten.\n\n{PGP}", False),
        ("Content-Type: application/ms-tnef; name=winmail.dat", "eJ8+", True),
        ("Content-Type: multipart/mixed; boundary=B",
         "--B\n\nBitte 5 Stühle.\n--B\nContent-Type: application/ms-tnef\n\neJ8+\n--B--\n", False),
        ("Content-Type: multipart/mixed; boundary=B",
         "--B\nContent-Type: text/plain\n\nAnna sent you a protected message.\n--B\n"
         "Content-Type: application/x-microsoft-rpmsg-message; name=message.rpmsg\n\nx\n--B--\n", True),
        ("Content-Type: application/pdf", "%PDF-", False),
    ],
)  # fmt: skip
def test_a_mail_says_why_its_text_could_not_be_read(head: str, body: str, unread: bool) -> None:
    read = mail(head, body)
    assert bool(read.unread) is unread
    assert not unread or read.unread in read.notes
