"""How an alert reaches people: by mail of our own, or by what apprise knows (chats, telephones, webhooks)."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import KW_ONLY, dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Protocol

from cleo_email.errors import CleoError, SubmissionLoginRefused
from cleo_email.mail import wire
from cleo_email.mail.compose import compose_message
from cleo_email.mail.message_id import new_alert_id
from cleo_email.mail.model import Address
from cleo_email.runtime import MINUTE, Clock, now_ms
from cleo_email.store import Store

if TYPE_CHECKING:
    from apprise import Apprise

    from cleo_email.smtp.pool import Submitter

log = logging.getLogger(__name__)

APPRISE_S = 30.0  # its own time-outs begin anew with each byte that comes
PROBE = "submission-probe"  # the tick of whoever tries a server that has refused the login


class AlertWay(Protocol):
    """``name`` holds no secret."""

    @property
    def name(self) -> str: ...

    def send(self, subject: str, text: str) -> None:
        """Return once it has left. Raise CleoError where it has not, or may not have."""


@dataclass
class ByMail:
    """One mail to all ``people``, submitted at once: it waits in no queue, and counts for no limit."""

    store: Store
    submitter: Callable[[], Submitter]
    from_: Address
    people: Sequence[Address]
    _: KW_ONLY
    clock: Clock = now_ms

    @property
    def name(self) -> str:
        return f"mail to {', '.join(one.addr for one in self.people)}"

    def send(self, subject: str, text: str) -> None:
        health, now = self.store.health.read(), self.clock()
        fault = health.submission_fault
        # The same bounds as for all mail: a server that refuses must not be knocked at.
        rests = now < health.submission_rests_until
        if fault and (rests or not self.store.ticks.tick(PROBE, MINUTE)):
            raise CleoError(f"nothing can be sent: {fault}")
        mail = compose_message(
            from_=self.from_,
            to=self.people,
            subject=f"[{self.from_.addr}] {subject}",
            markdown="",
            content=wire.text_part("plain", wire.clean_text(text)),
            message_id=new_alert_id(self.from_.addr.rpartition("@")[2]),
            date=datetime.fromtimestamp(now / 1000, UTC),
        )
        try:
            receipt = self.submitter().submit(mail, before_end_of_data=lambda: None)
        except SubmissionLoginRefused as error:
            self.store.health.submission_fault(str(error))
            self.store.ticks.next_tick(PROBE, MINUTE)
            raise
        if fault:
            self.store.health.submission_fault("")
            self.store.alerts.write("login", sent=0)  # it works, though no mail of the mailbox has left yet
        for who, said in {**receipt.refused, **receipt.deferred}.items():
            log.error("%s cannot be told by mail: %s", who, said)


@dataclass
class ByApprise:
    """One URL of apprise, whose parts may all be secret but its scheme."""

    url: str
    _thread: threading.Thread | None = field(init=False, default=None)

    @property
    def name(self) -> str:
        return f"{self.url.partition(':')[0].lower()}://…"

    def sender(self) -> Apprise:
        """Raise CleoError where apprise does not understand the URL."""
        import apprise

        logging.getLogger("apprise").setLevel(logging.CRITICAL)  # it would tell parts of the URL
        asset = apprise.AppriseAsset(app_id="cleo_email", app_desc="cleo_email", app_url="")
        sender = apprise.Apprise(asset=asset)
        if not sender.add(self.url):
            raise CleoError(f"{self.name} is no URL that apprise understands (CLEO_ALERT_TO)")
        return sender

    def send(self, subject: str, text: str) -> None:
        if self._thread is not None and self._thread.is_alive():
            raise CleoError(f"{self.name} has not answered the alert before yet")
        sender, taken = self.sender(), threading.Event()

        def notify() -> None:
            with suppress(Exception):  # the thread's outermost edge; what it says may show the URL
                if sender.notify(title=subject, body=text, notify_type="warning", body_format="text"):
                    taken.set()

        self._thread = threading.Thread(target=notify, name="cleo-apprise", daemon=True)
        self._thread.start()
        self._thread.join(APPRISE_S)
        if self._thread.is_alive():
            raise CleoError(f"{self.name} gave no answer within {APPRISE_S:g} s")
        if not taken.is_set():
            raise CleoError(f"{self.name} did not take it")
