"""Replies that hold HTML only, as the clients write it: the new part is found in them as well."""

from __future__ import annotations

import pytest

from cleo_email.mail.parse import parse

_HEAD = b"From: a@example.org\r\nSubject: AW: x\r\nContent-Type: text/html; charset=utf-8\r\n\r\n"

GMAIL = """
<div dir="ltr"><div>Ja, passt.</div><div><br></div><div>Gruß<br clear="all"><div><div dir="ltr"
class="gmail_signature">Eva</div></div></div></div><br><div class="gmail_quote"><div dir="ltr"
class="gmail_attr">
Am Mo., 3. Feb. 2025 um 10:15&nbsp;Uhr schrieb Max Muster &lt;<a
href="mailto:max@example.org">max@example.org</a>&gt;:
<br></div><blockquote class="gmail_quote" style="margin:0 0 0 .8ex"><div dir="ltr">Kommst
du?</div></blockquote></div>
"""
OUTLOOK = """
<html xmlns:o="urn:schemas-microsoft-com:office:office"><head><style>p.MsoNormal {margin:0cm;
font-size:11.0pt}
a:link {color:blue}</style></head><body lang=DE><div class="WordSection1">
<p class="MsoNormal">Guten Tag,<o:p></o:p></p><p class="MsoNormal"><o:p>&nbsp;</o:p></p>
<p class="MsoNormal">anbei der Vertrag.<o:p></o:p></p>
<div><div style="border:none;border-top:solid #E1E1E1 1.0pt;padding:3.0pt 0cm 0cm 0cm">
<p class="MsoNormal"><b>Von:</b> Krause, Michael &lt;m@example.org&gt; <br><b>Gesendet:</b> Montag, 3.
Februar 2025
10:15<br><b>An:</b> Vogt &lt;v@example.org&gt;<br><b>Betreff:</b> Vertrag<o:p></o:p></p></div></div>
<p class="MsoNormal">Alter Text</p></div></body></html>
"""
OUTLOOK_WEB = """
<html><head><style type="text/css" style="display:none;">P {margin-top:0;margin-bottom:0;}</style></head>
<body dir="ltr"><div class="elementToProof" style="font-size: 12pt; color: rgb(0, 0, 0);">Erledigt.</div>
<div id="appendonsend"></div><hr style="display:inline-block;width:98%" tabindex="-1"><div
id="divRplyFwdMsg"
dir="ltr"><font face="Calibri" style="font-size:11pt" color="#000000"><b>Von:</b> Max
&lt;m@example.org&gt;<br>
<b>Gesendet:</b> Montag, 3. Februar 2025 10:15<br><b>An:</b> Eva &lt;e@example.org&gt;<br><b>Betreff:</b>
Bitte</font>
<div>&nbsp;</div></div><div>Bitte erledigen.</div></body></html>
"""
OUTLOOK_IOS = """
<html><body><div dir="ltr">Passt.</div><div id="ms-outlook-mobile-signature"><div dir="ltr">
<a href="https://aka.ms/o0ukef">Outlook für iOS</a> beziehen</div></div><hr><div
id="divRplyFwdMsg"><b>Von:</b> Max
&lt;m@example.org&gt;<br><b>Gesendet:</b> Montag<br><b>An:</b> Eva<br><b>Betreff:</b>
x<br></div>alt</body></html>
"""
YAHOO = """
<html><body><div class="ydp1">Danke!</div><div><br></div><div id="ydpquoted" class="yahoo_quoted"><div>
Am Montag, 3. Februar 2025, 10:15:00 MEZ hat Shop &lt;shop@example.org&gt; Folgendes geschrieben: </div>
<div><br></div><div>Ihr Paket ist unterwegs.</div></div></body></html>
"""
APPLE = """
<html><head></head><body dir="auto">Ja.<br><div dir="ltr">Von meinem iPhone gesendet</div><div
dir="ltr"><br>
<blockquote type="cite">Am 07.01.2025 um 19:44 schrieb Jule
&lt;j@example.org&gt;:<br><br></blockquote></div>
<blockquote type="cite"><div dir="ltr">Kino?</div></blockquote></body></html>
"""
GMX = """
<html><body><div style="font-family:Verdana"><div>Defekt.</div><div>&nbsp;</div><div><div name="quote"
style="margin:10px 5px"><div style="margin:0"><b>Gesendet:</b>&nbsp;Montag, 3. Februar 2025 um 10:15
Uhr<br/>
<b>Von:</b>&nbsp;"KD"
&lt;kd@example.org&gt;<br/><b>An:</b>&nbsp;r@example.org<br/><b>Betreff:</b>&nbsp;Anfrage</div>
<div name="quoted-content">Alt</div></div></div></div></body></html>
"""
THUNDERBIRD = """
<html><body><div class="moz-cite-prefix">Am 03.02.25 um 10:15 schrieb Max:<br></div><blockquote type="cite"
cite="mid:1@example.org">Wie lautet die Adresse?</blockquote><p>Hafenstraße 12.</p><div
class="moz-signature">-- <br>
Ole</div></body></html>
"""
PROTON = """
<div style="font-family: Arial; font-size: 14px;">Danke.</div><div class="protonmail_signature_block"><div
class="protonmail_signature_block-proton">Mit <a target="_blank"
href="https://proton.me/mail/home">Proton Mail</a>
sicherer E-Mail gesendet.</div></div><div><br></div><div class="protonmail_quote">
Am Montag, 3. Februar 2025 um 10:15 AM schrieb Max &lt;m@example.org&gt;:<br><blockquote
class="protonmail_quote"
type="cite">alt</blockquote></div>
"""
BETWEEN = """
<div>Hallo,</div><blockquote type="cite">Passt Dienstag?</blockquote><div>Ja.</div><blockquote
type="cite">Und wer?</blockquote>
<div>Nina.</div>
"""


@pytest.mark.parametrize(
    ("html", "new"),
    [
        pytest.param(GMAIL, "Ja, passt.\n\nGruß\nEva", id="gmail"),
        pytest.param(OUTLOOK, "Guten Tag,\n\nanbei der Vertrag.", id="outlook"),
        pytest.param(OUTLOOK_WEB, "Erledigt.", id="outlook web"),
        pytest.param(OUTLOOK_IOS, "Passt.", id="outlook ios"),
        pytest.param(YAHOO, "Danke!", id="yahoo"),
        pytest.param(APPLE, "Ja.", id="apple"),
        pytest.param(GMX, "Defekt.", id="gmx"),
        pytest.param(THUNDERBIRD, "Hafenstraße 12.", id="thunderbird"),
        pytest.param(PROTON, "Danke.", id="proton"),
        pytest.param(
            BETWEEN, "Hallo,\n\n> Passt Dienstag?\n\nJa.\n\n> Und wer?\n\nNina.", id="between the lines"
        ),
    ],
)
def test_the_new_part_of_an_html_reply(html: str, new: str) -> None:
    message = parse(_HEAD + html.strip().encode())
    assert message.text == new
    assert message.notes == ()
