"""What is checked of every request before its content is looked at, in the contract's order."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable
from typing import Any, TypeVar, cast

from flask import current_app, request
from gunicorn.http.errors import ParseException  # type: ignore[import-untyped]
from pydantic import BaseModel, ValidationError
from werkzeug.exceptions import ClientDisconnected

from cleo_email.front import Front
from cleo_email.ingress.proofs import equals_one as is_one_of
from cleo_email.ingress.receiving import Receiving
from cleo_email.web.answers import Refused, fields_of
from cleo_email.web.callers import failed, is_direct_loopback

Model = TypeVar("Model", bound=BaseModel)
# A body that is refused is still read up to this, else the caller's connection breaks before our answer.
DRAIN_BYTES = 64 * 1024 * 1024
# But not from somebody who lets us wait: a refused caller must not keep others from being served.
DRAIN_S = 2.0
# What reading a body raises when the caller hangs up or sends no valid chunks.
BROKEN = (OSError, ValueError, ParseException)


def front() -> Front:
    return cast("Front", current_app.extensions["cleo_email"])


def receiving() -> Receiving:
    return cast("Receiving", current_app.extensions["cleo_email_receiving"])


def equals_one(given: str, secrets: Iterable[str]) -> bool:
    """Constant-time comparison with every live secret."""
    return is_one_of(given.encode("utf-8", "replace"), [secret.encode() for secret in secrets])


def webhook_secrets() -> list[str]:
    return [secret.get_secret_value() for secret in front().settings.webhook_secrets]


def require_webhook_secret() -> None:
    """``X-Webhook-Secret``; without a configured one only direct loopback callers (403)."""
    if secrets := webhook_secrets():
        if not equals_one(request.headers.get("X-Webhook-Secret", ""), secrets):
            raise wrong_secret(Refused(403, "X-Webhook-Secret is missing or wrong (EMAIL_WEBHOOK_SECRET)"))
    elif not is_direct_loopback():
        text = "webhooks are taken only from this machine itself, as localhost"
        raise Refused(403, f"no EMAIL_WEBHOOK_SECRET is set: {text}")


def wrong_secret(fault: Refused) -> Refused:
    """What to raise for a wrong secret: ``fault``, or 429 for one too many."""
    return failed(fault, front().store.failures)


def require_api_token() -> None:
    """``Authorization: Bearer``; without a configured one only direct loopback callers (401)."""
    tokens = [token.get_secret_value() for token in front().settings.api_tokens]
    wanted = {"WWW-Authenticate": 'Bearer realm="cleo_email"'}
    if not tokens:
        if not is_direct_loopback():
            raise Refused(
                401,
                "no CLEO_API_TOKEN is set: only this machine itself is answered, as localhost",
                headers=wanted,
            )
        return
    scheme, _, given = request.headers.get("Authorization", "").partition(" ")
    if scheme.lower() != "bearer" or not equals_one(given.strip(), tokens):
        fault = Refused(401, "the bearer token is missing or wrong (CLEO_API_TOKEN)", headers=wanted)
        raise wrong_secret(fault)


def read_bytes(limit: int, *, status: int = 413) -> bytes:
    """The body; above ``limit`` octets it is refused with ``status``.

    400 for one that ends early or whose chunks are broken: half a mail must not be taken for the whole.
    """
    length = request.content_length
    too_large = Refused(status, f"the body is larger than EMAIL_MAX_MESSAGE_BYTES allows ({limit} bytes)")
    if (length or 0) > limit:
        raise too_large
    data = _read_at_most(limit + 1)
    if len(data) > limit:
        raise too_large
    if length is not None and len(data) < length:
        raise Refused(400, "the body ended before its announced length")
    return data


def require_type(*media_types: str) -> None:
    """415 for another type than those named."""
    kind = request.mimetype
    if kind not in media_types and not (kind.endswith("+json") and "application/json" in media_types):
        raise Refused(415, f"expected Content-Type: {' or '.join(media_types)}")


def read_body(*media_types: str) -> bytes:
    """The body: 413 above EMAIL_MAX_MESSAGE_BYTES, then 415 for another type than those named."""
    data = read_bytes(front().settings.max_message_bytes)
    require_type(*media_types)
    return data


def _read_at_most(limit: int) -> bytes:
    """Read here: under gunicorn Werkzeug cuts a body at its limit, and does not miss what is missing."""
    found = []
    size = 0
    try:
        while size < limit and (chunk := request.stream.read(min(limit - size, 1 << 18))):
            found.append(chunk)
            size += len(chunk)
    except (*BROKEN, ClientDisconnected):
        raise Refused(400, "the body ended early, or its chunks are broken") from None
    return b"".join(found)


def parse_json(data: bytes, model: type[Model]) -> Model:
    """400 for what is no JSON, 422 for what is no object or has a bad field."""
    try:
        # In steps that let go of what they have used: a body may be a quarter of the process's memory.
        text = data.decode(json.detect_encoding(data), "surrogatepass")
        del data
        value: Any = json.loads(text, parse_constant=_no_constant)
        del text
    except (ValueError, RecursionError):
        raise Refused(400, "the body is no JSON, or nested too deeply") from None
    if not isinstance(value, dict):
        raise Refused(422, "expected a JSON object", {"body": "expected an object"})
    return validated(value, model)


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is no JSON")  # RFC 8259 section 6


def validated(value: Any, model: type[Model]) -> Model:
    try:
        return model.model_validate(value)
    except (ValidationError, RecursionError) as fault:
        fields = fields_of(fault) if isinstance(fault, ValidationError) else {"body": "nested too deeply"}
        raise Refused(422, "bad fields: " + ", ".join(fields), fields) from None


def drain() -> None:
    """Read what is left of a refused body, as long as it comes quickly."""
    left = DRAIN_BYTES
    stream = request.environ.get("wsgi.input")
    ended = request.environ.get("wsgi.input_terminated")
    length = request.content_length
    if stream is None or (length is None and not ended):
        return
    left = min(left, length if length is not None else left)
    connection = request.environ.get("gunicorn.socket")
    patience = connection.gettimeout() if connection is not None else None
    until = time.monotonic() + DRAIN_S
    try:
        while left > 0 and (rest := until - time.monotonic()) > 0:
            if connection is not None:
                connection.settimeout(rest)
            chunk = stream.read(min(left, 1 << 16))
            if not chunk:
                return
            left -= len(chunk)
    except BROKEN:
        return
    finally:
        if connection is not None:
            connection.settimeout(patience)
