"""Resend: the event ``email.received`` tells that there is a mail; the mail itself is fetched from its API.

Signed as Svix does: HMAC-SHA256 over ``id.time.body``. The time is that of each try, so that it may be short.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Sequence
from typing import Any, ClassVar

from cleo_email.ingress.base import (
    Extracted,
    Ingress,
    NotNow,
    Posted,
    Unproven,
    Unusable,
    json_object,
    list_of,
    object_of,
    return_path,
    text_of,
)
from cleo_email.ingress.fetching import Fetch, TooMuch
from cleo_email.ingress.proofs import decoded, equals_one, hmac_sha256, is_fresh
from cleo_email.ingress.rebuilding import rebuild
from cleo_email.intake import Arrival

API = "https://api.resend.com/emails/receiving/"
API_BYTES = 16 * 1024 * 1024
FRESH_S = 300
_ID = re.compile(r"[A-Za-z0-9_-]{1,64}", re.ASCII)


class Resend(Ingress):
    name: ClassVar[str] = "resend"
    unset_status: ClassVar[int] = 403
    remember_s: ClassVar[int] = 36 * 3600  # it repeats a request for about 28 hours

    def __init__(self, secrets: Sequence[str], api_key: str, fetch: Fetch, *, max_bytes: int) -> None:
        """``secrets``: ``whsec_`` and base64, as Resend shows them."""
        self._secrets = [base64.b64decode(secret.removeprefix("whsec_")) for secret in secrets]
        self._api_key = api_key
        self._fetch = fetch
        self._max_bytes = max_bytes

    @property
    def is_set_up(self) -> bool:
        return bool(self._secrets)

    @property
    def unset(self) -> str:
        return "no EMAIL_RESEND_SIGNING_SECRET is set: mail by Resend is not taken"

    def prove(self, posted: Posted) -> None:
        id_, stamp = posted.header("svix-id"), posted.header("svix-timestamp")
        message = f"{id_}.{stamp}.".encode("utf-8", "replace") + posted.body
        wanted = [hmac_sha256(secret, message) for secret in self._secrets]
        words = posted.header("svix-signature").split(" ")[:20]
        given = [decoded(word.removeprefix("v1,")) for word in words if word.startswith("v1,")]
        if not id_ or not any(equals_one(one, wanted) for one in given if one):
            raise Unproven("the signature is missing or wrong (EMAIL_RESEND_SIGNING_SECRET)")
        if not is_fresh(stamp, posted.now, past_s=FRESH_S):
            raise Unproven("the signature is too old, or this machine's clock is wrong")

    def event(self, posted: Posted) -> str:
        return posted.header("svix-id")

    def extract(self, posted: Posted) -> Extracted:
        event = posted.json
        kind = text_of(event.get("type"))
        if kind != "email.received":
            return Extracted(note=f"Resend tells of {kind[:40] or 'nothing'}, not of a mail that came in")
        data = object_of(event.get("data"))
        id_ = text_of(data.get("email_id"))
        if not _ID.fullmatch(id_):
            raise Unusable("Resend's event names no email_id")
        if not self._api_key:
            raise NotNow("Resend sends no mail with its events: set EMAIL_RESEND_API_KEY to have it fetched")
        bearer = {"Authorization": f"Bearer {self._api_key}"}
        mail = json_object(self._fetch(API + id_, headers=bearer, max_bytes=API_BYTES), "Resend's answer")
        return Extracted((self._arrival(mail, data),))

    def _arrival(self, mail: dict[str, Any], data: dict[str, Any]) -> Arrival:
        to = list_of(data.get("to"))
        recipient = text_of(to[0])[:320] if to else ""
        sender = return_path(_headers(mail))
        url = text_of(object_of(mail.get("raw")).get("download_url"))
        if not url:
            # Without its source the files are missing too: a person is to look at it.
            hold = "Resend gave no raw mail: its attachments are missing." if mail.get("attachments") else ""
            return Arrival(_rebuilt(mail), self.name, envelope_from=sender, envelope_to=recipient, hold=hold)
        try:
            source = self._fetch(url, headers={}, max_bytes=self._max_bytes)
        except TooMuch:
            limit = f"EMAIL_MAX_MESSAGE_BYTES ({self._max_bytes})"
            hold = f"it has more bytes than {limit}: not downloaded"
            return Arrival(
                _rebuilt(mail),
                self.name,
                envelope_from=sender,
                envelope_to=recipient,
                hold=hold,
                partial=True,
            )
        return Arrival(source, self.name, envelope_from=sender, envelope_to=recipient)


def _headers(mail: dict[str, Any]) -> list[tuple[str, str]]:
    return [
        (name, value)
        for name, values in object_of(mail.get("headers")).items()
        for value in (values if isinstance(values, list) else [values])
        if isinstance(value, str)
    ]


def _rebuilt(mail: dict[str, Any]) -> bytes:
    headers = _headers(mail)
    there = {name.lower() for name, _ in headers}
    fields = [
        ("From", text_of(mail.get("from"))),
        ("To", ", ".join(map(text_of, list_of(mail.get("to"))))),
        ("Cc", ", ".join(map(text_of, list_of(mail.get("cc"))))),
        ("Reply-To", ", ".join(map(text_of, list_of(mail.get("reply_to"))))),
        ("Subject", text_of(mail.get("subject"))),
        ("Message-ID", text_of(mail.get("message_id"))),
    ]
    headers += [(name, value) for name, value in fields if value and name.lower() not in there]
    return rebuild(headers, text=text_of(mail.get("text")), html=text_of(mail.get("html")))
