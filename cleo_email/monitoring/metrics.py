"""``GET /metrics``: what the store counts, as Prometheus reads it.

The truth is in Redis, so every web process tells the same and none keeps counters of its own. Each name is in
docs/operation.md.
"""

from collections.abc import Iterable, Iterator, Sequence

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.exposition import choose_encoder
from prometheus_client.metrics_core import InfoMetricFamily, Metric
from prometheus_client.registry import Collector

from cleo_email import __version__
from cleo_email.store.messages import AGENT_BOUNDS, AT_WORK, FINAL, HANDED_OVER, REPLY_BOUNDS, WAITING, State
from cleo_email.store.totals import Snapshot

PREFIX = "cleo_email_"
WAITING_STATES = tuple(str(state) for state in State if state in AT_WORK | WAITING)
ENDS = tuple(str(state) for state in State if state in FINAL | WAITING)
OUTCOMES = ("sent", "temporary", "permanent", "uncertain")

HELP = {
    "messages_accepted": "Messages stored, by the way they came (send, workflow, handoff, login: our own).",
    "messages": "Messages that came into a state in which no work goes on; one may leave it and come again.",
    "messages_waiting": "Messages in each state but replied and ignored.",
    "oldest_waiting_age_seconds": "Seconds since the oldest message in each state arrived, 0 for none.",
    "threads_handed_over": "Threads that the agent handed over to people.",
    "reply_duration_seconds": "Seconds from the arrival of a mail until it was answered.",
    "agent_duration_seconds": "Seconds that the agent took for one answer, or to fail.",
    "submissions": "Mails handed to the SMTP server, by outcome; what fails for now is tried again.",
    "polls": "Polls of the mailbox, by outcome.",
    "poll_last_success_timestamp_seconds": "When the mailbox was last polled with success, 0 for never.",
    "idle_listening": "1 while the mail server announces new mail at once (IMAP IDLE).",
    "login_refused": "1 while the mail server refuses the login.",
    "workers": "Worker processes that were seen in the last 90 seconds.",
    "worker_last_seen_timestamp_seconds": "When a worker was last seen, 0 for never.",
    "redis_memory_used_bytes": "Memory that Redis uses.",
    "redis_memory_limit_bytes": "Memory that Redis may use (maxmemory), 0 for no limit.",
    "build": "The version of cleo_email.",
}


def exposition(snapshot: Snapshot, now: int, accept: str) -> tuple[bytes, str]:
    """Return the metrics in the format that ``accept`` asks for, and its content type. ``now`` in ms."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Metrics(snapshot, now))
    try:
        encode, content_type = choose_encoder(accept)
    except (TypeError, ValueError):  # it compares the version that the caller names with numbers
        encode, content_type = choose_encoder("")
    return encode(registry), content_type


class _Metrics(Collector):
    def __init__(self, snapshot: Snapshot, now: int) -> None:
        self._snapshot, self._now = snapshot, now

    def collect(self) -> Iterator[Metric]:
        found = self._snapshot
        yield from self._messages()
        yield _counter("threads_handed_over", (), [((), found.count(HANDED_OVER))])
        yield self._histogram("reply", REPLY_BOUNDS)
        yield self._histogram("agent", AGENT_BOUNDS)
        sent = [((one,), found.count(f"submission:{one}")) for one in OUTCOMES]
        yield _counter("submissions", ["outcome"], sent)
        polls = [((one,), found.count(f"polls:{one}")) for one in ("success", "failure")]
        yield _counter("polls", ["outcome"], polls)
        yield from self._health()
        if found.memory_used is not None:
            yield _gauge("redis_memory_used_bytes", (), [((), found.memory_used)])
        if found.memory_limit is not None:
            yield _gauge("redis_memory_limit_bytes", (), [((), found.memory_limit)])
        build = InfoMetricFamily(f"{PREFIX}build", HELP["build"])
        build.add_metric([], {"version": __version__})
        yield build

    def _messages(self) -> Iterator[Metric]:
        found = self._snapshot
        ways = sorted(name.partition(":")[2] for name in found.totals if name.startswith("accepted:"))
        accepted = [((way,), found.count(f"accepted:{way}")) for way in ways]
        yield _counter("messages_accepted", ["ingress"], accepted)
        ends = [((end, way), found.count(f"state:{end}:{way}")) for way in ways for end in ENDS]
        yield _counter("messages", ["state", "ingress"], ends)
        waiting = [((state,), count) for state, (count, _) in found.waiting.items()]
        yield _gauge("messages_waiting", ["state"], waiting)
        ages = [
            ((state,), max(self._now - oldest, 0) / 1000 if oldest else 0)
            for state, (_, oldest) in found.waiting.items()
        ]
        yield _gauge("oldest_waiting_age_seconds", ["state"], ages)

    def _health(self) -> Iterator[Metric]:
        health = self._snapshot.health
        yield _gauge("poll_last_success_timestamp_seconds", (), [((), health.polled / 1000)])
        yield _gauge("idle_listening", (), [((), bool(health.idle_since))])
        refused = [(("imap",), bool(health.login_faults)), (("smtp",), health.smtp_login_refused)]
        yield _gauge("login_refused", ["server"], refused)
        yield _gauge("workers", (), [((), self._snapshot.workers)])
        yield _gauge("worker_last_seen_timestamp_seconds", (), [((), health.worker_seen / 1000)])

    def _histogram(self, name: str, bounds: Sequence[int]) -> Metric:
        """Return a histogram; what was counted under a bound of another version goes into the next larger."""
        begin, buckets, seen = f"{name}:", [], 0
        kept = {
            int(key.removeprefix(begin)): value
            for key, value in self._snapshot.totals.items()
            if key.startswith(begin) and key.removeprefix(begin).isdecimal()
        }
        for bound in bounds:
            seen = sum(value for of, value in kept.items() if of <= bound)
            buckets.append((str(bound / 1000), seen))
        buckets.append(("+Inf", sum(kept.values()) + self._snapshot.count(f"{begin}inf")))
        full = f"{name}_duration_seconds"
        metric = HistogramMetricFamily(f"{PREFIX}{full}", HELP[full])
        metric.add_metric([], buckets, self._snapshot.count(f"{begin}ms") / 1000)
        return metric


Samples = Iterable[tuple[Sequence[str], float]]


def _counter(name: str, labels: Sequence[str], samples: Samples) -> Metric:
    metric = CounterMetricFamily(f"{PREFIX}{name}", HELP[name], labels=labels)
    for values, value in samples:
        metric.add_metric(values, value)
    return metric


def _gauge(name: str, labels: Sequence[str], samples: Samples) -> Metric:
    metric = GaugeMetricFamily(f"{PREFIX}{name}", HELP[name], labels=labels)
    for values, value in samples:
        metric.add_metric(values, value)
    return metric
