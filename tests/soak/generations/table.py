"""The result in words: profile by profile, what struck, the unknown outcomes one by one, the money, the promises."""

from __future__ import annotations

import textwrap
from collections import Counter, defaultdict
from collections.abc import Sequence

from kiebot.demo.audit import Verdict
from tests.soak.generations.evidence import Evidence, Work
from tests.soak.generations.promises import resubmits

COLUMNS = ("accepted", "succeeded", "failed, void", "unknown, void", "unknown, adopted", "late, free", "doubles")
_WIDTHS = (9, 10, 13, 14, 17, 11, 8)


def table(evidence: Evidence, verdicts: Sequence[Verdict]) -> str:
    """Lines, the promises last."""
    return "\n".join(
        [
            *_by_profile(evidence),
            "",
            *_unknowns(evidence),
            "",
            *_struck(evidence),
            *_money(evidence),
            "",
            *_told(verdicts),
        ]
    )


def _by_profile(evidence: Evidence) -> list[str]:
    names = {wish.serial: wish.profile for wish in evidence.wishes}
    rows: dict[str, Counter[str]] = defaultdict(Counter)
    for work in evidence.works:
        for column in _columns(evidence, work):
            rows[names.get(work.serial, "nobody's")][column] += 1
    whole = Counter[str]()
    for row in rows.values():
        whole.update(row)
    head = f"{'profile':<34}" + "".join(f"{name:>{width}}" for name, width in zip(COLUMNS, _WIDTHS, strict=True))
    return [head, *(_line(name, rows[name]) for name in sorted(rows)), _line("together", whole)]


def _columns(evidence: Evidence, work: Work) -> list[str]:
    """Which columns a generation counts in. What was unknown counts by that alone; a late gift was void before."""
    found = ["accepted"]
    is_unknown = evidence.is_unknown(work)
    if work.state == "succeeded":
        found.append("unknown, adopted" if is_unknown else "succeeded")
    elif work.state == "failed":
        is_void = is_unknown and work.failure == "answer_lost"
        found.append("unknown, void" if is_void else "unknown, adopted" if is_unknown else "failed, void")
    if work.is_gift:
        found.append("late, free")
    return found + ["doubles"] * _doubles(evidence, work)


def _doubles(evidence: Evidence, work: Work) -> int:
    """Charges beyond the first, tasks beyond the first of an attempt, creates while an outcome was unknown."""
    tasks = Counter(task.attempt_id for task in evidence.tasks_of(work))
    more_tasks = sum(count - 1 for count in tasks.values())
    return max(0, work.captures - 1) + more_tasks + len(resubmits(evidence, work))


def _line(name: str, row: Counter[str]) -> str:
    cells = (f"{row[column] or '·':>{width}}" for column, width in zip(COLUMNS, _WIDTHS, strict=True))
    return f"{name:<34}" + "".join(cells)


def _unknowns(evidence: Evidence) -> list[str]:
    """Every one by its number and its end."""
    ends: dict[str, list[str]] = defaultdict(list)
    for work in evidence.works:
        if evidence.is_unknown(work):
            ends[_end_of(work)].append(str(work.number))
    count = sum(len(numbers) for numbers in ends.values())
    lines = [f"unknown outcomes: {count}, by number"]
    for end in sorted(ends):
        told = f"{end} ({len(ends[end])}): {' '.join(ends[end])}"
        lines += textwrap.wrap(told, 110, initial_indent="  ", subsequent_indent="      ")
    return lines


def _end_of(work: Work) -> str:
    if work.settled == "captured":
        return "adopted, captured"
    if work.failure != "answer_lost":
        return f"adopted, then void: {work.failure or work.state}"
    return "void, then delivered free" if work.is_gift else "void"


def _struck(evidence: Evidence) -> list[str]:
    kills = Counter(kill.when for kill in evidence.kills)
    broken = sum(bool(check.breaches) for check in evidence.checks)
    most_open = max((check.is_open for check in evidence.checks), default=0)
    while_open = sum(check.is_open > 0 for check in evidence.checks)
    lost = sum(each.is_lost for each in evidence.creates)
    return [
        f"kills      {len(evidence.kills)}" + "".join(f", {count} {when}" for when, count in kills.most_common()),
        "storms     " + ", ".join(f"{name} × {count}" for name, count in evidence.storms.items()),
        f"createTask {len(evidence.creates)}, {lost} answers lost; tasks made {len(evidence.tasks)}, "
        f"billed {sum(task.is_billed for task in evidence.tasks)}",
        f"verified   {len(evidence.checks)} times, {while_open} of them with work under way (at most {most_open}), "
        f"{broken} broken",
        f"messages   {evidence.repeated} sent again",
    ]


def _money(evidence: Evidence) -> list[str]:
    granted = sum(wallet.granted for wallet in evidence.wallets)
    left = sum(wallet.available for wallet in evidence.wallets)
    held = sum(wallet.held for wallet in evidence.wallets)
    captured = sum(work.amount for work in evidence.works if work.settled == "captured")
    sign = "=" if granted == left + held + captured else "≠"
    billed = sum(task.billed for task in evidence.tasks)
    listed = {attempt.attempt_id for work in evidence.works for attempt in work.attempts if attempt.is_loss}
    lost = sum(task.billed for task in evidence.tasks if task.attempt_id in listed)
    return [
        f"money      {_credits(granted)} granted {sign} {_credits(left)} left + {_credits(held)} held + "
        f"{_credits(captured)} captured; earned {_credits(evidence.revenue)}",
        f"KIE        {_credits(billed)} billed, {_credits(lost)} of it for nothing, and listed",
    ]


def _told(verdicts: Sequence[Verdict]) -> list[str]:
    lines = []
    for verdict in verdicts:
        lines.append(f"{'kept  ' if verdict.is_kept else 'BROKEN'}  {verdict.promise}")
        lines += [f"            {line}" for line in verdict.broken_by]
    return lines


def _credits(millicredits: int) -> str:
    return f"{millicredits / 1000:,.2f}".removesuffix(".00")
