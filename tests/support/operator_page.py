"""A mailbox with a message in every state, for the operator page."""

from __future__ import annotations

import base64
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlencode

from flask.testing import FlaskClient
from selectolax.lexbor import LexborHTMLParser as HTMLParser
from werkzeug.serving import BaseWSGIServer, make_server
from werkzeug.test import TestResponse
from werkzeug.wsgi import LimitedStream

from cleo_email.app import App
from cleo_email.mail.compose import compose_reply
from cleo_email.mail.model import Address, Answer, AttachedFile
from cleo_email.mail.parse import parse
from cleo_email.pipeline.receive import IncomingMail
from cleo_email.settings import read_settings
from cleo_email.store import Effects, State
from cleo_email.web.app import create_app

ANNA = "anna@acme.example"
BASE = {
    "ENABLED_CLIENTS": "email",
    "EMAIL_SMTP_HOST": "127.0.0.1",
    "EMAIL_USER": "agent@cleo.test",
    "EMAIL_PASSWORD": "x",
    "CLEO_AGENT": "echo",
}

NOTE = "The invoice is attached again.\n\n- total **90.00 EUR**\n- due on 12 December\n\nKind regards"
FILE = base64.encodebytes(b"\x89PNG\r\n\x1a\n <script>alert(1)</script>").decode()


def source(
    number: int, *, sender: str = "Anna Lenz <anna@example.com>", subject: str, text: str, **more: str
) -> bytes:
    """Return a mail with a file."""
    more.setdefault("name", "invoice.html")
    reply = f"In-Reply-To: {more['answers']}\nReferences: {more['answers']}\n" if "answers" in more else ""
    return (
        f"From: {sender}\nTo: agent@cleo.test\nSubject: {subject}\n"
        f"Message-ID: <m{number}@example.com>\n{reply}"
        "Date: Fri, 27 Nov 2026 10:00:00 +0100\nMIME-Version: 1.0\n"
        'Content-Type: multipart/mixed; boundary="b"\n\n--b\nContent-Type: text/plain; charset=utf-8\n\n'
        f'{text}\n\n--b\nContent-Type: text/html; name="{more["name"]}"\n'
        f'Content-Disposition: attachment; filename="{more["name"]}"\n'
        f"Content-Transfer-Encoding: base64\n\n{FILE}\n--b--\n"
    ).encode()


@dataclass
class Filled:
    """The ids of the messages by what became of each."""

    app: App
    ids: dict[str, str]


def accept(app: App, mail: bytes) -> str:
    return app.receiver.accept(IncomingMail(mail, "raw", envelope_from=None, envelope_to=None)).id


def answered(app: App, id_: str, to: State, text: str = NOTE, *, reason: str = "", **fields: Any) -> None:
    """Move a received message to ``to`` with a kept answer, as the answerer does."""
    now = app.clock()
    messages = app.store.messages
    mail = parse(messages.source(id_) or b"")
    address = Address("agent@cleo.test")
    mid = app.signer.new(mail.from_, f"<m{id_}@cleo.test>")
    reply = compose_reply(
        mail,
        Answer(text, (AttachedFile("invoice.pdf", "application/pdf", b"%PDF-1.7 data"),)),
        from_=address,
        to=mail.from_,
        message_id=mid,
        date=datetime.fromtimestamp(now / 1000, UTC),
    )
    kept = {"text": mail.text, "answer_text": text, **fields}
    messages.move(id_, State.ANSWERING, now=now, effects=Effects(fields={"attempts": 1}))
    first = State.REVIEW if to is State.REVIEW else State.SUBMITTING
    said = reason if first is to else ""
    messages.move(id_, first, now=now, reason=said, effects=Effects(fields=kept, answer=reply, pop=True))
    if first is not to:
        messages.move(id_, to, now=now, reason=reason, effects=Effects(pop=True))


def ended(app: App, id_: str, to: State, reason: str) -> None:
    effects = Effects(pop=True)
    if to is State.FAILED:
        app.store.messages.move(
            id_, State.ANSWERING, now=app.clock(), effects=Effects(fields={"attempts": 6})
        )
    app.store.messages.move(id_, to, now=app.clock(), reason=reason, effects=effects)


