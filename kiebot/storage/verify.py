"""The ledger's invariants as SQL. Each query lists what breaks one; all empty means the books are right.

Two invariants are no query, because they speak of changes: what is refused changes nothing, and what is repeated
changes nothing. The tests' random walks hold those.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from kiebot.storage.engine import outages_as_transient
from kiebot.storage.models import APPEND_ONLY


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
    "every posting has entries, and they are zero together": """
        SELECT p.key FROM postings p LEFT JOIN entries e ON e.posting_key = p.key GROUP BY p.key
        HAVING count(e.account) = 0 OR sum(e.delta_available + e.delta_held) <> 0
    """,
    "no wallet is negative": """
        SELECT key FROM accounts WHERE held < 0 OR (key LIKE 'wallet:%' AND available < 0)
    """,
    "what is held is the sum of the open holds": """
        SELECT a.key || ': ' || a.held || ' against ' || coalesce(sum(h.amount), 0)
        FROM accounts a LEFT JOIN holds h ON h.account = a.key
            AND NOT EXISTS (SELECT 1 FROM settlements s WHERE s.generation_id = h.generation_id)
        GROUP BY a.key, a.held HAVING a.held <> coalesce(sum(h.amount), 0)
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
    "a hold is of its generation's price and owner, and has its posting": """
        SELECT h.generation_id::text FROM holds h JOIN generations g ON g.id = h.generation_id
        LEFT JOIN entries e ON e.posting_key = 'hold:' || h.generation_id::text AND e.account = h.account
        WHERE h.amount <> g.price_millicredits OR h.account <> 'wallet:' || g.user_id
            OR (e.delta_available, e.delta_held) IS DISTINCT FROM (-h.amount, h.amount)
        UNION ALL
        SELECT p.key FROM postings p WHERE p.kind = 'hold'
            AND NOT EXISTS (SELECT 1 FROM holds h WHERE h.generation_id = p.generation_id)
    """,
    "a settlement has its posting, of its amount": """
        SELECT s.generation_id::text FROM settlements s JOIN holds h USING (generation_id)
        LEFT JOIN postings p ON p.key = 'settle:' || s.generation_id::text AND p.generation_id = s.generation_id
        LEFT JOIN entries r ON r.posting_key = p.key AND r.account LIKE 'revenue:%'
        LEFT JOIN entries w ON w.posting_key = p.key AND w.account = h.account
        WHERE p.key IS NULL OR coalesce(r.delta_available, 0) <> s.amount
            OR p.kind <> CASE s.outcome WHEN 'captured' THEN 'capture' ELSE 'void' END
            OR (w.delta_available, w.delta_held) IS DISTINCT FROM (h.amount - s.amount, -h.amount)
        UNION ALL
        SELECT p.key FROM postings p WHERE p.kind IN ('capture', 'void')
            AND NOT EXISTS (SELECT 1 FROM settlements s WHERE s.generation_id = p.generation_id)
    """,
    "versions have no gaps": """
        SELECT a.key FROM accounts a LEFT JOIN entries e ON e.account = a.key GROUP BY a.key, a.version
        HAVING count(e.version) <> a.version OR coalesce(max(e.version), 0) <> a.version OR min(e.version) <> 1
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
    "what was posted can not be changed": f"""
        SELECT wanted.name FROM unnest(ARRAY[{", ".join(map(repr, APPEND_ONLY))}]) AS wanted (name)
        WHERE NOT EXISTS (
            SELECT 1 FROM pg_trigger t WHERE t.tgrelid = wanted.name::regclass
                AND t.tgname = wanted.name || '_append_only' AND t.tgenabled IN ('O', 'A')
        )
    """,
}

MOST_LISTED = 10
LOCK = 0x6B69656C6564  # one number for all replicas: two of them never check at once
_LISTED = "(SELECT '{invariant}' AS invariant, row FROM ({query}) AS broken (row) LIMIT {most})"


async def verify(engine: AsyncEngine) -> list[Breach]:
    """Check every invariant in one snapshot, one after another. Safe beside a running system; reads only."""
    with outages_as_transient("verify"):
        async with _snapshot(engine).begin() as connection:
            return await _one_by_one(connection)


async def verify_unless_another_does(engine: AsyncEngine) -> list[Breach] | None:
    """The same, for many replicas that all want to know: None when another checks at this moment."""
    with outages_as_transient("verify"):
        async with _snapshot(engine).begin() as connection:
            if not await connection.scalar(text("SELECT pg_try_advisory_xact_lock(:key)"), {"key": LOCK}):
                return None
            return await _one_by_one(connection)


async def breaches_in(connection: AsyncConnection) -> list[Breach]:
    """Check every invariant in one statement, as the transaction sees it. Quick while the tables are small."""
    found: dict[str, list[str]] = defaultdict(list)
    for invariant, row in await connection.execute(text(AT_ONCE)):
        found[invariant].append(str(row))
    return [Breach(invariant, tuple(rows)) for invariant, rows in found.items()]


def _at_once() -> str:
    """One statement that lists (invariant, row) for whatever is broken."""
    return " UNION ALL ".join(
        _LISTED.format(invariant=invariant.replace("'", "''"), query=query, most=MOST_LISTED)
        for invariant, query in INVARIANTS.items()
    )


AT_ONCE = _at_once()


def _snapshot(engine: AsyncEngine) -> AsyncEngine:
    return engine.execution_options(isolation_level="REPEATABLE READ")


async def _one_by_one(connection: AsyncConnection) -> list[Breach]:
    """Each invariant has the whole of a statement's time-out."""
    breaches: list[Breach] = []
    for invariant, query in INVARIANTS.items():
        rows = (await connection.scalars(text(f"SELECT * FROM ({query}) AS broken LIMIT {MOST_LISTED}"))).all()
        if rows:
            breaches.append(Breach(invariant, tuple(str(row) for row in rows)))
    return breaches
