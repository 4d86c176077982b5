"""The ledger's invariants as SQL. Each query lists what breaks one; all empty means the books are right."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from kiebot.storage.engine import outages_as_transient


@dataclass(frozen=True, slots=True)
class Breach:
    """One invariant and rows that break it (at most ten are listed)."""

    invariant: str
    rows: tuple[str, ...]


INVARIANTS: dict[str, str] = {
    "every balance is the sum of its entries": """
        SELECT a.key || ': ' || a.available || '/' || a.held || ' against ' || coalesce(sum(e.delta_available), 0)
            || '/' || coalesce(sum(e.delta_held), 0)
        FROM accounts a LEFT JOIN entries e ON e.account = a.key GROUP BY a.key, a.available, a.held
        HAVING a.available <> coalesce(sum(e.delta_available), 0) OR a.held <> coalesce(sum(e.delta_held), 0)
    """,
    "all accounts together are zero": """
        SELECT 'total ' || sum(available + held) FROM accounts HAVING sum(available + held) <> 0
    """,
    "every posting is zero": """
        SELECT posting_key FROM entries GROUP BY posting_key HAVING sum(delta_available + delta_held) <> 0
    """,
    "no wallet is negative": """
        SELECT key FROM accounts WHERE held < 0 OR (key LIKE 'wallet:%' AND available < 0)
    """,
    "what is held is the sum of the open holds": """
        SELECT a.key || ': ' || a.held || ' against ' || coalesce(sum(h.amount), 0)
        FROM accounts a LEFT JOIN holds h ON h.account = a.key
            AND NOT EXISTS (SELECT 1 FROM settlements s WHERE s.generation_id = h.generation_id)
        WHERE a.key LIKE 'wallet:%' GROUP BY a.key, a.held HAVING a.held <> coalesce(sum(h.amount), 0)
    """,
    "a generation has a hold, and a settlement exactly when it has ended": """
        SELECT g.id::text || ' ' || g.state FROM generations g
        LEFT JOIN holds h ON h.generation_id = g.id LEFT JOIN settlements s ON s.generation_id = g.id
        WHERE h.generation_id IS NULL OR (s.generation_id IS NOT NULL) <> (g.finished_at IS NOT NULL)
    """,
    "success is captured, failure is voided": """
        SELECT g.id::text || ' ' || g.state || ' ' || s.outcome FROM generations g JOIN settlements s
            ON s.generation_id = g.id
        WHERE (g.state, s.outcome) NOT IN (('succeeded', 'captured'), ('failed', 'voided'))
    """,
    "nothing is captured beyond its hold": """
        SELECT s.generation_id::text FROM settlements s JOIN holds h USING (generation_id)
        WHERE s.amount > h.amount OR s.amount < 0 OR (s.outcome = 'voided' AND s.amount <> 0)
    """,
    "a settlement has its posting, of its amount": """
        SELECT s.generation_id::text FROM settlements s
        LEFT JOIN postings p ON p.key = 'settle:' || s.generation_id::text
        LEFT JOIN entries e ON e.posting_key = p.key AND e.account LIKE 'revenue:%'
        WHERE p.key IS NULL OR coalesce(e.delta_available, 0) <> s.amount
            OR p.kind <> CASE s.outcome WHEN 'captured' THEN 'capture' ELSE 'void' END
    """,
    "versions have no gaps": """
        SELECT e.account FROM entries e JOIN accounts a ON a.key = e.account GROUP BY e.account, a.version
        HAVING count(*) <> a.version OR max(e.version) <> a.version OR min(e.version) <> 1
    """,
    "each entry carries the balance after it": """
        SELECT account || ' v' || version FROM (
            SELECT account, version, available_after, held_after,
                sum(delta_available) OVER w AS available, sum(delta_held) OVER w AS held
            FROM entries WINDOW w AS (PARTITION BY account ORDER BY version)
        ) AS running WHERE available <> available_after OR held <> held_after
    """,
    "no hold outlives its expiry": """
        SELECT h.generation_id::text FROM holds h
        WHERE h.expires_at < now() - interval '1 hour'
            AND NOT EXISTS (SELECT 1 FROM settlements s WHERE s.generation_id = h.generation_id)
    """,
    "a captured generation has its result decided, a voided one none that was charged": """
        SELECT g.id::text FROM generations g JOIN settlements s ON s.generation_id = g.id
        WHERE s.outcome = 'captured' AND s.settled_at > now() - interval '29 days'
            AND NOT EXISTS (SELECT 1 FROM outbox o WHERE o.generation_id = g.id AND o.kind = 'result')
        UNION ALL
        SELECT g.id::text FROM generations g JOIN outbox o ON o.generation_id = g.id AND o.kind = 'result'
            JOIN settlements s ON s.generation_id = g.id WHERE s.outcome <> 'captured'
    """,
    "a payment has one posting, of what it bought, and no posting is without its payment": """
        SELECT p.provider || ':' || p.charge_id FROM payments p
        LEFT JOIN postings t ON t.key = 'topup:' || p.provider || ':' || p.charge_id
        LEFT JOIN entries w ON w.posting_key = t.key AND w.account = 'wallet:' || p.user_id
        LEFT JOIN entries a ON a.posting_key = t.key AND a.account = 'provider:' || p.provider
        WHERE coalesce(w.delta_available, 0) <> p.credits OR coalesce(a.delta_available, 0) <> -p.credits
            OR t.kind IS DISTINCT FROM 'top_up'
        UNION ALL
        SELECT t.key FROM postings t WHERE t.kind = 'top_up' AND NOT EXISTS (
            SELECT 1 FROM payments p WHERE t.key = 'topup:' || p.provider || ':' || p.charge_id
        )
    """,
    "a payment goes back at most once, as a whole": """
        SELECT p.provider || ':' || p.charge_id FROM payments p JOIN refunds r
            ON r.provider = p.provider AND r.charge_id = p.charge_id AND r.state <> 'refused'
        GROUP BY p.provider, p.charge_id, p.credits
        HAVING count(*) > 1 OR sum(r.amount) <> p.credits OR sum(r.taken) > p.credits
    """,
    "a refund has its postings, and no posting is without its refund": """
        SELECT 'refund ' || r.id || ' ' || r.state FROM refunds r
        LEFT JOIN entries aside ON aside.posting_key = 'refund-hold:' || r.id AND aside.account = 'refunds'
        LEFT JOIN entries back ON back.posting_key = 'refund:' || r.id AND back.account = 'refunds'
        LEFT JOIN entries paid ON paid.posting_key = 'refund:' || r.id AND paid.account = 'provider:' || r.provider
        LEFT JOIN entries owed ON owed.posting_key = 'refund:' || r.id AND owed.account = 'receivable'
        WHERE coalesce(aside.delta_available, 0) <> r.taken
            OR coalesce(back.delta_available, 0) <> CASE r.state WHEN 'open' THEN 0 ELSE -r.taken END
            OR coalesce(paid.delta_available, 0) <> CASE r.state WHEN 'done' THEN r.amount ELSE 0 END
            OR coalesce(owed.delta_available, 0) <> CASE r.state WHEN 'done' THEN r.taken - r.amount ELSE 0 END
            OR (r.state = 'open') <> (r.ended_at IS NULL)
        UNION ALL
        SELECT t.key FROM postings t WHERE t.kind IN ('set_aside', 'refund', 'refund_void') AND NOT EXISTS (
            SELECT 1 FROM refunds r WHERE t.key IN ('refund:' || r.id, 'refund-hold:' || r.id)
        )
    """,
    "what is owed, set aside and left with a provider is explained by payments and refunds": """
        SELECT a.key || ': ' || a.available FROM accounts a WHERE a.available <> CASE
            WHEN a.key = 'receivable' THEN (
                SELECT coalesce(sum(taken - amount), 0) FROM refunds WHERE state = 'done')
            WHEN a.key = 'refunds' THEN (
                SELECT coalesce(sum(taken), 0) FROM refunds WHERE state = 'open')
            WHEN a.key LIKE 'provider:%' THEN (
                SELECT coalesce(sum(amount), 0) FROM refunds
                WHERE state = 'done' AND a.key = 'provider:' || provider
            ) - (SELECT coalesce(sum(credits), 0) FROM payments WHERE a.key = 'provider:' || provider)
            ELSE a.available END
    """,
    "the counters of running and open ones are right": """
        SELECT a.key || ': ' || a.running || '/' || a.open_count FROM accounts a LEFT JOIN generations g
            ON a.key = 'wallet:' || g.user_id AND g.finished_at IS NULL
        WHERE a.key LIKE 'wallet:%' GROUP BY a.key, a.running, a.open_count
        HAVING a.open_count <> count(g.id) OR a.running <> count(g.id) FILTER (WHERE g.holds_running_slot)
    """,
}


async def verify(engine: AsyncEngine) -> list[Breach]:
    """Check every invariant in one snapshot. Safe beside a running system; reads only."""
    breaches: list[Breach] = []
    with outages_as_transient("verify"):
        snapshot = engine.execution_options(isolation_level="REPEATABLE READ")
        async with snapshot.begin() as connection:
            for invariant, query in INVARIANTS.items():
                rows = (await connection.scalars(text(f"SELECT * FROM ({query}) AS broken LIMIT 10"))).all()
                if rows:
                    breaches.append(Breach(invariant, tuple(str(row) for row in rows)))
    return breaches
