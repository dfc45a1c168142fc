"""``/openapi.json``, and ``/docs``: a page to read it and to try it, without anything from elsewhere."""

from __future__ import annotations

import base64
import hashlib
import re
from functools import cache
from importlib.resources import files

from flask import Blueprint, Response

from cleo_email.web.answers import answer
from cleo_email.web.guards import front, receiving
from cleo_email.web.openapi import document
from cleo_email.web.operations import OPERATIONS, provider_operation

bp = Blueprint("docs", __name__)

_INLINE = re.compile(r"<(style|script)>(.*?)</\1>", re.DOTALL)


@bp.get("/openapi.json")
def openapi() -> Response:
    services = front()
    providers = receiving().set_up  # the others answer nothing but that they are not
    operations = (*OPERATIONS, *([provider_operation(providers)] if providers else []))
    settings = services.settings
    return answer(
        200,
        document(operations, token=bool(settings.api_tokens), secret=bool(settings.webhook_secrets)),
    )


@bp.get("/docs")
def docs() -> Response:
    page, policy = _page()
    response = Response(page, content_type="text/html; charset=utf-8")
    response.headers["Content-Security-Policy"] = policy
    return response


@cache
def _page() -> tuple[str, str]:
    """The page, and the policy that lets exactly its own style and script run."""
    page = files(__package__).joinpath("docs.html").read_text("utf-8")
    allowed = {
        kind: base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
        for kind, text in _INLINE.findall(page)
    }
    policy = (
        f"default-src 'none'; connect-src 'self'; frame-ancestors 'none'; "
        f"style-src 'sha256-{allowed['style']}'; script-src 'sha256-{allowed['script']}'"
    )
    return page, policy
