"""What the cluster looks like from outside: read from the stores, no replica is asked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from kiebot.bootstrap import LEASE_NAME
from kiebot.clock import SystemClock
from kiebot.lease.open import open_lease_store
from kiebot.lease.protocol import Holder, StoreUnreachable
from kiebot.storage.claims import DEAD_AFTER_S
from kiebot.storage.engine import outages_as_transient
from kiebot.storage.migrate import HEAD, schema_version
from kiebot.storage.sweeps import Backlog
from kiebot.storage.terms import TermTold
from kiebot.storage.transaction import Transaction

_FENCE = text("SELECT epoch, token FROM fence WHERE bot_id = :bot")
_STATES = text("SELECT state, count(*) FROM generations GROUP BY state")
_DEAD = text("""
    SELECT kind, count(*) FROM dead_letters AS d
    WHERE revived_at IS NULL AND to_jsonb(d) ->> 'closed_at' IS NULL  -- read so, it may be missing: an older schema
    GROUP BY kind
""")
_TERMS_SINCE = "0006"  # the schema that keeps them
_UNDONE = text("SELECT count(*) FROM inbox WHERE done_at IS NULL")


@dataclass(frozen=True, slots=True)
class ReplicaLine:
    name: str
    is_alive: bool
    seen_s: float
    started_at: str
    facts: Mapping[str, object]


@dataclass(frozen=True, slots=True)
class Change:
    """The last change of hands. kind: acquired, seized or ended; by: the replica that took the lease, or lost it; why:
    how the term before this one ended, or this one; empty, when there was none before."""

    at: str
    by: str
    kind: str
    previous: str
    why: str

    def as_text(self) -> str:
        if self.kind == "ended":
            return f"{self.at}: the term of {self.by} ended, {self.why}"
        return f"{self.at}: {self.by} {self.kind}, previous holder {self.previous or 'none known'}" + (
            f", {self.why}" if self.why else ""
        )


@dataclass(frozen=True, slots=True)
class Status:
    """Leader (by the lease), the fence's epoch, replicas, and what waits.

    is_fenced: whether the fence is the leader's; with a webhook, or at the very beginning of a term, it is not.
    leader_since: of this very term; None when nobody leads, or its holder has not told it yet.
    """

    schema: str | None
    schema_needed: str
    lease: str  # the holder's name, "free", or "unreachable"
    lease_remaining_s: float
    epoch: int
    is_fenced: bool
    leader_since: str | None
    last_change: Change | None
    replicas: tuple[ReplicaLine, ...]
    updates_waiting: int
    backlog: Backlog
    generations: Mapping[str, int]
    dead_letters: Mapping[str, int]

    def as_json(self) -> dict[str, object]:
        return asdict(self)

    def as_text(self) -> str:
        lines = [f"leader     {self.lease} ({', '.join(self._of_leader())})"]
        if self.last_change is not None:
            lines.append(f"changed    {self.last_change.as_text()}")
        for replica in self.replicas:
            role = "leads" if replica.facts.get("is_holder") and replica.is_alive else "alive"
            state = role if replica.is_alive else f"silent for {replica.seen_s:.0f} s"
            jobs = f"{replica.facts.get('jobs', 0)}/{replica.facts.get('slots', '?')} jobs"
            lines.append(f"replica    {replica.name}: {state}, {jobs}, version {replica.facts.get('version', '?')}")
        lines += [
            f"updates    {self.updates_waiting} waiting, oldest {self.backlog.oldest_update_s:.1f} s",
            f"messages   {self.backlog.outbox} waiting",
            f"generations {_counted(self.generations) or 'none'}",
            f"dead       {_counted(self.dead_letters) or 'none'}",
        ]
        if self.schema != self.schema_needed:
            lines.append(f"schema     {self.schema}, this version needs {self.schema_needed}: run `kiebot migrate`")
        return "\n".join(lines)

    def _of_leader(self) -> list[str]:
        facts = [f"epoch {self.epoch}" if self.is_fenced else f"last epoch {self.epoch}"]
        if self.leader_since is not None:
            facts.append(f"since {self.leader_since}")
        if self.lease_remaining_s > 0.0:
            facts.append(f"lease {self.lease_remaining_s:.1f} s")
        return facts


def last_change(terms: Sequence[TermTold]) -> Change | None:
    """From the newest two terms, the latest first."""
    if not terms:
        return None
    term, before = terms[0], terms[1] if len(terms) > 1 else None
    if term.ended_at is not None:
        return Change(_exactly(term.ended_at), term.replica, "ended", term.replica, term.reason)
    previous = term.previous or (before.replica if before is not None else "")
    kind = "seized" if term.sign else "acquired"
    return Change(_exactly(term.began_at), term.replica, kind, previous, _why(term, before, previous))


def _why(term: TermTold, before: TermTold | None, previous: str) -> str:
    if term.sign:
        return f"died: {term.sign}"
    if before is not None and before.replica == previous and before.ended_at is not None:
        return before.reason
    return "silent: it never told an end" if previous else ""


def _counted(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{count} {name}" for name, count in sorted(counts.items()))


async def read_status(engine: AsyncEngine, lease_url: str, prefix: str, bot_id: int) -> Status:
    """Raises: Transient, when Postgres is out of reach. An unreachable lease store is part of the answer."""
    name, holder = await _lease(lease_url, prefix, bot_id)
    token = holder.token if holder is not None else None
    schema = await schema_version(engine)
    if schema is None:
        return Status(None, HEAD, name, _left_s(holder), 0, False, None, None, (), 0, Backlog(), {}, {})
    with outages_as_transient("status"):
        async with engine.connect() as connection:
            tx = Transaction(connection)
            fence = (await connection.execute(_FENCE, {"bot": bot_id})).one_or_none()
            terms = await tx.terms.newest(bot_id, 2) if schema >= _TERMS_SINCE else []
            replicas = tuple(
                ReplicaLine(seen.name, seen.age_s < DEAD_AFTER_S, seen.age_s, _stamp(seen.started_at), seen.facts)
                for seen in await tx.replicas.seen()
            )
            return Status(
                schema=schema,
                schema_needed=HEAD,
                lease=name,
                lease_remaining_s=_left_s(holder),
                epoch=fence.epoch if fence else 0,
                is_fenced=fence is not None and fence.token == token,
                leader_since=next((_stamp(term.began_at) for term in terms if term.token == token), None),
                last_change=last_change(terms),
                replicas=replicas,
                updates_waiting=await connection.scalar(_UNDONE) or 0,
                backlog=await tx.sweeps.backlog(),
                generations={row[0]: row[1] for row in await connection.execute(_STATES)},
                dead_letters={row[0]: row[1] for row in await connection.execute(_DEAD)},
            )


async def _lease(lease_url: str, prefix: str, bot_id: int) -> tuple[str, Holder | None]:
    store = open_lease_store(lease_url, clock=SystemClock(), prefix=prefix)
    try:
        holder = await store.holder(f"{LEASE_NAME}:{bot_id}")
    except StoreUnreachable:
        return "unreachable", None
    finally:
        await store.close()
    return (holder.replica, holder) if holder is not None else ("free", None)


def _left_s(holder: Holder | None) -> float:
    return holder.remaining_s if holder is not None else 0.0


def _stamp(at: datetime) -> str:
    return at.isoformat(timespec="seconds")


def _exactly(at: datetime) -> str:
    return at.isoformat(timespec="milliseconds")
