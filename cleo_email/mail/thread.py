"""Choose the thread of a mail, compute the fingerprint of its copies, and strip prefixes of subjects."""

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from typing import Final

from cleo_email.mail.message_id import NO_PROOF, Proof
from cleo_email.mail.model import InboundEmail

_REPLY: Final = (
    "re|aw|antw|antwort|sv|svar|vs|vast|r|rif|res|resp|ré|rép|rep|réf|odp|ynt|yan|cevap|atb|vá|bls|ref|ha"
    "|απ|σχετ|отв|ответ|відп|נושא|השב|תגובה|رد|回复|回覆|答复|答覆|返信|답장|回信"
)
_FORWARD: Final = (
    "fw|fwd|fwrd|wg|tr|tv|vb|vl|vid|vidarebefordra|videresendt|rv|enc|pd|podaj|i|inol|inoltra|doorst|fs|trs"
    "|továbbítás|ilt|iletme|yml|πρθ|пересл|перес|пер|הועבר|إعادة توجيه|转发|轉寄|轉發|転送|전달"
)
# An optional count, as in Re[2]:, Re(3):, Re^4: and Re5:. White space has been collapsed before, so that
# no two quantifiers compete for the same blanks.
_COUNT: Final = r"(?: ?(?:\[\d{1,4}\]|\(\d{1,4}\)|\^\d{1,4})|\d{1,3})?"
_REPLY_PREFIX: Final = re.compile(rf" ?(?:{_REPLY}){_COUNT} ?[:：] ?", re.IGNORECASE)
_ANY_PREFIX: Final = re.compile(rf" ?(?:{_REPLY}|{_FORWARD}){_COUNT} ?[:：] ?", re.IGNORECASE)
# What a company's server puts before the marks: "[EXTERN] WG: x", "*** EXTERNAL *** FW: x", "EXT: WG: x".
_TAGS: Final = (
    r"(?: ?(?:\[[^\[\]]{1,40}\]|\([^()]{1,40}\)|\{[^{}]{1,40}\}|<[^<>]{1,40}>|\*{1,5}[^*:]{1,40}\*{1,5}"
    r"|(?:extern(?:al|e)?|ext|caution|achtung|spam)[!*]? ?:)){0,4}"
)
# "[Fwd: x]" is what older Mozilla programs write.
_FORWARD_PREFIX: Final = re.compile(rf"{_TAGS} ?\[?(?:{_FORWARD}){_COUNT} ?[:：]", re.IGNORECASE)
_TAGGED_REPLY: Final = re.compile(rf"{_TAGS} ?(?:{_REPLY}){_COUNT} ?[:：]", re.IGNORECASE)
_AMBIGUOUS_PREFIX: Final = re.compile(rf"{_TAGS} ?vs{_COUNT} ?:", re.IGNORECASE)
_MAX_SUBJECT: Final = 1000
_EMPTY_LINE: Final = re.compile(rb"\r?\n\r?\n")


def normalise_subject(subject: str, *, forwards: bool = False) -> str:
    """Return ``subject`` without its leading reply marks and with every run of white space as one blank.

    ``forwards`` takes ``Fwd:``, ``WG:`` and their like off as well. Any run of marks goes, in any order and
    language: ``AW: Re[2]: SV: Angebot`` is ``Angebot``. Letter case is kept. Takes time linear in the
    length of the subject.
    """
    collapsed = " ".join(subject.split())
    prefix = _ANY_PREFIX if forwards else _REPLY_PREFIX
    position = 0
    while match := prefix.match(collapsed, position):
        position = match.end()
    return collapsed[position:].strip()


def is_forward(subject: str) -> bool:
    """Return whether the first mark of the subject says that the mail was forwarded, as in ``WG: AW: x``."""
    return _FORWARD_PREFIX.match(_head(subject)) is not None


def is_reply(subject: str) -> bool:
    """Return whether the first mark of the subject says that the mail is an answer."""
    return _TAGGED_REPLY.match(_head(subject)) is not None


def may_be_forward(subject: str) -> bool:
    """Return whether it begins with ``VS:``, a forward in Danish and Norwegian and a reply in Finnish."""
    return _AMBIGUOUS_PREFIX.match(_head(subject)) is not None


