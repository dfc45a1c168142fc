"""``/openapi.json``, and ``/docs``: a page to read it and to try it, without anything from elsewhere.

The description is a file; tests hold it to the routes, the models and the answers. Only what depends on the
settings is decided here: which providers are set up, and whether a token and a secret are asked for.
"""

from __future__ import annotations

import json
import re
from base64 import b64encode
from functools import cache
from hashlib import sha256
from importlib.resources import files

from flask import Blueprint, Response

from cleo_email.web.base import answer, current

bp = Blueprint("docs", __name__)


@bp.get("/openapi.json")
def openapi() -> Response:
    provider = "/email/incoming/{provider}"
    described = json.loads(_file("openapi.json"))
    settings, paths = current().settings, described["paths"]
    asked = {"api": settings.api_tokens, "webhook": settings.webhook_secrets}
    for operation in (one for methods in paths.values() for one in methods.values()):
        if not all(asked[name] for scheme in operation.get("security", ()) for name in scheme):
            del operation["security"]
    if providers := current().webhooks.set_up:
        paths[provider]["post"]["parameters"][0]["schema"]["enum"] = providers
    else:
        del paths[provider]  # the others answer nothing but that they are not set up
    return answer(200, described)


@bp.get("/docs")
def docs() -> Response:
    """Serve the page with a policy that lets exactly its own style and script run."""
    page = _file("docs.html")
    policy = "default-src 'none'; connect-src 'self'; frame-ancestors 'none'"
    for kind, text in re.findall(r"(?s)<(style|script)>(.*?)</\1>", page):
        policy += f"; {kind}-src 'sha256-{b64encode(sha256(text.encode()).digest()).decode()}'"
    headers = {"Content-Security-Policy": policy}
    return Response(page, headers=headers, content_type="text/html; charset=utf-8")


@cache
def _file(name: str) -> str:
    return files(__package__).joinpath(name).read_text("utf-8")
