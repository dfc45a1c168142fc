"""Whom a refusal is about, in the words of many servers."""

# ruff: noqa: E501  (a reply is a line)

from __future__ import annotations

import time

import pytest

from cleo_email.smtp.reply import Reply

# Limits of the account: the same mail is taken later.
ACCOUNT = """
550 5.4.5 Daily user sending limit exceeded. For more information on Gmail sending limits go to https://support.google.com/a/answer/166852
550 5.4.5 Daily SMTP relay limit exceeded for customer. For more information on SMTP relay sending limits please contact your administrator
550 5.4.5 You have reached a limit
421 4.7.0 Our system has detected an unusual rate of unsolicited mail originating from your IP address. To protect our users, mail has been temporarily rate limited
421 4.7.28 Our system has detected an unusual rate of email originating from your SPF domain. Email sent from your domain has been temporarily rate limited
450 4.7.1 rate limited
450 4.7.1 Error: too much mail from 192.0.2.1
451 4.7.1 Too many messages, slow down
550 5.1.90 Your message can't be sent because you've reached your daily limit for message recipients
550 5.2.0 STOREDRV.Submission.Exception:SubmissionQuotaExceededException; Failed to process message: the sender's submission quota was exceeded
554 5.2.0 STOREDRV.Submission.Exception:OutboundSpamException; Failed to process message due to a permanent exception with message WASCL UserAction verdict is RefuseQuota
550 5.7.705 Access denied, tenant has exceeded threshold
550 5.7.501 Access denied, spam abuse detected
550 5.1.8 Access denied, bad outbound sender
432 4.3.2 STOREDRV.ClientSubmit; sender thread limit exceeded
550 Domain example.com has exceeded the max emails per hour (150/150 (100%)) allowed. Message discarded.
550 5.7.1 Sender example@example.com has exceeded the maximum number of messages per hour
554 5.7.1 <bob@example.org>: Recipient address rejected: You have exceeded your messaging limits
450 4.7.1 <ann@example.com>: Sender address rejected: Policy Rejection- Quota Exceeded.
554 5.7.1 <ann@example.com>: Sender address rejected: Policy Rejection- Quota Exceeded.
550 5.7.1 limit exceeded
550 5.7.0 Sending quota exceeded
554 Email rejected. You have exceeded your sending limit
554 5.7.9 Message not accepted: your account has been temporarily suspended for sending too many messages
550 5.2.1 This account was suspended for sending spam
550 5.7.1 Your account has been suspended due to abuse. Contact support
550 5.4.6 Unusual sending activity detected. Please try after sometime
454 Throttling failure: Maximum sending rate exceeded.
454 Throttling failure: Daily message quota exceeded.
550 Requested mail action not taken: mailbox unavailable. Mail send limit exceeded.
450 Requested mail action not taken: mailbox unavailable; Mail send limit exceeded
421 Rate limit reached. Please try again later.
550 5.7.1 Too many recipients today, try again tomorrow
550 5.7.1 You have exceeded the number of recipients allowed per day
452 4.5.3 Your message cannot be delivered: daily recipient limit reached
552 5.7.0 You exceeded your sending rate, too many mails in the last hour
550 5.7.1 Sie haben das Versandlimit von 500 E-Mails pro Tag überschritten
554 5.7.1 Ihr Tageslimit ist erreicht
550 5.7.0 Zu viele Nachrichten in der letzten Stunde versendet
550 5.7.1 Die maximale Anzahl an ausgehenden Mails wurde überschritten
450 4.7.1 Sendelimit erreicht, bitte versuchen Sie es später
554 5.7.1 Ihr Konto ist wegen Spamversands gesperrt
550 5.7.1 Sie haben die maximale Anzahl von Empfängern pro Stunde erreicht
550 Domain frequency limited
451 4.7.1 Vous avez dépassé la limite d'envoi de messages
550 5.7.1 Superato il limite giornaliero di invio
550 5.7.1 Outgoing mail from this account has been suspended
550 5.7.1 User rate limit exceeded
550 5.7.1 Daily limit reached
550-5.7.1 You have sent too much mail lately. Try again in 24 hours.
421 4.4.5 Server busy, sending limit reached
550 5.7.1 mail.example.com: hourly sending quota for ann@example.com exceeded
450 4.7.1 Rate limit exceeded for ann@example.com, see https://help.example.com/limits
554 5.7.1 Sie haben in den letzten 24 Stunden zu viele E-Mails versendet
550 5.7.1 Der Versand wurde vorübergehend gesperrt: Sie haben das Kontingent überschritten
""".strip().splitlines()

