"""Whether a webhook may post: by the secret in a header, by a signature, or from this machine itself."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress

from flask import request

from cleo_email.clock import now_ms
from cleo_email.errors import StoreUnavailable
from cleo_email.ingress.base import NotSetUp, Unproven
from cleo_email.ingress.signature import HEADER, REMEMBER_S, Signature
from cleo_email.store import Claim
from cleo_email.web.answers import Refused
from cleo_email.web.guards import (
    front,
    read_bytes,
    require_type,
    require_webhook_secret,
    webhook_secrets,
    wrong_secret,
)


@contextmanager
def proved_body(*media_types: str) -> Iterator[bytes]:
    """The body of a webhook that shows the secret, or is signed with it, while it is being stored.

    A signature is good for one request: if storing fails it may be used again, else never. Refuses with 403
    (429 for one too many), 413, 415, and 503 where it cannot be looked up whether it was used.
    """
    if HEADER not in request.headers:
        require_webhook_secret()
        data = read_bytes(front().settings.max_message_bytes)
        require_type(*media_types)
        yield data
        return
    with proving():
        secrets = webhook_secrets()
        if not secrets:
            raise NotSetUp(f"no EMAIL_WEBHOOK_SECRET is set: {HEADER} cannot be checked")
        signature = Signature.read(request.headers[HEADER], now_ms() / 1000)
        data = read_bytes(front().settings.max_message_bytes)
        name = signature.verify(data, secrets)
    require_type(*media_types)
    events = front().store.events
    claim = events.claim(name)
    if not claim.is_ours:
        raise Refused(403, f"this {HEADER} was used before: every request is signed anew, a repeated one too")
    yield from _used_once(data, claim)


def _used_once(data: bytes, claim: Claim) -> Iterator[bytes]:
    events = front().store.events
    try:
        yield data
    except BaseException:
        with suppress(StoreUnavailable):
            events.release(claim)
        raise
    events.done(claim, "used", REMEMBER_S)


@contextmanager
def proving() -> Iterator[None]:
    """Turns what an ingress says of a missing proof into an answer, and counts it."""
    try:
        yield
    except NotSetUp as fault:
        raise Refused(403, str(fault)) from None
    except Unproven as fault:
        headers = {"WWW-Authenticate": fault.challenge} if fault.challenge else {}
        raise wrong_secret(Refused(401 if fault.challenge else 403, str(fault), headers=headers)) from None
