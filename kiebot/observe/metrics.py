"""Every metric of a replica, with its unit and its meaning; docs/metrics.md is made from this file.

Names end in their unit (`_seconds`) or in `_total`; labels take words of fixed sets only. Each replica answers for
itself, except for gauges whose meaning says "of the cluster": those come from Postgres and agree on all replicas, so
take their `max`, never their sum.
"""

from __future__ import annotations

import math
import platform
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, disable_created_metrics
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest

from kiebot import __version__

CONTENT_TYPE = CONTENT_TYPE_LATEST

QUICK_S = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
HANDOVER_S = (*QUICK_S, 15.0, 30.0)  # a lease lives for ten seconds: what a host's loss costs lies beyond
CALL_S = (0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
GENERATION_S = (1.0, 5.0, 10.0, 20.0, 40.0, 60.0, 120.0, 300.0, 600.0, 1200.0, 1800.0)


@dataclass(frozen=True, slots=True)
class Described:
    """A metric as the documentation lists it. `name` is as scraped, without the suffixes of a histogram's series."""

    name: str
    kind: str
    labels: tuple[str, ...]
    meaning: str


class Metrics:
    """All metrics, in a registry of their own: what other libraries register globally does not leak in."""

    def __init__(self) -> None:
        disable_created_metrics()  # type: ignore[no-untyped-call]  # untyped there. A time stamp beside every counter: twice the series, read by nobody
        self.registry = CollectorRegistry(auto_describe=True)
        self.described: list[Described] = []
        ProcessCollector(registry=self.registry)
        self._describe_election()
        self._describe_updates()
        self._describe_jobs()
        self._describe_generations()
        self._describe_services()
        self._describe_process()

    def render(self) -> bytes:
        """The state of all metrics in Prometheus' text format, content type `CONTENT_TYPE`."""
        return generate_latest(self.registry)

    @contextmanager
    def update(self, kind: str) -> Iterator[None]:
        """Counts and times the handling of one update; the outcome is "ok" or the exception's class."""
        with _measured(self.updates, self.update_seconds, kind):
            yield

    @contextmanager
    def job(self, job: str) -> Iterator[None]:
        """Counts and times one run of a job, and shows it as running meanwhile."""
        with self.jobs_running.track_inprogress(), _measured(self.jobs, self.job_seconds, job):
            yield

    @contextmanager
    def kie_call(self, endpoint: str) -> Iterator[None]:
        """Counts and times one request to KIE. `endpoint`: its fixed name, never a path with an id in it."""
        with _measured(self.kie_requests, self.kie_request_seconds, endpoint):
            yield

    @contextmanager
    def telegram_call(self, method: str) -> Iterator[None]:
        """Counts and times one request to Telegram other than getUpdates."""
        with _measured(self.telegram_requests, self.telegram_request_seconds, method):
            yield

    def _describe_election(self) -> None:
        self.is_leader = self._gauge("is_leader", "1 while this replica holds the poller's lease, else 0")
        self.lease_epoch = self._gauge("lease_epoch", "epoch of the fence this replica took last; it only ever grows")
        self.lease_trust_seconds = self._gauge("lease_trust_seconds", "how long the present term may still be trusted")
        self.lease_transitions = self._counter(
            "lease_transitions_total",
            "changes of hands this replica took part in: acquired, seized, or why a term ended",
            ["kind"],
        )
        self.lease_renew_seconds = self._histogram(
            "lease_renew_seconds", "how long a renewal of the lease took to be answered", QUICK_S
        )
        self.lease_renew_failures = self._counter("lease_renew_failures_total", "renewals that were not answered")
        self.lease_seizures = self._counter(
            "lease_seizures_total", "terms taken from a holder judged dead, by what gave it away", ["sign"]
        )
        self.lease_handover_seconds = self._histogram(
            "lease_handover_seconds", "from the last look that saw a holder alive until this replica had it", HANDOVER_S
        )
        self.lease_store_errors = self._counter("lease_store_errors_total", "calls the lease's store gave no answer to")
        self.fenced_writes = self._counter("fenced_writes_total", "writes refused because another term has the fence")
        self.conflicts = self._counter("telegram_conflicts_total", "polls answered 409 although the lease was ours")
        self.last_poll_timestamp_seconds = self._gauge(
            "last_poll_timestamp_seconds", "Unix time at which this replica's last poll was answered; 0 if never"
        )

    def _describe_updates(self) -> None:
        self.updates_recorded = self._counter("updates_recorded_total", "updates written to the inbox, duplicates not")
        self.updates = self._counter("updates_total", "updates handled", ["kind", "outcome"])
        self.update_seconds = self._histogram("update_seconds", "how long handling an update took", QUICK_S, ["kind"])
        self.inbox_oldest_seconds = self._asked(
            "inbox_oldest_seconds", "age of the oldest update not handled, of the cluster; 0 when none waits"
        )
        self.updates_turned_away = self._counter(
            "updates_turned_away_total", "updates not worked on: their chat sent too many at once"
        )
        self.updates_buried = self._counter("updates_buried_total", "updates given up on; each is a dead letter")

    def _describe_jobs(self) -> None:
        self.jobs = self._counter("jobs_total", "runs of jobs", ["job", "outcome"])
        self.job_seconds = self._histogram("job_seconds", "how long a run of a job took", CALL_S, ["job"])
        self.jobs_running = self._gauge("jobs_running", "jobs running in this replica")
        self.job_slots = self._gauge("job_slots", "jobs this replica may run at once (MAX_JOBS)")
        self.queue_jobs = self._asked("queue_jobs", "jobs in the queue, running ones too, of the cluster")

    def _describe_generations(self) -> None:
        self.generations = self._counter("generations_total", "generations ended", ["model", "outcome"])
        self.generation_seconds = self._histogram(
            "generation_seconds", "from the submit to the end of the generation", GENERATION_S, ["outcome"]
        )
        self.generations_open = self._asked("generations_open", "generations that have not ended, of the cluster")
        self.outbox_pending = self._asked("outbox_pending", "messages decided and not sent, of the cluster")
        self.messages = self._counter("messages_total", "outbox rows worked on", ["kind", "outcome"])
        self.ledger_entries = self._counter("ledger_entries_total", "entries written to the ledger", ["kind"])
        self.pre_checkouts = self._counter(
            "pre_checkouts_total", "pre-checkout questions, and why the answer was no or too late", ["outcome"]
        )
        self.payments = self._counter(
            "payments_total",
            "payments that arrived: credited, repeated, or what was wrong with them (each of those needs a look)",
            ["provider", "outcome"],
        )
        self.refunds = self._counter("refunds_total", "steps of refunds: opened, later, done, refused", ["outcome"])
        self.payments_uncredited = self._asked(
            "payments_uncredited",
            "payments in a provider's books and never booked here, once a day by the holder",
        )
        self.payment_differences = self._asked(
            "payment_differences", "every difference between a provider's books and ours, once a day by the holder"
        )
        self.margin_credits = self._asked(
            "margin_credits", "what users paid less what KIE took in seven days, once a day by the holder"
        )
        self.models_at_a_loss = self._asked(
            "models_at_a_loss",
            "models that cost more than they brought in seven days, once a day by the holder",
        )
        self.books_compared_timestamp_seconds = self._asked(
            "books_compared_timestamp_seconds", "Unix time at which this replica last laid the books side by side"
        )
        self.ledger_broken = self._asked(
            "ledger_broken", "invariants of the money found broken when last checked; anything above 0 is an alarm"
        )
        self.ledger_checked_timestamp_seconds = self._asked(
            "ledger_checked_timestamp_seconds", "Unix time of this replica's last check of the money"
        )

    def _describe_services(self) -> None:
        self.kie_requests = self._counter("kie_requests_total", "requests to KIE", ["endpoint", "outcome"])
        self.kie_request_seconds = self._histogram(
            "kie_request_seconds", "how long KIE took to answer", CALL_S, ["endpoint"]
        )
        self.callbacks = self._counter(
            "callbacks_total",
            "KIE's callbacks: taken, replayed, later, unknown (no such attempt), or why they were refused: "
            "forged, stale, unsigned, malformed, too_large",
            ["outcome"],
        )
        self.kie_credits = self._asked("kie_credits", "credits left on the KIE account, when last asked")
        self.provider_stopped = self._asked(
            "provider_stopped", "1 while nothing is made, by KIE's or an admin's word, of the cluster; else 0"
        )
        self.models_off = self._asked("models_off", "models switched off by KIE or an admin, of the cluster")
        self.telegram_requests = self._counter(
            "telegram_requests_total", "requests to Telegram other than getUpdates", ["method", "outcome"]
        )
        self.telegram_request_seconds = self._histogram(
            "telegram_request_seconds", "how long Telegram took to answer", CALL_S, ["method"]
        )
        self.telegram_retry_after_seconds = self._counter(
            "telegram_retry_after_seconds_total", "waiting that Telegram, or our own limiter, asked of sends"
        )
        self.dependency_up = self._gauge("dependency_up", "1 when the last call got through, else 0", ["name"])

    def _describe_process(self) -> None:
        self.http_requests = self._counter("http_requests_total", "requests to the web part", ["route", "status"])
        self.part_restarts = self._counter("part_restarts_total", "parts of the replica that died", ["part"])
        self.loop_lag_seconds = self._gauge("loop_lag_seconds", "how late the event loop woke a sleeper, last look")
        self.build_info = self._gauge("build_info", "always 1; the labels say what runs", ["version", "python"])
        self.build_info.labels(version=__version__, python=platform.python_version()).set(1)

    def _counter(self, name: str, meaning: str, labels: Sequence[str] = ()) -> Counter:
        return Counter(*self._note(name, "counter", meaning, labels), registry=self.registry)

    def _gauge(self, name: str, meaning: str, labels: Sequence[str] = ()) -> Gauge:
        return Gauge(*self._note(name, "gauge", meaning, labels), registry=self.registry)

    def _asked(self, name: str, meaning: str) -> Gauge:
        """A gauge that somebody has to ask for: until then it is not zero but unknown."""
        gauge = self._gauge(name, meaning)
        gauge.set(math.nan)
        return gauge

    def _histogram(self, name: str, meaning: str, buckets: Sequence[float], labels: Sequence[str] = ()) -> Histogram:
        described = self._note(name, "histogram", meaning, labels)
        return Histogram(*described, registry=self.registry, buckets=buckets)

    def _note(self, name: str, kind: str, meaning: str, labels: Sequence[str]) -> tuple[str, str, tuple[str, ...]]:
        described = Described(f"kiebot_{name}", kind, tuple(labels), meaning)
        self.described.append(described)
        return described.name, meaning, described.labels


@contextmanager
def _measured(count: Counter, seconds: Histogram, label: str) -> Iterator[None]:
    began = time.monotonic()
    outcome = "ok"
    try:
        yield
    except BaseException as error:
        outcome = type(error).__name__
        raise
    finally:
        seconds.labels(label).observe(time.monotonic() - began)
        count.labels(label, outcome).inc()


METRICS = Metrics()
"""The metrics of this process."""


def metrics_markdown() -> str:
    """docs/metrics.md, from the code."""
    lines = [
        "# Metrics",
        "",
        "`GET /metrics` on the web port of each replica, in Prometheus' text format, beside the usual `process_*`.",
        'A gauge "of the cluster" is the same on all replicas: take its `max`. Sum everything else.',
        "`NaN` says that it is not known yet. An `outcome` is `ok`, or the class of the error.",
        "",
        "| Metric | Kind | Labels | Meaning |",
        "|---|---|---|---|",
    ]
    for metric in METRICS.described:
        labels = ", ".join(f"`{label}`" for label in metric.labels) or "–"
        lines.append(f"| `{metric.name}` | {metric.kind} | {labels} | {metric.meaning} |")
    return "\n".join(lines) + "\n"
