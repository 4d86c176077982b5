"""The promises, each a pure question to the evidence: kept, or broken by what?

A blow excuses only what its promise names: a wake-up may be lost with a killed replica or an emptied Redis, a send may
be repeated in the instant of a crash, two polls may meet around the loss of a leader. Nothing excuses a lost update, a
doubled effect, or money.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import pairwise

from kiebot.demo.evidence import Blow, Evidence, Recorded, Repeat, by_update

_MOST_SHOWN = 5

# How long after a blow its aftermath lasts, seconds. A dead replica's claims are free after three and a half seconds
# without a heartbeat, and heartbeats come once a second.
CLAIMS_LAPSE_S = 6.0
WAKEUPS_MAY_BE_LOST = {Blow.KILL: CLAIMS_LAPSE_S, Blow.FREEZE: CLAIMS_LAPSE_S, Blow.FLUSH: 1.0}
SENDS_MAY_REPEAT = {Blow.KILL: 2.0, Blow.FREEZE: 2.0}
# With the lease gone from Redis a standby leads at once, and the old leader learns of it with its next poll or renewal.
POLLS_MAY_MEET = {Blow.KILL: 2.0, Blow.FREEZE: 2.0, Blow.FLUSH: 2.5}
PRESSES_MAY_WAIT = {Blow.KILL: CLAIMS_LAPSE_S, Blow.FREEZE: CLAIMS_LAPSE_S, Blow.FLUSH: CLAIMS_LAPSE_S, Blow.ROLL: 2.0}
PRESS_TAKES_S = 2.0  # so long before a blow a press may have been made, and its answer have died with a replica

_KINDS = {"image": ("photo", "document"), "video": ("video", "document"), "audio": ("audio", "document")}


@dataclass(frozen=True, slots=True)
class Verdict:
    """One promise, and what breaks it."""

    promise: str
    broken_by: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()  # what is worth listing although the promise is kept

    @property
    def is_kept(self) -> bool:
        return not self.broken_by


def audit(evidence: Evidence) -> list[Verdict]:
    """Every promise, in the order of the table."""
    return [check(evidence) for check in _CHECKS]


def recorded_first(evidence: Evidence) -> Verdict:
    """T1 before the offset moves."""
    rows = by_update(evidence.inbox)
    early = [
        f"update {update_id}: confirmed at {_clock(at)}, recorded {_recorded(rows, update_id)}"
        for update_id, at in sorted(evidence.confirmed_at.items())
        if min((row.received_at for row in rows.get(update_id, ())), default=float("inf")) > at
    ]
    return _verdict("an update is recorded before Telegram may forget it", early)


def nothing_lost(evidence: Evidence) -> Verdict:
    return _verdict("no update is lost", lost(evidence))


def lost(evidence: Evidence) -> list[str]:
    """Updates that were sent and never handled."""
    rows = by_update(evidence.inbox)
    missing = []
    for sent in evidence.sent:
        found = rows.get(sent.update_id, [])
        if not found:
            missing.append(f"update {sent.update_id} ({sent.what}, {_clock(sent.at)}) never reached the inbox")
        elif all(row.done_at is None for row in found):
            missing.append(f"update {sent.update_id} ({sent.what}) was recorded and not handled")
        elif any(row.is_buried for row in found):
            missing.append(f"update {sent.update_id} ({sent.what}) was given up")
    return missing


def nothing_doubled(evidence: Evidence) -> Verdict:
    return _verdict("no update takes effect twice", doubled(evidence))


def doubled(evidence: Evidence) -> list[str]:
    """Updates in the inbox more than once: each row is handled."""
    rows = by_update(evidence.inbox)
    return [f"update {update_id} is in the inbox {len(found)} times" for update_id, found in rows.items() if found[1:]]


def nothing_strange(evidence: Evidence) -> Verdict:
    known = {sent.update_id for sent in evidence.sent}
    strange = [
        f"update {row.update_id} was handled, nobody sent it" for row in evidence.inbox if row.update_id not in known
    ]
    return _verdict("what was handled was sent", strange)


def wakeups_kept(evidence: Evidence) -> Verdict:
    """Sweepers are for crashes: in peace every wake-up arrives."""
    swept = [row for row in evidence.inbox if row.swept_at is not None]
    peaceful = [
        f"update {row.update_id}: received {_clock(row.received_at)}, found by a sweeper {_clock(row.swept_at)}"
        for row in swept
        if row.swept_at is not None and not evidence.struck(row.received_at, row.swept_at, WAKEUPS_MAY_BE_LOST)
    ]
    notes = [f"{len(swept) - len(peaceful)} updates rescued by a sweeper after a blow"] if swept else []
    return _verdict("no wake-up is lost", peaceful, notes)


def people_answered(evidence: Evidence) -> Verdict:
    silent = [f"{mark.person}: nothing answered {mark.mark}" for mark in evidence.marks if not mark.answered_at]
    silent += [
        f"{press.person}: the press {press.data} at {_clock(press.at)} was never acknowledged"
        for press in evidence.presses
        if not press.is_answered and not evidence.struck(press.at, press.at + PRESS_TAKES_S, PRESSES_MAY_WAIT)
    ]
    return _verdict("every message and every press is answered", silent)


def answered_once(evidence: Evidence) -> Verdict:
    """Sends are repeated only in the instant of a crash, never in peace."""
    repeats = list(evidence.repeats)
    repeats += [Repeat(0, f"the answer to {m.mark}", m.answered_at) for m in evidence.marks if m.answered_at[1:]]
    peaceful = [
        f"{repeat.what!r} sent at {' and '.join(_clock(at) for at in repeat.times)}"
        for repeat in repeats
        if not evidence.struck(repeat.times[0], repeat.times[-1], SENDS_MAY_REPEAT)
    ]
    excused = len(repeats) - len(peaceful)
    return _verdict(
        "a message is repeated only in the instant of a crash",
        peaceful,
        [f"{excused} messages repeated around a crash"] if excused else [],
    )


def bought_once(evidence: Evidence) -> Verdict:
    wrong = [
        f"{each.person} pressed Create on {each.pressed} forms and got {each.made} generations"
        for each in evidence.purchases
        if each.pressed != each.made
    ]
    return _verdict("one press of Create buys one generation", wrong)


def ended_once(evidence: Evidence) -> Verdict:
    open_ones = [f"No. {work.number} is {work.state}, not settled" for work in evidence.works if not work.settled]
    wrong = [
        f"No. {work.number} is {work.state} and {work.settled}"
        for work in evidence.works
        if work.settled and (work.state, work.settled) not in (("succeeded", "captured"), ("failed", "voided"))
    ]
    return _verdict("a generation ends exactly once, captured or voided", open_ones + wrong)


def delivered(evidence: Evidence) -> Verdict:
    missing = [
        f"No. {work.number} ({work.output}) was captured, in the chat is {', '.join(work.delivered) or 'nothing'}"
        for work in evidence.works
        if work.settled == "captured" and not any(kind in _KINDS[work.output] for kind in work.delivered)
    ]
    untold = [
        f"No. {work.number} was voided and nobody said so"
        for work in evidence.works
        if work.settled == "voided" and not work.is_told
    ]
    return _verdict("what was captured was delivered, what was voided was told", missing + untold)


def paid_for_results(evidence: Evidence) -> Verdict:
    early = []
    for work in evidence.works:
        if work.settled != "captured" or work.settled_at is None:
            continue
        ends = [task.ends_at for task in evidence.tasks if task.work == work.key and task.is_success]
        if not ends:
            early.append(f"No. {work.number} was captured, KIE made nothing for it")
        elif min(ends) > work.settled_at:
            early.append(
                f"No. {work.number} was captured {min(ends) - work.settled_at:.2f} s before KIE had its result"
            )
    return _verdict("money is taken only for a result that exists", early)


def never_resubmitted(evidence: Evidence) -> Verdict:
    """After a lost answer the task may exist: another createTask could be billed a second time."""
    again: list[str] = []
    numbers = {work.key: work.number for work in evidence.works}
    for key, number in numbers.items():
        creates = sorted((each for each in evidence.creates if each.work == key), key=lambda each: each.at)
        if any(each.is_lost for each in creates[:-1]):
            again.append(f"No. {number}: createTask {len(creates)} times although an answer was lost")
        attempts = sorted((each for each in evidence.attempts if each.work == key), key=lambda each: each.number)
        if any(each.state in ("unknown", "adopted") for each in attempts[:-1]):
            again.append(f"No. {number}: a new attempt after one with an unknown outcome")
    return _verdict("createTask is never repeated after a lost answer", again)


def billed_once(evidence: Evidence) -> Verdict:
    billed = Counter(task.attempt_id for task in evidence.tasks if task.is_billed)
    twice = [f"attempt {attempt[:8]}: {count} tasks billed" for attempt, count in billed.items() if count > 1]
    stray = [
        f"attempt {task.attempt_id[:8]} at KIE belongs to no generation" for task in evidence.tasks if not task.work
    ]
    return _verdict("an attempt is billed once", twice + stray)


def books_right(evidence: Evidence) -> Verdict:
    books = evidence.books
    wrong = list(books.breaches)
    if books.wallets != books.granted - books.captured:
        wrong.append(f"wallets hold {books.wallets}, granted {books.granted} less captured {books.captured}")
    return _verdict("the ledger balances", wrong)


def one_poller(evidence: Evidence) -> Verdict:
    told = [
        (each, f"{each.first} and {each.second} at {_clock(each.at)} for {each.seconds * 1000:.0f} ms")
        for each in evidence.overlaps
    ]
    peaceful = [text for each, text in told if not evidence.struck(each.at, each.at + each.seconds, POLLS_MAY_MEET)]
    notes = [
        f"polls met around the loss of a leader or of its lease: {text}" for _, text in told if text not in peaceful
    ]
    notes += [f"409 answered to {each.replica} at {_clock(each.at)}" for each in evidence.conflicts]
    return _verdict("two living clients never poll at once in peace", peaceful, notes)


def epochs_rise(evidence: Evidence) -> Verdict:
    ordered = sorted(evidence.epochs, key=lambda each: each.at)
    wrong = [
        f"{later.replica} began epoch {later.epoch} at {_clock(later.at)} after epoch {earlier.epoch}"
        for earlier, later in pairwise(ordered)
        if later.epoch <= earlier.epoch
    ]
    return _verdict("every term is newer than the one before", wrong)


def taken_over(evidence: Evidence) -> Verdict:
    orphaned = [
        f"after the {each.what} of {each.victim} nobody polled" for each in evidence.failovers if each.seconds is None
    ]
    notes = [
        f"{each.what} of {each.victim}: {each.successor} polled after {each.seconds:.2f} s"
        for each in evidence.failovers
        if each.seconds is not None
    ]
    return _verdict("another replica takes over", orphaned, notes)


def all_done(evidence: Evidence) -> Verdict:
    return _verdict("everything went as planned and came to rest", [*evidence.unfinished, *evidence.trouble])


_CHECKS: tuple[Callable[[Evidence], Verdict], ...] = (
    nothing_lost,
    nothing_doubled,
    nothing_strange,
    recorded_first,
    wakeups_kept,
    people_answered,
    answered_once,
    bought_once,
    ended_once,
    delivered,
    paid_for_results,
    never_resubmitted,
    billed_once,
    books_right,
    one_poller,
    epochs_rise,
    taken_over,
    all_done,
)


def _verdict(promise: str, broken_by: Iterable[str], notes: Iterable[str] = ()) -> Verdict:
    return Verdict(promise, tuple(_shortened(list(broken_by))), tuple(notes))


def _shortened(lines: list[str]) -> Iterator[str]:
    yield from lines[:_MOST_SHOWN]
    if len(lines) > _MOST_SHOWN:
        yield f"and {len(lines) - _MOST_SHOWN} more"


def _recorded(rows: dict[int, list[Recorded]], update_id: int) -> str:
    found = rows.get(update_id)
    return f"at {_clock(min(row.received_at for row in found))}" if found else "never"


def _clock(at: float | None) -> str:
    """Seconds within the hour: enough to find the place in a log."""
    if at is None:
        return "never"
    return f"{int(at // 60 % 60):02d}:{at % 60:06.3f}"