# What is said of this mail or of its recipient: it is refused later too (or, with a 4xx, for this one alone).
MAIL = """
550 5.1.1 The email account that you tried to reach does not exist. Please try double-checking the recipient's email address
550 5.1.1 <bob@example.org>: Recipient address rejected: User unknown in virtual mailbox table
550 No such user here
550 Unrouteable address
550 5.1.10 RESOLVER.ADR.RecipientNotFound; Recipient not found by SMTP address lookup
550 5.4.1 Recipient address rejected: Access denied
550 5.2.1 The email account that you tried to reach is disabled
550 5.2.1 The user you are trying to contact is receiving mail at a rate that prevents additional messages from being delivered
450 4.2.1 The user you are trying to contact is receiving mail too quickly. Please resend your message at a later time
552 5.2.2 The email account that you tried to reach is over quota
452 4.2.2 The email account that you tried to reach is over quota and inactive
452 4.2.2 The recipient's inbox is out of storage space
552 5.2.2 <bob@example.org> Quota exceeded (mailbox for user is full)
552 5.2.2 Mailbox full
552 5.2.2 Over quota
552 Requested mail action aborted: exceeded storage allocation
554 5.2.2 mailbox full; STOREDRV.Deliver.Exception:QuotaExceededException; Failed to process message due to a permanent exception with message The recipient mailbox has exceeded its storage limit
550 5.2.0 Mailbox of the recipient has exceeded the limit
451 4.5.1 The recipient <bob@example.org> has exceeded their message rate limit. Try again later.
552 5.3.4 Message size exceeds fixed limit
552 5.3.4 Message size exceeds maximum value
552 5.2.3 Message exceeds maximum fixed size
552-5.3.4 Your message exceeded Google's message size limits. To view our message size guidelines, go to
552 Message too large
550 5.2.3 RESOLVER.RST.RecipSizeLimit; message too large for this recipient
552 5.3.4 Error: message file too big
554 5.7.1 Message rejected as spam by Content Filtering.
554 5.7.1 Spam message rejected
554 5.7.9 Message not accepted for policy reasons. See http://postmaster.yahoo.com/errors/postmaster-28.html
550 5.7.1 [CS01] Message rejected due to local policy. Please visit https://support.apple.com/en-us/HT204137
550-5.7.26 This mail has been blocked because the sender is unauthenticated. Gmail requires all senders to authenticate with either SPF or DKIM
550 5.7.1 [192.0.2.1 12] Our system has detected that this message is likely unsolicited mail. To reduce the amount of spam sent to Gmail, this message has been blocked
550 5.7.1 [2] Message rejected under suspicion of SPAM; https://ya.cc/1IrBc
554 5.7.1 virus Eicar-Test-Signature found
552 5.7.0 This message was blocked because its content presents a potential security issue
550 5.7.60 SMTP; Client does not have permissions to send as this sender
550 5.7.1 Sender address rejected: not owned by user ann@example.com
553 5.7.1 <ann@example.com>: Sender address rejected: not owned by user bob
550 5.1.8 <ann@example.com>: Sender address rejected: Domain not found
554 5.7.1 Relay access denied
550 5.7.54 SMTP; Unable to relay recipient in non-accepted domain
554 5.4.6 Too many hops
550 5.4.14 Hop count exceeded - possible mail loop
554 5.4.0 Error: too many hops (Received headers limit exceeded)
554 Message rejected: Email address is not verified.
500 5.5.1 Line too long
500 5.5.2 Error: line limit exceeded, line too long
450 4.2.0 <bob@example.org>: Recipient address rejected: Greylisted, see http://postgrey.schweikert.ch/
451 4.7.1 Greylisting in action, please come back later
450 4.1.1 <bob@example.org>: Recipient address rejected: unverified address
451 4.3.0 Temporary lookup failure
452 4.5.3 Too many recipients
552 5.5.3 Too many recipients
550 5.7.1 Too many invalid recipients
550 5.2.1 Dieses Konto ist nicht vorhanden
550 5.1.1 Empfänger unbekannt
552 5.2.2 Postfach voll
552 5.2.2 Das Postfach des Empfängers ist voll, das Limit ist erreicht
552 5.3.4 Die Nachricht überschreitet die maximale Größe
552 5.3.4 Nachricht zu groß
554 5.7.1 Nachricht wurde als Spam abgelehnt
554 Transaction failed: Reject due to policy restrictions. For explanation visit https://postmaster.gmx.net/
550 Requested action not taken: mailbox unavailable
554 DT:SPM 163 smtp
550 5.7.1 Service unavailable; Client host [192.0.2.1] blocked using Spamhaus
550 5.7.1 Your message was rejected because of a URL that is blocked
554 5.6.0 Message contains invalid header, Duplicate Date
550 5.7.509 Access denied, sending domain example.com does not pass DMARC verification and has a DMARC policy of reject
554 delivery error: dd This user doesn't have a yahoo.com account (bob@yahoo.com) [0]
554 30 Sorry, your message to bob@yahoo.com cannot be delivered. This mailbox is disabled (554.30).
421 4.7.0 Too many connections
421 4.4.2 mail.example.com Error: timeout exceeded
450 4.4.2 smtp.sending.example Error: timeout exceeded
550 5.7.1 Message rejected: too many links in the message
554 5.6.0 Message rejected: maximum number of MIME parts exceeded
550 5.7.1 Message contains too many attachments
554 5.7.1 Message rejected, spam score 10.2 exceeds the limit of 5
550 5.7.1 This message exceeded the spam threshold
550 5.7.1 Nachricht abgelehnt: zu viele Anhänge in der Nachricht
550 5.7.1 Die Nachricht wurde abgelehnt: Spam-Schwelle überschritten
554 5.7.1 Die E-Mail enthält einen Virus
550 5.7.1 Unfortunately, messages from [192.0.2.1] weren't sent. Please contact your Internet service provider since part of their network is on our block list (S3140)
550 5.7.1 Message rejected: sender domain example.com is blocked by the recipient's organization
550 5.1.1 sending.limit.exceeded@example.org: unknown user
554 5.7.1 Message refused, see https://mail.example.com/daily-sending-limit-exceeded
451 4.3.2 System busy, please try again later
550 5.7.1 Die Absenderadresse gehört nicht zu diesem Benutzer
550 5.1.1 Empfängeradresse existiert nicht
421 4.4.2 Idle timeout exceeded
421 4.3.2 Service not available, closing transmission channel
""".strip().splitlines()


