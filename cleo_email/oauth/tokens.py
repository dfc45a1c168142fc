"""The access tokens of the mailbox: stored encrypted, renewed early by one process at a time."""

import dataclasses
import json
import logging
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from cryptography.fernet import Fernet, InvalidToken, MultiFernet

from cleo_email.errors import StoreUnavailable, TokenError, TokenUnavailable
from cleo_email.oauth.client import CLIENT_CREDENTIALS, GOOGLE, OAuthClient
from cleo_email.oauth.endpoint import Endpoint, Refused, Tokens
from cleo_email.runtime import TOKEN_RENEWAL_S, Clock, now_ms
from cleo_email.store import Locks
from cleo_email.store.mailbox import TokenStore

log = logging.getLogger(__name__)

EARLY_MS = 300_000
LAST_MOMENT_MS = 10_000  # a token that ends sooner is not offered to a server any more
LOOK_S = 0.1
REST_MS = 5_000  # after a fault that may pass
LASTING_REST_MS = 60_000  # after one that a person has to end
# If a token was issued less than this ago, it was not refused for its age, and a new one would not help.
PROOF_OF_AGE_MS = 60_000
SAVES = 5


@dataclass(frozen=True)
class Saved:
    """The tokens as kept in Redis. Times in milliseconds since 1970.

    ``fault`` is why the last renewal failed, '' if it did not; until ``fault_until`` no process asks again,
    unless the settings (``fault_settings``) have changed.
    """

    seed: str = ""
    refresh_token: str = field(default="", repr=False)
    access_token: str = field(default="", repr=False)
    issued_at: int = 0
    expires_at: int = 0
    fault: str = ""
    fault_until: int = 0
    fault_settings: str = ""
    fault_is_lasting: bool = False


class Vault:
    """``keys``: Fernet keys; the first one encrypts, each one decrypts (so that a key can be replaced)."""

    def __init__(self, keys: Sequence[str]) -> None:
        self._fernet = MultiFernet([Fernet(key) for key in keys])

    def lock(self, saved: Saved) -> bytes:
        return self._fernet.encrypt(json.dumps(dataclasses.asdict(saved)).encode())

    def unlock(self, blob: bytes) -> Saved | None:
        """Return the decrypted tokens, None if no key fits."""
        try:
            values = json.loads(self._fernet.decrypt(blob))
            names = {spec.name for spec in dataclasses.fields(Saved)}
            return Saved(**{name: value for name, value in values.items() if name in names})
        except (InvalidToken, ValueError, TypeError, AttributeError):
            return None


