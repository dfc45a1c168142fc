"""All mail providers, made from the settings."""

from __future__ import annotations

from collections.abc import Sequence

from pydantic import SecretStr

from cleo_email.settings import Settings
from cleo_email.webhooks.base import WebhookProvider
from cleo_email.webhooks.brevo import Brevo
from cleo_email.webhooks.cloudmailin import CloudMailin
from cleo_email.webhooks.fetch import Fetch
from cleo_email.webhooks.mailgun import Mailgun
from cleo_email.webhooks.postmark import Postmark
from cleo_email.webhooks.resend import Resend
from cleo_email.webhooks.sendgrid import SendGrid
from cleo_email.webhooks.ses import Ses


def build_providers(settings: Settings, fetch: Fetch) -> tuple[WebhookProvider, ...]:
    """Return all of them; each refuses requests as long as its secret is not set."""
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
