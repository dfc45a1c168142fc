"""One mail over one session (RFC 5321 section 3.3), and when its outcome begins to be uncertain."""

from __future__ import annotations

import re
from collections.abc import Callable

from cleo_email.crashpoints import crashpoint
from cleo_email.errors import SubmissionError, SubmissionUnavailable, SubmissionUncertain
from cleo_email.mail.model import OutboundEmail, Receipt
from cleo_email.runtime import Deadline
from cleo_email.smtp.session import LinkLost, Reply, SmtpConnection

_PATH = re.compile(r"[\x21-\x7e ]{1,300}\Z")
_BARE_LINE_END = re.compile(rb"\r\n|\r|\n")


def transact(
    connection: SmtpConnection, mail: OutboundEmail, before_end_of_data: Callable[[], None]
) -> Receipt:
    """Hand ``mail`` over. After LinkLost, SubmissionUncertain or a foreign exception the session is dead.

    Raises LinkLost for what a new session may cure at once, SubmissionUnavailable, SubmissionError,
    SubmissionLoginRefused, SubmissionUncertain, and what ``before_end_of_data`` raises.
    """
    scrub = connection.scrub
    body = dot_stuffed(mail.source)
    try:
        refused = _envelope(connection, mail)
        reply = connection.command("DATA")
        if reply.code != 354:
            raise (
                LinkLost(scrub.line(f"DATA: {reply}"))
                if reply.accepted
                else connection.refusal("DATA", reply)
            )
        _send_body(connection, body)
    except OSError as error:
        raise LinkLost(scrub.line(f"the connection broke before the mail was complete: {error}")) from None

    try:
        before_end_of_data()
    except BaseException:
        # No QUIT: in the middle of DATA the server must see nothing but the end of the connection.
        connection.close()
        raise
    if (said := connection.unasked()) is not None:  # without its final dot no mail is accepted
        raise _for_the_caller(_broken_off(said, connection))
    try:
        reply = _end_of_data(connection)
    except OSError as error:
        raise SubmissionUncertain(
            scrub.line(f"the connection broke after the mail was complete and before its answer: {error}")
        ) from None
    if not reply.accepted:
        if reply.code < 400:
            raise SubmissionUncertain(scrub.line(f"the server answers the mail with {reply}"))
        if reply.code == 421:
            connection.close()
        raise _for_the_caller(connection.refusal("the mail", reply))
    connection.mails += 1
    return Receipt(response=scrub.line(reply), refused=refused)


def dot_stuffed(source: bytes) -> bytes:
    """Return ``source`` as DATA takes it (RFC 5321 section 4.5.2), without the final dot.

    Line ends other than CRLF, which a server might read as the end of the mail, become CRLF, and the last
    line gets one.
    """
    if not source.count(b"\r\n") == source.count(b"\n") == source.count(b"\r"):
        source = _BARE_LINE_END.sub(b"\r\n", source)
    if not source.endswith(b"\r\n"):
        source += b"\r\n"
    stuffed = source.replace(b"\r\n.", b"\r\n..")
    return b"." + stuffed if stuffed.startswith(b".") else stuffed


def _envelope(connection: SmtpConnection, mail: OutboundEmail) -> dict[str, str]:
    """Send MAIL and RCPT; return the refused recipients, where another was accepted, each with the reason."""
    scrub, size = connection.scrub, _size(connection, len(mail.source))
    reply = connection.command(f"MAIL FROM:<{_path(mail.envelope_from)}>{size}")
    if not reply.accepted:
        error = connection.refusal("MAIL", reply)
        # A session that was kept may be at a limit of its own or have lost its login.
        raise LinkLost(str(error)) if connection.reused else error
    refused: dict[str, Reply] = {}
    for recipient in mail.recipients:
        reply = connection.command(f"RCPT TO:<{_path(recipient)}>")
        if reply.code == 421:
            raise connection.refusal(f"RCPT {recipient}", reply)
        if not reply.accepted:
            refused[recipient] = reply
    if len(refused) < len(mail.recipients):
        return {recipient: scrub.line(reply) for recipient, reply in refused.items()}
    each = "; ".join(f"{who}: {why}" for who, why in refused.items())
    words = scrub.line(f"every recipient was refused: {each}")
    if refused and all(reply.permanent for reply in refused.values()):
        raise SubmissionError(words)
    raise SubmissionUnavailable(words)


def _size(connection: SmtpConnection, size: int) -> str:
    """Return MAIL's SIZE parameter (RFC 1870), where offered; raise where the mail is above the limit."""
    if not connection.has_extn("size"):
        return ""
    limit = connection.esmtp_features["size"].strip()
    if limit.isascii() and limit.isdigit() and 0 < int(limit[:20]) < size:
        raise SubmissionError(f"the mail has {size} bytes and the server takes at most {limit[:20]}")
    return f" SIZE={size}"


def _path(address: str) -> str:
    if not _PATH.match(address) or set("<>") & set(address):
        raise SubmissionError(f"{address[:100]!a} cannot stand in an envelope")
    return address


def _send_body(connection: SmtpConnection, body: bytes) -> None:
    """Send the mail without its final dot. What the server says meanwhile can only be a refusal."""
    failure: OSError | None = None
    try:
        connection.send(body)
    except OSError as error:
        failure = error
    said = connection.unasked()
    if failure is not None and not said:
        raise failure
    if said is not None:
        raise _broken_off(said, connection)


def _broken_off(said: bytes, connection: SmtpConnection) -> SubmissionError:
    """Return the error for what the server said, or for its hanging up, before the final dot was sent."""
    connection.close()  # the session is out of step from here on
    if not said:
        return LinkLost("the server hung up before the mail was complete")
    line = said.split(b"\n", 1)[0].decode("utf-8", "replace").strip()
    code = int(line[:3]) if re.match(r"[45][0-9][0-9](?:[ -]|\Z)", line) else 421
    words = connection.scrub.line(f"the server breaks the mail off with {line}")
    return SubmissionError(words) if code >= 500 else LinkLost(words)


def _for_the_caller(error: SubmissionError) -> SubmissionError:
    """Keep the pool from retrying: ``before_end_of_data`` has been called."""
    return SubmissionUnavailable(str(error)) if isinstance(error, LinkLost) else error


def _end_of_data(connection: SmtpConnection) -> Reply:
    # From here on the answer matters more than the clock of the whole submission.
    connection.deadline = Deadline(connection.timeouts.end_of_data)
    connection.patience = connection.timeouts.end_of_data
    connection.send(b".\r\n")
    crashpoint("submit-after-end-of-data")
    reply = connection.reply()
    connection.patience = connection.timeouts.read
    return reply
