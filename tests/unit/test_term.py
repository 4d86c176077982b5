"""How long a grant is trusted, which intervals are refused, and how a standby judges a holder."""

from __future__ import annotations

import math
import time

import pytest

from kiebot.clock import ManualClock, SystemClock
from kiebot.lease.protocol import Holder, Lease
from kiebot.lease.term import Term, TermOver, Timing, TrustClocks, trusted_until
from kiebot.lease.watch import DeathWatch, Sign


async def _always(_: Term) -> bool:
    return True


class TwoClocks(TrustClocks):
    """Two clocks set by hand."""

    def __init__(self) -> None:
        self.readings = [100.0, 7.0]

    def read(self) -> tuple[float, ...]:
        return tuple(self.readings)


def _term(clocks: TrustClocks, timing: Timing | None = None) -> Term:
    now = clocks.read()
    return Term(Lease("poller", "one", "token", now[0]), timing or Timing(), clocks, now, _always)


def test_trust_is_counted_from_sending_and_ends_before_the_store_does() -> None:
    assert trusted_until(100.0, 10.0, 1.5) == 108.5


def test_a_lease_shorter_than_its_margin_is_refused() -> None:
    with pytest.raises(ValueError, match="margin"):
        trusted_until(0.0, 1.5, 1.5)


