"""The composition root: from settings to the parts of the product, for every process.

Each part is built when it is first used, and its module is imported then: the web process takes mail in and
reports, so it loads neither IMAP nor SMTP nor the agents; a worker has no use for Flask.
"""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import cached_property, partial
from math import ceil
from typing import TYPE_CHECKING

from redis import Redis

from cleo_email.accounts import Login
from cleo_email.crashpoints import arm
from cleo_email.errors import BAD_SETTINGS, MailboxError, SettingsError
from cleo_email.mail.message_id import Signer, derive_key
from cleo_email.mail.model import Action
from cleo_email.pipeline.receive import Receiver
from cleo_email.runtime import AROUND_THE_AGENT_S, HOUR, AtWork, give_back_large_blocks, set_up_logging
from cleo_email.screening.screen import Policy
from cleo_email.settings import Settings, export_dotenv, no_dotenv, read_settings
from cleo_email.settings.workflows import Supplied
from cleo_email.store import Store
from cleo_email.store.clock import ServerClock
from cleo_email.store.connection import connect_web, connect_worker, refuse_unsupported
from cleo_email.store.mailbox import TokenStore
from cleo_email.store.queue import WakeQueue
from cleo_email.store.threads import SigningKeys

if TYPE_CHECKING:
    from cleo_email.imap.idle import Idle
    from cleo_email.imap.mailbox import Mailbox
    from cleo_email.monitoring.alerts import Alerts
    from cleo_email.monitoring.events import EventSender
    from cleo_email.oauth.tokens import TokenSource
    from cleo_email.pipeline.answer import Answerer
    from cleo_email.pipeline.budget import Budget
    from cleo_email.pipeline.callback import Callbacks
    from cleo_email.pipeline.colleagues import Colleagues
    from cleo_email.pipeline.decide import Decisions
    from cleo_email.pipeline.drafts import DraftFolder
    from cleo_email.pipeline.handoff import HandOver
    from cleo_email.pipeline.last_look import LastLook
    from cleo_email.pipeline.poll import Poller
    from cleo_email.pipeline.question import Questions
    from cleo_email.pipeline.recover import Recoverer
    from cleo_email.pipeline.send import Sender
    from cleo_email.pipeline.sweep import Sweeper
    from cleo_email.pipeline.takeover import Takeover
    from cleo_email.pipeline.workflows import WorkflowStarter
    from cleo_email.smtp.pool import Submitter
    from cleo_email.webhooks.base import Fetch
    from cleo_email.webhooks.handler import WebhookHandler


# Of a worker's conversations together to Redis: each command takes a fraction of a millisecond, and some
# hosted servers allow few connections.
CONNECTIONS = 16


