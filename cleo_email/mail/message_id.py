"""Our signed Message-IDs, from which only we can tell the thread and the recipients.

``<cleo-KKKNNNNNNNNNNNNN.TTTTTTTTTTTTT@domain>``: the name of the key, a nonce, and for each of the first
three recipients a tag, HMAC-SHA256 over nonce, thread and recipient. A client that answers sends the id back
in In-Reply-To and References together with the thread's first id, so that the thread is found again without
any record of ours; and an id that was guessed, copied or forwarded gives no other sender access to it.
"""

import base64
import hashlib
import hmac
import json
import re
import secrets
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from cleo_email.errors import InvalidField
from cleo_email.mail import wire
from cleo_email.mail.address import a_label, ascii_domain, person
from cleo_email.mail.model import Address, InboundEmail

NONCE_BYTES = 8
_TOKEN = re.compile(r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~.-]+\Z")
_TAG = 13  # base32 characters of 64 bits: a guesser has one try for each mail that is accepted
_KEY_NAME = 3
_SIGNED_RECIPIENTS = 3
_LOOKED_AT = 10
_CANDIDATES = 300
_ALERT = "cleo-alert."
_OURS = re.compile(rf"<cleo-([a-z2-7]{{3}})([a-z2-7]{{13}})\.((?:[a-z2-7]{{{_TAG}}}){{1,3}})@([^<>@]+)>")
# The thread of a mail that begins one is named by the very id that is being made.
ITSELF = ""


@dataclass(frozen=True)
class Proof:
    """The result of checking the quoted ids.

    ``thread``: the one in which the sender got a mail of ours, '' for no proof. ``denied``: ids of ours are
    quoted, and none of them was for this sender.
    """

    thread: str = ""
    denied: bool = False


NO_PROOF = Proof()


class Signer:
    """Makes and judges Message-IDs. Of the ``keys``, fetched at each use, the first signs and each proves."""

    def __init__(self, domain: str, keys: Callable[[], Sequence[bytes]]) -> None:
        self._domain = a_label(domain)
        self._keys = keys

    def token(self, thread: str, recipients: Iterable[Address], nonce: bytes) -> str:
        """Return the left side of a new Message-ID in ``thread`` (``ITSELF``: the mail begins it)."""
        key, text = self._keys()[0], _base32(nonce)
        people = list(dict.fromkeys(person(address.addr) for address in recipients))[:_SIGNED_RECIPIENTS]
        tags = "".join(_tag(key, text, thread, one) for one in people)
        return f"cleo-{_name(key)}{text}.{tags}".removesuffix(".")

    def new(self, recipients: Iterable[Address], thread: str = ITSELF) -> str:
        """Return the Message-ID of a new mail to these people; without ``thread`` it begins one of that name.

        Raise StoreUnavailable where the key cannot be read.
        """
        token = self.token(thread, recipients, secrets.token_bytes(NONCE_BYTES))
        return new_message_id(self._domain, token=token)

    def judge(self, mail: InboundEmail, quoted: Sequence[str]) -> Proof:
        """Return what the ids prove that ``mail`` quotes, nearest first. Linear in their number."""
        ours = [(id_, found) for id_ in quoted if (found := _OURS.fullmatch(id_.lower())) is not None]
        if not ours or not mail.from_:
            return NO_PROOF
        keys = {_name(key): key for key in reversed(self._keys())}
        ours = [(id_, f) for id_, f in ours if f[1] in keys and a_label(f[4]) == self._domain][:_LOOKED_AT]
        sender = person(mail.from_[0].addr)
        threads = [*mail.references[:1], *quoted, f"email:{mail.from_address}"][:_CANDIDATES]
        for id_, found in ours:
            tags = [found[3][at : at + _TAG] for at in range(0, len(found[3]), _TAG)]
            for thread in (ITSELF, *threads):
                tag = _tag(keys[found[1]], found[2], thread, sender)
                if any(hmac.compare_digest(tag, one) for one in tags):
                    return Proof(thread or id_)
        return Proof(denied=bool(ours))


def new_message_id(domain: str, *, token: str) -> str:
    """Return ``<token@domain>``; InvalidField where ``token`` is no dot-atom (RFC 5322 section 3.6.4)."""
    if not _TOKEN.match(token):
        allowed = "letters, digits and !#$%&'*+/=?^_`{|}~.-"
        raise InvalidField("message_id", f"message_id: the token may hold {allowed}")
    message_id = f"<{token}@{ascii_domain('message_id', domain)}>"
    if len(message_id) > wire.LONGEST_LINE - 20:
        raise InvalidField("message_id", "message_id: too long")
    return message_id


def new_alert_id(domain: str) -> str:
    """Return the Message-ID of an alert, which ``is_of_alert`` knows again in what comes back."""
    return new_message_id(domain, token=f"{_ALERT}{_base32(secrets.token_bytes(NONCE_BYTES))}")


def is_of_alert(message_id: str) -> bool:
    return message_id.lower().startswith(f"<{_ALERT}")


def derive_key(secret: bytes) -> bytes:
    """Return a key for Message-IDs, derived from a secret that has other uses too."""
    return hmac.digest(secret, b"cleo-email Message-ID 1", "sha256")


def _tag(key: bytes, nonce: str, thread: str, person: str) -> str:
    data = json.dumps([nonce, thread, person]).encode()
    return _base32(hmac.digest(key, data, "sha256")[:8])


def _name(key: bytes) -> str:
    return _base32(hashlib.sha256(b"name" + key).digest())[:_KEY_NAME]


def _base32(data: bytes) -> str:
    """Return base32 in lower case, which survives a change of case."""
    return base64.b32encode(data).decode("ascii").rstrip("=").lower()
