"""What must be true of every stretch of a run, whatever struck in it. Asked of journals and rows, not of replicas."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from sqlalchemy import Row, text

from kiebot.demo.audit import doubled, lost
from kiebot.demo.evidence import Evidence, Recorded
from kiebot.simulators.telegram.journal import Call, PollOverlap
from tests.chaos.rig import Rig

_INBOX = text("""
    SELECT i.update_id, extract(epoch FROM i.received_at)::float8, extract(epoch FROM i.done_at)::float8,
        extract(epoch FROM i.swept_at)::float8, d.id IS NOT NULL
    FROM inbox i LEFT JOIN dead_letters d ON d.kind = 'update' AND d.source_id = i.id
    WHERE i.update_id = ANY(:ids) ORDER BY i.id
""")
_ANSWERS = text("""
    SELECT said.serial, count(*) FROM (
        SELECT substring(payload::text FROM '/n([0-9]+)')::int AS serial FROM outbox
    ) AS said WHERE said.serial = ANY(:serials) GROUP BY 1
""")
_WITNESSED = text("SELECT id, update_id, writer, holder, epoch FROM witness WHERE id > :after ORDER BY id")
_LAST_WITNESSED = text("SELECT coalesce(max(id), 0) FROM witness")


@dataclass(frozen=True)
class Mark:
    """Where a stretch begins."""

    at: float
    sent: int
    call: int
    epochs: int
    witnessed: int


@dataclass(frozen=True)
class Found:
    """Of one stretch. `breaches` must be empty; the rest is to be told."""

    breaches: tuple[str, ...]
    updates: int
    lost: int
    doubled: int
    stale_writes: int
    overlaps: tuple[PollOverlap, ...]
    conflicts: tuple[Call, ...]
    """Polls of living, connected clients that were ended with 409."""

    @property
    def told(self) -> str:
        has_met = self.overlaps or self.conflicts
        polls = f", {len(self.overlaps)} overlaps of polls, {len(self.conflicts)} conflicts" if has_met else ""
        return f"{self.updates} updates, {self.lost} lost, {self.doubled} doubled{polls}"


async def mark(rig: Rig) -> Mark:
    """Now."""
    rig.feed.read()
    rig.victims.clear()
    async with rig.world.engine.connect() as connection:
        witnessed = await connection.scalar(_LAST_WITNESSED)
    return Mark(time.time(), len(rig.crowd.sent), rig.mark(), len(rig.feed.epochs), witnessed or 0)


async def look(rig: Rig, since: Mark, *, polls_may_meet: bool = False) -> Found:
    """Everything since then, once it has come to rest.

    Two living clients may poll at once only when one of them is a victim (it was cut off, frozen or killed), or where
    the caller says so: when the lease itself was lost.
    """
    evidence = await _evidence(rig, since)
    missing, twice = lost(evidence), [*doubled(evidence), *await _effects_doubled(rig, since)]
    stale = await _stale_writes(rig, since)
    overlaps = _overlaps(rig, since)
    breaches = [*missing, *twice, *stale, *_terms(rig, since), *await _epochs_of_writers(rig, since)]
    if not polls_may_meet:
        breaches += _met_in_peace(rig, overlaps)
    conflicts = [
        call
        for call in rig.polls_since(since.call)
        if call.status == 409 and call.disconnected_at is None and call.process not in rig.victims
    ]
    counts = len(evidence.sent), len(missing), len(twice), len(stale)
    return Found(tuple(breaches), *counts, tuple(overlaps), tuple(conflicts))


async def _evidence(rig: Rig, since: Mark) -> Evidence:
    sent = rig.crowd.sent[since.sent :]
    async with rig.world.engine.connect() as connection:
        rows = await connection.execute(_INBOX, {"ids": [each.update_id for each in sent]})
        return Evidence(sent=tuple(sent), inbox=tuple(Recorded(*row) for row in rows))


async def _effects_doubled(rig: Rig, since: Mark) -> list[str]:
    """Each command decided upon exactly one answer."""
    serials = rig.crowd.serials[since.sent :]
    async with rig.world.engine.connect() as connection:
        answers = {row[0]: row[1] for row in await connection.execute(_ANSWERS, {"serials": serials})}
    return [f"/n{serial} has {answers.get(serial, 0)} answers" for serial in serials if answers.get(serial, 0) != 1]


async def _stale_writes(rig: Rig, since: Mark) -> list[str]:
    """Rows written by a replica while another one held the fence."""
    return [
        f"{row.writer} wrote update {row.update_id} under the fence of {row.holder} (epoch {row.epoch})"
        for row in await _polled(rig, since)
        if row.writer != row.holder and row.holder is not None
    ]


async def _epochs_of_writers(rig: Rig, since: Mark) -> list[str]:
    """One writer per epoch, and epochs in order."""
    rows = await _polled(rig, since)
    pairs = {(row.epoch, row.writer) for row in rows}
    shared = [epoch for epoch, count in Counter(epoch for epoch, _ in pairs).items() if count > 1]
    back = [f"epoch {b.epoch} wrote after {a.epoch}" for a, b in pairwise(rows) if b.epoch < a.epoch]
    return [f"epoch {epoch} had two writers" for epoch in shared] + back


async def _polled(rig: Rig, since: Mark) -> list[Row[Any]]:
    """Who wrote what came by polls. A webhook needs no lease: any replica may write what Telegram brought to it."""
    async with rig.world.engine.connect() as connection:
        rows = (await connection.execute(_WITNESSED, {"after": since.witnessed})).all()
    brought = {each.update_id for each in rig.world.tg.bot.webhook.deliveries}
    fetched = {(poll.process, update_id) for poll in rig.world.tg.journal.polls() for update_id in poll.update_ids}
    return [row for row in rows if row.update_id not in brought or (row.writer, row.update_id) in fetched]


def _terms(rig: Rig, since: Mark) -> list[str]:
    """Every term is newer than the one before, and no epoch has two holders."""
    rig.feed.read()
    ordered = sorted(rig.feed.epochs[since.epochs :], key=lambda each: each.epoch)
    return [
        f"{later.replica} and {earlier.replica} both began epoch {later.epoch}"
        for earlier, later in pairwise(ordered)
        if later.epoch == earlier.epoch
    ] + [
        f"epoch {later.epoch} began before epoch {earlier.epoch}"
        for earlier, later in pairwise(ordered)
        if later.at < earlier.at - 0.05 and not {earlier.replica, later.replica} & rig.victims
    ]


def _overlaps(rig: Rig, since: Mark) -> list[PollOverlap]:
    found = rig.world.tg.journal.live_poll_overlaps()
    return [each for each in found if each.second.number > since.call]


def _met_in_peace(rig: Rig, overlaps: Iterable[PollOverlap]) -> list[str]:
    return [
        f"{each.first.process} and {each.second.process} polled at once for {each.seconds * 1000:.0f} ms"
        for each in overlaps
        if not {each.first.process, each.second.process} & rig.victims
    ]
