"""Amazon SES: a receipt rule's SNS action posts the mail itself (up to 150 kB) through a topic."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import ClassVar

from cleo_email.pipeline.receive import IncomingMail
from cleo_email.webhooks.base import (
    HOUR_S,
    Extracted,
    JsonObject,
    Unusable,
    WebhookProvider,
    WebhookRequest,
    as_bytes,
    bare_path,
    base64_content,
    json_object,
)
from cleo_email.webhooks.fetch import Fetch
from cleo_email.webhooks.sns import FRESH_S, Notifications, confirm
from cleo_email.webhooks.verdicts import dmarc

log = logging.getLogger(__name__)

NO_CONTENT = (
    "the SES notification has no content: give the receipt rule an SNS action with this topic "
    "(an S3 action keeps the mail in the bucket, from where it is not fetched)"
)


class Ses(WebhookProvider):
    name: ClassVar[str] = "ses"
    setting: ClassVar[str] = "EMAIL_SES_TOPIC_ARN"
    remember_s: ClassVar[int] = FRESH_S + HOUR_S

    def __init__(self, topics: Sequence[str], fetch: Fetch) -> None:
        super().__init__(topics)
        self._fetch = fetch
        self._notifications = Notifications(topics, fetch)

    def prove(self, request: WebhookRequest) -> None:
        self._notifications.verify(request)

    def event(self, request: WebhookRequest) -> str:
        return request.json.text("MessageId")

    def extract(self, request: WebhookRequest) -> Extracted:
        message = request.json
        match message["Type"]:
            case "SubscriptionConfirmation":
                confirm(message, self._fetch)
                log.info("the subscription to %s is confirmed", message["TopicArn"])
                return Extracted(note="the subscription is confirmed")
            case "UnsubscribeConfirmation":
                log.warning("Amazon SNS has ended the subscription to %s", message["TopicArn"])
                return Extracted(note="the subscription has ended")
            case _:
                return _received(message.text("Message"))


def _received(text: str) -> Extracted:
    if not text.lstrip().startswith("{"):
        return Extracted(note="a notification that is no receipt of a mail")  # a topic greets with a sentence
    notification = json_object(text, "the SES notification")
    if notification.get("notificationType") != "Received":
        return Extracted(note="a notification that is no receipt of a mail")
    receipt, mail = notification.object("receipt"), notification.object("mail")
    source = _content(notification, receipt.object("action"))
    sender = mail.get("source")
    arrival = IncomingMail(
        source,
        Ses.name,
        envelope_from=bare_path(sender) if isinstance(sender, str) else None,
        envelope_to=bare_path(next(iter(receipt.texts("recipients")), "")),
        authenticated=dmarc(source, receipt.object("dmarcVerdict").text("status")),
    )
    return Extracted((arrival,))


def _content(notification: JsonObject, action: JsonObject) -> bytes:
    content = notification.text("content")
    if not content:
        raise Unusable(NO_CONTENT)
    if action.text("encoding").upper() != "BASE64":
        return as_bytes(content)
    return base64_content(content, "the content of the SES notification")
