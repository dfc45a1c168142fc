"""Who may use the operator page: sessions, the token in every form, and what browsers are told.

A form carries a token that is made of the session's own secret, so that nothing has to be kept for it and no
dependency is needed. Whoever is not logged in yet has a cookie of another name for the forms of the login: a
session is never taken over from a cookie that somebody else may have set.
"""

import hashlib
import hmac
import secrets
from dataclasses import dataclass
from urllib.parse import parse_qsl, urlsplit

from flask import Response, current_app, g, request, url_for
from werkzeug.exceptions import Forbidden

from cleo_email.store.sessions import SESSION_S
from cleo_email.web.auth import OWN_CALLERS, is_direct_loopback
from cleo_email.web.bodies import RequestRefused, current, read_bytes, require_type
from cleo_email.web.operator.words import say

MAX_FORM = 4_000_000  # octets; the text of an answer
MAX_FIELDS = 50
POLICY = (
    "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self'; connect-src 'self'; "
    "frame-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
# For the answer as its readers will see it: styles alone, whatever stands in it.
FRAMED = ("operator.preview", "operator.answer_as_sent")
PREVIEW_POLICY = "default-src 'none'; style-src 'unsafe-inline'; sandbox; frame-ancestors 'self'"


@dataclass(frozen=True)
class Visitor:
    """Who is logged in. ``name`` is what the history says; ``session`` is '' on this machine."""

    name: str
    session: str = ""


def visitor() -> Visitor | None:
    """Return who is logged in by now, None for nobody. Raise StoreUnavailable.

    The settings are asked each time: whoever is taken out of them is out with the next request.
    """
    if is_open():
        return Visitor("local") if is_direct_loopback() else None
    session = request.cookies.get(cookie_name(), "")
    holder = current().store.sessions.holder(session) if session else None
    if holder is None or holder["proof"] not in _proofs().values():
        return None
    return Visitor(holder["name"], session)


def is_open() -> bool:
    """Return whether nobody has said who may use the page: then only this machine itself may."""
    settings = current().settings
    has_token = bool(settings.api_tokens) and not current_app.config.get(OWN_CALLERS)
    return not settings.operators and not has_token


def holder_of_token(given: str) -> dict[str, str] | None:
    """Return whose session an API token opens, None for a wrong one; in constant time."""
    found = None
    for name, secret in current().settings.named_tokens:
        if hmac.compare_digest(secret.encode(), given.strip().encode("utf-8", "replace")):
            found = {"name": name, "proof": _proofs()[f"token {name} {_digest(secret)}"]}
    return found


def holder_of_address(address: str) -> dict[str, str] | None:
    """Return whose session a mailed link opens, None where the address is not an operator's (any more)."""
    for operator in current().settings.operators:
        if operator.key == address.strip().lower():
            return {"name": operator.key, "proof": f"address {operator.key}"}
    return None


def _proofs() -> dict[str, str]:
    """Return what each session stands on, now."""
    settings = current().settings
    tokens = (f"token {name} {_digest(secret)}" for name, secret in settings.named_tokens)
    return {proof: proof for proof in (*tokens, *(f"address {one.key}" for one in settings.operators))}


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "replace")).hexdigest()


# --- cookies ------------------------------------------------------------------------------------------------


def is_https() -> bool:
    """Return whether the browser came by HTTPS, also where a proxy ends it."""
    told = request.headers.get("X-Forwarded-Proto", "").rpartition(",")[2].strip().lower()
    public = current().settings.public_url.startswith("https:")
    return request.is_secure or told == "https" or (public and not is_direct_loopback())


def mounted() -> str:
    """Return the path under which all our paths lie in another application, '' where this one is alone."""
    return url_for("operator.messages").removesuffix("/").removesuffix("/operator")


def cookie_name(what: str = "session") -> str:
    # With __Host- no other host of the domain can set it; it must be of the whole host (RFC 6265bis, 4.1.3).
    secure = "__Secure-" if mounted() else "__Host-"
    return f"{secure if is_https() else ''}cleo-{what}"


def set_cookie(response: Response, what: str, value: str, seconds: int) -> None:
    response.set_cookie(
        cookie_name(what),
        value,
        max_age=seconds,
        httponly=True,
        samesite="Strict",
        secure=is_https(),
        path=f"{mounted()}/",
    )


def form_token() -> str:
    """Return what every form has to show."""
    known: Visitor | None = g.get("visitor")
    if known and known.session:
        key = known.session
    else:
        key = request.cookies.get(cookie_name("form"), "")
        if len(key) < 32:
            key = g.setdefault("form_key", secrets.token_urlsafe(32))
    return hmac.new(key.encode("utf-8", "replace"), b"form", "sha256").hexdigest()


def finish(response: Response) -> Response:
    """Add the cookie of the forms, where this answer has one, and what browsers must not do with a page."""
    if key := g.get("form_key"):
        set_cookie(response, "form", key, SESSION_S)
    if request.endpoint in FRAMED:  # an error in the frame is to be seen there too
        response.headers["Content-Security-Policy"] = PREVIEW_POLICY
        response.headers["X-Frame-Options"] = "SAMEORIGIN"
    response.headers.setdefault("Content-Security-Policy", POLICY)
    # Under no-referrer a browser would not say from which page a form comes.
    response.headers.setdefault("Referrer-Policy", "same-origin")
    response.headers.setdefault("Cross-Origin-Opener-Policy", "same-origin")
    response.vary.update(["Cookie", "Accept-Language"])
    return response


# --- forms --------------------------------------------------------------------------------------------------


def refuse_other_origins() -> None:
    """Raise Forbidden for a form of another page. A browser says where it comes from."""
    site, origin = request.headers.get("Sec-Fetch-Site", "same-origin"), request.headers.get("Origin")
    # Compared as it stands: a sandboxed frame says "null", and what is no URL at all is not ours either.
    hosts = {request.host, urlsplit(current().settings.public_url).netloc} - {""}
    ours = {f"{scheme}://{host}" for scheme in ("http", "https") for host in hosts}
    if site not in ("same-origin", "none") or (origin is not None and origin not in ours):
        raise Forbidden(
            say(
                "This form comes from another page. If it does not, a proxy changes the Host header: set "
                "CLEO_PUBLIC_URL to the address that the browser shows."
            )
        )


def read_fields() -> dict[str, str]:
    """Return the fields of the form. Refuse with 413, 415, 400."""
    data = read_bytes(MAX_FORM)
    require_type("application/x-www-form-urlencoded")
    try:
        pairs = parse_qsl(data.decode("utf-8", "replace"), keep_blank_values=True, max_num_fields=MAX_FIELDS)
    except ValueError:
        raise RequestRefused(400, "too many fields") from None
    return {name: value.replace("\r\n", "\n") for name, value in pairs}


def shows_token(fields: dict[str, str]) -> bool:
    """Return whether the form is one of ours, made for this session."""
    return hmac.compare_digest(fields.get("token", "").encode("utf-8", "replace"), form_token().encode())
