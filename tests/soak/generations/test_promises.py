"""The promises notice each way to break them, from evidence made up for it, and keep quiet about what is allowed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from tests.soak.generations.evidence import Asked, Attempt, Check, Create, Evidence, Task, Wallet, Wish, Work
from tests.soak.generations.promises import judge
from tests.soak.generations.table import table

T = 1_000.0
MADE = Work(
    serial=1,
    key="g1",
    number=11,
    user_id=7,
    state="succeeded",
    failure="",
    price=1600,
    settled="captured",
    amount=1600,
    settled_at=T + 10,
    moved=1600,
    captures=1,
    voids=0,
    attempts=(Attempt("a1", 1, "created", False),),
    decided=("result",),
    unsent=(),
    seen=frozenset({"media", "result"}),
)
LOST = replace(
    MADE,
    serial=2,
    key="g2",
    number=12,
    state="failed",
    failure="answer_lost",
    settled="voided",
    amount=0,
    moved=0,
    captures=0,
    voids=1,
    attempts=(Attempt("a2", 1, "adopted", True),),
    decided=("failed", "late_result"),
    seen=frozenset({"media", "failed", "late_result"}),
)
DONE = Task("t1", "a1", T + 9, True, True, 800, ("callback",))
ORPHAN = Task("t2", "a2", T + 40, True, True, 800, ("callback",))
SOUND = Evidence(
    wishes=(Wish(1, "A", 7, 1600), Wish(2, "lost a", 7, 1600)),
    works=(MADE, LOST),
    tasks=(DONE, ORPHAN),
    creates=(Create(T, "a1", "200", False), Create(T, "a2", "lost a, created", True)),
    wallets=(Wallet(7, 10_000, 8_400, 0),),
    revenue=1600,
    checks=(Check(3.0, 2, ()),),
)
_NO_GIFT = {"decided": ("failed",), "seen": frozenset({"failed"})}
_AGAIN = (Attempt("a2", 1, "unknown", True), Attempt("a3", 2, "created", False))

Change = Callable[[Evidence], Evidence]


def _made(**values: object) -> Change:
    return lambda evidence: replace(evidence, works=(replace(MADE, **values), LOST))  # type: ignore[arg-type]  # by name


def _lost(**values: object) -> Change:
    return lambda evidence: replace(evidence, works=(MADE, replace(LOST, **values)))  # type: ignore[arg-type]  # by name


def _tasks(*tasks: Task) -> Change:
    return lambda evidence: replace(evidence, tasks=tasks)


BREAKS: dict[str, tuple[str, Change]] = {
    "a press that bought nothing": ("buys one generation", lambda e: replace(e, works=(MADE,))),
    "a press that bought two": ("buys one generation", lambda e: replace(e, works=(MADE, MADE, LOST))),
    "one that never ended": ("ends exactly once", _made(state="running", settled=None, captures=0, decided=())),
    "a success that was voided": ("ends exactly once", _made(settled="voided")),
    "two captures": ("ends exactly once", _made(captures=2)),
    "an outcome that did not go out": ("ends exactly once", _made(unsent=("result",))),
    "two tasks of one attempt": ("billed at most once", _tasks(DONE, ORPHAN, replace(ORPHAN, task_id="t3"))),
    "a task of nobody's": ("billed at most once", _tasks(DONE, ORPHAN, replace(DONE, attempt_id="a9"))),
    "another create after a lost answer": ("is not repeated", _lost(attempts=_AGAIN)),
    "a capture without a task": (
        "void or adopted",
        _lost(state="succeeded", settled="captured", attempts=(Attempt("a2", 1, "unknown", True),)),
    ),
    "an orphan's result that nobody got": ("turns up late", _lost(**_NO_GIFT)),
    "a gift that was charged": ("turns up late", _lost(moved=1600)),
    "a capture without a result": ("paid for nothing", _tasks(replace(DONE, has_result=False), ORPHAN)),
    "a capture before the result": ("paid for nothing", _tasks(replace(DONE, ends_at=T + 11), ORPHAN)),
    "a capture whose result nobody got": ("paid for nothing", _made(seen=frozenset())),
    "more taken than the button said": ("charged twice", _made(moved=3200)),
    "a wallet with less than was paid": (
        "charged twice",
        lambda e: replace(e, wallets=(Wallet(7, 10_000, 6_800, 0),)),
    ),
    "a void that nobody was told of": ("got nothing was told", _lost(seen=frozenset({"late_result"}))),
    "a good result sent away": (
        "result that is there is sold",
        _made(state="failed", failure="server", settled="voided", moved=0, captures=0, voids=1, decided=("failed",)),
    ),
    "a bill that nobody paid": ("listed as a loss", _lost(attempts=(Attempt("a2", 1, "adopted", False),))),
    "a ledger broken in between": ("ledger balances", lambda e: replace(e, checks=(Check(3.0, 2, ("it",)),))),
    "money that went nowhere": ("ledger balances", lambda e: replace(e, revenue=0)),
    "a run in which too little happened": (
        "as hard as it was meant",
        lambda e: replace(e, asked=Asked(works=2, kills=3, checks=1)),
    ),
    "a ledger that was seldom verified": ("as hard as it was meant", lambda e: replace(e, asked=Asked(checks=2))),
    "what did not come to rest": ("came to rest", lambda e: replace(e, unfinished=("1 updates",))),
}


def broken(evidence: Evidence) -> list[str]:
    return [verdict.promise for verdict in judge(evidence) if not verdict.is_kept]


def test_a_sound_run_keeps_every_promise() -> None:
    assert broken(SOUND) == []


@pytest.mark.parametrize("name", BREAKS)
def test_each_promise_notices(name: str) -> None:
    promise, change = BREAKS[name]
    assert any(promise in each for each in broken(change(SOUND))), name


def test_an_orphan_whose_callback_never_came_may_stay_away() -> None:
    absent = _tasks(DONE, replace(ORPHAN, told=()))(SOUND)
    assert broken(replace(absent, works=(MADE, replace(LOST, **_NO_GIFT)))) == []  # type: ignore[arg-type]  # by name


def test_a_task_that_came_home_and_failed_may_be_followed_by_another() -> None:
    attempts = (Attempt("a2", 1, "adopted", True), Attempt("a3", 2, "adopted", True))
    failed = _tasks(
        DONE, replace(ORPHAN, is_success=False, has_result=False, billed=0), replace(ORPHAN, attempt_id="a3")
    )
    assert broken(failed(_lost(attempts=attempts)(SOUND))) == []


def test_the_table_tells_profiles_unknown_outcomes_and_money() -> None:
    told = table(SOUND, judge(SOUND))
    assert "void, then delivered free (1): 12" in told
    assert "10 granted = 8.40 left + 0 held + 1.60 captured" in told
    together = next(line for line in told.splitlines() if line.startswith("together"))
    assert together.split() == ["together", "2", "1", "·", "1", "·", "1", "·"]
