"""What users paid beside what the provider took: margins per model and day, and what was made for nothing.

The provider's figure is the one it reports with a finished task (`attempts.consumed_millicredits`). Until it has
reported, the quote's cost stands in for it. A day is a day of UTC, the one on which a generation ended.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from kiebot.ledger.entries import Millicredits
from kiebot.storage.engine import outages_as_transient

# An attempt is paid for when its generation was captured and it is the one that brought the result.
_PAID = "(g.state = 'succeeded' AND a.id = g.attempt_id)"
_LOST = f"NOT {_PAID} AND g.finished_at IS NOT NULL AND coalesce(a.consumed_millicredits > 0, a.suspected_loss)"
_MARGINS = text(f"""
    WITH ended AS (
        SELECT id, (finished_at AT TIME ZONE 'UTC')::date AS day, model_id, state, cost_millicredits
        FROM generations WHERE finished_at > now() - make_interval(days => :days)
    ), tasks AS (
        SELECT g.id, sum(coalesce(a.consumed_millicredits, g.cost_millicredits)) FILTER (WHERE {_PAID}) AS consumed,
            count(*) FILTER (WHERE {_PAID} AND a.consumed_millicredits IS NULL) AS unreported,
            sum(coalesce(a.consumed_millicredits, g.cost_millicredits)) FILTER (WHERE {_LOST}) AS lost
        FROM generations g JOIN ended USING (id) JOIN attempts a ON a.generation_id = g.id GROUP BY g.id
    )
    SELECT e.day, e.model_id, count(*) FILTER (WHERE e.state = 'succeeded') AS sold,
        count(*) FILTER (WHERE e.state = 'failed') AS failed,
        coalesce(sum(s.amount), 0)::bigint AS captured,
        coalesce(sum(e.cost_millicredits) FILTER (WHERE e.state = 'succeeded'), 0)::bigint AS quoted,
        coalesce(sum(t.consumed), 0)::bigint AS consumed, coalesce(sum(t.unreported), 0)::bigint AS unreported,
        coalesce(sum(t.lost), 0)::bigint AS lost
    FROM ended e LEFT JOIN settlements s ON s.generation_id = e.id LEFT JOIN tasks t ON t.id = e.id
    GROUP BY e.day, e.model_id ORDER BY e.day DESC, e.model_id
""")
_LOSSES = text(f"""
    SELECT a.opened_at, g.number, g.id AS generation_id, a.id AS attempt_id, a.task_id, g.model_id, a.state,
        coalesce(g.failure, 'another attempt was paid for') AS why,
        coalesce(a.consumed_millicredits, g.cost_millicredits) AS amount,
        a.consumed_millicredits IS NOT NULL AS is_certain
    FROM attempts a JOIN generations g ON g.id = a.generation_id
    WHERE {_LOST} AND a.opened_at > now() - make_interval(days => :days)
    ORDER BY a.opened_at DESC
""")


@dataclass(frozen=True, slots=True)
class Margin:
    """One model on one day, in millicredits. `unreported`: how many of `sold` the provider gave no figure for."""

    day: date
    model_id: str
    sold: int
    failed: int
    captured: Millicredits
    quoted: Millicredits
    consumed: Millicredits
    unreported: int
    lost: Millicredits

    @property
    def margin(self) -> Millicredits:
        return self.captured - self.consumed - self.lost


@dataclass(frozen=True, slots=True)
class Loss:
    """One attempt that the provider billed, or may have, and nobody paid for. `is_certain`: it said so itself."""

    opened_at: datetime
    number: int
    generation_id: UUID
    attempt_id: UUID
    task_id: str | None
    model_id: str
    state: str
    why: str
    amount: Millicredits
    is_certain: bool


async def margins(engine: AsyncEngine, *, days: int) -> list[Margin]:
    """Generations that ended within the last `days` days, newest day first. Raises: Transient."""
    with outages_as_transient("margins"):
        async with engine.connect() as connection:
            return [Margin(*row) for row in await connection.execute(_MARGINS, {"days": days})]


async def losses(engine: AsyncEngine, *, days: int) -> list[Loss]:
    """Newest first. Raises: Transient."""
    with outages_as_transient("losses"):
        async with engine.connect() as connection:
            return [Loss(*row) for row in await connection.execute(_LOSSES, {"days": days})]
