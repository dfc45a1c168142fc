"""What is wrong with a Redis, and what to do about it, in words; which refusals a failover explains."""

import re

from redis.exceptions import (
    AskError,
    ClusterCrossSlotError,
    ClusterDownError,
    InvalidResponse,
    ReadOnlyError,
    RedisError,
    ResponseError,
)

_CLUSTER = (
    "is a Redis Cluster, which is not supported: use a Redis with cluster mode disabled (one shard alone does"
    " not help)"
)
_SENTINEL = (
    "is a Sentinel, which is not supported: name the primary, by an address that follows it (HAProxy that"
    " checks for role:master, a virtual IP, a DNS name)"
)
ESCAPES = "in a password write # as %23, / as %2F, ? as %3F, @ as %40, : as %3A, % as %25"
_FORM = (
    f"REDIS_URL=redis://USER:PASSWORD@HOST:6379/0, without a user redis://:PASSWORD@HOST:6379/0; {ESCAPES}"
)
_RIGHTS = (
    "ACL SETUSER NAME ~cleo:* ~rq:* +@all -@dangerous +info +config|get, then CONFIG REWRITE (or ACL SAVE)"
)

# Looked for in this order in the texts of redis-py, of Redis 6.2 and later, of Valkey, OpenSSL and resolvers.
_WORDS = (
    (r"HELLO must be called|Authentication required|NOAUTH", f"wants a password: {_FORM}"),
    (r"invalid (username|password)|WRONGPASS", f"refuses the user or the password: {_FORM}"),
    (r"without any password configured", "has no password: take the one out of REDIS_URL"),
    (
        r"no permissions|NOPERM|user executing the script",
        f"does not permit its user what is needed; grant it on the server: {_RIGHTS}",
    ),
    (r"protected mode", "takes no connections from other machines (protected-mode): give it a password"),
    (
        r"unknown command\W+hello",
        "does not know HELLO: add ?protocol=2 to REDIS_URL, or use Redis 6.2 or newer, or Valkey",
    ),
    (
        r"unknown command|undeclared key",
        "lacks a command: Redis 6.2 or newer, or Valkey, is needed, with no command renamed or switched off",
    ),
    (
        r"(hostname|IP address) mismatch",
        "shows the certificate of another host: write the name that stands in it",
    ),
    (
        r"certificate.verify.failed",
        "shows a certificate that is not trusted (a private CA: SSL_CERT_FILE; "
        "self-signed, as Heroku's: rediss://…?ssl_cert_reqs=none)",
    ),
    (
        r"certificate.required|handshake.failure",
        "wants a client's certificate: rediss://…?ssl_certfile=PATH&ssl_keyfile=PATH",
    ),
    (
        r"wrong.version.number|record layer|handshake operation timed out",
        "does not speak TLS on that port: look at the port, or write redis:// for rediss://",
    ),
    (r"DB index|Invalid Database", "has no database of that number: write /0 at the end of REDIS_URL"),
    (r"max number of clients", "takes no more connections: raise maxclients, or end what holds them"),
    (r"loading", "is still loading its data: it answers when that is done"),
    (r"MISCONF", "refuses to write because it cannot save: look at its log; is its disk full or read-only?"),
    (r"\bOOM\b|used memory >", "is full: raise maxmemory (policy noeviction), or make room"),
    (
        r"READONLY|read only replica",
        "is a read-only replica: name the primary, by an address that follows a failover",
    ),
    (r"MASTERDOWN|Link with MASTER", "is a replica without its primary: name the primary"),
    (r"NOREPLICAS", "has too few replicas (min-replicas-to-write): start them"),
    (r"UNBLOCKED", "has become a replica: name the primary, by an address that follows a failover"),
    (r"hash to the same slot|non local key|CLUSTERDOWN|CROSSSLOT", _CLUSTER),
    (r"Permission denied", "does not let this user open its socket (unixsocketperm)"),
    (r"connection refused|no such file", "does not run there: start Redis, or: cleo-email run"),
    (
        r"name or service not known|nodename nor servname|name resolution|no address|idna",
        "has a host name that nobody knows: look for a slip, or a DNS that does not answer",
    ),
    (r"No route|unreachable", "cannot be reached from this machine: look at the host name and the network"),
    (
        r"closed by server|reset by peer|broken pipe|EOF occurred",
        "hung up; if it wants TLS: rediss:// for redis://, "
        "or a client's certificate: rediss://…?ssl_certfile=PATH&ssl_keyfile=PATH",
    ),
    (r"timed? ?out|did not answer", "does not answer in time: is it stopped, busy, or behind a firewall?"),
)


class UnsupportedServer(RedisError):
    """A Redis Cluster, or a Sentinel; the text says what to use instead."""

    def __init__(self, mode: str) -> None:
        super().__init__(_SENTINEL if mode == "sentinel" else _CLUSTER)


def is_of_a_failover(error: ResponseError) -> bool:
    """Return whether a server refused a command because it does not lead (any more), or not yet.

    It did not run the command then: a script ends at the first thing it would have written.
    """
    if isinstance(error, ReadOnlyError | ClusterDownError):  # MASTERDOWN is one of the latter
        return True
    # Redis 6.2 puts the code behind the place in the script, and EXEC behind words of its own.
    codes = r"(?:^|: )-?(?:READONLY|MASTERDOWN|CLUSTERDOWN|NOREPLICAS|UNBLOCKED|LOADING)\b"
    return bool(re.search(codes, _said(error)))


def explain(error: Exception) -> str:
    """Return a line on what is wrong, what to do about it, and in brackets what was said."""
    said = _said(error)
    if isinstance(error, UnsupportedServer):
        return f"REDIS_URL {said}"
    advice = ""
    if isinstance(error, AskError | ClusterCrossSlotError):  # MOVED is one of the former
        advice = _CLUSTER
    elif isinstance(error, InvalidResponse):
        advice = "leads to what is no Redis, or to one that wants TLS: look at the port, or write rediss://"
    # redis-py says "timeout" where a TLS handshake got no answer; the first error knows.
    both = f"{said} {error.__context__ or ''}"
    for pattern, words in _WORDS:
        if not advice and re.search(pattern, both, re.IGNORECASE):
            advice = words
    told = said[:200] or type(error).__name__
    if not advice:
        return f"Redis (REDIS_URL) does not answer as it should: {told}"
    return f"the Redis of REDIS_URL {advice} ({told})"


def _said(error: Exception) -> str:
    """Return the server's text. redis-py puts the command before it, which may hold a mail."""
    return (str(error).splitlines() or [""])[0].rpartition("of pipeline caused error: ")[2]
