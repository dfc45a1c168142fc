"""Tells CLEO_EVENTS_URL of every change of state, as https://www.standardwebhooks.com describes it."""

import json
import logging
import threading
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime

from standardwebhooks import Webhook

from cleo_email.crashpoints import crashpoint
from cleo_email.errors import StoreUnavailable, place_of
from cleo_email.http.address import web_address
from cleo_email.http.client import MAX_ERROR_BYTES, AnswerTooLarge, HttpClient
from cleo_email.runtime import DAY, MINUTE, SECOND, Clock, Deadline, SeldomLog, backoff_ms, now_ms
from cleo_email.scrub import one_line
from cleo_email.store import Event, EventLog

log = logging.getLogger(__name__)

SETTING = "CLEO_EVENTS_URL"
AT_ONCE = 8  # messages of which an event is on its way
ANSWER_S = 15.0
LOOK_S = 10.0  # between two looks for what is due, or for what other processes have added
GIVE_UP_MS = DAY
MOST_REST_MS = MINUTE  # of all events, while the receiver does not answer
GONE = 410
AWAY = frozenset({429, 502, 503, 504})  # whatever the event is


class EventReceiver:
    """The URL that gets the events. Raise SettingsError where it cannot be used."""

    def __init__(self, url: str, secrets: Sequence[str], environ: Mapping[str, str]) -> None:
        address = web_address(SETTING, url)
        # Of an answer nothing but its status counts, and many come side by side.
        self._client = HttpClient(address, environ, authorization=address.basic, max_bytes=MAX_ERROR_BYTES)
        self._signers = [Webhook(secret) for secret in secrets]
        self._hidden = (address.basic, *address.secrets)

    def __str__(self) -> str:
        return str(self._client.address)

    def post(self, id_: str, body: str) -> int:
        """Post one event and return the status of the answer. Raise OSError where there was none."""
        at = datetime.now(UTC)  # of this attempt: receivers refuse what is older than some minutes
        headers = {
            "Content-Type": "application/json",
            "webhook-id": id_,
            "webhook-timestamp": str(int(at.timestamp())),
            "webhook-signature": " ".join(signer.sign(id_, at, body) for signer in self._signers),
        }
        try:
            return self._client.post(body.encode(), headers, Deadline(ANSWER_S)).status
        except AnswerTooLarge:  # of a success: its text is of no interest
            return 200

    def shown(self, error: OSError) -> str:
        """Return the error as a log may show it."""
        return one_line(error.strerror or str(error), 120, without=self._hidden)


class EventSender:
    """Delivers events from a thread of its own: those of one message in order, several messages at once."""

    def __init__(self, event_log: EventLog, receiver: EventReceiver, *, clock: Clock = now_ms) -> None:
        self._log = event_log
        self._receiver = receiver
        self._clock = clock
        self._slots = threading.Semaphore(AT_ONCE)
        self._faults = SeldomLog()

    def run(self, stop: threading.Event) -> None:
        """Deliver until ``stop`` is set. What is on its way then is told again later, if it must be."""
        while not stop.is_set():
            self._log.added.clear()
            try:
                found = self.start_due()
            except StoreUnavailable:  # the ticker says so
                found = 0
            except Exception as error:  # noqa: BLE001 - if this thread ended, nobody would be told anything
                found = 0
                if self._faults.is_due(place_of(error)):
                    log.error("events cannot be delivered: unexpected %s", place_of(error))
            if not found:
                self._log.added.wait(LOOK_S)  # set by a new event, and by the end of a delivery

    def start_due(self) -> int:
        """Begin to deliver what is due, as far as there is room. Return how many events that were."""
        free = 0
        while free < AT_ONCE and self._slots.acquire(blocking=False):
            free += 1
        events: list[Event] = []
        try:
            events = self._log.take(self._clock(), free) if free else []
        finally:
            for _ in range(free - len(events)):
                self._slots.release()
        for event in events:
            threading.Thread(target=self._deliver_in_slot, args=(event,), name="event", daemon=True).start()
        return len(events)

    def _deliver_in_slot(self, event: Event) -> None:
        try:
            self.deliver(event)
        except StoreUnavailable:
            pass  # told again once its lease is over
        except Exception as error:  # noqa: BLE001 - nobody else would see it
            if self._faults.is_due(place_of(error)):
                log.error("event %s: unexpected %s", event.id, place_of(error))
        finally:
            self._slots.release()
            self._log.added.set()

    def deliver(self, event: Event) -> None:
        """Post the event, and note what came of it. Raise StoreUnavailable."""
        body = event.body()
        if body is None:
            self._log.rest_until(0)
            self._give_up(event, "its record is damaged")
            return
        crashpoint("event-before-post")
        away, fault = False, ""
        try:
            status = self._receiver.post(event.id, json.dumps(body))
            if status == GONE:
                self._log.rest_until(0)
                self._give_up(event, f"{self._receiver} answered 410 (gone)")
                return
            if not 200 <= status < 300:
                away = status in AWAY
                not_followed = ", a redirect, which is not followed" if 300 <= status < 400 else ""
                fault = f"{self._receiver} answered {status}{not_followed}"
        except OSError as error:
            away, fault = True, f"{self._receiver}: {self._receiver.shown(error)}"
        crashpoint("event-after-post")
        if fault:
            self._failed(event, fault, away=away)
        else:
            self._log.delivered(event, self._clock())

    def _failed(self, event: Event, fault: str, *, away: bool) -> None:
        now = self._clock()
        since, dropped = self._log.failure(now, fault)
        # Where it is away each of the others would fail too; where it answers, only this one is at fault.
        rest = now + min(max((now - since) // 4, SECOND), MOST_REST_MS)
        self._log.rest_until(rest if away else 0)
        if dropped and self._faults.is_due(f"{dropped} dropped"):
            log.error(
                "%d changes of state were not kept for %s: too many events wait for it", dropped, SETTING
            )
        if event.failed and now - event.failed_since >= GIVE_UP_MS:
            self._give_up(event, fault)
            return
        self._log.try_again(event, now, now + backoff_ms(event.failed + 1))
        if self._faults.is_due(fault):
            log.warning("%s: %s; the events wait, and are tried again for 24 hours", SETTING, fault)

    def _give_up(self, event: Event, why: str) -> None:
        self._log.given_up(event, self._clock())
        log.error("event %s is given up (repeat: cleo-email events resend): %s", event.id, why)
