"""Authenticate the caller: by a secret, by a signature, or as a program on this machine.

These checks come before the body is read, in the contract's order: 404 where the channel is off, then 403 or
401, then 413, 415, 400 and 422 (:mod:`cleo_email.web.bodies`).
"""

import ipaddress
import logging
import os
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from flask import current_app, request
from pydantic import SecretStr

from cleo_email.errors import StoreUnavailable
from cleo_email.runtime import is_loopback, now_ms
from cleo_email.web.bodies import RequestRefused, current, read_bytes, require_type
from cleo_email.webhooks.base import NotSetUp, Unproven, WebhookSignature, equals_one

log = logging.getLogger(__name__)

_FORWARDED = ("X-Forwarded-For", "Forwarded", "X-Real-IP")
# The caller in an element of Forwarded (RFC 7239 section 4), and a port behind an IPv4 address.
_FOR = re.compile(r"""(?is).*?\bfor\s*=\s*("[^"]*"|[^;\s]*).*""")
_IPV4_AND_PORT = re.compile(r"([0-9.]+):[0-9]+")
CONNECTIONS = (Path("/proc/net/tcp"), Path("/proc/net/tcp6"))
LOCAL = "local"  # who decides, where that is a program of this machine without a token
OWN_CALLERS = "OWN_CALLERS"  # of the Flask configuration: the API token was made by cleo-email run
_ASK_FOR_TOKEN = {"WWW-Authenticate": 'Bearer realm="cleo_email"'}


def require_api_token() -> str:
    """Return who calls: the name of the bearer token, LOCAL for a program of this machine without one.

    Refuse with 401 a token that is missing or wrong; where none is set, all but direct loopback callers.
    """
    tokens = current().settings.named_tokens
    by_itself = current_app.config.get(OWN_CALLERS) and not _bearer()
    if not tokens or (by_itself and is_direct_loopback()):
        unset = "no CLEO_API_TOKEN is set: only this machine itself is answered, as localhost"
        if not is_direct_loopback():
            raise RequestRefused(401, unset, headers=_ASK_FOR_TOKEN)
        return LOCAL
    if name := _token_name():
        return name
    text = "the bearer token is missing or wrong (CLEO_API_TOKEN)"
    raise _counted(RequestRefused(401, text, headers=_ASK_FOR_TOKEN))


def require_answer_token(number: Callable[[str], int | None]) -> int:
    """Return the number of the question for which the bearer token is; else refuse with 401.

    ``number`` is asked what the token is for. It may raise NotFound, but not where no token is shown.
    """
    given = _bearer()
    found = number(given) if given else None
    if found is None:
        text = "the bearer token is missing, or is not the one of the open question"
        raise _counted(RequestRefused(401, text, headers=_ASK_FOR_TOKEN))
    return found


def _token_name() -> str:
    """Return the name of the API token that is shown, or ''. The time taken does not tell how right it is."""
    given, found = _bearer().encode("utf-8", "replace"), ""
    for name, secret in current().settings.named_tokens:
        # Whoever had a colon in a token before tokens had names goes on showing all of it.
        if equals_one(given, [secret.encode(), f"{name}:{secret}".encode()]):
            found = found or name
    return found


def is_ours() -> bool:
    """Return whether the caller shows the bearer token, or is a direct loopback caller."""
    return bool(_token_name()) or is_direct_loopback()


def _bearer() -> str:
    scheme, _, given = request.headers.get("Authorization", "").partition(" ")
    return given.strip() if scheme.lower() == "bearer" else ""


def _require(secrets: Sequence[SecretStr], given: str, wrong: RequestRefused, unset: str) -> None:
    """Refuse a wrong secret with ``wrong``; where none is set, all but direct loopback callers too."""
    if not secrets:
        if not is_direct_loopback():
            raise RequestRefused(wrong.status, unset, headers=wrong.headers)
        return
    shown = [secret.get_secret_value().encode() for secret in secrets]
    if not equals_one(given.encode("utf-8", "replace"), shown):
        raise _counted(wrong)


@contextmanager
def proved_body(*media_types: str) -> Iterator[bytes]:
    """Yield the body of a webhook that holds the secret, or is signed with it.

    A signature counts for one request; if the block raises, it may be used again. Refuse with 403 (429 after
    too many), 413, 415, and 503 where Redis cannot say whether the signature was used.
    """
    header, secrets = WebhookSignature.HEADER, current().settings.webhook_secrets
    if header not in request.headers:
        _require(
            secrets,
            request.headers.get("X-Webhook-Secret", ""),
            RequestRefused(403, "X-Webhook-Secret is missing or wrong (EMAIL_WEBHOOK_SECRET)"),
            "no EMAIL_WEBHOOK_SECRET is set: webhooks are taken only from this machine itself, as localhost",
        )
        data = read_bytes(current().settings.max_message_bytes)
        require_type(*media_types)
        yield data
        return
    with unproven_refused():
        if not secrets:
            raise NotSetUp(f"no EMAIL_WEBHOOK_SECRET is set: {header} cannot be checked")
        signature = WebhookSignature.read(request.headers[header], now_ms() / 1000)
        data = read_bytes(current().settings.max_message_bytes)
        name = signature.verify(data, [secret.get_secret_value() for secret in secrets])
    require_type(*media_types)
    claims = current().store.claims
    with claims.once(name) as claim:
        if not claim.is_ours:
            text = f"this {header} was used before: every request is signed anew, a repeated one too"
            raise RequestRefused(403, text)
        yield data
    claims.done(claim, "used", WebhookSignature.REMEMBER_S)