def _head(subject: str) -> str:
    return " ".join(subject[:_MAX_SUBJECT].split())


def named_thread(mail: InboundEmail) -> str:
    """Return the thread that a mail names: its first reference, else its Message-ID, else its sender."""
    return next(iter(mail.references), "") or mail.message_id or by_sender(mail)


def by_sender(mail: InboundEmail) -> str:
    """Return the thread for mail of this sender that names no other thread.

    A web form that writes from the mailbox to the mailbox names its customer in Reply-To: their mail must not
    be one thread.
    """
    itself = mail.from_ and any(one.key == mail.from_[0].key for one in mail.to)
    others = (one.addr for one in mail.reply_to if itself and one.addr and one.key != mail.from_[0].key)
    return f"email:{next(others, mail.from_address)}"


def own_threads(mail: InboundEmail) -> list[str]:
    """Return names for a new thread of the mail, the last of which is always open to its sender."""
    return [*([mail.message_id] if mail.message_id else []), by_sender(mail)]


def quoted_ids(mail: InboundEmail) -> list[str]:
    """Return Message-IDs that may lead to a thread: In-Reply-To, then References from the newest."""
    return list(dict.fromkeys([*mail.in_reply_to, *reversed(mail.references)]))


def choose_thread(
    mail: InboundEmail, ours: Mapping[str, str], people: Mapping[str, frozenset[str]], proof: Proof = NO_PROOF
) -> str:
    """Return the thread of ``mail``.

    ``ours`` maps those of its quoted Message-IDs that we sent to their threads; ``people`` holds the
    participants of each possible thread. A thread with participants is open only to them: a stranger who
    quotes its ids gets a new thread without its history. ``proof`` is the result for signed ids among the
    quoted ones if the store knows none of them: it leads to their thread, or excludes the quoted one.
    """
    sender = mail.from_[0].key if mail.from_ else ""
    for message_id in quoted_ids(mail):
        thread = ours.get(message_id)
        if thread is not None and sender in people.get(thread, frozenset()):
            return thread
    named = [mail.message_id] if proof.denied else threads_in_question(mail, ours, proof)[len(ours) :]
    for thread in filter(None, named):
        members = people.get(thread, frozenset())
        if not members or sender in members:
            return thread
    return by_sender(mail)


def threads_in_question(mail: InboundEmail, ours: Mapping[str, str], proof: Proof = NO_PROOF) -> list[str]:
    """Return every thread whose people ``choose_thread`` has to know, first those that ``ours`` leads to."""
    proven = [proof.thread] if proof.thread else []
    return [*ours.values(), *proven, named_thread(mail), *([mail.message_id] if mail.message_id else [])]


def fingerprint(mail: InboundEmail, source: bytes) -> tuple[str, str]:
    """Return the fingerprint of all copies of a mail, and its Date in seconds since 1970, '' for none.

    With a Message-ID: that, the From address and the subject without reply prefixes; the same Message-ID can
    carry two real mails. Without one only the same bytes are the same mail.
    """
    if not mail.message_id:
        return "bytes:" + hashlib.sha256(source).hexdigest(), ""
    sender = mail.from_[0].key if mail.from_ else ""
    parts = [mail.message_id, sender, normalise_subject(mail.subject).casefold()]
    date = str(int(mail.date.timestamp())) if mail.date else ""
    return "mail:" + hashlib.sha256(json.dumps(parts).encode()).hexdigest(), date


def content_hash(mail: InboundEmail, source: bytes) -> str:
    """Return a hash, in hexadecimal, of what a mail says and of whom it concerns.

    White space is left out, as servers change it.
    """
    found = _EMPTY_LINE.search(source)
    body = source[found.end() :] if found else source
    people = [sorted(address.key for address in field) for field in (mail.reply_to, mail.to, mail.cc)]
    digest = hashlib.sha256(json.dumps(people).encode())
    digest.update(body.translate(None, b" \t\r\n"))
    return digest.hexdigest()


def people_of(mail: InboundEmail, own: frozenset[str]) -> Sequence[str]:
    """Return the addresses (lower case) that take part in a thread once this mail is accepted into it."""
    people = dict.fromkeys(address.key for address in (*mail.from_, *mail.to, *mail.cc))
    return [address for address in people if address and address not in own][:200]
