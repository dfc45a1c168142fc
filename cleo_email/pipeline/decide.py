"""The decisions that a person takes about waiting messages: release, retry, dismiss."""

from dataclasses import KW_ONLY, dataclass

from cleo_email.errors import UnreadableMessage, WrongState
from cleo_email.mail.parse import parse
from cleo_email.mail.thread import own_threads, people_of
from cleo_email.pipeline.budget import UNASKED
from cleo_email.runtime import Clock, now_ms
from cleo_email.screening.screen import Policy
from cleo_email.store import AT_WORK, WAITING, Effects, Record, State, Store, later_of
from cleo_email.store.queue import WakeQueue

# The counters that limit the work on a message start again at the decision.
BEGUN_ANEW = ("tries", "faults", "sends", "sends_since", "data_ended_at", "begun")


@dataclass
class Decisions:
    store: Store
    wake: WakeQueue
    policy: Policy
    _: KW_ONLY
    clock: Clock = now_ms

    def release(self, id_: str) -> Record:
        """Let a held or ignored message through. Raise NotFound, WrongState, StoreUnavailable."""
        record = self.store.messages.get(id_)
        if record.state not in (State.HELD, State.IGNORED):
            raise WrongState(
                f"message {id_} is {record.state}, neither held nor ignored; there is nothing to release"
            )
        if record.data_ended_at:  # dismissed as uncertain
            raise WrongState(f"the answer to message {id_} may have been sent already; it is not sent again")
        self._again(record, "released by a person", released=True)
        return self.store.messages.get(id_)

    def retry(self, id_: str) -> Record:
        """Try a failed or uncertain message again: a stored answer is sent as it is, else the agent is asked.

        An uncertain message that was sent after all would then arrive twice, with the same Message-ID. One
        that bounced goes to those from whom it came back. A message that waits for its next try, or for some
        of its recipients, is tried now. Raise NotFound, WrongState, StoreUnavailable.
        """
        record = self.store.messages.get(id_)
        waits = later_of(id_) if record.state is State.REPLIED and record.pending else record.thread_id
        if record.state in AT_WORK or waits != record.thread_id:
            self.store.health.submission_rests_no_more()
            if self.store.conversations.hurry(waits, self.clock()):
                self.wake.wake(waits)
                return record
        came_back = record.state is State.REPLIED and record.bounced
        if record.state not in (State.FAILED, State.UNCERTAIN) and not came_back:
            which = "only failed and uncertain ones, and what bounced, can be retried"
            raise WrongState(f"message {id_} is {record.state}; {which}")
        self._again(record, "retried by a person")
        return self.store.messages.get(id_)

    def dismiss(self, id_: str) -> Record:
        """End a message that waits, as ``ignored``: a person has seen it, and nothing is sent.

        Raise NotFound, WrongState, StoreUnavailable.
        """
        record = self.store.messages.get(id_)
        if record.state not in WAITING:
            raise WrongState(
                f"message {id_} is {record.state}; only held, failed and uncertain ones can be dismissed"
            )
        reason, now = f"dismissed by a person; before that {record.state}: {record.reason}", self.clock()
        effects, only_from = Effects(filing=self._filing(record)), [record.state]
        move = self.store.messages.move
        move(id_, State.IGNORED, now=now, reason=reason, effects=effects, only_from=only_from)
        return self.store.messages.get(id_)

    def _again(self, record: Record, reason: str, *, released: bool = False) -> None:
        thread = record.thread_id
        kept = self.store.messages.answer(record.id) is not None
        if record.bounced and not kept:
            raise WrongState(
                f"message {record.id} bounced, and its bytes were dropped by then: they are kept for 7 days"
            )
        fields: dict[str, str | int] = dict.fromkeys(BEGUN_ANEW, 0)
        if record.bounced:
            fields |= {"pending": record.bounced, "bounced": ""}
        if released:
            fields["released"] = 1
            thread = self._admit(record, kept=kept)
        to = State.SUBMITTING if kept else State.RECEIVED
        fetch = bool(record.partial) and not kept
        effects = Effects(fields=fields, push=not fetch, filing=self._filing(record))
        now, only_from = self.clock(), [record.state]
        self.store.messages.move(record.id, to, now=now, reason=reason, effects=effects, only_from=only_from)
        if fetch:
            self.store.fetching.add(record.id, now)
        else:
            self.wake.wake(thread)

    def _filing(self, record: Record) -> int | None:
        """Return when the mail in the mailbox is to be flagged by its new state, None where there is none."""
        return self.clock() if record.mailbox else None

    def _admit(self, record: Record, *, kept: bool) -> str:
        """Add the people named in a released mail to its thread, as with any accepted mail.

        Return the thread's id, a new one if the thread has other participants by now.
        """
        source = self.store.messages.source(record.id)
        if source is None and not kept:
            raise WrongState(f"message {record.id} can no longer be answered: its source was dropped")
        if source is None or record.ingress in UNASKED:
            return record.thread_id  # a mail that Cleo writes first names only its recipients
        try:
            mail = parse(source)
        except UnreadableMessage:
            return record.thread_id
        sender = mail.from_[0].key if mail.from_ else ""
        # If the sender is not who he says, those whom he names in Cc are of his choice.
        people = people_of(mail, self.policy.own_addresses) if record.authenticated != "0" else [sender]
        return self.store.threads.admit(record.id, sender, people, own_threads(mail), self.clock())