class App:
    """The parts of one process.

    :param redis: a connection to use; by default one with the short time-outs of a web process.
    :param quick: one with short time-outs, where ``redis`` has long ones.
    :param fetch: replaces the HTTPS client that completes the requests of webhook providers.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        redis: Redis | None = None,
        quick: Redis | None = None,
        fetch: Fetch | None = None,
        environ: Mapping[str, str] = os.environ,
    ) -> None:
        self.settings = settings
        self.redis = redis if redis is not None else connect_web(settings.redis_url.get_secret_value())
        self._quick = quick
        self._fetch = fetch
        self._environ = environ

    @classmethod
    def for_worker(cls, settings: Settings, environ: Mapping[str, str] = os.environ) -> App:
        """Return the app of a worker, whose connections to Redis wait."""
        url = settings.redis_url.get_secret_value()
        redis = connect_worker(url, connections=min(settings.concurrency, CONNECTIONS) + 16)
        return cls(settings, redis=redis, quick=connect_web(url), environ=environ)

    # --- what every process needs ---------------------------------------------------------------------

    @cached_property
    def store(self) -> Store:
        settings = self.settings
        account = f"{settings.user.casefold()}@{settings.imap_host}:{settings.imap_port}"
        account = account if settings.imap_host else ""
        told = bool(settings.events_url.get_secret_value())
        days, quick = settings.retention_days, self._quick
        return Store(self.redis, account=account, retention_days=days, quick=quick, events=told)

    @cached_property
    def clock(self) -> ServerClock:
        """Return the clock that all processes of this Redis share."""
        # Whoever asks for the time must not wait for a hung Redis as long as a worker does.
        return ServerClock(self._quick or self.redis)

    @cached_property
    def wake(self) -> WakeQueue:
        # A job may last as long as the user's code; callables that supply files have the agent's time again.
        flows = (self.settings.workflows or {}).values()
        supplied = any(isinstance(entry, Supplied) for flow in flows for entry in flow.attachments)
        users_code_s = self.settings.agent_timeout * (2 if supplied else 1)
        return WakeQueue(self.redis, answer_timeout_s=ceil(users_code_s + AROUND_THE_AGENT_S))

    @cached_property
    def policy(self) -> Policy:
        settings = self.settings
        return Policy(
            settings.own_addresses,
            settings.allowed_senders,
            settings.allowed_robots,
            settings.authserv_id,
            refused=Action.IGNORE if settings.refused_senders == "ignored" else Action.HOLD,
        )

    @cached_property
    def signer(self) -> Signer:
        keys = [derive_key(key.get_secret_value().encode()) for key in self.settings.secret_keys]
        domain = self.settings.from_address.addr.rpartition("@")[2]
        return Signer(domain, SigningKeys(self.redis, keys))

    @cached_property
    def _agent_deadline_ms(self) -> int:
        return max(1, int(self.settings.agent_deadline_hours * HOUR))

    @cached_property
    def callbacks(self) -> Callbacks:
        from cleo_email.pipeline.callback import Callbacks

        keys = [derive_key(key.get_secret_value().encode()) for key in self.settings.secret_keys]
        return Callbacks(
            self.store,
            self.wake,
            SigningKeys(self.redis, keys),
            url=self.settings.public_url,
            deadline_ms=self._agent_deadline_ms,
            clock=self.clock,
        )

    @cached_property
    def questions(self) -> Questions:
        from cleo_email.pipeline.question import Questions

        settings = self.settings
        return Questions(
            self.store,
            self.wake,
            self.signer,
            settings.from_address,
            (*(address.key for address in settings.operators), *settings.ask_allowed),
            own=settings.own_addresses,
            closing=settings.closing,
            deadline_ms=self._agent_deadline_ms,
            clock=self.clock,
        )

    @cached_property
    def receiver(self) -> Receiver:
        settings = self.settings
        return Receiver(
            self.store,
            self.wake,
            self.policy,
            self.signer,
            max_age_days=settings.max_age_days,
            retention_days=settings.retention_days,
            verifies=settings.verify_dkim,
            clock=self.clock,
            has_agent=bool(settings.agent),
            colleagues=self.colleagues,
        )

    @cached_property
    def colleagues(self) -> Colleagues:
        from cleo_email.pipeline.colleagues import Colleagues

        settings = self.settings
        named = (*settings.colleagues, *(address.key for address in settings.handoff_to))
        own, mode = settings.own_addresses, settings.takeover
        return Colleagues(self.store, own, named, mode=mode, clock=self.clock)

    @cached_property
    def sender(self) -> Sender:
        from cleo_email.pipeline.send import Sender

        settings = self.settings
        from_, most = settings.from_address, settings.max_message_bytes
        return Sender(
            self.store,
            self.wake,
            self.signer,
            from_,
            max_bytes=most,
            closing=settings.closing,
            clock=self.clock,
        )

    @cached_property
    def workflow_starter(self) -> WorkflowStarter:
        from cleo_email.pipeline.workflows import WorkflowStarter

        settings = self.settings
        return WorkflowStarter(
            self.store,
            self.wake,
            self.signer,
            settings.from_address,
            settings.workflows,
            max_bytes=settings.max_message_bytes,
            retention_days=settings.retention_days,
            clock=self.clock,
        )

    @cached_property
    def decisions(self) -> Decisions:
        from cleo_email.pipeline.decide import Decisions

        most = self.settings.max_message_bytes
        return Decisions(self.store, self.wake, self.policy, max_bytes=most, clock=self.clock)

    @cached_property
    def alerts(self) -> Alerts | None:
        """None where nobody is to be told."""
        settings = self.settings
        if not settings.alert_to:
            return None
        from cleo_email.monitoring.alerts import Alerts
        from cleo_email.monitoring.ways import AlertWay, ByApprise, ByMail

        ways: list[AlertWay] = []
        if people := settings.alert_addresses:
            ways.append(ByMail(self.store, lambda: self.submitter, settings.from_address, people))
        ways += map(ByApprise, settings.alert_urls)
        page = f"{settings.public_url}/operator/" if settings.public_url else ""
        every_s = settings.poll_interval if settings.imap_host else 0
        return Alerts(self.store, ways, page, polls_every_s=every_s, clock=self.clock)

    # --- the web process ------------------------------------------------------------------------------

    @cached_property
    def webhooks(self) -> WebhookHandler:
        from cleo_email.webhooks.fetch import Https
        from cleo_email.webhooks.handler import WebhookHandler

        fetch = self._fetch or Https(self._environ)
        return WebhookHandler(self.settings, fetch, self.receiver, self.store.claims)

    # --- the worker -----------------------------------------------------------------------------------

    @cached_property
    def token_source(self) -> TokenSource | None:
        """Return the source of access tokens, None for a login by password. Raise SettingsError."""
        client = self.settings.oauth
        if client is None:
            return None
        from cleo_email.oauth.endpoint import Endpoint
        from cleo_email.oauth.tokens import TokenSource, Vault

        return TokenSource(
            client,
            self.settings.user,
            Endpoint("EMAIL_OAUTH_TOKEN_URL", client.token_url, self._environ),
            Vault([key.get_secret_value() for key in self.settings.secret_keys]),
            TokenStore(self.redis),
            self.store.locks,
            clock=self.clock,
        )

    @cached_property
    def _login(self) -> Login:
        """Return the login for both mail servers: a password, or access tokens. Raise SettingsError."""
        source = self.token_source
        if source is None:
            return self.settings.login
        return Login(self.settings.user, access_token=source.access_token, token_refused=source.refused)

    @cached_property
    def submitter(self) -> Submitter:
        from cleo_email.smtp.pool import Submitter

        return Submitter(replace(self.settings.smtp, login=self._login))

    @cached_property
    def mailbox(self) -> Mailbox | None:
        """Return the mailbox, None where EMAIL_IMAP_HOST is not set."""
        account = self.settings.imap
        if account is None:
            return None
        from cleo_email.imap.mailbox import Mailbox

        mailbox = Mailbox(replace(account, login=self._login))
        mailbox.login_failed = self._stop_listening
        return mailbox

    @cached_property
    def idle(self) -> Idle | None:
        """None without a mailbox, or with EMAIL_IDLE=0."""
        account, settings = self.settings.imap, self.settings
        if account is None or not settings.idle:
            return None
        from cleo_email.imap.idle import Idle
        from cleo_email.imap.values import ImapTimeouts
        from cleo_email.pipeline.logins import limit_listener_logins

        drafts = settings.drafts and settings.takeover != "off"
        timeouts = ImapTimeouts(connect=5, read=10, command=20)  # within the lease of who listens
        idle = Idle(replace(account, login=self._login), drafts=drafts, timeouts=timeouts)
        idle.before_login = partial(limit_listener_logins, self.store.ticks)
        return idle

    def _stop_listening(self, fault: MailboxError) -> None:
        """Give way where the server allows no further connection: all others matter more than IDLE's."""
        from cleo_email.pipeline.logins import stop_listening

        stop_listening(self.store, fault)

    @cached_property
    def takeover(self) -> Takeover | None:
        """None without a mailbox."""
        account, settings = self.settings.imap, self.settings
        if account is None:
            return None
        from cleo_email.imap.folders import Folders
        from cleo_email.imap.values import ImapTimeouts
        from cleo_email.pipeline.logins import limit_spare_logins
        from cleo_email.pipeline.takeover import SharedFolders, Takeover

        # An answer waits for the last look, with everything but its final dot sent.
        hasty = ImapTimeouts(connect=5, read=10, liveness=3, command=30)
        folders = Folders(replace(account, login=self._login), timeouts=hasty)
        folders.before_login = partial(limit_spare_logins, self.store.ticks)
        folders.login_failed = self._stop_listening
        return Takeover(
            self.store,
            SharedFolders(folders),
            settings.own_addresses,
            mode=settings.takeover,
            colleagues=self.colleagues.named,
            max_bytes=settings.max_message_bytes,
            clock=self.clock,
        )

    @cached_property
    def drafts(self) -> DraftFolder | None:
        """None without a mailbox."""
        takeover = self.takeover
        if takeover is None:
            return None
        from cleo_email.pipeline.drafts import DraftFolder

        enabled = self.settings.drafts
        return DraftFolder(self.store, takeover.folders, takeover, enabled=enabled, clock=self.clock)

    @cached_property
    def last_look(self) -> LastLook | None:
        """None without a mailbox."""
        if self.takeover is None or self.drafts is None:
            return None
        from cleo_email.pipeline.last_look import LastLook

        return LastLook(self.takeover, self.drafts)

    @cached_property
    def budget(self) -> Budget:
        from cleo_email.pipeline.budget import Budget, Limits

        settings = self.settings
        limits = Limits(
            settings.max_replies_per_thread, settings.max_replies_per_sender, settings.max_sends_per_hour
        )
        return Budget(self.store, limits, clock=self.clock)

    @cached_property
    def hand_over(self) -> HandOver:
        from cleo_email.pipeline.handoff import HandOver

        settings = self.settings
        return HandOver(
            self.store,
            self.wake,
            self.signer,
            settings.from_address,
            settings.handoff_to,
            own=settings.own_addresses,
            max_bytes=settings.max_message_bytes,
            clock=self.clock,
        )

    @cached_property
    def answerer(self) -> Answerer:
        """Return the answerer. Raise SettingsError for a bad agent, or a bad callable in CLEO_WORKFLOWS."""
        from cleo_email.agents.build import build_agent
        from cleo_email.pipeline.answer import Answerer
        from cleo_email.pipeline.deliver import Delivery
        from cleo_email.pipeline.workflows import ThreadOpener, load_suppliers

        settings, workflows = self.settings, self.settings.workflows or {}
        suppliers = load_suppliers(workflows)
        token = settings.agent_token.get_secret_value() if settings.agent_token else None
        agent = build_agent(settings.agent, token=token, environ=self._environ) if settings.agent else None
        filed, budget = self.mailbox is not None, self.budget
        delivery = Delivery(
            self.store,
            self.submitter,
            has_mailbox=filed,
            budget=budget,
            people=self.last_look,
            clock=self.clock,
        )
        sender_check = None
        if settings.verify_dkim:
            from cleo_email.screening.dkim import SenderCheck

            # Proofs that wait for DNS leave the others their threads.
            sender_check = SenderCheck(slow_at_once=max(1, settings.concurrency // 8))
        opening = ThreadOpener(self.store, self.sender, workflows, suppliers, timeout=settings.agent_timeout)
        return Answerer(
            self.store,
            agent,
            delivery,
            self.wake,
            self.signer,
            settings.from_address,
            self.policy,
            agent_timeout=settings.agent_timeout,
            max_attachment_bytes=settings.max_attachment_bytes,
            reply_all=settings.reply_all,
            closing=settings.closing,
            opening=opening,
            budget=self.budget,
            callbacks=self.callbacks,
            questions=self.questions,
            sender_check=sender_check,
            review=settings.review,
            drafts=settings.drafts,
            hand_over=self.hand_over,
            colleagues=self.colleagues,
            at_work=self.at_work,
            clock=self.clock,
        )

    @cached_property
    def at_work(self) -> AtWork:
        """More at once would wait for a connection to Redis."""
        return AtWork(CONNECTIONS)

    @cached_property
    def poller(self) -> Poller | None:
        """None without a mailbox."""
        if self.mailbox is None:
            return None
        from cleo_email.pipeline.poll import Poller
        from cleo_email.pipeline.upkeep import Upkeep

        settings, store, mailbox, receiver = self.settings, self.store, self.mailbox, self.receiver
        most = settings.max_message_bytes
        upkeep = Upkeep(
            store,
            mailbox,
            receiver,
            save_sent=settings.save_sent,
            max_bytes=most,
            mark_unanswered=settings.mark_unanswered,
            drafts=self.drafts,
            clock=self.clock,
        )
        return Poller(
            store,
            mailbox,
            receiver,
            upkeep,
            max_bytes=most,
            max_age_days=settings.max_age_days,
            interval_s=settings.poll_interval,
            clock=self.clock,
        )

    @cached_property
    def sweeper(self) -> Sweeper:
        from cleo_email.pipeline.sweep import Sweeper

        return Sweeper(
            self.store,
            self.wake,
            retention_days=self.settings.retention_days,
            budget=self.budget,
            handing_over=self.hand_over,
            clock=self.clock,
        )

    @cached_property
    def event_sender(self) -> EventSender | None:
        """None where CLEO_EVENTS_URL is not set."""
        settings = self.settings
        url = settings.events_url.get_secret_value()
        if not url:
            return None
        from cleo_email.monitoring.events import EventReceiver, EventSender

        secrets = [secret.get_secret_value() for secret in settings.events_secrets]
        return EventSender(self.store.event_log, EventReceiver(url, secrets, self._environ), clock=self.clock)

    @cached_property
    def recoverer(self) -> Recoverer | None:
        """None without a mailbox."""
        if self.mailbox is None:
            return None
        from cleo_email.pipeline.recover import Recoverer

        settings = self.settings
        return Recoverer(
            self.store,
            self.mailbox,
            self.receiver,
            max_bytes=settings.max_message_bytes,
            mark_unanswered=settings.mark_unanswered,
            clock=self.clock,
        )


# --- the process -------------------------------------------------------------------------------------------

_guard = threading.Lock()
_apps: dict[str, tuple[object, App]] = {}


def shared_app(use: str, key: object, build: Callable[[], App]) -> App:
    """Return this process's app for ``use``, built at the first call and again when ``key`` changes."""
    with _guard:
        if use not in _apps or _apps[use][0] != key:
            _apps.pop(use, None)
            _apps[use] = (key, build())
        return _apps[use][1]


def start_process() -> Settings:
    """Set up logging, memory and crash points, and return the settings, as ``settings_or_exit`` does.

    End the process too where REDIS_URL leads to a server of a kind that can never serve.
    """
    set_up_logging()
    give_back_large_blocks()
    arm(os.environ)
    settings = settings_or_exit()
    if settings.enabled:
        try:
            refuse_unsupported(settings.redis_url.get_secret_value())
        except SettingsError as error:
            print_faults(error)
            raise SystemExit(BAD_SETTINGS) from None
    return settings


def settings_or_exit() -> Settings:
    """Return the settings, or end with BAD_SETTINGS and a line per fault on standard error."""
    try:
        export_dotenv()
        return read_settings()
    except SettingsError as error:
        print_faults(error)
        raise SystemExit(BAD_SETTINGS) from None


def print_faults(error: SettingsError) -> None:
    for fault in error.faults:
        print(f"cleo-email: {fault}{no_dotenv()}", file=sys.stderr)