class TokenSource:
    """Thread-safe; one per process and account. ``user`` is whom the tokens are for."""

    def __init__(
        self,
        client: OAuthClient,
        user: str,
        endpoint: Endpoint,
        vault: Vault,
        shelf: TokenStore,
        locks: Locks,
        *,
        clock: Clock = now_ms,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._client = client
        self._endpoint = endpoint
        self._vault = vault
        self._shelf = shelf
        self._locks = locks
        self._name = client.name_for(user)
        self._lock_name = f"oauth:{self._name}"
        self._clock = clock
        self._sleep = sleep
        self._turn = threading.Lock()  # one thread of this process asks, the others wait for its result
        self._held = Saved()
        self._unsaved = False

    def access_token(self) -> str:
        """Return a token that lives for a while. Raise TokenError (a person must act), TokenUnavailable."""
        held = self._held
        if self._is_fresh(held) and not self._unsaved:
            return held.access_token
        with self._turn:
            if self._unsaved:
                self._save(self._held)
            if self._is_fresh(self._held):
                return self._held.access_token
            try:
                return self._obtain()
            except StoreUnavailable as error:
                if self._is_alive(self._held):
                    return self._held.access_token
                raise TokenUnavailable(f"the access token cannot be looked up: {error}") from None

    def refused(self, token: str) -> None:
        """Record that a server refused ``token``, so that the next login gets another. Raise nothing."""
        with self._turn:
            try:
                with self._locks.hold(self._lock_name) as lock:
                    saved = self._load()
                    old = self._clock() - saved.issued_at > PROOF_OF_AGE_MS
                    # Without the lock another process is renewing it: what was read here would undo that,
                    # with its refresh token.
                    if lock is not None and saved.access_token == token and old:
                        self._put(dataclasses.replace(saved, access_token=""))
            except (StoreUnavailable, TokenError):
                old = True
            if self._held.access_token == token and old and not self._unsaved:
                self._held = Saved()

    def adopt(self, tokens: Tokens) -> None:
        """Store the tokens of a person's login. Raise StoreUnavailable, TokenUnavailable (lock)."""
        until = time.monotonic() + TOKEN_RENEWAL_S
        while True:
            with self._locks.hold(self._lock_name) as lock:
                if lock is not None:
                    self._put(self._new(tokens, ""))
                    return
            self._pause(until)

    # --- obtaining --------------------------------------------------------------------------------------

    def _obtain(self) -> str:
        until = time.monotonic() + TOKEN_RENEWAL_S
        while True:
            saved = self._load()
            if known := self._known(saved):
                return known
            with self._locks.hold(self._lock_name) as lock:
                if lock is not None:
                    saved = self._load()  # another process may have been faster than our lock
                    return self._known(saved) or self._renew(saved)
            if self._is_alive(saved):  # another process is renewing it
                return saved.access_token
            self._pause(until)

    def _pause(self, until: float) -> None:
        if time.monotonic() > until:
            text = f"another process has been renewing the access token for {TOKEN_RENEWAL_S:g} s"
            raise TokenUnavailable(text)
        self._sleep(LOOK_S)

    def _known(self, saved: Saved) -> str:
        """Return the saved token if it can be used, '' if it is to be renewed. Raise its recorded fault."""
        if self._is_fresh(saved):
            self._held = saved
            return saved.access_token
        same = saved.fault_settings == self._client.settings_digest
        resting = saved.fault and same and self._clock() < saved.fault_until
        return self._in_spite_of_fault(saved) if resting else ""

    def _renew(self, saved: Saved) -> str:
        try:
            tokens = self._endpoint.tokens(self._form(saved))
        except TokenError as error:
            return self._failed(saved, error)
        self._held = self._new(tokens, saved.refresh_token)
        self._save(self._held)
        log.info("the access token was renewed; it lives for %d s", tokens.lifetime)
        return tokens.access_token

    def _form(self, saved: Saved) -> dict[str, str]:
        client = self._client
        form = {"grant_type": client.grant} | client.identity
        if client.provider != GOOGLE.name:  # a renewal there is for what was granted (RFC 6749 section 6)
            form["scope"] = client.scope
        if client.grant == CLIENT_CREDENTIALS:
            return form
        refresh = saved.refresh_token or client.refresh_token
        if not refresh:
            raise TokenError(f"this mailbox has no login yet: run `{client.login_command}`")
        return {**form, "refresh_token": refresh}

    def _failed(self, saved: Saved, error: TokenError) -> str:
        noted = dataclasses.replace(
            saved,
            seed=self._client.seed,
            fault=self._explained(error),
            fault_until=self._clock() + (REST_MS if error.retry_helps else LASTING_REST_MS),
            fault_settings=self._client.settings_digest,
            fault_is_lasting=not error.retry_helps,
        )
        try:
            self._put(noted)
        except StoreUnavailable:
            log.debug("the fault could not be noted")
        return self._in_spite_of_fault(noted)

    def _explained(self, error: TokenError) -> str:
        if not isinstance(error, Refused):
            return str(error)
        if error.code == "invalid_grant" and self._client.grant != CLIENT_CREDENTIALS:
            ended = "the login of the mailbox has ended (revoked, expired, or another password)"
            return f"{ended}: run `{self._client.login_command}`; {error}"
        return f"{error}; look at EMAIL_OAUTH_CLIENT_ID, EMAIL_OAUTH_CLIENT_SECRET and EMAIL_OAUTH_SCOPE"

    def _in_spite_of_fault(self, saved: Saved) -> str:
        """Return the old token as long as it is valid, else raise the recorded fault."""
        if self._is_alive(saved):
            log.warning("the access token could not be renewed, the old one is used: %s", saved.fault)
            return saved.access_token
        raise TokenError(saved.fault) if saved.fault_is_lasting else TokenUnavailable(saved.fault)

    # --- keeping ----------------------------------------------------------------------------------------

    def _new(self, tokens: Tokens, former_refresh_token: str) -> Saved:
        now = self._clock()
        return Saved(
            seed=self._client.seed,
            # Many servers send a new refresh token with each answer (RFC 6749 section 6): the old one dies.
            refresh_token=tokens.refresh_token or former_refresh_token,
            access_token=tokens.access_token,
            issued_at=now,
            expires_at=now + tokens.lifetime * 1000,
        )

    def _load(self) -> Saved:
        blob = self._shelf.get(self._name)
        if blob is None:
            return Saved()
        saved = self._vault.unlock(blob)
        if saved is None:
            if self._client.grant == CLIENT_CREDENTIALS or self._client.refresh_token:
                return Saved()  # the settings suffice for a new token
            raise TokenError(
                "the saved login cannot be decrypted: CLEO_SECRET_KEY is not the key it was saved with; put "
                f"the old key behind the new one (separated by a comma) or run `{self._client.login_command}`"
            )
        # A changed refresh token in the settings is a new login; without one there the saved one counts.
        changed = bool(self._client.refresh_token) and saved.seed != self._client.seed
        return Saved() if changed else saved

    def _put(self, saved: Saved) -> None:
        self._shelf.put(self._name, self._vault.lock(saved))

    def _save(self, saved: Saved) -> None:
        """Store it with several tries, and again at the next call: a lost refresh token ends the login."""
        self._unsaved = True
        for number in range(SAVES):
            try:
                self._put(saved)
            except StoreUnavailable:
                self._sleep(0.2 * 2**number)
            else:
                self._unsaved = False
                return
        log.error("the renewed login could not be saved in Redis; it is kept in this process and tried again")

    # --- time -------------------------------------------------------------------------------------------

    def _is_fresh(self, saved: Saved) -> bool:
        """Return whether it need not be renewed; tokens of less than ten minutes are at half their life."""
        early = min(EARLY_MS, (saved.expires_at - saved.issued_at) // 2)
        return bool(saved.access_token) and self._clock() < saved.expires_at - early

    def _is_alive(self, saved: Saved) -> bool:
        return bool(saved.access_token) and self._clock() < saved.expires_at - LAST_MOMENT_MS
