"""Providers that log in like a browser: Basic authentication (RFC 7617) on every request."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from cleo_email.ingress.base import Ingress, Posted, Unproven
from cleo_email.ingress.proofs import basic_pair, equals_one


class BasicIngress(Ingress):
    """``pairs`` are ``user:password``, each of them live."""

    setting: ClassVar[str]
    signs_body: ClassVar[bool] = False

    def __init__(self, pairs: Sequence[str]) -> None:
        self._pairs = [pair.encode() for pair in pairs]

    @property
    def is_set_up(self) -> bool:
        return bool(self._pairs)

    @property
    def unset(self) -> str:
        return f"no {self.setting} is set: mail by {self.name} is not taken"

    def prove(self, posted: Posted) -> None:
        challenge = 'Basic realm="cleo_email", charset="UTF-8"'
        given = basic_pair(posted.header("authorization"))
        if given is None or not equals_one(given, self._pairs):
            raise Unproven(f"user or password is missing or wrong ({self.setting})", challenge=challenge)
