"""What must be true of every run, each a pure question to the evidence. Kills and storms excuse nothing here."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable

from kiebot.demo.audit import Verdict
from tests.soak.generations.evidence import Attempt, Evidence, Work

_MOST_SHOWN = 8
_GRACE_S = 0.05  # two clocks that are read one after the other
TOLD = ("callback", "duplicate", "retry")  # callbacks that were KIE's own, and not a stranger's


def judge(evidence: Evidence) -> list[Verdict]:
    """Every promise, in the order of the table."""
    return [check(evidence) for check in _CHECKS]


def bought_once(evidence: Evidence) -> Verdict:
    made = Counter(work.serial for work in evidence.works)
    wished = {wish.serial for wish in evidence.wishes}
    wrong = [f"({serial}) was bought {made[serial]} times" for serial in sorted(wished) if made[serial] != 1]
    wrong += [f"({serial}) was made, nobody bought it" for serial in sorted(made) if serial not in wished]
    return _verdict("one press of Create buys one generation", wrong)


def ended_once(evidence: Evidence) -> Verdict:
    wrong = []
    for work in evidence.works:
        outcomes = [kind for kind in work.decided if kind != "late_result"]
        expected = {"succeeded": ("captured", 1, 0, ["result"]), "failed": ("voided", 0, 1, ["failed"])}
        found = (work.settled, work.captures, work.voids, outcomes)
        if expected.get(work.state) != found:
            wrong.append(f"{_name(work)} is {work.state}: {found}")
        if work.unsent:
            wrong.append(f"{_name(work)}: {', '.join(work.unsent)} did not go out")
    return _verdict("a generation ends exactly once, captured or voided, and says so once", wrong)


def billed_once(evidence: Evidence) -> Verdict:
    billed = Counter(task.attempt_id for task in evidence.tasks if task.is_billed)
    made = Counter(task.attempt_id for task in evidence.tasks)
    known = {attempt.attempt_id for work in evidence.works for attempt in work.attempts}
    wrong = [f"attempt {each[:8]}: {count} tasks billed" for each, count in billed.items() if count > 1]
    wrong += [f"attempt {each[:8]}: {count} tasks made" for each, count in made.items() if count > 1]
    wrong += [f"attempt {each[:8]} at KIE belongs to no generation" for each in made if each not in known]
    return _verdict("an attempt is billed at most once", wrong)


def never_resubmitted(evidence: Evidence) -> Verdict:
    wrong = [f"{_name(work)}: {why}" for work in evidence.works for why in resubmits(evidence, work)]
    return _verdict("createTask is not repeated while its outcome is unknown", wrong)


def resubmits(evidence: Evidence, work: Work) -> list[str]:
    """A new attempt is right only after one that was answered, or whose task came home and failed."""
    failed = {task.attempt_id for task in evidence.tasks_of(work) if not task.has_result}
    lost = {each.attempt_id for each in evidence.creates_of(work) if each.is_lost}
    attempts = sorted(work.attempts, key=lambda each: each.number)

    def is_unclear(attempt: Attempt) -> bool:
        if attempt.state in ("intent", "unknown"):
            return True
        is_home = attempt.state in ("adopted", "created") and attempt.attempt_id in failed
        return not is_home and (attempt.state == "adopted" or attempt.attempt_id in lost)

    return [f"another attempt after No. {each.number}, {each.state}" for each in attempts[:-1] if is_unclear(each)]


def unknowns_ended(evidence: Evidence) -> Verdict:
    """Void, or adopted: then it is settled by what its task became."""
    wrong = []
    for work in evidence.works:
        if not evidence.is_unknown(work):
            continue
        is_adopted = any(attempt.state in ("adopted", "created") for attempt in work.attempts)
        if work.settled == "captured" and not is_adopted:
            wrong.append(f"{_name(work)} was captured although its task never came home")
        if work.settled is None:
            wrong.append(f"{_name(work)} was never decided")
    return _verdict("every unknown outcome is void or adopted", wrong)


def orphans_delivered(evidence: Evidence) -> Verdict:
    """Whose result turned up after the void, told by KIE and heard by us, is in the chat, and free."""
    wrong = []
    for work in evidence.works:
        if work.failure != "answer_lost":
            continue
        home = [task for task in evidence.tasks_of(work) if task.has_result and set(task.told) & set(TOLD)]
        if home and not (work.is_gift and work.seen & {"late_result", "media", "link"}):
            wrong.append(f"{_name(work)}: KIE told us of its result ({', '.join(home[0].told)}), nobody got it")
        if work.is_gift and work.moved:
            wrong.append(f"{_name(work)} was given free and {work.moved} were taken")
    return _verdict("an orphan that turns up late is delivered, free", wrong)


def nobody_paid_for_nothing(evidence: Evidence) -> Verdict:
    wrong = []
    for work in evidence.works:
        if work.settled != "captured":
            if work.moved:
                wrong.append(f"{_name(work)} is {work.settled}, {work.moved} were taken")
            continue
        ends = [task.ends_at for task in evidence.tasks_of(work) if task.has_result]
        if not ends:
            wrong.append(f"{_name(work)} was captured, KIE has no result that can be read")
        elif work.settled_at is not None and min(ends) > work.settled_at + _GRACE_S:
            wrong.append(f"{_name(work)} was captured {min(ends) - work.settled_at:.2f} s before KIE had its result")
        if not work.seen & {"media", "link"}:
            wrong.append(f"{_name(work)} was captured, in the chat is {', '.join(work.seen) or 'nothing'}")
    return _verdict("nobody paid for nothing", wrong)


def nobody_charged_twice(evidence: Evidence) -> Verdict:
    """By the ledger's entries, against what the button said."""
    prices = {wish.serial: wish.price for wish in evidence.wishes}
    wrong = [
        f"{_name(work)}: {work.moved} taken, the button said {prices.get(work.serial)}, settled for {work.amount}"
        for work in evidence.works
        if work.settled == "captured" and not 0 < work.moved == work.amount <= prices.get(work.serial, 0)
    ]
    paid = Counter[int]()
    for work in evidence.works:
        paid[work.user_id] += work.amount if work.settled == "captured" else 0
    wrong += [
        f"user {each.user_id}: {each.available} left and {each.held} held of {each.granted}, {paid[each.user_id]} paid"
        for each in evidence.wallets
        if each.held or each.available != each.granted - paid[each.user_id]
    ]
    return _verdict("nobody was charged twice", wrong)


