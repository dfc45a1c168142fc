"""The decisions that a person takes about waiting messages: release, retry, dismiss."""

from dataclasses import KW_ONLY, dataclass

from cleo_email.errors import UnreadableMessage, WrongState
from cleo_email.mail.parse import parse
from cleo_email.mail.thread import own_threads, people_of
from cleo_email.runtime import Clock, now_ms
from cleo_email.screening.screen import Policy
from cleo_email.store import AT_WORK, WAITING, Effects, Record, State, Store
from cleo_email.store.queue import WakeQueue

# The counters that limit the work on a message start again at the decision.
BEGUN_ANEW = ("tries", "faults", "sends", "sends_since", "data_ended_at")


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

        An uncertain message that was sent after all would then arrive twice, with the same Message-ID. A
        message that waits for its next try is tried now. Raise NotFound, WrongState, StoreUnavailable.
        """
        record = self.store.messages.get(id_)
        if record.state in AT_WORK and self.store.conversations.hurry(record.thread_id, self.clock()):
            self.wake.wake(record.thread_id)
            return record
        if record.state not in (State.FAILED, State.UNCERTAIN):
            raise WrongState(
                f"message {id_} is {record.state}; only failed and uncertain ones can be retried"
            )
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
        self.store.messages.move(id_, State.IGNORED, now=now, reason=reason, only_from=[record.state])
        return self.store.messages.get(id_)

    def _again(self, record: Record, reason: str, *, released: bool = False) -> None:
        thread = record.thread_id
        kept = self.store.messages.answer(record.id) is not None
        fields: dict[str, str | int] = dict.fromkeys(BEGUN_ANEW, 0)
        if released:
            fields["released"] = 1
            thread = self._admit(record, kept=kept)
        to = State.SUBMITTING if kept else State.RECEIVED
        fetch = bool(record.partial) and not kept
        effects, now, only_from = Effects(fields=fields, push=not fetch), self.clock(), [record.state]
        self.store.messages.move(record.id, to, now=now, reason=reason, effects=effects, only_from=only_from)
        if fetch:
            self.store.fetching.add(record.id, now)
        else:
            self.wake.wake(thread)

    def _admit(self, record: Record, *, kept: bool) -> str:
        """Add the people named in a released mail to its thread, as with any accepted mail.

        Return the thread's id, a new one if the thread has other participants by now.
        """
        source = self.store.messages.source(record.id)
        if source is None and kept:
            return record.thread_id  # a mail that Cleo writes first names only its recipients
        if source is None:
            raise WrongState(f"message {record.id} can no longer be answered: its source was dropped")
        try:
            mail = parse(source)
        except UnreadableMessage:
            return record.thread_id
        people = people_of(mail, self.policy.own_addresses)
        sender = mail.from_[0].key if mail.from_ else ""
        return self.store.threads.admit(record.id, sender, people, own_threads(mail), self.clock())
