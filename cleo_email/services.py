"""Composition: from settings to collaborators, in one place for every entry point."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, replace

from cleo_email.accounts import ImapAccount, Login, SmtpAccount
from cleo_email.agents.build import build_agent
from cleo_email.front import Front, build_front, build_outbound, build_starting, policy
from cleo_email.imap.mailbox import Mailbox
from cleo_email.oauth.endpoint import Endpoint
from cleo_email.oauth.tokens import TokenSource, Vault
from cleo_email.pipeline.answer import Answerer, Rules
from cleo_email.pipeline.budget import Budget, Limits
from cleo_email.pipeline.deliver import Delivery
from cleo_email.pipeline.poll import InboxReader, Poller
from cleo_email.pipeline.sweep import Sweeper
from cleo_email.pipeline.upkeep import MailboxFiler, PartialFetcher, SendSettler, Upkeep
from cleo_email.pipeline.workflows import ThreadOpener, WorkflowScheduler, load_suppliers
from cleo_email.screening.dkim import SenderCheck
from cleo_email.settings import Settings
from cleo_email.smtp.pool import Submitter
from cleo_email.store.connection import connect_worker
from cleo_email.store.secrets import TokenStore


@dataclass(frozen=True)
class Services:
    """What a worker needs."""

    front: Front
    submitter: Submitter
    answering: Answerer
    sweeping: Sweeper
    polling: Poller | None
    mailbox: Mailbox | None
    scheduling: WorkflowScheduler


def build_services(settings: Settings, environ: Mapping[str, str] = os.environ) -> Services:
    """Raises SettingsError where CLEO_AGENT names no agent, or CLEO_WORKFLOWS a callable that is none."""
    workflows = settings.workflows or {}
    suppliers = load_suppliers(workflows)
    agent = build_agent(
        settings.agent,
        token=settings.agent_token.get_secret_value() if settings.agent_token else None,
        environ=environ,
    )
    url = settings.redis_url.get_secret_value()
    front = build_front(settings, connect_worker(url, connections=settings.concurrency + 16))
    store = front.store
    smtp, imap = accounts(settings, front, environ)
    submitter = Submitter(smtp)
    budget = Budget(
        store,
        Limits(settings.max_replies_per_thread, settings.max_replies_per_sender, settings.max_sends_per_hour),
    )
    delivery = Delivery(store, submitter, has_mailbox=imap is not None, budget=budget)
    rules = Rules(
        from_=settings.from_address,
        policy=policy(settings),
        agent_timeout=settings.agent_timeout,
        max_attachment_bytes=settings.max_attachment_bytes,
        reply_all=settings.reply_all,
    )
    opening = ThreadOpener(store, build_outbound(front), workflows, suppliers, timeout=settings.agent_timeout)
    answering = Answerer(
        store,
        agent,
        delivery,
        front.intake,
        rules,
        opening=opening,
        budget=budget,
        sender_check=SenderCheck() if settings.verify_dkim else None,
    )
    scheduling = WorkflowScheduler(store, build_starting(front), list(workflows.values()))
    sweeping = Sweeper(store, front.wake, front.intake, retention_days=settings.retention_days)
    mailbox = Mailbox(imap) if imap else None
    polling = None
    if mailbox:
        reading = InboxReader(
            store,
            mailbox,
            front.intake,
            max_bytes=settings.max_message_bytes,
            max_age_days=settings.max_age_days,
        )
        chores = Upkeep(
            MailboxFiler(store, mailbox, save_sent=settings.save_sent),
            SendSettler(store, mailbox),
            PartialFetcher(store, mailbox, front.intake, max_bytes=settings.max_message_bytes),
        )
        polling = Poller(store, mailbox, reading, chores, interval_s=settings.poll_interval)
    return Services(front, submitter, answering, sweeping, polling, mailbox, scheduling)


def accounts(
    settings: Settings, front: Front, environ: Mapping[str, str] = os.environ
) -> tuple[SmtpAccount, ImapAccount | None]:
    """Both accounts with the one login that they share. Raises SettingsError."""
    source = token_source(settings, front, environ)
    if source is None:
        return settings.smtp, settings.imap
    login = Login(settings.user, access_token=source.access_token, token_refused=source.refused)
    imap = settings.imap
    return replace(settings.smtp, login=login), replace(imap, login=login) if imap else None


def token_source(
    settings: Settings, front: Front, environ: Mapping[str, str] = os.environ
) -> TokenSource | None:
    """Where access tokens come from, None for a login by password. Raises SettingsError."""
    client = settings.oauth
    if client is None:
        return None
    return TokenSource(
        client,
        settings.user,
        Endpoint("EMAIL_OAUTH_TOKEN_URL", client.token_url, environ),
        Vault([key.get_secret_value() for key in settings.secret_keys]),
        TokenStore(front.redis),
        front.store.locks,
    )