def fill(app: App) -> Filled:
    """Accept a mail for each state, and bring it there."""
    ids: dict[str, str] = {}

    def mail(name: str, subject: str, text: str, **more: str) -> str:
        ids[name] = accept(app, source(len(ids), subject=subject, text=text, **more))
        return ids[name]

    answered(
        app,
        mail("replied", "Opening hours on Saturday?", "Hello,\n\nare you open on Saturdays?\n\nAnna"),
        State.REPLIED,
        "Yes, from 9 to 13 o'clock.",
    )
    ids["second"] = accept(
        app,
        source(
            99,
            subject="Re: Opening hours on Saturday?",
            answers="<m0@example.com>",
            text="Thank you! And on 24 December?\n\n> Yes, from 9 to 13 o'clock.",
        ),
    )
    answered(
        app,
        ids["second"],
        State.REVIEW,
        "On 24 December we are closed.",
        reason="the agent asks for a review: a holiday",
    )
    answered(
        app,
        mail(
            "review",
            "Invoice 2026-118 is missing",
            "Dear team,\n\nthe invoice 2026-118 has not arrived. Please send it again:\n"
            "https://shop.example.com/orders/118\n\nBest regards\nMaria Weber",
            sender="Maria Weber <maria@weber.example>",
        ),
        State.REVIEW,
        reason="the agent asks for a review: an amount of money",
    )
    ended(
        app,
        mail("held", "Cancellation of my contract", "I cancel.", sender="Jo Falk <jo@falk.example>"),
        State.HELD,
        "handed over to a person: wants to cancel",
    )
    ended(
        app,
        mail("failed", "Wo bleibt meine Lieferung?", "Guten Tag, wo ist sie?", sender="Uwe <uwe@example.de>"),
        State.FAILED,
        "the agent did not answer in 6 tries: HTTP 502",
    )
    answered(
        app,
        mail("uncertain", "Change of address", "We have moved.", sender="Lea <lea@example.org>"),
        State.UNCERTAIN,
        "Thank you, it is noted.",
        reason="the connection broke after the end of DATA",
    )
    mail("ignored", "Out of office", "I am away.", sender="Bot <bot@example.com>")
    mail("received", "A new question", "How much is it?", sender="Tim <tim@example.net>")
    return Filled(app, ids)


@dataclass
class Site:
    """A running web process with a message in every state."""

    app: App
    url: str
    ids: dict[str, str]
    session: str = ""

    def record(self, name: str) -> Any:
        return self.app.store.messages.get(self.ids[name])


def ended_bodies(application: Any) -> Any:
    """Let the body of a request end where it ends, as gunicorn does and Werkzeug's own server does not."""

    def call(environ: dict[str, Any], start_response: Any) -> Any:
        length = int(environ.get("CONTENT_LENGTH") or 0)
        environ["wsgi.input"] = LimitedStream(environ["wsgi.input"], length)
        return application(environ, start_response)

    return call


@contextmanager
def serve(redis_url: str, **env: str) -> Iterator[Site]:
    """Run the web process in a thread, with a message in every state and an operator who is logged in."""
    values = {**BASE, "REDIS_URL": redis_url, "CLEO_OPERATORS": ANNA, **env}
    flask = create_app(read_settings(values, dotenv=None))
    server: BaseWSGIServer = make_server("127.0.0.1", 0, ended_bodies(flask), threaded=True)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    app: App = flask.extensions["cleo_email"]
    app.store.health.worker_seen(app.clock())
    session = app.store.sessions.open({"name": ANNA, "proof": f"address {ANNA}"})
    try:
        yield Site(app, f"http://127.0.0.1:{server.server_port}/operator/", fill(app).ids, session)
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


class Browser:
    """A Flask client that fills in forms as a browser does: with the token, and saying whence it comes."""

    def __init__(self, web: FlaskClient, base: str = "http://localhost", **headers: str) -> None:
        self.web = web
        self.base = base
        self.headers = {name.replace("_", "-"): value for name, value in headers.items()}

    def get(self, path: str, **headers: str) -> TestResponse:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return self.web.get(path, base_url=self.base, headers={**self.headers, **named})

    def post(
        self, path: str, fields: dict[str, str], *, token: str | None = None, **headers: str
    ) -> TestResponse:
        named = {"Origin": self.base, "Sec-Fetch-Site": "same-origin", **self.headers}
        named |= {name.replace("_", "-"): value for name, value in headers.items()}
        if token is not None:
            fields = {**fields, "token": token}
        kind = "application/x-www-form-urlencoded"
        data = urlencode(fields)
        return self.web.post(path, base_url=self.base, data=data, content_type=kind, headers=named)

    @property
    def session(self) -> str:
        """Return the secret of the session, '' for none."""
        for name in ("cleo-session", "__Host-cleo-session"):
            if cookie := self.web.get_cookie(name, domain=self.base.partition("//")[2]):
                return cookie.value
        return ""

    def fields(self, path: str, action: str = "") -> dict[str, str]:
        """Return the fields of the first form on the page that leads to ``action``, as they are filled in."""
        return fields_of(self.get(path).text, action)

    def submit(self, path: str, action: str, **typed: str) -> TestResponse:
        """Open a page, change fields of one of its forms, and send it."""
        return self.post(action, {**self.fields(path, action), **typed})


def fields_of(page: str, action: str) -> dict[str, str]:
    for form in HTMLParser(page).css("form"):
        ways: list[str | None] = [form.attributes.get("action") or ""]
        ways += [one.attributes.get("formaction") for one in form.css("button")]
        if action in ways:
            found = {
                one.attributes["name"] or "": one.attributes.get("value") or "" for one in form.css("input")
            }
            return found | {one.attributes["name"] or "": one.text() for one in form.css("textarea")}
    raise AssertionError(f"no form leads to {action}")
