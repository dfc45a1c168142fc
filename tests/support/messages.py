"""Small messages of our own, of the kinds that the collections of real mail hold, and what is right for each.

They prove in every clone what ``CLEO_CORPORA`` proves on hundreds: see ``tests/support/corpora.py``.
"""

from __future__ import annotations

import base64
import quopri
from dataclasses import dataclass


@dataclass(frozen=True)
class Sample:
    """One message. What the reader must find, and how it must be judged.

    ``text`` is what its sender wrote now, ``kind`` "person", "machine" (left alone), or the kind of a report;
    ``status`` and ``recipient`` are those of a report, ``about`` is the Message-ID that it returns. An empty
    ``text`` and ``files`` None leave open what is found.
    """

    name: str
    source: bytes
    text: str
    files: tuple[str, ...] | None = ()
    kind: str = "person"
    status: str = ""
    recipient: str = ""
    about: str = ""

    @property
    def message_id(self) -> str:
        return f"<{self.name.replace(' ', '-')}@example.test>"


def _sample(name: str, head: str, body: bytes | str, text: str, **right: object) -> Sample:
    """Give the message what every mail has, where ``head`` does not say otherwise, and CRLF line ends."""
    sample = Sample(name, b"", text, **right)  # type: ignore[arg-type]
    usual = {
        "From": "Anna Berg <anna@example.test>",
        "To": "agent@cleo.example",
        "Subject": "Order 4711",
        "Date": "Tue, 24 Nov 2026 09:00:00 +0100",
        "Message-ID": sample.message_id,
    }
    fields = [f"{key}: {value}" for key, value in usual.items() if f"\n{key}:" not in f"\n{head}"]
    lines = "\n".join([*fields, head.strip("\n")]).encode()
    source = lines + b"\n\n" + (body.encode() if isinstance(body, str) else body) + b"\n"
    return Sample(name, source.replace(b"\n", b"\r\n"), text, **right)  # type: ignore[arg-type]


def _text(charset: str, encoding: str, subtype: str = "plain") -> str:
    return (
        "MIME-Version: 1.0\n"
        f"Content-Type: text/{subtype}; charset={charset}\nContent-Transfer-Encoding: {encoding}"
    )


def _report(kind: str) -> str:
    return (
        "From: Mail Delivery System <MAILER-DAEMON@mx.example.test>\nReturn-Path: <>\n"
        "Subject: Undelivered Mail Returned to Sender\nMIME-Version: 1.0\n"
        f'Content-Type: multipart/report; report-type={kind}; boundary="r"'
    )


# --- charsets and encodings ---------------------------------------------------------------------------------

UMLAUTS = "Grüße aus Köln, 20 € für Händler."
CHARSETS = [
    _sample("utf-8 in 8 bits", _text("utf-8", "8bit"), UMLAUTS, UMLAUTS),
    _sample(
        "latin-9 quoted-printable",
        "Subject: =?iso-8859-15?Q?Gr=FC=DFe?=\n" + _text("iso-8859-15", "quoted-printable"),
        quopri.encodestring(UMLAUTS.encode("iso-8859-15")),
        UMLAUTS,
    ),
    _sample(
        "windows-1252 called latin-1",
        _text("iso-8859-1", "8bit"),
        "“Quoted” – as Windows does".encode("windows-1252"),
        "“Quoted” – as Windows does",
    ),
    _sample(
        "koi8-r in base64",
        "Subject: =?koi8-r?B?+sHLwdo=?=\n" + _text("koi8-r", "base64"),
        base64.encodebytes("Где мой заказ?".encode("koi8-r")).strip(),
        "Где мой заказ?",
    ),
    _sample(
        "japanese in 7 bits",
        _text("iso-2022-jp", "7bit"),
        "注文はどこですか".encode("iso-2022-jp"),
        "注文はどこですか",
    ),
    _sample("chinese", _text("gb2312", "8bit"), "我的订单在哪里".encode("gb18030"), "我的订单在哪里"),
    _sample("a charset that nobody knows", _text("x-of-our-own", "8bit"), "plain words", "plain words"),
    _sample("no word about mime", "", "Where is it?", "Where is it?"),
    _sample(
        "flowed",
        "MIME-Version: 1.0\nContent-Type: text/plain; charset=us-ascii; format=flowed",
        "Where is the order \nthat I paid for?",
        "Where is the order that I paid for?",
    ),
    _sample(
        "html alone",
        _text("utf-8", "8bit", "html"),
        "<html><body><p>Where is it?</p><p style='display:none'>hidden</p></body></html>",
        "Where is it?",
    ),
]