@contextmanager
def unproven_refused() -> Iterator[None]:
    """Refuse a webhook without proof: 403, 401 with a challenge, or 429 after too many."""
    try:
        yield
    except NotSetUp as fault:
        raise RequestRefused(403, str(fault)) from None
    except Unproven as fault:
        headers = {"WWW-Authenticate": fault.challenge} if fault.challenge else {}
        status = 401 if fault.challenge else 403
        raise _counted(RequestRefused(status, str(fault), headers=headers)) from None


def _counted(fault: RequestRefused) -> RequestRefused:
    """Return ``fault``, or a 429 where this caller, or all together, were wrong too often this minute.

    This is called only after a wrong secret, so that a right one is never slowed down. Without Redis nothing
    is counted.
    """
    address, told_by = client_address()
    try:
        wait = current().store.failures.count(address, now_ms() // 1000)
    except StoreUnavailable:
        return fault
    if wait:
        text = "too many requests with a wrong secret; the right one is taken at any time"
        return RequestRefused(429, text, headers={"Retry-After": str(wait)})
    way = f" (as {told_by} says)" if told_by else ""
    log.warning("refused a request from %s%s: %s", address, way, fault.message)  # bounded by the count above
    return fault


def client_address() -> tuple[str, str]:
    """Return the address whose failures are counted together, and the header that told it ('' for none).

    It is an IPv4 address, or the /64 of an IPv6 one. Behind a proxy on this machine or in the private network
    it is what that proxy says of the caller: the last one of X-Forwarded-For, else X-Real-IP, else the last
    one of Forwarded. It serves for counting and for the log only: a header never grants access.
    """
    peer, told_by = _address(request.environ.get("REMOTE_ADDR", "")), ""
    if peer is None or not peer.is_global:
        for name in ("X-Forwarded-For", "X-Real-IP", "Forwarded"):
            last = ",".join(request.headers.getlist(name)).rpartition(",")[2]
            if told := _address(_FOR.sub(r"\1", last) if name == "Forwarded" else last):
                peer, told_by = told, name
                break
    if peer is None:
        return "unknown", ""
    if isinstance(peer, ipaddress.IPv6Address):
        return str(ipaddress.ip_network((peer, 64), strict=False)), told_by
    return str(peer), told_by


def is_direct_loopback() -> bool:
    """Return whether the caller is a program of this machine and of this user, and neither one behind a proxy
    that runs here nor a web page in a local browser, whose host name was made to resolve to this machine (DNS
    rebinding).
    """
    # nginx speaks HTTP/1.0 to what is behind it unless it is told otherwise.
    if (
        any(name in request.headers for name in _FORWARDED)
        or request.environ["SERVER_PROTOCOL"] == "HTTP/1.0"
    ):
        return False
    # The header itself is read: Werkzeug turns a_b.example and the like into '', but browsers visit them.
    host = request.headers.get("Host", "").strip().lower()
    name = host.rpartition(":")[0] if host.rpartition(":")[2].isdigit() else host
    if name and not is_loopback(name.strip("[]")):
        return False
    # A form on any web page can post here from a local browser, which says from which page it comes.
    own = request.host_url.rstrip("/")
    if request.headers.get("Origin", own) != own:
        return False
    peer = _address(request.environ.get("REMOTE_ADDR", ""))
    if peer is None or not peer.is_loopback:  # a Unix socket says nothing about the caller
        return False
    return _is_of_this_user(request.environ.get("REMOTE_PORT"), request.environ.get("SERVER_PORT"))


def _is_of_this_user(port: str | None, to: str | None) -> bool:
    """Return whether the other end of a connection of this machine is held by this user, or by root.

    A proxy that adds no header of its own, and runs as another user as proxies do, passes for the world. Only
    Linux tells the owner (proc(5), /proc/net/tcp); elsewhere nobody passes.
    """
    if not port:  # no connection at all: a test client
        return True
    for table in CONNECTIONS:
        with suppress(OSError):
            for line in table.read_text("ascii").splitlines()[1:]:
                _, local, remote, _, _, _, _, user, *_ = line.split()
                ports = (local.rpartition(":")[2], remote.rpartition(":")[2])
                if ports == (f"{int(port):04X}", f"{int(to or 0):04X}"):
                    return int(user) in (os.geteuid(), 0)
    return False


def _address(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    """Read an address; some proxies put it into quotes or brackets, and a port behind it."""
    text = text.strip().strip('"')
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif with_port := _IPV4_AND_PORT.fullmatch(text):
        text = with_port[1]
    try:
        found = ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        return None
    return (found.ipv4_mapped or found) if isinstance(found, ipaddress.IPv6Address) else found
