"""The audit notices every broken promise, from evidence made up for it, and keeps quiet about what is allowed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from kiebot.demo.audit import audit
from kiebot.demo.evidence import (
    Attempt,
    Blow,
    Books,
    Conflict,
    Create,
    Epoch,
    Evidence,
    Failover,
    Marked,
    Overlap,
    Pressed,
    Purchases,
    Recorded,
    Repeat,
    Sent,
    Strike,
    Task,
    Work,
)

T = 1_000.0
WORK = Work(1, "g1", "video", "succeeded", "captured", 5_000, T + 10, ("video",), True)
SOUND = Evidence(
    strikes=(Strike(Blow.KILL, T + 100, T + 101, "replica-0"),),
    sent=(Sent(7, "message of Anna", T),),
    inbox=(Recorded(7, T + 0.1, T + 0.3),),
    confirmed_at={7: T + 0.2},
    marks=(Marked("Anna", "(Anna 1)", T, (T + 0.4,)),),
    presses=(Pressed("Anna", "f1:ok", T, True),),
    purchases=(Purchases("Anna", 1, 1),),
    works=(WORK,),
    creates=(Create(T + 1, "g1", "a1", False),),
    tasks=(Task("g1", "a1", T + 9, True, True),),
    attempts=(Attempt("g1", 1, "created"),),
    books=Books(granted=100_000, captured=5_000, wallets=95_000),
    epochs=(Epoch(T, 1, "replica-0"), Epoch(T + 101, 2, "replica-1")),
    failovers=(Failover("kill", "replica-0", "replica-1", 0.4),),
)

Change = Callable[[Evidence], Evidence]


def _inbox(*rows: Recorded) -> Change:
    return lambda evidence: replace(evidence, inbox=rows)


def _work(**values: object) -> Change:
    return lambda evidence: replace(evidence, works=(replace(WORK, **values),))  # type: ignore[arg-type]  # by name


BROKEN: dict[str, tuple[str, Change]] = {
    "an update that never reached the inbox": ("no update is lost", _inbox()),
    "an update that was never handled": ("no update is lost", _inbox(Recorded(7, T + 0.1, None))),
    "an update that was given up": ("no update is lost", _inbox(Recorded(7, T + 0.1, T + 0.3, None, True))),
    "an update in the inbox twice": (
        "no update takes effect twice",
        _inbox(Recorded(7, T + 0.1, T + 0.3), Recorded(7, T + 0.15, T + 0.4)),
    ),
    "an update from nowhere": (
        "what was handled was sent",
        _inbox(Recorded(7, T + 0.1, T + 0.3), Recorded(8, T + 0.1, T + 0.3)),
    ),
    "an offset that moved before the row was written": (
        "an update is recorded before Telegram may forget it",
        lambda evidence: replace(evidence, confirmed_at={7: T + 0.05}),
    ),
    "an offset that moved past an update without a row": (
        "an update is recorded before Telegram may forget it",
        lambda evidence: replace(evidence, confirmed_at={7: T + 0.2, 8: T + 0.2}),
    ),
    "a wake-up lost in peace": ("no wake-up is lost", _inbox(Recorded(7, T + 0.1, T + 3, T + 2.5))),
    "a message without an answer": (
        "every message and every press is answered",
        lambda evidence: replace(evidence, marks=(Marked("Anna", "(Anna 1)", T, ()),)),
    ),
    "a press without an answer": (
        "every message and every press is answered",
        lambda evidence: replace(evidence, presses=(Pressed("Anna", "f1:ok", T, False),)),
    ),
    "two answers in peace": (
        "a message is repeated only in the instant of a crash",
        lambda evidence: replace(evidence, marks=(Marked("Anna", "(Anna 1)", T, (T + 0.4, T + 0.9)),)),
    ),
    "the same send twice in peace": (
        "a message is repeated only in the instant of a crash",
        lambda evidence: replace(evidence, repeats=(Repeat(1, "a picture", (T + 1, T + 2)),)),
    ),
    "one press, two generations": (
        "one press of Create buys one generation",
        lambda evidence: replace(evidence, purchases=(Purchases("Anna", 1, 2),)),
    ),
    "a generation left open": (
        "a generation ends exactly once, captured or voided",
        _work(state="running", settled=None, settled_at=None),
    ),
    "a failure that was paid": (
        "a generation ends exactly once, captured or voided",
        _work(state="failed"),
    ),
    "money without a delivery": (
        "what was captured was delivered, what was voided was told",
        _work(delivered=("photo",)),
    ),
    "a void that nobody was told of": (
        "what was captured was delivered, what was voided was told",
        _work(state="failed", settled="voided", is_told=False),
    ),
    "money before the result": ("money is taken only for a result that exists", _work(settled_at=T + 5)),
    "money for a task that failed": (
        "money is taken only for a result that exists",
        lambda evidence: replace(evidence, tasks=(Task("g1", "a1", T + 9, False, True),)),
    ),
    "a second createTask after a lost answer": (
        "createTask is never repeated after a lost answer",
        lambda evidence: replace(evidence, creates=(Create(T + 1, "g1", "a1", True), Create(T + 2, "g1", "a2", False))),
    ),
    "a second attempt after an unknown one": (
        "createTask is never repeated after a lost answer",
        lambda evidence: replace(evidence, attempts=(Attempt("g1", 1, "unknown"), Attempt("g1", 2, "created"))),
    ),
    "two billed tasks for one attempt": (
        "an attempt is billed once",
        lambda evidence: replace(evidence, tasks=evidence.tasks * 2),
    ),
    "a task that belongs to nobody": (
        "an attempt is billed once",
        lambda evidence: replace(evidence, tasks=(*evidence.tasks, Task("", "a9", T, True, True))),
    ),
    "wallets that do not add up": (
        "the ledger balances",
        lambda evidence: replace(evidence, books=Books(100_000, 5_000, 95_001)),
    ),
    "a breach of the ledger": (
        "the ledger balances",
        lambda evidence: replace(evidence, books=Books(100_000, 5_000, 95_000, ("every posting is zero: x",))),
    ),
    "two pollers in peace": (
        "two living clients never poll at once in peace",
        lambda evidence: replace(evidence, overlaps=(Overlap(T + 50, "replica-0", "replica-1", 0.1),)),
    ),
    "an epoch that did not rise": (
        "every term is newer than the one before",
        lambda evidence: replace(evidence, epochs=(Epoch(T, 2, "replica-0"), Epoch(T + 1, 2, "replica-1"))),
    ),
    "a leader without a successor": (
        "another replica takes over",
        lambda evidence: replace(evidence, failovers=(Failover("kill", "replica-0", "", None),)),
    ),
    "a replica that ended in a way nobody planned": (
        "everything went as planned and came to rest",
        lambda evidence: replace(evidence, trouble=("replica-1 left with status 1 after SIGTERM",)),
    ),
    "work left over": (
        "everything went as planned and came to rest",
        lambda evidence: replace(evidence, unfinished=("1 updates not handled",)),
    ),
}


def _broken(evidence: Evidence) -> set[str]:
    return {verdict.promise for verdict in audit(evidence) if not verdict.is_kept}


def test_a_sound_run_keeps_every_promise() -> None:
    assert _broken(SOUND) == set()


@pytest.mark.parametrize("case", BROKEN)
def test_a_broken_promise_is_named(case: str) -> None:
    promise, change = BROKEN[case]
    assert promise in _broken(change(SOUND))


def test_a_wakeup_may_be_lost_with_a_killed_replica() -> None:
    rescued = Recorded(7, T + 102, T + 106, T + 105)
    assert _broken(replace(SOUND, inbox=(rescued,), confirmed_at={7: T + 103})) == set()


def test_a_roll_excuses_no_lost_wakeup() -> None:
    rolled = replace(SOUND, strikes=(Strike(Blow.ROLL, T + 100, T + 101),))
    rescued = Recorded(7, T + 100.5, T + 104, T + 103)
    assert "no wake-up is lost" in _broken(replace(rolled, inbox=(rescued,), confirmed_at={7: T + 101}))


def test_a_crash_may_repeat_a_send_but_nothing_excuses_a_doubled_update() -> None:
    around_the_kill = (T + 99.8, T + 103.0)
    repeated = replace(SOUND, repeats=(Repeat(1, "hello", around_the_kill),))
    assert _broken(repeated) == set()
    doubled = replace(SOUND, inbox=(Recorded(7, T + 99, T + 99.5), Recorded(7, T + 100.5, T + 101)))
    assert "no update takes effect twice" in _broken(doubled)


def test_polls_may_meet_around_a_kill_and_are_listed() -> None:
    met = replace(
        SOUND,
        overlaps=(Overlap(T + 100.2, "replica-0", "replica-1", 0.05),),
        conflicts=(Conflict(T + 100.25, "replica-0"),),
    )
    verdicts = {verdict.promise: verdict for verdict in audit(met)}
    told = verdicts["two living clients never poll at once in peace"]
    assert told.is_kept
    assert len(told.notes) == 2


def test_many_breaks_are_shortened() -> None:
    lost = replace(SOUND, sent=tuple(Sent(number, "message", T) for number in range(100, 150)), confirmed_at={})
    verdict = audit(lost)[0]
    assert len(verdict.broken_by) == 6
    assert verdict.broken_by[-1] == "and 45 more"
