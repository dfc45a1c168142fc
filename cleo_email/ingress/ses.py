"""Amazon SES: a receipt rule's SNS action posts the mail itself (up to 150 kB) through a topic."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from cleo_email.ingress.base import (
    Extracted,
    Ingress,
    Posted,
    Unusable,
    as_bytes,
    json_object,
    list_of,
    object_of,
    text_of,
)
from cleo_email.ingress.fetching import Fetch
from cleo_email.ingress.sns import FRESH_S, Notifications, confirm
from cleo_email.ingress.verdicts import dmarc
from cleo_email.intake import Arrival
from cleo_email.mail.base64_text import decode_base64

log = logging.getLogger(__name__)

NO_CONTENT = (
    "the SES notification has no content: give the receipt rule an SNS action with this topic "
    "(an S3 action keeps the mail in the bucket, from where it is not fetched)"
)


class Ses(Ingress):
    name: ClassVar[str] = "ses"
    remember_s: ClassVar[int] = FRESH_S + 3600

    def __init__(self, topics: Sequence[str], fetch: Fetch) -> None:
        self._topics = topics
        self._fetch = fetch
        self._notifications = Notifications(topics, fetch)

    @property
    def is_set_up(self) -> bool:
        return bool(self._topics)

    @property
    def unset(self) -> str:
        return "no EMAIL_SES_TOPIC_ARN is set: mail by Amazon SES is not taken"

    def prove(self, posted: Posted) -> None:
        self._notifications.verify(posted)

    def event(self, posted: Posted) -> str:
        return text_of(posted.json.get("MessageId"))

    def extract(self, posted: Posted) -> Extracted:
        message = posted.json
        match message["Type"]:
            case "SubscriptionConfirmation":
                confirm(message, self._fetch)
                log.info("the subscription to %s is confirmed", message["TopicArn"])
                return Extracted(note="the subscription is confirmed")
            case "UnsubscribeConfirmation":
                log.warning("Amazon SNS has ended the subscription to %s", message["TopicArn"])
                return Extracted(note="the subscription has ended")
            case _:
                return _received(text_of(message.get("Message")))


def _received(text: str) -> Extracted:
    if not text.lstrip().startswith("{"):
        return Extracted(note="a notification that is no receipt of a mail")  # a topic greets with a sentence
    notification = json_object(text, "the SES notification")
    if notification.get("notificationType") != "Received":
        return Extracted(note="a notification that is no receipt of a mail")
    receipt, mail = object_of(notification.get("receipt")), object_of(notification.get("mail"))
    source = _content(notification, object_of(receipt.get("action")))
    recipients = list_of(receipt.get("recipients"))
    sender = mail.get("source")
    arrival = Arrival(
        source,
        Ses.name,
        envelope_from=sender.strip().strip("<>") if isinstance(sender, str) else None,
        envelope_to=text_of(recipients[0])[:320] if recipients else "",
        authenticated=dmarc(source, text_of(object_of(receipt.get("dmarcVerdict")).get("status"))),
    )
    return Extracted((arrival,))


def _content(notification: Mapping[str, Any], action: Mapping[str, Any]) -> bytes:
    content = text_of(notification.get("content"))
    if not content:
        raise Unusable(NO_CONTENT)
    if text_of(action.get("encoding")).upper() != "BASE64":
        return as_bytes(content)
    try:
        return decode_base64(content)
    except ValueError:
        raise Unusable("the content of the SES notification is no base64") from None
