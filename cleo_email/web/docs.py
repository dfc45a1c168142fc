"""``/openapi.json``, and ``/docs``: a page to read it and to try it, without anything from elsewhere.

The description is a file; tests hold it to the routes, the models and the answers. Only what depends on the
settings is decided here: which providers are set up, and whether a token and a secret are asked for.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
from functools import cache
from importlib.resources import files

from flask import Blueprint, Response

from cleo_email.web.base import answer, current

bp = Blueprint("docs", __name__)

PROVIDER = "/email/incoming/{provider}"
_INLINE = re.compile(r"<(style|script)>(.*?)</\1>", re.DOTALL)


@bp.get("/openapi.json")
def openapi() -> Response:
    described = json.loads(_file("openapi.json"))
    settings, paths = current().settings, described["paths"]
    asked = {"api": settings.api_tokens, "webhook": settings.webhook_secrets}
    for operation in (one for methods in paths.values() for one in methods.values()):
        if not all(asked[name] for scheme in operation.get("security", ()) for name in scheme):
            del operation["security"]
    if providers := current().webhooks.set_up:
        paths[PROVIDER]["post"]["parameters"][0]["schema"]["enum"] = providers
    else:
        del paths[PROVIDER]  # the others answer nothing but that they are not set up
    return answer(200, described)


@bp.get("/docs")
def docs() -> Response:
    page, policy = _page()
    response = Response(page, content_type="text/html; charset=utf-8")
    response.headers["Content-Security-Policy"] = policy
    return response


@cache
def _page() -> tuple[str, str]:
    """The page, and the policy that lets exactly its own style and script run."""
    page = _file("docs.html")
    allowed = {
        kind: base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
        for kind, text in _INLINE.findall(page)
    }
    policy = (
        f"default-src 'none'; connect-src 'self'; frame-ancestors 'none'; "
        f"style-src 'sha256-{allowed['style']}'; script-src 'sha256-{allowed['script']}'"
    )
    return page, policy


@cache
def _file(name: str) -> str:
    return files(__package__).joinpath(name).read_text("utf-8")
