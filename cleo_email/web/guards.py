"""What is checked of every request before its content is looked at, in the contract's order."""

from __future__ import annotations

import hmac
import ipaddress
import json
from collections.abc import Iterable
from typing import Any, TypeVar, cast

from flask import current_app, request
from pydantic import BaseModel, ValidationError
from werkzeug.exceptions import ClientDisconnected, RequestEntityTooLarge

from cleo_email.services import Front
from cleo_email.web.answers import Refused, fields_of

Model = TypeVar("Model", bound=BaseModel)
# A body that is refused is still read up to this, else the caller's connection breaks before our answer.
DRAIN_BYTES = 64 * 1024 * 1024


def front() -> Front:
    return cast("Front", current_app.extensions["cleo_email"])


def is_direct_loopback() -> bool:
    """Whether the caller is a program of this machine, not somebody behind a proxy that runs here."""
    forwarded = ("X-Forwarded-For", "Forwarded", "X-Real-IP")
    if any(name in request.headers for name in forwarded):
        return False
    try:
        return ipaddress.ip_address(request.environ.get("REMOTE_ADDR", "")).is_loopback
    except ValueError:
        return False  # a Unix socket says nothing about the caller


def equals_one(given: str, secrets: Iterable[str]) -> bool:
    """Constant-time comparison with every live secret."""
    data = given.encode("utf-8", "replace")
    found = False
    for secret in secrets:
        found |= hmac.compare_digest(data, secret.encode())
    return found


def require_webhook_secret() -> None:
    """``X-Webhook-Secret``; without a configured one only direct loopback callers (403)."""
    secrets = [secret.get_secret_value() for secret in front().settings.webhook_secrets]
    if secrets:
        if not equals_one(request.headers.get("X-Webhook-Secret", ""), secrets):
            raise Refused(403, "X-Webhook-Secret is missing or wrong (EMAIL_WEBHOOK_SECRET)")
    elif not is_direct_loopback():
        raise Refused(403, "no EMAIL_WEBHOOK_SECRET is set: webhooks are taken only from this machine itself")


def require_api_token() -> None:
    """``Authorization: Bearer``; without a configured token only direct loopback callers (401)."""
    token = front().settings.api_token
    wanted = {"WWW-Authenticate": 'Bearer realm="cleo_email"'}
    if token is None:
        if not is_direct_loopback():
            raise Refused(
                401, "no CLEO_API_TOKEN is set: this answers only this machine itself", headers=wanted
            )
        return
    scheme, _, given = request.headers.get("Authorization", "").partition(" ")
    if scheme.lower() != "bearer" or not equals_one(given.strip(), [token.get_secret_value()]):
        raise Refused(401, "the bearer token is missing or wrong (CLEO_API_TOKEN)", headers=wanted)


def read_body(*media_types: str) -> bytes:
    """The body: 413 above EMAIL_MAX_MESSAGE_BYTES, then 415 for another type than those named."""
    limit = front().settings.max_message_bytes
    too_large = Refused(413, f"the body is larger than EMAIL_MAX_MESSAGE_BYTES ({limit})")
    if (request.content_length or 0) > limit:
        raise too_large
    request.max_content_length = limit
    try:
        data = request.get_data(cache=False)
    except RequestEntityTooLarge:
        raise too_large from None
    except ClientDisconnected:
        raise Refused(400, "the body ended before its announced length") from None
    kind = request.mimetype
    if kind not in media_types and not (kind.endswith("+json") and "application/json" in media_types):
        raise Refused(415, f"expected Content-Type: {' or '.join(media_types)}")
    return data


def parse_json(data: bytes, model: type[Model]) -> Model:
    """400 for what is no JSON, 422 for what is no object or has a bad field."""
    try:
        value: Any = json.loads(data)
    except (ValueError, RecursionError):
        raise Refused(400, "the body is no JSON, or nested too deeply") from None
    if not isinstance(value, dict):
        raise Refused(422, "expected a JSON object", {"body": "expected an object"})
    return validated(value, model)


def validated(value: Any, model: type[Model]) -> Model:
    try:
        return model.model_validate(value)
    except (ValidationError, RecursionError) as fault:
        fields = fields_of(fault) if isinstance(fault, ValidationError) else {"body": "nested too deeply"}
        raise Refused(422, "bad fields: " + ", ".join(fields), fields) from None


def drain() -> None:
    """Read what is left of a refused body."""
    left = DRAIN_BYTES
    stream = request.environ.get("wsgi.input")
    ended = request.environ.get("wsgi.input_terminated")
    length = request.content_length
    if stream is None or (length is None and not ended):
        return
    left = min(left, length if length is not None else left)
    try:
        while left > 0 and (chunk := stream.read(min(left, 1 << 16))):
            left -= len(chunk)
    except (OSError, ValueError):
        return
