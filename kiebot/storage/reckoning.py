"""What users paid beside what the provider took: margins per model and day, and what was made for nothing.

The provider's figure is the one it reports with a finished task (`attempts.consumed_millicredits`). Until it has
reported, the quote's cost stands in for it. A day is a day of UTC, the one on which a generation ended.
"""

from __future__ import annotations

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from kiebot.admin.model import Loss, Margin

# An attempt is paid for when its generation was captured and it is the one that brought the result.
_PAID = "(g.state = 'succeeded' AND a.id = g.attempt_id)"
_LOST = f"NOT {_PAID} AND g.finished_at IS NOT NULL AND coalesce(a.consumed_millicredits > 0, a.suspected_loss)"
_MARGINS = text(f"""
    WITH ended AS (
        SELECT id, (finished_at AT TIME ZONE 'UTC')::date AS day, model_id, state, cost_millicredits
        FROM generations WHERE finished_at >=
            (date_trunc('day', now() AT TIME ZONE 'UTC') - make_interval(days => :days - 1)) AT TIME ZONE 'UTC'
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
    GROUP BY e.day, e.model_id ORDER BY e.day DESC, sold DESC, e.model_id
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


class ReckoningRepository:
    def __init__(self, connection: AsyncConnection) -> None:
        self._connection = connection

    async def margins(self, *, days: int) -> list[Margin]:
        """Of works that ended on the last `days` days, today among them; newest day first, then what sold best."""
        return [Margin(*row) for row in await self._connection.execute(_MARGINS, {"days": days})]

    async def losses(self, *, days: int) -> list[Loss]:
        """Of attempts begun within the last `days` times 24 hours, newest first."""
        return [Loss(*row) for row in await self._connection.execute(_LOSSES, {"days": days})]