# --- parts in parts -----------------------------------------------------------------------------------------

PIXEL = "R0lGODlhAQABAIAAAAAAAP///yH5BAEAAAAALAAAAAABAAEAAAIBRAA7"
PARTS = [
    _sample(
        "alternative in related in mixed",
        'MIME-Version: 1.0\nContent-Type: multipart/mixed; boundary="m"',
        f"""\
This is a message with several parts.
--m
Content-Type: multipart/related; boundary="r"

--r
Content-Type: multipart/alternative; boundary="a"

--a
Content-Type: text/plain; charset=utf-8

See the picture.
--a
Content-Type: text/html; charset=utf-8

<p>See the picture. <img src="cid:dot@example.test"></p>
--a--
--r
Content-Type: image/gif; name="dot.gif"
Content-Transfer-Encoding: base64
Content-ID: <dot@example.test>
Content-Disposition: inline; filename="dot.gif"

{PIXEL}
--r--
--m
Content-Type: application/pdf
Content-Transfer-Encoding: base64
Content-Disposition: attachment; filename*0*=utf-8''Rechnung%20f%C3%BCr;
 filename*1*=%20K%C3%B6ln.pdf

JVBERi0xLjQ=
--m--""",
        "See the picture.",
        files=("dot.gif", "Rechnung für Köln.pdf"),
    ),
    _sample(
        "a mail in a mail",
        'Subject: Fwd: bill\nMIME-Version: 1.0\nContent-Type: multipart/mixed; boundary="m"',
        """\
--m
Content-Type: text/plain

Is this bill right?
--m
Content-Type: message/rfc822
Content-Disposition: attachment; filename="bill.eml"

From: shop@example.test
Subject: bill
Message-ID: <inner@example.test>

Please pay.
--m--""",
        "Is this bill right?",
        files=("bill.eml",),
    ),
    _sample(
        "a boundary that never ends",
        'MIME-Version: 1.0\nContent-Type: multipart/mixed; boundary="m"',
        "--m\nContent-Type: text/plain\n\nCut off on the way",
        "Cut off on the way",
    ),
]

# --- replies ------------------------------------------------------------------------------------------------

_REPLY = (
    "Subject: Re: Order 4711\nIn-Reply-To: <ours@cleo.example>\n"
    "References: <first@example.test>\n <ours@cleo.example>\n"
)
REPLIES = [
    _sample(
        "reply above the quote",
        _REPLY + _text("utf-8", "8bit"),
        "Thanks!\n\nOn Tue, Nov 24, 2026 at 9:00 AM Cleo <agent@cleo.example> wrote:\n\n> It is on its way.",
        "Thanks!",
    ),
    _sample(
        "reply with headers quoted",
        _REPLY.replace("Re:", "AW:") + _text("utf-8", "8bit"),
        "Danke!\n\nVon: Cleo <agent@cleo.example>\nGesendet: Dienstag, 24. November 2026 09:00\n"
        "An: Anna Berg <anna@example.test>\nBetreff: Order 4711\n\nIt is on its way.",
        "Danke!",
    ),
    _sample(
        "reply in html alone",
        _REPLY + _text("utf-8", "8bit", "html"),
        '<div dir="ltr">Merci !</div><br><div class="gmail_quote"><div dir="ltr" class="gmail_attr">'
        "Le mar. 24 nov. 2026 à 09:00, Cleo a écrit :<br></div>"
        '<blockquote class="gmail_quote">It is on its way.</blockquote></div>',
        "Merci !",
    ),
]

# --- machines -----------------------------------------------------------------------------------------------

