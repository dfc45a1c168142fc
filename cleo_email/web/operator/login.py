"""Log in to the operator page by a mailed link or by an API token, and out again."""

import logging
from time import monotonic, sleep

from flask import Blueprint, Response, g, redirect, render_template, request, url_for
from werkzeug.wrappers import Response as AnyResponse

from cleo_email.app import App
from cleo_email.errors import CleoError
from cleo_email.mail.model import Address
from cleo_email.pipeline.send import NewMail
from cleo_email.runtime import now_ms
from cleo_email.store import LOGIN
from cleo_email.store.sessions import LINK_S, SESSION_S
from cleo_email.web.auth import client_address, is_direct_loopback
from cleo_email.web.bodies import RequestRefused, current
from cleo_email.web.operator.access import (
    cookie_name,
    holder_of_address,
    holder_of_token,
    is_open,
    mounted,
    set_cookie,
)
from cleo_email.web.operator.words import language, say, say_in

log = logging.getLogger(__name__)

# How long a request for a link keeps its connection, in seconds: longer than a mail takes to be stored.
BUSY_S = 0.25


def safe_target(text: str) -> str:
    """Return a place on the operator page to go to after the login: never another site."""
    home = url_for("operator.messages")
    plain = text.startswith(home) and all(33 <= ord(sign) < 127 and sign != "\\" for sign in text)
    return text if plain else home


def link_base() -> str:
    """Return where this interface is for the reader of a mailed link, '' where that is not certain.

    Without CLEO_PUBLIC_URL only the name under which a program of this machine calls is known to be ours: a
    stranger who asks for a link writes any other into the Host header, and would get the click.
    """
    if url := current().settings.public_url:
        return url
    return request.host_url.rstrip("/") + mounted() if is_direct_loopback() else ""


def login_page(status: int = 200, *, notice: str = "", target: str = "") -> Response:
    settings = current().settings
    page = render_template(
        "operator/login.html",
        by_link=bool(settings.operators),
        has_base=bool(link_base()),
        by_token=bool(settings.api_tokens),
        closed=is_open(),
        notice=notice,
        target=safe_target(target),
    )
    return Response(page, status)


def add_login(bp: Blueprint) -> None:
    """Add the pages that nobody has to be logged in for."""
    bp.get("/login")(login)
    bp.post("/login/mail")(mail_link)
    bp.post("/login/token")(use_token)
    bp.get("/login/link")(show_link)
    bp.post("/login/link")(use_link)
    bp.post("/logout")(logout)


def login() -> AnyResponse:
    if g.visitor:
        return redirect(safe_target(request.args.get("next", "")), 303)
    return login_page(target=request.args.get("next", ""))


def mail_link() -> Response:
    """Mail a link to an operator. The answer is the same for everybody, and leaves before that is done.

    The next request on the same connection waits until it is done; so everybody's waits equally long.
    """
    began = monotonic()
    _count(failed=False)
    base, holder = link_base(), holder_of_address(g.fields.get("address", "")[:320])
    link = base + url_for("operator.show_link", secret="").removeprefix(mounted())
    page = login_page(
        notice=say("If that address may use this page, a mail with a link is on its way to it.")
    )
    app, code = current(), language()

    def after() -> None:
        if base and holder:
            _mail(app, holder["name"], link, code)
        sleep(max(BUSY_S - (monotonic() - began), 0))

    page.call_on_close(after)
    return page


def _mail(app: App, address: str, link: str, code: str) -> None:
    try:
        secret = app.store.sessions.make_link(address)
        if secret is None:
            log.warning("no more links to log in are mailed to %s for now: many were asked for", address)
            return
        mailbox = app.settings.from_address.addr
        body = say_in(code, "login mail", mailbox=mailbox, minutes=LINK_S // 60, link=link + secret)
        subject = say_in(code, "Your link to log in")
        app.sender.send(NewMail([Address(address)], subject, body), ingress=LOGIN)
    except CleoError as fault:
        log.error("the link to log in was not mailed: %s", fault)


def show_link() -> Response:
    """Show a button. Programs that follow every link in a mail use nothing up by that."""
    secret = request.args.get("secret", "")
    known = current().store.sessions.has_link(secret)
    page = render_template("operator/link.html", secret=secret, known=known)
    return Response(page, 200 if known else 410)


def use_link() -> AnyResponse:
    address = current().store.sessions.use_link(g.fields.get("secret", ""))
    holder = holder_of_address(address)
    if holder is None:
        _count()
        return login_page(403, notice=say("This link was used already, or is too old. Ask for a new one."))
    return _open(holder, "")


def use_token() -> AnyResponse:
    target = g.fields.get("next", "")
    holder = holder_of_token(g.fields.get("secret", ""))
    if holder is None:
        _count()
        return login_page(403, notice=say("This is not an API token of this mailbox."), target=target)
    return _open(holder, target)


def logout() -> AnyResponse:
    _close()
    response = redirect(url_for("operator.login"), 303)
    set_cookie(response, "session", "", 0)  # type: ignore[arg-type]
    # What the browser kept of the pages goes too.
    response.headers["Clear-Site-Data"] = '"cache"'
    return response


def _open(holder: dict[str, str], target: str) -> AnyResponse:
    """Begin a session with a new id; one that the browser had before ends."""
    _close()
    session = current().store.sessions.open(holder)
    log.info("%s logged in to the operator page", holder["name"])
    response = redirect(safe_target(target), 303)
    set_cookie(response, "session", session, SESSION_S)  # type: ignore[arg-type]
    return response


def _close() -> None:
    if session := request.cookies.get(cookie_name(), ""):
        current().store.sessions.close(session)


def _count(*, failed: bool = True) -> None:
    """Refuse with 429 where this caller guesses, or asks for links, too often this minute."""
    address, _ = client_address()
    if wait := current().store.failures.count(address, now_ms() // 1000):
        raise RequestRefused(429, say("Too often. Wait a minute."), headers={"Retry-After": str(wait)})
    if failed:
        log.warning("a login to the operator page failed, from %s", address)