def test_the_defaults_survive_a_stall_of_five_seconds() -> None:
    assert Timing().trust_s == 8.5
    assert Timing().stall_s == 5.0


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"ttl_s": 10.0, "renew_s": 2.6}, "four renewals"),
        ({"ttl_s": 8.0, "renew_s": 2.0, "margin_s": 3.0}, "two lost calls"),  # trust 5 = renew 2 + 2 x 1.5: not more
        ({"call_timeout_s": 3.3}, "two lost calls"),
        ({"ttl_s": 0.0}, "above zero"),
        ({"renew_s": -1.0}, "above zero"),
        ({"rest_s": 0.0}, "above zero"),
        ({"stop_s": 0.0}, "above zero"),
        ({"probe_misses": 1}, "at least two in a row"),
        ({"ttl_s": 1.0, "renew_s": 0.1, "call_timeout_s": 0.1}, "margin"),
    ],
)
def test_intervals_that_cannot_work_are_refused_in_words(fields: dict[str, float], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        Timing(**fields)  # type: ignore[arg-type]  # probe_misses alone is a whole number


@pytest.mark.parametrize(("ttl_s", "renew_s"), [(1.0, 0.2), (3.0, 0.6), (10.0, 2.0), (15.0, 3.0), (40.0, 10.0)])
def test_the_proportions_hold_for_every_ttl(ttl_s: float, renew_s: float) -> None:
    timing = Timing.scaled(ttl_s=ttl_s, renew_s=renew_s)
    assert timing.stall_s > timing.call_timeout_s


def test_a_term_ends_on_whichever_clock_runs_out_first() -> None:
    clocks = TwoClocks()
    term = _term(clocks)
    clocks.readings = [104.0, 8.0]  # asleep for three seconds that the second clock did not count
    assert term.remaining() == 4.5
    clocks.readings = [104.0, 15.4]
    assert term.remaining() == pytest.approx(0.1)
    clocks.readings = [104.0, 15.5]
    with pytest.raises(TermOver):
        term.check()


def test_a_system_clock_is_doubled_by_the_monotonic_one() -> None:
    own, second = TrustClocks(SystemClock()).read()
    assert second == pytest.approx(time.monotonic(), abs=1.0)
    assert own >= second - 1.0
    assert len(TrustClocks(ManualClock()).read()) == 1


def test_a_late_answer_never_shortens_the_trust() -> None:
    clocks = TwoClocks()
    term = _term(clocks)
    term.extend(Lease("poller", "one", "token", 103.0), (103.0, 10.0))
    term.extend(Lease("poller", "one", "token", 101.0), (101.0, 8.0))
    assert term.remaining() == 11.5


def test_an_ended_term_stays_ended_even_when_renewed() -> None:
    clocks = TwoClocks()
    term = _term(clocks)
    term.end()
    term.extend(Lease("poller", "one", "token", 103.0), (103.0, 10.0))
    assert term.remaining() == 0.0
    with pytest.raises(TermOver):
        term.check()


class Look:
    """A standby that looks every 100 ms at one holder of a TTL of ten seconds."""

    def __init__(self) -> None:
        self.watch = DeathWatch(Timing())
        self.now = 50.0
        self.remaining_s = 9.9
        self.token = "a"

    def at(self, connected: bool | None, *, after_s: float = 0.1, rises_to: float | None = None) -> Sign | None:
        self.now += after_s
        self.remaining_s = self.remaining_s - after_s if rises_to is None else rises_to
        return self.watch.observe(self.now, Holder("one", self.token, self.remaining_s), connected)


def test_three_misses_in_a_row_give_a_dead_holder_away() -> None:
    look = Look()
    assert look.at(True) is None
    assert [look.at(False), look.at(False), look.at(False)] == [None, None, Sign.DISCONNECTED]


def test_two_misses_and_a_sight_prove_nothing() -> None:
    look = Look()
    look.at(True)
    assert [look.at(False), look.at(False), look.at(True), look.at(False), look.at(False)] == [None] * 5


def test_a_renewal_among_the_misses_proves_life() -> None:
    look = Look()
    look.at(True, after_s=2.0)
    signs = [look.at(False), look.at(False), look.at(False, rises_to=10.0), look.at(False)]
    assert signs == [None] * 4


def test_a_holder_never_seen_connected_must_also_be_late_with_a_renewal() -> None:
    look = Look()
    for _ in range(40):
        assert look.at(False) is None
    for _ in range(6):
        sign = look.at(False)
    assert sign is Sign.DISCONNECTED


def test_misses_before_an_outage_of_the_store_do_not_count() -> None:
    look = Look()
    look.at(True)
    look.at(False)
    look.at(False)
    look.watch.blurred()
    assert look.at(False) is None


def test_another_holder_is_judged_from_the_beginning() -> None:
    look = Look()
    look.at(True)
    look.at(False)
    look.at(False)
    look.token = "b"
    assert look.at(False) is None


def test_a_store_whose_clock_was_set_back_cannot_hide_a_dead_holder() -> None:
    look = Look()
    look.at(None, rises_to=3600.0)  # the store's host believes it is an hour ago
    signs = [look.at(None, after_s=0.5) for _ in range(22)]
    assert signs == [None] * 21 + [Sign.NOT_RENEWED]  # 10.5 s = 1.05 TTL


def test_a_rise_counts_from_the_look_before_it_unless_that_is_long_ago() -> None:
    often, seldom = Look(), Look()
    often.at(None)
    often.at(None, after_s=0.5, rises_to=10.0)
    assert often.watch.due_in_s(often.now) == pytest.approx(10.0)
    seldom.at(None)
    seldom.at(None, after_s=5.0, rises_to=11.0)
    assert seldom.watch.due_in_s(seldom.now) == pytest.approx(9.5)  # half a renewal interval before this look


def test_a_grant_without_an_end_is_given_up_on_as_well() -> None:
    look = Look()
    look.remaining_s = math.inf
    signs = [look.at(None, after_s=0.5) for _ in range(25)]
    assert Sign.NOT_RENEWED in signs


def test_a_holder_that_renews_is_never_judged_dead() -> None:
    look = Look()
    for tick in range(1200):
        renewed = tick % 20 == 0
        assert look.at(True if tick % 7 else None, rises_to=10.0 if renewed else None) is None


def test_a_standby_that_was_away_for_long_sees_that_the_holder_went_on_renewing() -> None:
    look = Look()
    look.at(None)
    assert look.at(None, after_s=60.0, rises_to=9.0) is None
