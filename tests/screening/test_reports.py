"""What a report says about the mail that we sent."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cleo_email.mail.model import Address, InboundEmail
from cleo_email.screening.reports import Report, ReportKind, read_report

OURS = "<abc@firma.de>"
TO = "anna@kunde.example"
DAEMON = "MAILER-DAEMON@mx.firma.de"
RETURNED = f"Return-Path: <support@firma.de>\nMessage-ID: {OURS}\nTo: {TO}\nSubject: Re: Frage\n\nText\n"


def mail(
    sender: str = DAEMON, subject: str = "Undelivered Mail Returned to Sender", **changes: Any
) -> InboundEmail:
    headers = tuple((name.lower(), value) for name, value in changes.pop("headers", ()))
    return InboundEmail(
        from_=(Address(sender),),
        to=(Address("support@firma.de"),),
        subject=subject,
        headers=headers,
        **changes,
    )


def plain(text: str, message: InboundEmail | None = None) -> Report | None:
    """The report in a text/plain mail."""
    source = f"From: x\nContent-Type: text/plain; charset=utf-8\n\n{text}"
    return read_report(source.replace("\n", "\r\n").encode(), message or mail())


def multipart(
    *parts: str, kind: str = "delivery-status", message: InboundEmail | None = None
) -> Report | None:
    head = f'From: x\nContent-Type: multipart/report; report-type={kind};\n boundary="=b"\n\npreamble\n'
    body = "".join(f"--=b\n{part}\n" for part in parts) + "--=b--\n"
    content_type = f'multipart/report; report-type={kind}; boundary="=b"'
    message = message or mail(content_type="multipart/report", headers=[("Content-Type", content_type)])
    return read_report((head + body).replace("\n", "\r\n").encode(), message)


def status_part(*groups: str) -> str:
    return (
        "Content-Type: message/delivery-status\n\nReporting-MTA: dns; mx.firma.de\n\n"
        + "\n\n".join(groups)
        + "\n"
    )


FAILED = f"""Final-Recipient: rfc822; {TO}
Action: failed
Status: 5.1.1
Diagnostic-Code: smtp; 550 5.1.1 User
 unknown"""
RETURNED_PART = f"Content-Type: message/rfc822\n\n{RETURNED}"


# --- RFC 3464 -------------------------------------------------------------------------------------------


def test_a_delivery_status_is_read_whole() -> None:
    report = multipart("\nIt failed.", status_part(FAILED), RETURNED_PART)
    assert report == Report(ReportKind.BOUNCE, TO, "5.1.1", "550 5.1.1 User unknown", OURS, (TO,))


@pytest.mark.parametrize(
    ("action", "kind"),
    [("failed", "bounce"), ("Failed", "bounce"), ("delayed", "delay"), ("delivered", "delivered"),
     ("expanded", "delivered"), ("relayed", "relayed"), ("failed (gave up)", "bounce"),
     ("nonsense", "bounce"),
     ("", "bounce")],
)  # fmt: skip
def test_the_action_is_the_kind(action: str, kind: str) -> None:
    report = multipart(
        "\nText", status_part(f"Final-Recipient: rfc822;{TO}\nAction: {action}\nStatus: 5.0.0")
    )
    assert report is not None
    assert report.kind == kind


def test_of_several_recipients_the_first_that_went_worst_counts() -> None:
    groups = [
        "Final-Recipient: rfc822; a@x.example\nAction: delivered\nStatus: 2.0.0",
        "Final-Recipient: rfc822; b@x.example\nAction: delayed\nStatus: 4.4.1",
        "Final-Recipient: rfc822; c@x.example\nAction: failed\nStatus: 5.2.2",
        "Final-Recipient: rfc822; d@x.example\nAction: failed\nStatus: 5.1.1",
    ]
    report = multipart("\nText", status_part(*groups))
    assert report is not None
    assert (report.kind, report.recipient, report.status) == (ReportKind.BOUNCE, "c@x.example", "5.2.2")


@pytest.mark.parametrize(
    ("fields", "status"),
    [
        ("Status: 5.7.1", "5.7.1"), ("Status: 5.7.1 (refused)", "5.7.1"), ("Status:4.4.2", "4.4.2"),
        ("Status: 5.0.0\nDiagnostic-Code: smtp; 550 5.7.26 DMARC", "5.7.26"),
        ("Status: 5.0.0\nDiagnostic-Code: smtp; 450 4.7.1 wait", "5.0.0"),
        ("Status: 5.1.1\nDiagnostic-Code: smtp; 550 5.7.1 no", "5.1.1"),
        ("Diagnostic-Code: smtp; 550 5.1.1 no", "5.1.1"), ("Diagnostic-Code: smtp;550 no such user", "5.0.0"),
        ("Diagnostic-Code: smtp; 550-5.1.1 no\n 550 5.1.1 user", "5.1.1"),
        ("Diagnostic-Code: x-unix; Command died with status 1", ""), ("Status: 550", ""),
        ("Status: 5.1.1.1", ""),
        ("Status: 5.01.001", "5.1.1"), ("Status: 5.0.0\nDiagnostic-Code: smtp; 421 try later", "5.0.0"),
    ],
)  # fmt: skip
def test_the_more_telling_code_of_the_same_class_counts(fields: str, status: str) -> None:
    report = multipart("\nText", status_part(f"Final-Recipient: rfc822;{TO}\nAction: failed\n{fields}"))
    assert report is not None
    assert report.status == status


@pytest.mark.parametrize(
    "part",
    [
        RETURNED_PART,
        f"Content-Type: text/rfc822-headers\n\n{RETURNED.partition(chr(10) * 2)[0]}\n",
        f"Content-Type: message/rfc822-headers\n\n{RETURNED}",
        f"Content-Type: text/rfc822-headers\n\nSubject: x\nMESSAGE-ID:\n {OURS}\n",
        f"Content-Type: message/rfc822\nContent-Disposition: attachment\n\n\n{RETURNED}",
        f"Content-Type: message/rfc822\n\nFrom support@firma.de Mon Jan 1 00:00:00 2026\n{RETURNED}",
        f"Content-Type: message/rfc822\nContent-Transfer-Encoding: quoted-printable\n\n{RETURNED}",
        "Content-Type: message/rfc822\nContent-Transfer-Encoding: base64\n\n"
        "TWVzc2FnZS1JRDogPGFiY0BmaXJtYS5kZT4KU3ViamVjdDogeAoKVGV4dAo=\n",
        f"Content-Type: message/rfc822\n\nbroken first line\n{RETURNED}",
        f"Content-Type: text/plain\n\n--- Below this line is a copy of the message.\n\n{RETURNED}",
    ],
)  # fmt: skip
def test_our_message_id_is_found_in_what_comes_back(part: str) -> None:
    report = multipart("\nText", status_part(FAILED), part)
    assert report is not None
    assert report.original_message_id == OURS


def test_without_a_returned_message_the_fields_and_then_in_reply_to_name_it() -> None:
    named = status_part(FAILED).replace("Reporting-MTA", f"X-Original-Message-ID: {OURS}\nReporting-MTA")
    report = multipart("\nText", named)
    assert report is not None
    assert report.original_message_id == OURS
    message = mail(content_type="multipart/report", in_reply_to=(OURS,))
    report = multipart("\nText", status_part(FAILED), message=message)
    assert report is not None
    assert report.original_message_id == OURS


def test_in_a_bounce_of_a_bounce_the_message_id_of_ours_is_found() -> None:
    ours = "<cleo-abcnnnnnnnnnnnnnn.ttttttttttttt@firma.de>"
    inner = f"Message-ID: <bounce@mx.firma.de>\n\nIt failed.\n\nReceived: x\nMessage-ID: {ours}\n\nText\n"
    report = multipart("\nText", status_part(FAILED), f"Content-Type: message/rfc822\n\n{inner}")
    assert report is not None
    assert report.original_message_id == ours


def test_the_reports_own_message_id_is_not_taken_for_ours() -> None:
    source = (
        b"Message-ID: <report@mx>\r\nContent-Type: text/plain\r\n\r\n<anna@kunde.example>: user unknown\r\n"
    )
    report = read_report(source, mail(message_id="<report@mx>"))
    assert report is not None
    assert report.original_message_id == ""


@pytest.mark.parametrize(
    "damage",
    [
        lambda source: source.replace(b"--=b--\r\n", b""),  # never closed
        lambda source: source.replace(b"\r\n", b"\n"),
        lambda source: source.replace(b"--=b", b"--lost"),  # delimiters that nobody announced
        lambda source: source.replace(b"--=b\r\n", b"--=b  \r\n"),
        lambda source: b"From MAILER-DAEMON Mon Jan 1 00:00:00 2026\r\n" + source,
        lambda source: source.replace(b"--=b\r\n", b"--=bb\r\n--=b\r\n"),  # a longer one that begins alike
        lambda source: source.replace(b"Content-Type: message/delivery-status", b"Content-Type: text/plain"),
    ],
)
def test_a_damaged_report_is_still_read(damage: Any) -> None:
    parts = (f"\n<{TO}>: 550 5.1.1 User unknown", status_part(FAILED), RETURNED_PART)
    body = "".join(f"--=b\n{part}\n" for part in parts) + "--=b--\n"
    source = ('Content-Type: multipart/report; boundary="=b"\n\n' + body).replace("\n", "\r\n").encode()
    report = read_report(damage(source), mail(content_type="multipart/report"))
    assert report is not None
    assert (report.kind, report.recipient, report.status) == (ReportKind.BOUNCE, TO, "5.1.1")
    assert report.original_message_id == OURS


def test_a_report_of_which_only_the_announcement_is_left_is_a_bounce_of_nothing_known() -> None:
    assert multipart("\nhello") == Report(ReportKind.BOUNCE)


def test_the_line_for_our_record_says_what_became_of_it() -> None:
    report = multipart("\nIt failed.", status_part(FAILED), RETURNED_PART)
    assert report is not None
    assert report.reason == f"bounced: 5.1.1 {TO}: 550 5.1.1 User unknown"
    assert Report(ReportKind.FEEDBACK, diagnostic="abuse").reason == "complained about: abuse"
    assert Report(ReportKind.DELIVERED).reason == "delivered"


@pytest.mark.parametrize("kind", ReportKind)
def test_good_news_does_not_hide_an_earlier_bounce(kind: ReportKind) -> None:
    bounced = Report(ReportKind.BOUNCE, TO, "5.1.1").reason
    assert Report(kind).may_replace(bounced) is (kind in (ReportKind.BOUNCE, ReportKind.FEEDBACK))
    assert Report(kind).may_replace("")
    assert Report(kind).may_replace(Report(ReportKind.DELAY).reason)


# --- receipts and feedback ------------------------------------------------------------------------------


def test_a_receipt() -> None:
    part = (
        f"Content-Type: message/disposition-notification\n\nReporting-UA: x\nFinal-Recipient: rfc822;{TO}\n"
        f"Original-Message-ID: {OURS}\nDisposition: manual-action/MDN-sent-manually; displayed\n"
    )
    message = mail(TO, "Gelesen: Re: Frage", content_type="multipart/report")
    report = multipart("\nread", part, kind="disposition-notification", message=message)
    words = "manual-action/MDN-sent-manually; displayed"
    assert report == Report(ReportKind.RECEIPT, TO, "", words, OURS)


def test_a_feedback_report() -> None:
    fields = f"Feedback-Type: abuse\nOriginal-Rcpt-To: <{TO}>\nVersion: 1\n"
    part = f"Content-Type: message/feedback-report\n\n{fields}"
    message = mail("fbl@provider.example", "Fw: Re: Frage", content_type="multipart/report")
    report = multipart("\ncomplaint", part, RETURNED_PART, kind="feedback-report", message=message)
    assert report == Report(ReportKind.FEEDBACK, TO, "", "abuse", OURS)


def test_a_complaint_by_hotmail_and_an_unsubscription_by_apple_are_feedback() -> None:
    source = f'Content-Type: multipart/mixed; boundary="=b"\n\n--=b\n{RETURNED_PART}\n--=b--\n'.replace(
        "Return-Path: <support@firma.de>", f"X-HmXmrOriginalRecipient: {TO}"
    )
    hotmail = mail(
        "staff@hotmail.com", "complaint about message from 192.0.2.1", content_type="multipart/mixed"
    )
    assert read_report(source.encode(), hotmail) == Report(ReportKind.FEEDBACK, TO, "", "abuse", OURS)
    apple = mail(
        TO, "unsubscribe", headers=[("X-Apple-Unsubscribe", "true"), ("Auto-Submitted", "auto-replied")]
    )
    report = read_report(b"Subject: unsubscribe\r\n\r\nApple Mail sent this", apple)
    assert report == Report(ReportKind.FEEDBACK, TO, "", "unsubscribe", "")


# --- plain texts ----------------------------------------------------------------------------------------

_PLAIN = """
### qmail | 5.1.1
Hi. This is the qmail-send program at mx.firma.de.
I'm afraid I wasn't able to deliver your message to the following addresses.
This is a permanent error; I've given up. Sorry it didn't work out.

