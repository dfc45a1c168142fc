"""``cleo-email demo``: everything embedded; a customer writes, and the threaded answer is shown."""

import json
import os
import signal
import smtplib
import socket
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from contextlib import ExitStack
from email import message_from_bytes, policy
from email.message import EmailMessage
from email.utils import make_msgid
from pathlib import Path
from typing import Any

import click
from imapclient import IMAPClient

from cleo_email.cli.run import commands
from cleo_email.embedded.mailserver import AGENT, CUSTOMER, HOST, MailServer
from cleo_email.embedded.redis import EmbeddedRedis
from cleo_email.embedded.supervisor import Supervisor
from cleo_email.errors import CleoError

PATIENCE_S = 25.0
SHOWN = ("From", "To", "Subject", "Message-ID", "In-Reply-To", "References", "Auto-Submitted")
RULE = "─" * 78
# What --keep lets customers write, so that the operator page has something of everything. See ``agent``.
MORE = (
    ("maria", "Invoice 2026-118 is missing", "Please send it again: it is about 90 €."),
    ("jo", "Cancellation of my contract", "I want to cancel. Please call me."),
    ("uwe", "Where is my delivery?", "It should have come on Monday."),
    ("lea", "Out of office", "I am away until Monday."),
)


def agent(request: dict[str, Any]) -> dict[str, str]:
    """Answer with the text, as echo does, and to three of the ``MORE`` mails with what else agents say."""
    text, subject = request["message"]["text"], request["message"]["subject"]
    if "Invoice 2026" in subject:
        return {"reply": "The invoice is on its way to you again.", "review": "an amount of money"}
    if "Cancellation" in subject:
        return {"handoff": "wants to cancel"}
    if "delivery" in subject:
        return {"answer": "this is no answer that anybody understands"}
    return {"reply": text}


@click.command()
@click.option("--keep", is_flag=True, help="Leave all running and say how to connect.")
def demo(keep: bool) -> None:
    """See it work: everything embedded, one mail each way.

    Redis, a mail server, web and worker are started on this machine only, and leave nothing behind.
    """
    begun = time.monotonic()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that nothing is left behind then, either
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="cleo-demo-")))
        print("Starting Redis, a mail server, web and worker, all on this machine only …")
        print("The agent here is echo: it answers with the text that it got.\n", flush=True)
        redis = stack.enter_context(EmbeddedRedis(folder / "redis"))
        mail = stack.enter_context(MailServer(folder / "mail"))
        log = stack.enter_context((folder / "demo.log").open("wb"))
        with socket.create_server((HOST, 0)) as free:
            web = f"{HOST}:{free.getsockname()[1]}"
        environ = _environ(mail, redis.url)
        if keep:
            environ["CLEO_AGENT"] = f"{__name__}:{agent.__name__}"
        children = commands(environ, web, folder)
        supervisor = Supervisor(children, output=log, keeper=redis.ensure)
        thread = threading.Thread(target=supervisor.run, name="supervisor", daemon=True)
        thread.start()
        stack.callback(thread.join)
        stack.callback(supervisor.stop)
        try:
            _converse(mail, web)
        except CleoError:
            log.flush()
            sys.stderr.write((folder / "demo.log").read_text("utf-8", "replace"))
            raise
        print(f"Both answers came back in their threads after {time.monotonic() - begun:.1f} s in all.")
        if keep:
            for name, subject, text in MORE:
                sender = CUSTOMER.replace("@", f"+{name}@")
                written = {"from_address": sender, "to_address": AGENT, "subject": subject, "body": text}
                _post(f"http://{web}/email/incoming", written)
            _keep(mail, web, redis.url, folder)


def _environ(mail: MailServer, redis_url: str) -> dict[str, str]:
    return {
        **{name: value for name, value in os.environ.items() if not name.startswith(("EMAIL_", "CLEO_"))},
        "ENABLED_CLIENTS": "email",
        "EMAIL_SMTP_HOST": HOST,
        "EMAIL_SMTP_PORT": str(mail.smtp_port),
        "EMAIL_IMAP_HOST": HOST,
        "EMAIL_IMAP_PORT": str(mail.imap_port),
        "EMAIL_USER": AGENT,
        "EMAIL_FROM_ADDRESS": f"Cleo <{AGENT}>",
        "EMAIL_PASSWORD": mail.smtp_account(AGENT).login.password,
        "EMAIL_POLL_INTERVAL_SECONDS": "1",
        "REDIS_URL": redis_url,
        "CLEO_AGENT": "echo",
        "SSL_CERT_FILE": str(mail.certificates.ca_file),
    }


