"""Named instants at which ``script/crash-test`` kills this process.

In production nothing is armed and ``crashpoint`` costs a comparison. With ``CLEO_CRASH_AT=name`` (or
``name:3`` for the third time) the process says so on standard error and ends by SIGKILL there.
"""

import os
import signal
import threading
from collections.abc import Mapping

# In the order of a mail's way. The names are stable: the table in docs/reliability.md uses them.
POINTS = {
    "poll-after-search": "the inbox was searched, nothing is fetched yet",
    "poll-after-fetch": "a mail was fetched, nothing is stored yet",
    "poll-after-accept": "the mail is stored, not yet marked as read",
    "poll-after-seen": "the mail is marked as read, the poll has not noted how far it came",
    "accept-before-store": "the mail was parsed and judged, nothing is stored yet",
    "accept-after-store": "record and source are stored; of a poll nobody is woken yet",
    "accept-after-wake": "a worker is woken",
    "web-before-answer": "the mail is stored, the webhook's caller has no answer yet",
    "job-after-take": "a worker took the wake-up off the queue and holds no lock yet",
    "answer-after-lock": "the conversation is locked and its next message read",
    "answer-before-agent": "the record says answering, the agent is not asked yet",
    "answer-after-agent": "the agent has answered, nothing of it is stored",
    "callback-after-wait": "it is noted that the agent answers later",
    "callback-after-store": "an answer by callback is stored, nobody is woken, its caller has no answer yet",
    "question-after-keep": "a question of the agent's is stored and waited for, nobody is woken",
    "question-after-resume": "the agent is to go on with the reply, whose record says received",
    "answer-after-compose": "the mail is composed, not stored",
    "answer-after-keep": "the mail to be sent is stored with its Message-ID",
    "review-after-keep": "the answer is stored and waits for a person",
    "handoff-after-keep": "the thread is handed over to people, the mail about it is not stored",
    "handoff-after-store": "the mail about the hand-over is stored, which is not noted",
    "submit-before-data": "the submission begins",
    "submit-before-end-of-data": "the server has the text of the mail, not its final dot",
    "submit-after-look": "Sent was read once more, nobody has answered; the final dot is not announced",
    "submit-after-mark": "it is noted that the final dot follows; the dot is not sent",
    "submit-after-end-of-data": "the final dot is sent, its answer not read",
    "submit-after-250": "the server has accepted the mail, nothing is recorded",
    "submit-after-record": "the record says replied",
    "answer-before-next": "the conversation's lock is released, nobody is woken for the next message",
    "chores-before-flags": "the mail in the inbox is about to be flagged as answered",
    "chores-after-flags": "it is flagged",
    "chores-before-sent": "our copy is about to be put into Sent",
    "chores-after-sent": "our copy is in Sent, which is not noted",
    "draft-before-put": "it is noted that a draft follows, nothing is in Drafts yet",
    "draft-after-put": "the draft is in Drafts, its place is not noted",
    "draft-before-remove": "it is noted that the draft is to go, it is there",
    "draft-after-remove": "the draft is gone, which is not noted",
    "takeover-before-store": "our answers are withdrawn, the person's own is not stored",
    "takeover-after-store": "the person's answer is stored, and the thread is the person's",
    "takeover-before-cursor": "a mail in Sent is taken up, how far Sent was read is not noted",
    "decide-after-thread": "a person has got a thread, or given it back; what is held there is as before",
    "decide-after-move": "a person's decision is stored, nobody is woken",
    "event-before-post": "an event is about to be told, nothing is sent",
    "event-after-post": "the receiver has the event, which is not noted",
    "settle-after-find": "Sent shows that an uncertain mail was sent, which is not recorded",
}

_guard = threading.Lock()
_armed: dict[str, int] = {}


def arm(environ: Mapping[str, str]) -> None:
    """Read ``CLEO_CRASH_AT``. Refuse unknown names, so that a test cannot pass by a typing error."""
    wanted = environ.get("CLEO_CRASH_AT", "")
    if not wanted:
        return
    name, _, count = wanted.partition(":")
    if name not in POINTS:
        raise ValueError(f"CLEO_CRASH_AT: there is no point {name!r}")
    _armed[name] = int(count or 1)


def crashpoint(name: str) -> None:
    """End the process here if ``CLEO_CRASH_AT`` names this point."""
    if not _armed or name not in _armed:
        return
    with _guard:
        _armed[name] -= 1
        if _armed[name] <= 0:
            os.write(2, f"CLEO_CRASH_AT: killed at {name}\n".encode())
            os.kill(os.getpid(), signal.SIGKILL)
