"""The numbers admins ask for, read from the rows themselves. Days are UTC; the present day is one of `days`."""

from __future__ import annotations

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from kiebot.admin.model import MoneyDay, PeopleDay, Statistics, Totals
from kiebot.storage.reckoning import ReckoningRepository

_TOTALS = text("""
    SELECT u.*, w.*,
        (SELECT count(*) FROM inbox WHERE done_at IS NULL) AS updates_waiting,
        (SELECT count(*) FROM outbox WHERE sent_at IS NULL AND buried_at IS NULL) AS messages_waiting,
        (SELECT count(*) FROM dead_letters WHERE revived_at IS NULL AND closed_at IS NULL) AS letters,
        (SELECT coalesce(jsonb_object_agg(state, n), '{}') FROM (
            SELECT CASE failure WHEN 'cancelled' THEN failure ELSE state END AS state, count(*) AS n
            FROM generations GROUP BY 1) AS s) AS states
    FROM (
        SELECT count(*) AS users,
            count(*) FILTER (WHERE seen_at > now() - interval '1 day') AS active_day,
            count(*) FILTER (WHERE seen_at > now() - interval '7 days') AS active_week,
            count(blocked_bot_at) AS blocked_bot, count(banned_at) AS banned
        FROM users
    ) AS u, (
        SELECT coalesce(sum(available), 0)::bigint AS available, coalesce(sum(held), 0)::bigint AS held
        FROM accounts WHERE key LIKE 'wallet:%'
    ) AS w
""")
_DAYS = """
    WITH span AS (
        SELECT date_trunc('day', now() AT TIME ZONE 'UTC') - make_interval(days => :days - 1) AS first
    ), days AS (
        SELECT generate_series(first, first + make_interval(days => :days - 1), '1 day')::date AS day FROM span
    ), since AS (SELECT first AT TIME ZONE 'UTC' AS at FROM span)
"""
_PEOPLE = text(f"""
    {_DAYS}
    SELECT days.day, coalesce(u.n, 0), coalesce(b.n, 0), coalesce(i.n, 0) FROM days
    LEFT JOIN (
        SELECT (created_at AT TIME ZONE 'UTC')::date AS day, count(*) AS n
        FROM users, since WHERE created_at >= since.at GROUP BY 1
    ) AS u USING (day)
    LEFT JOIN (
        SELECT (accepted_at AT TIME ZONE 'UTC')::date AS day, count(DISTINCT user_id) AS n
        FROM generations, since WHERE accepted_at >= since.at GROUP BY 1
    ) AS b USING (day)
    LEFT JOIN (
        SELECT (received_at AT TIME ZONE 'UTC')::date AS day, count(*) AS n
        FROM inbox, since WHERE received_at >= since.at GROUP BY 1
    ) AS i USING (day)
    ORDER BY days.day DESC
""")
_MONEY = text(f"""
    {_DAYS}
    SELECT days.day, coalesce(h.n, 0)::bigint, coalesce(s.taken, 0)::bigint, coalesce(s.voided, 0)::bigint,
        coalesce(g.n, 0)::bigint, coalesce(p.n, 0)::bigint, coalesce(r.n, 0)::bigint
    FROM days
    LEFT JOIN (
        SELECT (held_at AT TIME ZONE 'UTC')::date AS day, sum(amount) AS n
        FROM holds, since WHERE held_at >= since.at GROUP BY 1
    ) AS h USING (day)
    LEFT JOIN (
        SELECT (settled_at AT TIME ZONE 'UTC')::date AS day, sum(s.amount) AS taken, sum(h.amount - s.amount) AS voided
        FROM settlements s JOIN holds h USING (generation_id), since WHERE settled_at >= since.at GROUP BY 1
    ) AS s USING (day)
    LEFT JOIN (
        SELECT (posted_at AT TIME ZONE 'UTC')::date AS day, sum(e.delta_available) AS n
        FROM postings p JOIN entries e ON e.posting_key = p.key, since
        WHERE p.kind = 'grant' AND e.account LIKE 'wallet:%' AND p.posted_at >= since.at GROUP BY 1
    ) AS g USING (day)
    LEFT JOIN (
        SELECT (recorded_at AT TIME ZONE 'UTC')::date AS day, sum(amount) AS n
        FROM payments, since WHERE provider = 'stars' AND recorded_at >= since.at GROUP BY 1
    ) AS p USING (day)
    LEFT JOIN (
        SELECT (ended_at AT TIME ZONE 'UTC')::date AS day, sum(p.amount) AS n
        FROM refunds r JOIN payments p USING (provider, charge_id), since
        WHERE provider = 'stars' AND r.state = 'done' AND r.ended_at >= since.at GROUP BY 1
    ) AS r USING (day)
    ORDER BY days.day DESC
""")


class StatisticsRepository:
    def __init__(self, connection: AsyncConnection) -> None:
        self._connection = connection

    async def read(self, *, days: int) -> Statistics:
        """Totals as they are, and the last `days` days."""
        facts = {"days": days}
        totals = Totals(*(await self._connection.execute(_TOTALS)).one())
        people = (await self._connection.execute(_PEOPLE, facts)).all()
        money = (await self._connection.execute(_MONEY, facts)).all()
        return Statistics(
            totals=totals,
            people=tuple(PeopleDay(*row) for row in people),
            money=tuple(MoneyDay(*row) for row in money),
            models=tuple(await ReckoningRepository(self._connection).margins(days=days)),
        )
