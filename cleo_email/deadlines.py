"""How long the parts of a job may take, in seconds.

Nothing can interrupt a thread: each part has its own end, and the watchdog, which ends the whole process,
waits for all of them together.
"""

from __future__ import annotations

import time

# One operation of a worker on Redis: a connection of the pool becomes free, and is tried several times.
REDIS_POOL_S = 20
REDIS_CONNECT_S = 3
REDIS_ANSWER_S = 15
REDIS_RETRIES = 4
REDIS_PAUSE_S = 1.0  # the longest between two tries
REDIS_S = (
    REDIS_POOL_S + (1 + REDIS_RETRIES) * (REDIS_CONNECT_S + REDIS_ANSWER_S) + REDIS_RETRIES * REDIS_PAUSE_S
)

# Whether the sender is proven: for each signature the policies of two domains, and a key.
DNS_S = 4.0  # one question, its repetitions included
SIGNATURES_TRIED = 5
QUESTIONS_EACH = 3
PROOF_S = SIGNATURES_TRIED * QUESTIONS_EACH * DNS_S

# Large mails are composed and sent a few at a time.
COMPOSING_TURN_S = 120.0
SENDING_TURN_S = 30.0

TOKEN_RENEWAL_S = 30.0  # by another process
TOKEN_REQUEST_S = 15.0

SUBMISSION_S = 180.0  # waiting for a connection, and a second one, included
# A fact that is known here alone waits so long for Redis.
RECORD_S = 120.0

# An operation that Redis leaves unanswered ends the job, but for those around the end of DATA: the mark
# before it, the one at which the waiting ends, and one more without the lock.
AROUND_THE_AGENT_S = (
    PROOF_S
    + COMPOSING_TURN_S
    + SENDING_TURN_S
    + TOKEN_RENEWAL_S
    + TOKEN_REQUEST_S
    + SUBMISSION_S
    + RECORD_S
    + 3 * REDIS_S
)


class Deadline:
    """Ends ``seconds`` after it was made, however many waits are made under it."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self.end = time.monotonic() + seconds

    def left(self) -> float:
        """Return the seconds left, always more than 0 (a socket time-out of 0 would mean "do not block").

        :raises TimeoutError: nothing is left.
        """
        left = self.end - time.monotonic()
        if left <= 0:
            raise TimeoutError(self.said)
        return left

    def cap(self, seconds: float) -> float:
        """Return ``seconds``, or what is left if that is less. Raises as :meth:`left` does."""
        return min(seconds, self.left())

    @property
    def said(self) -> str:
        """What to say once it is over."""
        return f"no answer within {round(self.seconds, 2):g} s"