<anna@kunde.example>:
Sorry, no mailbox here by that name. (#5.1.1)

--- Below this line is a copy of the message.

RETURNED
### qmail, remote | 5.0.0
Hi. This is the qmail-send program at mx.firma.de.
I'm afraid I wasn't able to deliver your message to the following addresses.

<anna@kunde.example>:
192.0.2.1 does not like recipient.
Remote host said: 550 No such user
Giving up on 192.0.2.1.

--- Below this line is a copy of the message.

RETURNED
### Exim | 5.7.1
This message was created automatically by mail delivery software.

A message that you sent could not be delivered to one or more of its
recipients. This is a permanent error. The following address(es) failed:

  anna@kunde.example
    host mx.kunde.example [192.0.2.1]
    SMTP error from remote mail server after RCPT TO:<anna@kunde.example>:
    550 5.7.1 not wanted

------ This is a copy of the message, including all the headers. ------

RETURNED
### Exim without an enhanced code | 5.0.0
A message that you sent could not be delivered to all of its recipients.
The following address(es) failed:

  anna@kunde.example
    SMTP error from remote mail server after initial connection:
    554 go away

------ This is a copy of the message's headers. ------

RETURNED
### Exim, no code at all |
A message that you sent could not be delivered to all of its recipients.
The following address(es) failed:

  anna@kunde.example
    retry timeout exceeded

------ This is a copy of the message, including all the headers. ------

RETURNED
### Postfix, old | 5.2.2
This is the Postfix program at host mx.firma.de.

I'm sorry to have to inform you that the message returned
below could not be delivered to one or more destinations.

For further assistance, please contact <postmaster@firma.de>

<anna@kunde.example>: host mx.kunde.example[192.0.2.1] said: 550 5.2.2 Mailbox
    full (in reply to RCPT TO command)

RETURNED
### sendmail | 5.1.1
The original message was received at Thu, 29 Apr 2026 23:34:45 +0900
from [192.0.2.25]

   ----- The following addresses had permanent fatal errors -----
<anna@kunde.example>
    (reason: 550 5.1.1 User Unknown)

   ----- Transcript of session follows -----
... while talking to mx.kunde.example.:
>>> RCPT To:<anna@kunde.example>
<<< 550 5.1.1 User Unknown

   ----- Original message follows -----

RETURNED
### Exchange 2003 | 5.1.1
Your message did not reach some or all of the intended recipients.

      Subject:    Re: Frage
      Sent:       29.04.2026 23:34

The following recipient(s) could not be reached:

      anna@kunde.example on 29.04.2026 23:34
            The e-mail account does not exist at the organization this message
            was sent to.
            <mx.kunde.example #5.1.1>

RETURNED
### Exchange 2010 | 5.1.10
Delivery has failed to these recipients or distribution lists:

anna@kunde.example
The recipient's e-mail address was not found.

Diagnostic information for administrators:

Generating server: mx.kunde.example

anna@kunde.example
#550 5.1.10 RESOLVER.ADR.RecipientNotFound; not found ##

Original message headers:

RETURNED
### Gmail, old | 5.2.1
Delivery to the following recipient failed permanently:

     anna@kunde.example

Technical details of permanent failure:
Google tried to deliver your message, but it was rejected by the server for
the recipient domain kunde.example by mx.kunde.example. [192.0.2.1].

The error that the other server returned was:
550 5.2.1 Account disabled

----- Original message -----

RETURNED
### Yahoo | 5.1.1
Sorry, we were unable to deliver your message to the following address.

<anna@kunde.example>:
Remote host said: 550 5.1.1 unknown [RCPT_TO]

--- Below this line is a copy of the message.

RETURNED
### GMX | 5.7.1
This message was created automatically by mail delivery software.

A message that you sent could not be delivered to
one or more of its recipients. This is a permanent error.

The following address failed:

anna@kunde.example:
SMTP error from remote server for RCPT TO command, host: mx.kunde.example
(192.0.2.1) reason: 550 5.7.1 rejected

--- The header of the original message is following. ---

RETURNED
### German, with numbers that are no codes | 5.1.1
Ihre Nachricht konnte nicht zugestellt werden.

<anna@kunde.example>: 550 5.1.1 unbekannt am 5.10.23 (Postfix 2.5.6)

Hier ist eine Kopie der Nachricht:

RETURNED
"""
PLAIN = {
    block.partition(" |")[0]: (
        block.partition("\n")[2].replace("RETURNED", RETURNED),
        block.partition("\n")[0].partition(" |")[2].strip(),
    )
    for block in _PLAIN.split("### ")[1:]
}


@pytest.mark.parametrize(("text", "status"), PLAIN.values(), ids=PLAIN.keys())
def test_plain_bounces_are_read(text: str, status: str) -> None:
    report = plain(text)
    assert report is not None
    assert report.kind is ReportKind.BOUNCE
    assert (report.recipient, report.status) == (TO, status)
    assert report.original_message_id == OURS
    assert "\n" not in report.diagnostic


@pytest.mark.parametrize(
    ("subject", "text"),
    [
        ("Delivery Status Notification (Delay)", f"Delivery to {TO} could not be completed yet."),
        ("Warning: message 1x delayed 24 hours",
         f"A message that you sent has not yet been delivered.\n\n  {TO}\n    Delay reason: 450 4.7.1 wait"),
        ("Delayed Mail (still being retried)", f"# THIS IS A WARNING ONLY. #\n\n<{TO}>: not delivered"),
    ],
)  # fmt: skip
def test_a_warning_is_a_delay(subject: str, text: str) -> None:
    report = plain(text, mail(subject=subject, headers=[("X-Failed-Recipients", TO)]))
    assert report is not None
    assert (report.kind, report.recipient) == (ReportKind.DELAY, TO)


def test_the_null_sender_of_the_envelope_marks_a_report_too() -> None:
    text = f"Your message could not be delivered.\n\n<{TO}>: 550 5.1.1 no\n"
    message = mail("mail-system@provider.example", "Undeliverable: Re: Frage")
    source = b"Subject: x\r\n\r\n" + text.encode()
    assert read_report(source, message) is None
    report = read_report(source, message, envelope_from="")
    assert report is not None
    assert (report.recipient, report.status) == (TO, "5.1.1")


# --- what is no report ----------------------------------------------------------------------------------


def test_a_person_who_quotes_a_bounce_sends_no_report() -> None:
    for text, _ in PLAIN.values():
        assert plain(f"Was heißt das?\n\n{text}", mail(TO, "WG: Undelivered Mail")) is None
        assert plain(text, mail(TO, "Undelivered Mail, please help")) is None
        assert plain(text, mail(TO, "Frage")) is None


def test_a_person_who_attaches_a_bounce_sends_no_report() -> None:
    parts = f"--=b\n\nHilfe!\n--=b\n{status_part(FAILED)}\n--=b\n{RETURNED_PART}\n--=b--\n"
    source = f'Content-Type: multipart/mixed; boundary="=b"\n\n{parts}'.encode()
    attached = ("message/delivery-status",)
    for subject in ("Hilfe", "Fwd: Undelivered Mail Returned to Sender", "AW: Unzustellbar: Angebot"):
        assert (
            read_report(source, mail(TO, subject, content_type="multipart/mixed", attached_types=attached))
            is None
        )
    bounce = mail("system@provider.example", "Undeliverable: Angebot", content_type="multipart/mixed")
    assert read_report(source, bounce) is not None


@pytest.mark.parametrize(
    "text",
    [
        "I am out of the office until Monday.",
        "Ich bin bis 5.10.23 im Urlaub. In dringenden Fällen: b@firma.de",
        "Thank you for the message that you sent. My mailbox is read by anna@kunde.example.", "",
        "Version 4.5.6 of our product was released. Call 550 1234.",
    ],
)  # fmt: skip
def test_an_absence_note_from_the_null_sender_is_no_report(text: str) -> None:
    message = mail(
        TO, "Abwesenheitsnotiz: Frage", headers=[("Return-Path", "<>"), ("Auto-Submitted", "auto-replied")]
    )
    assert plain(text, message) is None


# --- anything at all ------------------------------------------------------------------------------------

_fragments = st.sampled_from(
    [
        b"\r\n", b"\n", b"\r\n\r\n", b"--b", b"--b--", b"Content-Type: multipart/report; boundary=b\r\n",
        b"Content-Type: message/delivery-status\r\n\r\n", b"Content-Type: message/feedback-report\r\n\r\n",
        b"Content-Type: message/disposition-notification\r\n\r\n", b"Content-Type: text/plain\r\n\r\n",
        b"Content-Transfer-Encoding: base64\r\n", b"Content-Transfer-Encoding: quoted-printable\r\n",
        b"=3D=\r\n",
        b"Final-Recipient: rfc822;a@b.example\r\n", b"Action: failed\r\n", b"Status: 5.1.1\r\n",
        b"Message-ID: <a@b>\r\n",
        b"said: 550 5.1.1 ", b"<a@b.example>: ", b"could not be delivered", b"From ", b" ", b"\t",
        b"\xff\xfe", b"\x00",
    ]
)  # fmt: skip
_sources = st.lists(st.one_of(_fragments, st.binary(max_size=20)), max_size=30).map(b"".join)
_messages = st.builds(
    InboundEmail,
    from_=st.sampled_from([(), (Address(DAEMON),), (Address(TO),)]),
    subject=st.sampled_from(["Undelivered Mail", "complaint about message from 1", "Frage"])
    | st.text(max_size=20),
    content_type=st.sampled_from(["multipart/report", "text/plain"]),
    in_reply_to=st.lists(st.text(max_size=5), max_size=2).map(tuple),
    headers=st.lists(
        st.tuples(
            st.sampled_from(["return-path", "x-failed-recipients", "content-type", "x-apple-unsubscribe"]),
            st.text(max_size=20),
        ),
        max_size=3,
    ).map(tuple),
)


@given(_sources, _messages, st.none() | st.text(max_size=5))
def test_any_bytes_are_read_without_an_error(
    source: bytes, message: InboundEmail, envelope: str | None
) -> None:
    report = read_report(source, message, envelope_from=envelope)
    if report is not None:
        assert report.diagnostic.isprintable()
        assert len(report.diagnostic) <= 500
        assert report.status == "" or report.status.count(".") == 2
        assert (
            report.original_message_id == ""
            or report.original_message_id[0] + report.original_message_id[-1] == "<>"
        )


@given(st.binary(max_size=300))
def test_any_body_of_a_daemon_is_read_without_an_error(body: bytes) -> None:
    report = read_report(b"Content-Type: text/plain\r\n\r\n" + body, mail())
    assert report is None or isinstance(report, Report)