def reply(line: str) -> Reply:
    return Reply(int(line[:3]), line[4:])


@pytest.mark.parametrize("line", ACCOUNT)
def test_a_limit_of_the_account(line: str) -> None:
    assert reply(line).is_limit(of_recipient=True)
    assert reply(line).is_limit()


@pytest.mark.parametrize("line", MAIL)
def test_a_refusal_of_the_mail_or_of_its_recipient(line: str) -> None:
    assert not reply(line).is_limit(of_recipient=True)


@pytest.mark.parametrize("code", [530, 534, 535, 538])
def test_a_login_code_is_no_limit(code: int) -> None:
    assert reply(f"{code} 5.7.0 Too many login attempts, rate limited").is_of_login
    assert not reply(f"{code} 5.7.0 Too many login attempts, rate limited").is_limit()


def test_an_account_that_is_blocked_before_a_recipient_was_named_is_ours() -> None:
    line = "550 5.2.1 The account is disabled"
    assert reply(line).is_limit()
    assert not reply(line).is_limit(of_recipient=True)


@pytest.mark.parametrize(
    ("line", "many"),
    [
        ("452 4.5.3 Too many recipients", True),
        ("452 Too many recipients received this hour", False),
        ("552 too many recipients", True),
        ("550 5.5.3 limit of 10 reached", True),
        ("450 4.2.0 later", False),
        ("550 5.7.1 Too many bad recipients", False),
        ("550 5.7.1 Too many recipients today", False),
    ],
)
def test_too_many_recipients_of_one_mail(line: str, many: bool) -> None:
    assert reply(line).has_many_recipients == many


def test_hostile_words_cost_no_time() -> None:
    begun = time.process_time()
    for text in (
        "send " * 400,
        "limit " * 400,
        "mailbox " * 400,
        "your account " * 200,
        "recipient's " * 200,
    ):
        reply(f"550 {text}").is_limit()
    assert time.process_time() - begun < 2
