"""What /metrics and /readyz of a replica say about the election."""

from __future__ import annotations

from kiebot.gauges import note_transition
from kiebot.lease.chronicle import Transition
from kiebot.observe.metrics import METRICS


def rendered(line: str) -> float:
    """The value of one line as it is scraped; 0 before it is there."""
    values = [each.rpartition(" ")[2] for each in METRICS.render().decode().splitlines() if each.startswith(line + " ")]
    return float(values[0]) if values else 0.0


def test_a_seizure_is_counted_by_what_gave_the_dead_holder_away() -> None:
    line = 'kiebot_lease_seizures_total{sign="disconnected"}'
    before, handovers = rendered(line), rendered("kiebot_lease_handover_seconds_count")
    note_transition(Transition("seized", "token", 3.0, "disconnected", "r1", leaderless_s=0.4))
    note_transition(Transition("acquired", "token", 3.0))
    assert rendered(line) == before + 1
    assert rendered("kiebot_lease_handover_seconds_count") == handovers + 1
