"""Metrics: what is scraped is what is documented, and nothing personal can get into it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from kiebot import __version__
from kiebot.observe.metrics import CONTENT_TYPE, METRICS, Metrics, metrics_markdown

DOCS = Path(__file__).parents[2] / "docs" / "metrics.md"
FIXED_WORDS = {
    "kind",
    "sign",
    "outcome",
    "job",
    "model",
    "endpoint",
    "method",
    "name",
    "route",
    "status",
    "part",
    "version",
    "provider",
}


@pytest.fixture
def metrics() -> Metrics:
    return Metrics()


def _value(metrics: Metrics, name: str, **labels: str) -> float | None:
    return metrics.registry.get_sample_value(name, labels)


def test_prometheus_can_read_what_is_rendered(metrics: Metrics) -> None:
    metrics.lease_transitions.labels(kind="acquired").inc()
    with metrics.job("advance"):
        pass
    families = {family.name: family for family in text_string_to_metric_families(metrics.render().decode())}
    assert families["kiebot_lease_transitions"].samples[0].value == 1
    assert families["kiebot_job_seconds"].type == "histogram"
    assert "process_resident_memory_bytes" in families
    assert CONTENT_TYPE.startswith("text/plain")


def test_every_metric_is_described_under_the_name_it_is_scraped_by(metrics: Metrics) -> None:
    families = {family.name: family for family in metrics.registry.collect() if family.name.startswith("kiebot_")}
    described = {metric.name.removesuffix("_total"): metric for metric in metrics.described}
    assert set(described) == set(families)
    assert {name: metric.kind for name, metric in described.items()} == {n: f.type for n, f in families.items()}


def test_names_end_in_their_unit_and_counters_in_total(metrics: Metrics) -> None:
    for metric in metrics.described:
        assert metric.name.endswith("_total") == (metric.kind == "counter"), metric
        if metric.kind == "histogram":
            assert metric.name.endswith("_seconds"), metric


def test_labels_take_only_words_of_fixed_sets(metrics: Metrics) -> None:
    assert {label for metric in metrics.described for label in metric.labels} <= FIXED_WORDS | {"python"}


def test_no_series_stands_beside_a_counter_for_its_creation(metrics: Metrics) -> None:
    metrics.updates_recorded.inc()
    assert b"_created" not in metrics.render()


def test_the_build_is_told(metrics: Metrics) -> None:
    assert f'version="{__version__}"' in metrics.render().decode()


def test_what_nobody_has_asked_yet_is_unknown_and_not_zero(metrics: Metrics) -> None:
    assert b"kiebot_kie_credits NaN" in metrics.render()
    metrics.kie_credits.set(12.5)
    assert b"kiebot_kie_credits 12.5" in metrics.render()


def test_a_hand_over_by_expiry_is_told_from_one_that_takes_longer(metrics: Metrics) -> None:
    """The lease lives for ten seconds: what a host's loss costs lies beyond."""
    for seconds in (11.0, 20.0):
        metrics.lease_handover_seconds.observe(seconds)
    bucket = "kiebot_lease_handover_seconds_bucket"
    assert [_value(metrics, bucket, le=le) for le in ("10.0", "15.0", "30.0", "+Inf")] == [0, 1, 2, 2]


@pytest.mark.parametrize(
    ("measure", "count", "seconds", "label"),
    [
        (Metrics.update, "kiebot_updates_total", "kiebot_update_seconds", "kind"),
        (Metrics.job, "kiebot_jobs_total", "kiebot_job_seconds", "job"),
        (Metrics.kie_call, "kiebot_kie_requests_total", "kiebot_kie_request_seconds", "endpoint"),
        (Metrics.telegram_call, "kiebot_telegram_requests_total", "kiebot_telegram_request_seconds", "method"),
    ],
)
def test_a_measured_block_counts_its_outcome_and_its_time(
    metrics: Metrics,
    measure: Callable[[Metrics, str], AbstractContextManager[None]],
    count: str,
    seconds: str,
    label: str,
) -> None:
    with measure(metrics, "x"):
        pass
    for error in (TimeoutError(), asyncio.CancelledError(), ValueError("said something secret")):
        with pytest.raises(type(error)), measure(metrics, "x"):
            raise error
    for outcome in ("ok", "TimeoutError", "CancelledError", "ValueError"):
        assert _value(metrics, count, **{label: "x", "outcome": outcome}) == 1
    assert _value(metrics, f"{seconds}_count", **{label: "x"}) == 4
    assert b"secret" not in metrics.render()


def test_a_running_job_is_seen_while_it_runs_and_not_after_it_failed(metrics: Metrics) -> None:
    with pytest.raises(ValueError, match="no"), metrics.job("advance"):
        assert _value(metrics, "kiebot_jobs_running") == 1
        raise ValueError("no")
    assert _value(metrics, "kiebot_jobs_running") == 0


def test_the_metrics_of_the_process_are_built_once() -> None:
    assert METRICS.render().count(b"# TYPE kiebot_is_leader gauge") == 1


def test_the_documentation_is_what_the_code_says() -> None:
    assert DOCS.read_text(encoding="utf-8") == metrics_markdown()
