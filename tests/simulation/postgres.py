"""The tables of intake in memory, and the one fence.

Each statement does what its namesake in kiebot/storage (inbox.py, claims.py, sweeps.py) does.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from uuid import UUID

from kiebot.errors import Fenced
from kiebot.intake.lanes import LaneClaim, Waiting
from kiebot.intake.ports import FenceRow, RawUpdate
from kiebot.storage.claims import DEAD_AFTER_S, GAP_S, QUICK_CLAIM_MAX_S
from kiebot.storage.sweeps import Backlog
from kiebot.wakeups import Drain
from tests.simulation.loop import VirtualLoop
from tests.simulation.sessions import Session, Sessions, Statement


@dataclass(eq=False)
class InboxRow:
    id: int
    update: RawUpdate
    next_at: float
    attempts: int = 0
    is_done: bool = False


@dataclass(eq=False)
class LaneRow:
    revision: int = 0
    claimed_by: UUID | None = None
    claimed_at: float = 0.0
    claim_no: int = 0


@dataclass(eq=False)
class ReplicaRow:
    beat_at: float
    steady_since: float


class Postgres(Sessions):
    """The server. `violate` is told of whatever must never be."""

    def __init__(
        self, loop: VirtualLoop, violate: Callable[[str], None], *, is_fenced: bool = True, has_key: bool = True
    ) -> None:
        super().__init__(loop)
        self._violate = violate
        self._is_fenced = is_fenced
        self._has_key = has_key
        self._fence = FenceRow(0, "", "")
        self._epochs: dict[str, int] = {}
        self._known: set[int] = set()
        self._waiting: dict[str, list[InboxRow]] = {}
        self._lanes: dict[str, LaneRow] = {}
        self._replicas: dict[UUID, ReplicaRow] = {}
        self._last_ended: dict[str, int] = {}
        self._rows = 0
        self.ended: dict[int, str] = {}  # update id -> how it ended
        self.accepted_stale = self.refused_stale = 0

    # The fence and the inbox

    def take_fence(self, token: str, replica: str) -> Statement:
        def statement(_: Session) -> FenceRow:
            fence = FenceRow(self._fence.epoch + 1, token, replica)
            if fence.epoch <= max(self._epochs.values(), default=0):
                self._violate(f"epoch {fence.epoch} was given twice")
            self._fence, self._epochs[token] = fence, fence.epoch
            return fence

        return statement

    def record(self, updates: Sequence[RawUpdate], token: str | None) -> Statement:
        def statement(_: Session) -> list[Drain]:
            if token != self._fence.token:
                if self._is_fenced:
                    self.refused_stale += 1
                    raise Fenced("another term holds the fence")
                self.accepted_stale += 1
                self._violate(f"a write under epoch {self._epochs.get(token or '')} after {self._fence.epoch}")
            fresh = [update for update in updates if not (self._has_key and update.update_id in self._known)]
            for update in fresh:
                self._rows += 1
                self._known.add(update.update_id)
                row = InboxRow(self._rows, update, self._loop.time())
                self._waiting.setdefault(update.lane, []).append(row)
            lanes = sorted({update.lane for update in fresh})
            for lane in lanes:
                self._lanes.setdefault(lane, LaneRow()).revision += 1
            return [Drain(lane, self._lanes[lane].revision) for lane in lanes]

        return statement

    def has(self, update: RawUpdate) -> bool:
        return update.update_id in self._known

    @property
    def backlog(self) -> int:
        return sum(len(rows) for rows in self._waiting.values())

    # Lanes

    def claim(self, lane: str, owner: UUID, most: int, *, again: bool) -> Statement:
        def statement(session: Session) -> tuple[LaneClaim, list[Waiting]] | None:
            row = self._lanes.get(lane)
            if row is None or not self._waiting.get(lane):
                return None
            self._lock(session, row)
            if not (self._is_takeable(row, owner) or (again and row.claimed_by == owner)):
                return None
            number, now = row.claim_no + 1, self._loop.time()

            def change() -> None:
                row.claimed_by, row.claimed_at, row.claim_no = owner, now, number

            session.changes.append(change)
            waiting = [
                Waiting(one.id, one.update.update_id, one.update.payload, one.attempts, one.next_at > now)
                for one in self._waiting[lane][:most]
            ]
            return LaneClaim(lane, owner, number), waiting

        return statement

    def release(self, claim: LaneClaim) -> Statement:
        def statement(session: Session) -> None:
            row = self._lanes[claim.lane]
            self._lock(session, row)
            if self._is_held(claim):
                session.changes.append(lambda: setattr(row, "claimed_by", None))

        return statement

    def look_again(self, lane: str) -> Statement:
        def statement(session: Session) -> Drain | None:
            row, waiting = self._lanes[lane], self._waiting.get(lane)
            self._lock(session, row)
            if row.claimed_by is not None or not waiting or waiting[0].next_at > self._loop.time():
                return None
            revision = row.revision + 1
            session.changes.append(lambda: setattr(row, "revision", revision))
            return Drain(lane, revision)

        return statement

    def finish(self, claim: LaneClaim, row_id: int) -> Statement:
        def statement(session: Session) -> bool:
            row = self._row(claim.lane, row_id)
            if row is None:
                return False
            self._lock(session, row)
            if not self._is_held(claim):
                return False
            if any(other.handles == claim.lane for other in self._open if other is not session):
                self._violate(f"two drains of {claim.lane} at once")
            session.handles = claim.lane
            session.changes.append(lambda: self._end(row, "handled"))
            return True

        return statement

    def _is_held(self, claim: LaneClaim) -> bool:
        lane = self._lanes[claim.lane]
        return (lane.claimed_by, lane.claim_no) == (claim.owner, claim.claim_no)

    def failed(self, claim: LaneClaim, row_id: int, pause_s: float) -> Statement:
        def statement(session: Session) -> int:
            row = self._row(claim.lane, row_id)
            if row is None or not self._is_held(claim):
                return 0
            self._lock(session, row)
            attempts, next_at = row.attempts + 1, self._loop.time() + pause_s

            def change() -> None:
                row.attempts, row.next_at = attempts, next_at

            session.changes.append(change)
            return attempts

        return statement

    def bury(self, claim: LaneClaim, row_id: int) -> Statement:
        def statement(session: Session) -> int | None:
            row = self._row(claim.lane, row_id)
            if row is None or not self._is_held(claim):
                return None
            self._lock(session, row)
            session.changes.append(lambda: self._end(row, "buried"))
            return row_id

        return statement

    def waits(self) -> Statement:
        def statement(_: Session) -> Backlog:
            return Backlog(has_updates=any(self._waiting.values()))

        return statement

    def stranded(self, grace_s: float) -> Statement:
        def statement(_: Session) -> list[Drain]:
            before = self._loop.time() - grace_s
            return [
                Drain(lane, self._lanes[lane].revision)
                for lane, rows in self._waiting.items()
                if rows and rows[0].next_at < before and self._is_free(self._lanes[lane])
            ]

        return statement

    def _row(self, lane: str, row_id: int) -> InboxRow | None:
        return next((row for row in self._waiting.get(lane, []) if row.id == row_id), None)

    def _end(self, row: InboxRow, how: str) -> None:
        """Its effect is committed."""
        update = row.update
        self._waiting[update.lane].remove(row)
        if update.update_id in self.ended:
            self._violate(f"update {update.update_id} took effect twice")
        elif update.update_id < self._last_ended.get(update.lane, 0):
            self._violate(f"update {update.update_id} of {update.lane} came after {self._last_ended[update.lane]}")
        self.ended[update.update_id] = how
        self._last_ended[update.lane] = max(update.update_id, self._last_ended.get(update.lane, 0))

    # Who lives

    def beat(self, incarnation: UUID) -> Statement:
        def statement(_: Session) -> None:
            now = self._loop.time()
            row = self._replicas.setdefault(incarnation, ReplicaRow(now, now))
            if row.beat_at < now - GAP_S:
                row.steady_since = now
            row.beat_at = now

        return statement

    def leave(self, incarnation: UUID) -> Statement:
        return lambda _: self._replicas.pop(incarnation, None)

    def _is_free(self, lane: LaneRow) -> bool:
        return lane.claimed_by is None or self._is_forgotten(lane) or self._is_gone(lane.claimed_by)

    def _is_takeable(self, lane: LaneRow, owner: UUID) -> bool:
        if lane.claimed_by is None or lane.claimed_by not in self._replicas or self._is_forgotten(lane):
            return True
        me = self._replicas.get(owner)
        is_steady = me is not None and me.steady_since < self._loop.time() - DEAD_AFTER_S
        return is_steady and self._is_gone(lane.claimed_by)

    def _is_forgotten(self, lane: LaneRow) -> bool:
        return lane.claimed_at < self._loop.time() - QUICK_CLAIM_MAX_S

    def _is_gone(self, owner: UUID) -> bool:
        row = self._replicas.get(owner)
        return row is None or row.beat_at <= self._loop.time() - DEAD_AFTER_S
