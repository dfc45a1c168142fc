"""Composition of the web process: it takes mail in and reports; it never answers.

The web process loads this alone, and with it neither IMAP nor SMTP nor the agents.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from math import ceil
from typing import TYPE_CHECKING

from redis import Redis

from cleo_email.mail.message_id import Signer, derive_key
from cleo_email.mail.model import Action
from cleo_email.pipeline.receive import Receiver
from cleo_email.pipeline.send import Sender
from cleo_email.pipeline.workflows import WorkflowStarter
from cleo_email.runtime import AROUND_THE_AGENT_S
from cleo_email.screening.screen import Policy
from cleo_email.settings import Settings
from cleo_email.settings.workflows import Supplied
from cleo_email.store import Store
from cleo_email.store.connection import connect_web
from cleo_email.store.queue import WakeQueue
from cleo_email.store.secrets import SigningKeys

if TYPE_CHECKING:
    from cleo_email.webhooks.fetch import Fetch
    from cleo_email.webhooks.handler import WebhookHandler


@dataclass(frozen=True)
class Front:
    """What the web process needs: it stores and asks, it never answers."""

    settings: Settings
    redis: Redis
    store: Store
    wake: WakeQueue
    intake: Receiver


def policy(settings: Settings) -> Policy:
    return Policy(
        settings.own_addresses,
        settings.allowed_senders,
        settings.allowed_robots,
        settings.authserv_id,
        refused=Action.IGNORE if settings.refused_senders == "ignored" else Action.HOLD,
    )


def build_front(settings: Settings, redis: Redis | None = None) -> Front:
    redis = redis if redis is not None else connect_web(settings.redis_url.get_secret_value())
    store = Store.on(redis, account=_account(settings), retention_days=settings.retention_days)
    wake = WakeQueue(redis, answer_timeout_s=_longest_job_s(settings))
    intake = Receiver(
        store,
        wake,
        policy(settings),
        max_age_days=settings.max_age_days,
        retention_days=settings.retention_days,
        signer=_signer(settings, redis),
        verifies=settings.verify_dkim,
    )
    return Front(settings, redis, store, wake, intake)


def _longest_job_s(settings: Settings) -> int:
    """Longest stay of one message in a job; callables that supply files have the agent's time again."""
    entries = [entry for workflow in (settings.workflows or {}).values() for entry in workflow.attachments]
    users_code = 2 if any(isinstance(entry, Supplied) for entry in entries) else 1
    return ceil(users_code * settings.agent_timeout + AROUND_THE_AGENT_S)


def build_webhooks(front: Front, fetch: Fetch | None = None) -> WebhookHandler:
    """The providers' ways in; ``fetch`` replaces the HTTPS client that completes their requests.

    Only the web process loads them.
    """
    from cleo_email.webhooks.fetch import Https
    from cleo_email.webhooks.handler import WebhookHandler
    from cleo_email.webhooks.registry import build_providers

    settings = front.settings
    providers = build_providers(settings, fetch or Https(os.environ))
    return WebhookHandler(providers, front.intake, front.store.events, max_bytes=settings.max_message_bytes)


def _signer(settings: Settings, redis: Redis) -> Signer | None:
    keys = [derive_key(key.get_secret_value().encode()) for key in settings.secret_keys]
    domain = settings.from_address.addr.rpartition("@")[2]
    return Signer(domain, SigningKeys(redis, keys)) if domain else None


def build_outbound(front: Front) -> Sender:
    settings = front.settings
    return Sender(front.store, front.intake, settings.from_address, max_bytes=settings.max_message_bytes)


def build_starting(front: Front) -> WorkflowStarter:
    settings = front.settings
    return WorkflowStarter(
        front.store,
        front.intake,
        build_outbound(front),
        settings.from_address,
        settings.workflows,
        max_bytes=settings.max_message_bytes,
        retention_days=settings.retention_days,
    )


def _account(settings: Settings) -> str:
    return (
        f"{settings.user.casefold()}@{settings.imap_host}:{settings.imap_port}" if settings.imap_host else ""
    )
