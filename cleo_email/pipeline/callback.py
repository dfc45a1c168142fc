"""Answers that come later, from an HTTP agent by callback or from any process of a Python agent.

A message that waits for its agent costs nothing: it stays ``answering``, its conversation is due at the
deadline, and no thread waits. What is given is stored first; then the worker goes on as if the agent had
answered at that moment.
"""

import hashlib
import hmac
import json
from base64 import urlsafe_b64encode
from collections.abc import Callable, Mapping, Sequence
from dataclasses import KW_ONLY, dataclass

from cleo_email.agents.base import EXPECTED as FORMS
from cleo_email.agents.base import Callback, final_answer, payload_of
from cleo_email.crashpoints import crashpoint
from cleo_email.errors import AgentError, AlreadyAnswered, NotFound, WrongState
from cleo_email.mail.model import Answer
from cleo_email.runtime import HOUR, Clock, now_ms
from cleo_email.scrub import one_line
from cleo_email.store import Given, Record, Store, iso
from cleo_email.store.queue import WakeQueue

PATH = "/email/answers/"
MAX_PROGRESS = 500  # characters
ACCEPTED, DUPLICATE = "accepted", "duplicate"


@dataclass(frozen=True)
class Progress:
    """How far the agent has come, in its words."""

    said: str


def read_given(payload: object) -> Answer | Progress:
    """Return what a callback says. Raise AgentError where it is neither an answer nor progress."""
    if isinstance(payload, Mapping) and payload.get("progress") is not None:
        said, others = payload["progress"], [key for key in payload if key != "progress"]
        shown = one_line(said, MAX_PROGRESS) if isinstance(said, str) else ""
        if others or not shown:
            raise AgentError(f'expected {{"progress": "..."}} alone, with a text, or an answer: {FORMS}')
        return Progress(shown)
    return final_answer(payload)


@dataclass
class Callbacks:
    """Offers agents to answer later, and takes what they give.

    ``keys`` make the tokens: the first signs and each proves. ``url`` is CLEO_PUBLIC_URL, '' where it is not
    set, ``deadline_ms`` is CLEO_AGENT_DEADLINE_HOURS.
    """

    store: Store
    wake: WakeQueue
    keys: Callable[[], Sequence[bytes]]
    _: KW_ONLY
    url: str = ""
    deadline_ms: int = 24 * HOUR
    clock: Clock = now_ms

    # --- the worker's side ----------------------------------------------------------------------------------

    def offer(self, record: Record) -> Callback:
        """Return where and with what the open question to the agent may be answered later."""
        url = f"{self.url}{PATH}{record.id}" if self.url else None
        return Callback(url=url, token=_token(self.keys()[0], record.id, record.asked))

    def given(self, record: Record) -> Answer | None:
        """Return the answer that was given to the open question, None where there is none."""
        stored = self.store.callbacks.given(record.id) if record.given else None
        return None if stored is None else final_answer(json.loads(stored))

    def deadline(self) -> tuple[int, str]:
        """Return until when an agent that begins now may work, and the words for it."""
        until = self.clock() + self.deadline_ms
        return until, f"the agent works on it until {iso(until)}"

    def over(self, record: Record) -> str:
        """Return why a message fails for which the waiting is over."""
        who = "nobody answered the agent's question" if record.asking else "the agent gave no answer"
        return f"{who} within {self.deadline_ms / HOUR:g} h (CLEO_AGENT_DEADLINE_HOURS)"

    # --- the agent's side -----------------------------------------------------------------------------------

    def number(self, id_: str, token: str) -> int | None:
        """Return the number of the open question where the token is for it, else None. Raise NotFound."""
        record = self.store.messages.get(id_)
        shown = token.encode("utf-8", "replace")
        right = [_token(key, record.id, record.asked).encode() for key in self.keys()]
        return record.asked if sum(hmac.compare_digest(shown, one) for one in right) else None

    def give(self, id_: str, given: Answer | Progress, number: int | None = None) -> str:
        """Store the answer, or the progress, durably; return ACCEPTED, or DUPLICATE for the same once more.

        ``number`` is that of the question which it is for, None for the one that is open. Raise NotFound,
        AlreadyAnswered (another answer was first), WrongState (it waits for none) and StoreUnavailable.
        """
        self.store.messages.get(id_)  # other text than an id could name a key beside the record
        now = self.clock()
        if isinstance(given, Progress):
            found = self.store.callbacks.progress(id_, number, self._reason(id_, given), now)
        else:
            payload = json.dumps(payload_of(given), sort_keys=True).encode("ascii")
            digest = hashlib.sha256(payload).hexdigest()
            found = self.store.callbacks.give(id_, number, digest, payload, now)
        if found.outcome in (ACCEPTED, DUPLICATE):
            crashpoint("callback-after-store")
            if not isinstance(given, Progress):
                self.wake.wake(self.store.messages.get(id_).thread_id)
            return found.outcome
        raise _refused(id_, found)

    def _reason(self, id_: str, progress: Progress) -> str:
        until = self.store.messages.get(id_).waits_until
        return f"the agent works on it{f' until {iso(until)}' if until else ''}: {progress.said}"


def _refused(id_: str, found: Given) -> Exception:
    if found.outcome == "missing":
        return NotFound(f"there is no message {id_!r}")
    if found.outcome == "another":
        return AlreadyAnswered(f"the agent has answered message {id_} otherwise before; that stands")
    if found.outcome == "stale":
        return WrongState(f"the agent was asked about message {id_} once more; that question is void")
    why = f": {found.reason}" if found.reason else ""
    return WrongState(f"message {id_} waits for no answer of the agent, it is {found.state}{why}")


def _token(key: bytes, id_: str, number: int) -> str:
    """Return the token for one question; from one token no other can be made."""
    data = json.dumps(["cleo-email callback 1", id_, number]).encode()
    return urlsafe_b64encode(hmac.digest(key, data, "sha256")).decode("ascii").rstrip("=")
