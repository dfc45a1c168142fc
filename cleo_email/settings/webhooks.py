"""The secrets of webhooks: one variable for each provider, several values while one is being changed."""

from __future__ import annotations

import base64
import binascii
import re
from typing import Annotated

from pydantic import BaseModel, BeforeValidator, SecretStr

from cleo_email.settings.types import Secrets, env, read_csv

_TOPIC = re.compile(r"arn:aws(-cn|-us-gov)?:sns:[a-z0-9-]{3,32}:[0-9]{12}:[A-Za-z0-9_.-]{1,260}")


def _each(value: object, reader: object) -> object:
    parts = read_csv(value)
    if isinstance(value, str) and isinstance(parts, tuple) and callable(reader):
        for part in parts:
            reader(part)
    return parts


def _pair(text: str) -> None:
    user, colon, password = text.partition(":")
    if not user or not colon or not password:
        raise ValueError("no pair")


def _public_key(text: str) -> None:
    # Costs tens of milliseconds to load: only where there is a key to look at.
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.hazmat.primitives.serialization import load_der_public_key

    try:
        key = load_der_public_key(base64.b64decode(text, validate=True))
    except (ValueError, UnsupportedAlgorithm):
        raise ValueError("no key") from None
    if not isinstance(key, ec.EllipticCurvePublicKey):
        raise ValueError("another kind of key")  # noqa: TRY004  (pydantic wants a ValueError)


def _topic(text: str) -> None:
    if not _TOPIC.fullmatch(text):
        raise ValueError("no topic")


def _svix_secret(text: str) -> None:
    try:
        if not base64.b64decode(text.removeprefix("whsec_"), validate=True):
            raise ValueError("empty")
    except binascii.Error:
        raise ValueError("no base64") from None


Pairs = Annotated[tuple[SecretStr, ...], BeforeValidator(lambda value: _each(value, _pair))]
PublicKeys = Annotated[tuple[str, ...], BeforeValidator(lambda value: _each(value, _public_key))]
Topics = Annotated[tuple[str, ...], BeforeValidator(lambda value: _each(value, _topic))]
SvixSecrets = Annotated[tuple[SecretStr, ...], BeforeValidator(lambda value: _each(value, _svix_secret))]
_PAIRS = "user:password, several separated by commas"


class WebhookSettings(BaseModel):
    """What proves that a webhook comes from whom it says. What is not set is not taken."""

    webhook_secrets: Secrets = env("EMAIL_WEBHOOK_SECRET", "secrets separated by commas", ())
    mailgun_keys: Secrets = env("EMAIL_MAILGUN_SIGNING_KEY", "signing keys separated by commas", ())
    postmark_auth: Pairs = env("EMAIL_POSTMARK_AUTH", _PAIRS, ())
    sendgrid_keys: PublicKeys = env(
        "EMAIL_SENDGRID_PUBLIC_KEY", "public keys as base64, as SendGrid shows them, separated by commas", ()
    )
    ses_topics: Topics = env(
        "EMAIL_SES_TOPIC_ARN", "topics such as arn:aws:sns:eu-central-1:123456789012:mail", ()
    )
    cloudmailin_auth: Pairs = env("EMAIL_CLOUDMAILIN_AUTH", _PAIRS, ())
    resend_secrets: SvixSecrets = env(
        "EMAIL_RESEND_SIGNING_SECRET", "signing secrets such as whsec_… separated by commas", ()
    )
    resend_api_key: SecretStr | None = env("EMAIL_RESEND_API_KEY", "an API key that may read received mail")
    brevo_auth: Secrets = env(
        "EMAIL_BREVO_AUTH", "user:password or a bearer token, several separated by commas", ()
    )
    brevo_api_key: SecretStr | None = env("EMAIL_BREVO_API_KEY", "an API key, to fetch the files of mails")
