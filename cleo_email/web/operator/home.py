"""The first page: what this is, whether it is well, and where to go on."""

from flask import Blueprint, Response, render_template

from cleo_email.web.auth import is_ours
from cleo_email.web.bodies import current
from cleo_email.web.operator import access
from cleo_email.web.operator.words import language, reason, say
from cleo_email.web.routes import why_not_ready


def first_page() -> Blueprint:
    """Return the page at /, which anybody may see: why something is wrong is told to our own callers only."""
    bp = Blueprint("home", __name__)
    bp.get("/")(home)
    bp.after_request(access.finish)
    return bp


def home() -> Response:
    app = current()
    address = app.settings.from_address.addr if app.settings.enabled else "cleo_email"
    page = render_template(
        "operator/home.html",
        say=say,
        language=language(),
        mailbox=address,
        fault=why_not_ready(app, app.clock()) if app.settings.enabled else _OFF,
        told=is_ours() or not app.settings.enabled,
        enabled=app.settings.enabled,
        reason=reason,
    )
    return Response(page)


_OFF = "the email channel is not enabled: ENABLED_CLIENTS does not list email"
