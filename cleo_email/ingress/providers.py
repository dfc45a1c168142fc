"""Every provider, from the settings."""

from __future__ import annotations

from collections.abc import Sequence

from pydantic import SecretStr

from cleo_email.ingress.base import Ingress
from cleo_email.ingress.brevo import Brevo
from cleo_email.ingress.cloudmailin import CloudMailin
from cleo_email.ingress.fetching import Fetch
from cleo_email.ingress.mailgun import Mailgun
from cleo_email.ingress.postmark import Postmark
from cleo_email.ingress.resend import Resend
from cleo_email.ingress.sendgrid import SendGrid
from cleo_email.ingress.ses import Ses
from cleo_email.settings import Settings


def build_ingresses(settings: Settings, fetch: Fetch) -> tuple[Ingress, ...]:
    """All of them; each refuses as long as its secret is not set."""
    size = settings.max_message_bytes
    return (
        Mailgun(_shown(settings.mailgun_keys)),
        Postmark(_shown(settings.postmark_auth)),
        SendGrid(settings.sendgrid_keys, _shown(settings.webhook_secrets)),
        Ses(settings.ses_topics, fetch),
        CloudMailin(_shown(settings.cloudmailin_auth)),
        Resend(_shown(settings.resend_secrets), _key(settings.resend_api_key), fetch, max_bytes=size),
        Brevo(_shown(settings.brevo_auth), _key(settings.brevo_api_key), fetch, max_bytes=size),
    )


def _shown(secrets: Sequence[SecretStr]) -> list[str]:
    return [secret.get_secret_value() for secret in secrets]


def _key(secret: SecretStr | None) -> str:
    return secret.get_secret_value() if secret else ""