MACHINES = [
    _sample(
        "vacation",
        "Subject: Out of office\nAuto-Submitted: auto-replied\n" + _text("utf-8", "8bit"),
        "I am away until Monday.",
        "I am away until Monday.",
        kind="machine",
    ),
    _sample(
        "automatic reply of outlook",
        "Subject: Automatic reply: Order 4711\nX-Auto-Response-Suppress: All\n" + _text("utf-8", "8bit"),
        "I am away until Monday.",
        "I am away until Monday.",
        kind="machine",
    ),
    _sample(
        "mailing list",
        "Subject: [users] Order of arguments\nList-Id: <users.lists.example.test>\n"
        "List-Post: <mailto:users@lists.example.test>\nPrecedence: list\n" + _text("utf-8", "8bit"),
        "Which comes first?",
        "Which comes first?",
        kind="machine",
    ),
    _sample(
        "digest of a list",
        "From: users-request@lists.example.test\nSubject: users Digest, Vol 1, Issue 2\n"
        "X-BeenThere: users@lists.example.test\nList-Id: <users.lists.example.test>\nPrecedence: bulk\n"
        'MIME-Version: 1.0\nContent-Type: multipart/digest; boundary="d"',
        "--d\n\nFrom: bob@example.test\nSubject: one\n\nfirst\n"
        "--d\n\nFrom: eve@example.test\nSubject: two\n\nsecond\n--d--",
        "",
        files=("one.eml", "two.eml"),
        kind="machine",
    ),
    _sample(
        "noreply",
        "From: Shop <no-reply@shop.example.test>\n" + _text("utf-8", "8bit"),
        "Your order has left our house.",
        "Your order has left our house.",
        kind="machine",
    ),
]

# --- reports ------------------------------------------------------------------------------------------------

_RETURNED = """\
--r
Content-Type: text/rfc822-headers

From: agent@cleo.example
Message-ID: <ours@cleo.example>
--r--"""


def _delivery_status(action: str, status: str, diagnostic: str) -> str:
    return f"""\
--r
Content-Type: text/plain

Your message could not be delivered.
--r
Content-Type: message/delivery-status

Reporting-MTA: dns; mx.example.test

Final-Recipient: rfc822; gone@example.test
Action: {action}
Status: {status}
Diagnostic-Code: smtp; {diagnostic}

{_RETURNED}"""


_SAID = "Your message could not be delivered."
REPORTS = [
    _sample(
        "bounce",
        _report("delivery-status"),
        _delivery_status("failed", "5.1.1", "550 5.1.1 no such user"),
        _SAID,
        files=None,
        kind="bounce",
        status="5.1.1",
        recipient="gone@example.test",
        about="<ours@cleo.example>",
    ),
    _sample(
        "delay",
        _report("delivery-status").replace("Undelivered Mail Returned to Sender", "Delayed Mail"),
        _delivery_status("delayed", "4.4.1", "451 4.4.1 connection timed out"),
        _SAID,
        files=None,
        kind="delay",
        status="4.4.1",
        recipient="gone@example.test",
        about="<ours@cleo.example>",
    ),
    _sample(
        "bounce in words",
        "From: MAILER-DAEMON@mx.example.test\nReturn-Path: <>\nSubject: failure notice",
        "Hi. This is the qmail-send program at mx.example.test.\n"
        "I'm afraid I wasn't able to deliver your message to the following addresses.\n"
        "This is a permanent error; I've given up. Sorry it didn't work out.\n\n"
        "<gone@example.test>:\n192.0.2.1 does not like recipient.\n"
        "Remote host said: 550 5.1.1 no such user\nGiving up on 192.0.2.1.\n\n"
        "--- Below this line is a copy of the message.\n\nReturn-Path: <agent@cleo.example>\n"
        "From: agent@cleo.example\nMessage-ID: <ours@cleo.example>\nSubject: Order 4711\n\nIt is on its way.",
        "",
        kind="bounce",
        status="5.1.1",
        recipient="gone@example.test",
        about="<ours@cleo.example>",
    ),
    _sample(
        "complaint",
        _report("feedback-report").replace("Undelivered Mail Returned to Sender", "complaint"),
        "--r\nContent-Type: text/plain\n\nThis is a complaint about your mail.\n--r\n"
        "Content-Type: message/feedback-report\n\nFeedback-Type: abuse\nUser-Agent: Example/1\nVersion: 1\n"
        "Original-Rcpt-To: gone@example.test\n\n" + _RETURNED,
        "This is a complaint about your mail.",
        files=None,
        kind="feedback",
        recipient="gone@example.test",
        about="<ours@cleo.example>",
    ),
]

SAMPLES = [*CHARSETS, *PARTS, *REPLIES, *MACHINES, *REPORTS]
