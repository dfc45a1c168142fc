"""Brevo's inbound parsing: JSON with one or more mails taken apart, files to be fetched by a token.

There is no raw mail. Without EMAIL_BREVO_API_KEY a mail with files is held for a person.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Sequence
from typing import Any, ClassVar

from cleo_email.deadlines import Deadline
from cleo_email.ingress.base import (
    Extracted,
    Ingress,
    Posted,
    Unproven,
    Unusable,
    list_of,
    object_of,
    return_path,
    text_of,
)
from cleo_email.ingress.fetching import Fetch
from cleo_email.ingress.proofs import basic_pair, equals_one
from cleo_email.ingress.rebuilding import rebuild
from cleo_email.intake import Arrival
from cleo_email.mail.envelope import quoted_mailbox
from cleo_email.mail.model import Attachment

HOUR_S = 3600
FILES_S = 20.0  # of one request; gunicorn ends one that takes a minute
FILES = "https://api.brevo.com/v3/inbound/attachments/"
_MOST_FILES = 20
_TOKEN = re.compile(r"[A-Za-z0-9._~=-]{1,2000}", re.ASCII)


class Brevo(Ingress):
    """``secrets`` are ``user:password`` (in the URL that Brevo is given) or bearer tokens."""

    name: ClassVar[str] = "brevo"
    signs_body: ClassVar[bool] = False
    remember_s: ClassVar[int] = 3 * 24 * HOUR_S

    def __init__(self, secrets: Sequence[str], api_key: str, fetch: Fetch, *, max_bytes: int) -> None:
        self._secrets = [secret.encode() for secret in secrets]
        self._api_key = api_key
        self._fetch = fetch
        self._max_bytes = max_bytes

    @property
    def is_set_up(self) -> bool:
        return bool(self._secrets)

    @property
    def unset(self) -> str:
        return "no EMAIL_BREVO_AUTH is set: mail by Brevo is not taken"

    def prove(self, posted: Posted) -> None:
        authorization = posted.header("authorization")
        scheme, _, token = authorization.strip().partition(" ")
        given = basic_pair(authorization)
        if given is None and scheme.lower() == "bearer":
            given = token.strip().encode("utf-8", "replace")
        if given is None or not equals_one(given, self._secrets):
            raise Unproven(
                "the password or token is missing or wrong (EMAIL_BREVO_AUTH)",
                challenge='Basic realm="cleo_email", charset="UTF-8"',
            )

    def event(self, posted: Posted) -> str:
        return hashlib.sha256(posted.body).hexdigest()

    def extract(self, posted: Posted) -> Extracted:
        items = [item for item in map(object_of, list_of(posted.json.get("items"))) if item]
        if not items:
            return Extracted(note="Brevo's request has no items: it tells of no mail that came in")
        deadline = Deadline(FILES_S)
        return Extracted(tuple(self._arrival(item, deadline) for item in items))

    def _arrival(self, item: dict[str, Any], deadline: Deadline) -> Arrival:
        headers = list(_pairs(item))
        files, hold = self._files(item, deadline)
        recipients = [text_of(object_of(one).get("Address")) for one in list_of(item.get("Recipients"))]
        to = [*recipients, *(value for name, value in headers if name.lower() == "delivered-to"), ""]
        return Arrival(
            rebuild(
                headers,
                text=text_of(item.get("RawTextBody")),
                html=text_of(item.get("RawHtmlBody")),
                files=files,
            ),
            self.name,
            envelope_from=return_path(headers),
            envelope_to=to[0][:320],
            hold=hold,
            same_for_s=HOUR_S,
        )

    def _files(self, item: dict[str, Any], deadline: Deadline) -> tuple[list[Attachment], str]:
        """The files of a mail, and why they are not all there: then a person is to look at it."""
        wanted = [one for one in map(object_of, list_of(item.get("Attachments"))) if one]
        if not wanted:
            return [], ""
        missing = f"Its {len(wanted)} files were not fetched"
        sizes = [one.get("ContentLength") for one in wanted]
        total = sum(size for size in sizes if isinstance(size, int) and size > 0)
        if not self._api_key:
            return [], f"{missing}: set EMAIL_BREVO_API_KEY."
        if total > self._max_bytes or len(wanted) > _MOST_FILES:
            limit = f"EMAIL_MAX_MESSAGE_BYTES ({self._max_bytes})"
            return [], f"{missing}: more than {limit} or {_MOST_FILES} files."
        if not all(_TOKEN.fullmatch(text_of(one.get("DownloadToken"))) for one in wanted):
            return [], f"{missing}: Brevo names no token for them."
        files = []
        for one in wanted:
            try:
                deadline.left()
                files.append(self._file(one))
            except (TimeoutError, Unusable) as fault:
                return files, f"Not all of its {len(wanted)} files could be fetched: {fault}."
        return files, ""

    def _file(self, one: dict[str, Any]) -> Attachment:
        token = text_of(one.get("DownloadToken"))
        content = self._fetch(FILES + token, headers={"api-key": self._api_key}, max_bytes=self._max_bytes)
        content_id = text_of(one.get("ContentID")).strip("<>")
        return Attachment(
            text_of(one.get("Name")),
            text_of(one.get("ContentType")),
            content,
            content_id=content_id,
            inline=bool(content_id),
        )


def _pairs(item: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """A header that stands once comes as a string, one that stands more often as a list."""
    names = set()
    for name, value in object_of(item.get("Headers")).items():
        names.add(name.lower())
        for one in value if isinstance(value, list) else [value]:
            if isinstance(one, str):
                yield name, one
    fields = [
        ("From", _address(item.get("From"))),
        ("To", ", ".join(_address(one) for one in list_of(item.get("To")))),
        ("Cc", ", ".join(_address(one) for one in list_of(item.get("Cc")))),
        ("Reply-To", _address(item.get("ReplyTo"))),
        ("Subject", text_of(item.get("Subject"))),
        ("Message-ID", text_of(item.get("MessageId"))),
        ("In-Reply-To", text_of(item.get("InReplyTo"))),
        ("Date", text_of(item.get("SentAtDate"))),
    ]
    yield from ((name, value) for name, value in fields if value and name.lower() not in names)


def _address(value: object) -> str:
    item = object_of(value)
    return quoted_mailbox(text_of(item.get("Name")), text_of(item.get("Address")))