def _converse(mail: MailServer, web: str) -> None:
    """Let a customer write, by mail and by webhook, and show the answers. Raise CleoError without one."""
    question = EmailMessage(policy.SMTP)
    question["From"], question["To"] = f"Anna Customer <{CUSTOMER}>", AGENT
    question["Subject"], question["Message-ID"] = "Opening hours?", make_msgid(domain="example.test")
    question.set_content("Hello Cleo,\n\nare you open on **Saturdays**?\n\nKind regards\nAnna\n")
    account = mail.smtp_account(CUSTOMER)
    with smtplib.SMTP(account.host, account.port, timeout=10) as smtp:
        smtp.starttls(context=mail.certificates.client_context())
        smtp.login(account.login.user, account.login.password)
        smtp.send_message(question)
    _show("A customer writes a mail …", question)
    _show("… the poll finds it, the agent (echo) answers:", _answer_to(mail, question["Message-ID"]))
    body = {
        "from_address": f"Anna Customer <{CUSTOMER}>",
        "to_address": AGENT,
        "subject": "AW: Re: Invoice 4711",
        "body": "Could you send me the invoice again?",
        "message_id": make_msgid(domain="example.test"),
        "references": "<first@example.test>",
    }
    url = f"http://{web}/email/incoming"
    print(f"The same by webhook: POST {url}\n{json.dumps(body, indent=1)}")
    print("answers", _post(url, body), "\n")
    _show("… and the answer goes out by SMTP as well:", _answer_to(mail, body["message_id"]))


def _answer_to(mail: MailServer, message_id: str) -> EmailMessage:
    """Wait for the mail in the customer's inbox that answers ``message_id``."""
    account, context = mail.imap_account(CUSTOMER), mail.certificates.client_context()
    until = time.monotonic() + PATIENCE_S
    with IMAPClient(account.host, account.port, ssl_context=context, timeout=10) as imap:
        imap.login(account.login.user, account.login.password)
        while time.monotonic() < until:
            imap.select_folder("INBOX", readonly=True)
            for data in imap.fetch(imap.search("ALL"), ["BODY.PEEK[]"]).values():
                message = message_from_bytes(data[b"BODY[]"], policy=policy.default)
                if message["In-Reply-To"] == message_id:
                    return message
            time.sleep(0.2)
    raise CleoError(f"no answer came within {PATIENCE_S:.0f} s; the log of web and worker is above")


def _post(url: str, body: Mapping[str, str]) -> str:
    data = json.dumps(body).encode()
    request = urllib.request.Request(url, data, {"Content-Type": "application/json"})  # noqa: S310 - loopback
    until = time.monotonic() + PATIENCE_S
    while True:
        try:
            with urllib.request.urlopen(request, timeout=10) as response:  # noqa: S310 - loopback  # nosec B310
                return str(response.read(), "utf-8").strip()
        except urllib.error.HTTPError as error:
            raise CleoError(f"the webhook answered {error.code}: {error.read(500)!r}") from None
        except OSError as error:
            if time.monotonic() > until:
                raise CleoError(f"the web process does not answer: {error}") from None
            time.sleep(0.2)


def _show(title: str, message: EmailMessage) -> None:
    part = message.get_body(("plain",))
    print(f"{title}\n{RULE}")
    for name in SHOWN:
        if message[name]:
            print(f"{name}: {message[name]}")
    print(f"\n{part.get_content().strip() if part else ''}\n{RULE}\n", flush=True)


def _keep(mail: MailServer, web: str, redis_url: str, folder: Path) -> None:
    passwords = {who: mail.smtp_account(who).login.password for who in (CUSTOMER, AGENT)}
    ca = mail.certificates.ca_file
    print(
        f"\nEverything keeps running. What became of each message, and a few that wait for you:\n"
        f"  http://{web}/operator/ in a browser, or curl http://{web}/email/messages\n"
        f"  or REDIS_URL={redis_url} cleo-email messages list\n"
        f"Connect a mail client as the customer, or as the agent:\n"
        f"  IMAP  {HOST}:{mail.imap_port}  (SSL/TLS)\n"
        f"  SMTP  {HOST}:{mail.smtp_port}  (STARTTLS)\n"
        f"  customer  {CUSTOMER}  password  {passwords[CUSTOMER]}\n"
        f"  agent     {AGENT}  password  {passwords[AGENT]}\n"
        f"  Trust the certificate authority in {ca}: Thunderbird: Settings, Privacy & Security, Manage\n"
        f"  Certificates, Authorities, Import; a program: SSL_CERT_FILE={ca}. It ends with the demo.\n"
        f"Write to {AGENT} as the customer.\n"
        f"Log: {folder / 'demo.log'}   Ctrl-C ends it all.",
        flush=True,
    )
    try:
        threading.Event().wait()
    except KeyboardInterrupt:
        print("stopping …")
