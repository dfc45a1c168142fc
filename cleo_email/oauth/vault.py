"""What is kept of a login, and its encryption: nothing of it lies in Redis in clear."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from dataclasses import dataclass, field

from cryptography.fernet import Fernet, InvalidToken, MultiFernet


@dataclass(frozen=True)
class Saved:
    """Times in milliseconds since 1970. ``fault`` is why the last renewal failed, '' if it did not;
    until ``fault_until`` nobody asks again, unless the settings (``fault_settings``) have changed."""

    seed: str = ""
    refresh_token: str = field(default="", repr=False)
    access_token: str = field(default="", repr=False)
    issued_at: int = 0
    expires_at: int = 0
    fault: str = ""
    fault_until: int = 0
    fault_settings: str = ""
    fault_is_lasting: bool = False


class UnreadableVault(Exception):
    """What was saved cannot be read with the keys at hand."""


class Vault:
    """``keys``: Fernet keys; the first one encrypts, each one decrypts (so that a key can be replaced)."""

    def __init__(self, keys: Sequence[str]) -> None:
        self._fernet = MultiFernet([Fernet(key) for key in keys])

    def lock(self, saved: Saved) -> bytes:
        return self._fernet.encrypt(json.dumps(dataclasses.asdict(saved)).encode())

    def unlock(self, blob: bytes) -> Saved:
        """Raises UnreadableVault."""
        try:
            values = json.loads(self._fernet.decrypt(blob))
            names = {spec.name for spec in dataclasses.fields(Saved)}
            return Saved(**{name: value for name, value in values.items() if name in names})
        except (InvalidToken, ValueError, TypeError, AttributeError):
            raise UnreadableVault from None