def failures_told(evidence: Evidence) -> Verdict:
    wrong = [f"{_name(work)} was voided and nobody said so" for work in evidence.works if _is_silent(work)]
    return _verdict("whoever got nothing was told", wrong)


def good_results_sold(evidence: Evidence) -> Verdict:
    """Whose answer came and whose task succeeded in time was not sent away with a failure."""
    wrong = [
        f"{_name(work)} failed ({work.failure}), its result is at KIE"
        for work in evidence.works
        if work.state == "failed" and not evidence.is_unknown(work) and _last_has_result(evidence, work)
    ]
    return _verdict("a result that is there is sold", wrong)


def losses_listed(evidence: Evidence) -> Verdict:
    """Every task that KIE billed is paid for by its user, or in the list of losses."""
    billed = {task.attempt_id: task for task in evidence.tasks if task.is_billed}
    wrong = []
    for work in evidence.works:
        last = max(work.attempts, key=lambda each: each.number, default=None)
        for attempt in work.attempts:
            is_paid = work.settled == "captured" and attempt is last
            if attempt.attempt_id in billed and not is_paid and not attempt.is_loss:
                wrong.append(
                    f"{_name(work)}: attempt No. {attempt.number} ({attempt.state}, {work.failure}) was billed"
                )
    return _verdict("what KIE billed and nobody paid is listed as a loss", wrong)


def books_right(evidence: Evidence) -> Verdict:
    """During the run and after it."""
    wrong = [f"{each.at:.1f} s: {'; '.join(each.breaches)}" for each in evidence.checks if each.breaches]
    wrong += evidence.breaches
    granted = sum(wallet.granted for wallet in evidence.wallets)
    left = sum(wallet.available + wallet.held for wallet in evidence.wallets)
    captured = sum(work.amount for work in evidence.works if work.settled == "captured")
    if granted != left + captured:
        wrong.append(f"{granted} granted, {left} in wallets, {captured} captured")
    if evidence.revenue != captured:
        wrong.append(f"{captured} captured, {evidence.revenue} earned")
    return _verdict("the ledger balances, at every moment it was verified", wrong)


def hard_enough(evidence: Evidence) -> Verdict:
    asked = evidence.asked
    under_way = sum(check.is_open > 0 for check in evidence.checks)
    happened = {
        "works bought": (len(evidence.works), asked.works),
        "kills": (len(evidence.kills), asked.kills),
        "storms": (sum(evidence.storms.values()), asked.storms),
        "verifications with works under way": (under_way, asked.checks),
    }
    wrong = [f"{found} {what}, {least} were asked for" for what, (found, least) in happened.items() if found < least]
    return _verdict("the run was as hard as it was meant to be", wrong)


def came_to_rest(evidence: Evidence) -> Verdict:
    return _verdict("everybody could buy, and everything came to rest", [*evidence.trouble, *evidence.unfinished])


_CHECKS: tuple[Callable[[Evidence], Verdict], ...] = (
    bought_once,
    ended_once,
    billed_once,
    never_resubmitted,
    unknowns_ended,
    orphans_delivered,
    nobody_paid_for_nothing,
    nobody_charged_twice,
    failures_told,
    good_results_sold,
    losses_listed,
    books_right,
    hard_enough,
    came_to_rest,
)


def _is_silent(work: Work) -> bool:
    return work.settled == "voided" and not work.seen & {"failed"}


def _last_has_result(evidence: Evidence, work: Work) -> bool:
    tasks = evidence.tasks_of(work)
    return bool(tasks) and tasks[-1].has_result


def _name(work: Work) -> str:
    return f"No. {work.number} ({work.serial})"


def _verdict(promise: str, broken_by: Iterable[str]) -> Verdict:
    lines = list(broken_by)
    more = [f"and {len(lines) - _MOST_SHOWN} more"] if len(lines) > _MOST_SHOWN else []
    return Verdict(promise, (*lines[:_MOST_SHOWN], *more))
