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
from kiebot.lease.protocol import StoreUnreachable
from kiebot.storage.claims import DEAD_AFTER_S
from kiebot.storage.engine import outages_as_transient
from kiebot.storage.migrate import HEAD, schema_version
from kiebot.storage.sweeps import Backlog
from kiebot.storage.transaction import Transaction

_FENCE = text("SELECT epoch, replica, taken_at FROM fence WHERE bot_id = :bot")
_STATES = text("SELECT state, count(*) FROM generations GROUP BY state")
_DEAD = text("""
    SELECT kind, count(*) FROM dead_letters AS d
    WHERE revived_at IS NULL AND to_jsonb(d) ->> 'closed_at' IS NULL  -- read so, it may be missing: an older schema
    GROUP BY kind
""")
_UNDONE = text("SELECT count(*) FROM inbox WHERE done_at IS NULL")


@dataclass(frozen=True, slots=True)
class ReplicaLine:
    name: str
    is_alive: bool
    seen_s: float
    started_at: str
    facts: Mapping[str, object]


@dataclass(frozen=True, slots=True)
class Status:
    """Leader (by the lease), the fence's epoch, replicas, and what waits."""

    schema: str | None
    schema_needed: str
    lease: str  # the holder's name, "free", or "unreachable"
    lease_remaining_s: float
    epoch: int
    leader_since: str | None
    last_change: Mapping[str, object] | None  # of hands, as the replicas that live tell it
    replicas: tuple[ReplicaLine, ...]
    updates_waiting: int
    backlog: Backlog
    generations: Mapping[str, int]
    dead_letters: Mapping[str, int]

    def as_json(self) -> dict[str, object]:
        return asdict(self)

    def as_text(self) -> str:
        since = f" since {self.leader_since}" if self.leader_since else ""
        lines = [f"leader     {self.lease} (epoch {self.epoch}{since}, lease {self.lease_remaining_s:.1f} s)"]
        if self.last_change is not None:
            lines.append(
                "changed    {at}: {by} {kind}, {why}previous holder {previous}".format(**_worded(self.last_change))
            )
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


def _worded(change: Mapping[str, object]) -> dict[str, object]:
    why = f"{change['why']}, " if change["why"] else ""
    return {**change, "why": why, "previous": change["previous"] or "unknown"}


def _last_change(replicas: Sequence[ReplicaLine]) -> Mapping[str, object] | None:
    changes = ((each.name, each.facts.get("change")) for each in replicas)
    told: list[dict[str, object]] = [{"by": name, **change} for name, change in changes if isinstance(change, dict)]
    return max(told, key=lambda change: str(change["at"]), default=None)


def _counted(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{count} {name}" for name, count in sorted(counts.items()))


async def read_status(engine: AsyncEngine, lease_url: str, prefix: str, bot_id: int) -> Status:
    """Raises: Transient, when Postgres is out of reach. An unreachable lease store is part of the answer."""
    holder, remaining_s = await _lease(lease_url, prefix, bot_id)
    schema = await schema_version(engine)
    if schema is None:
        return Status(None, HEAD, holder, remaining_s, 0, None, None, (), 0, Backlog(), {}, {})
    with outages_as_transient("status"):
        async with engine.connect() as connection:
            tx = Transaction(connection)
            fence = (await connection.execute(_FENCE, {"bot": bot_id})).one_or_none()
            replicas = tuple(
                ReplicaLine(seen.name, seen.age_s < DEAD_AFTER_S, seen.age_s, _stamp(seen.started_at), seen.facts)
                for seen in await tx.replicas.seen()
            )
            return Status(
                schema=schema,
                schema_needed=HEAD,
                lease=holder,
                lease_remaining_s=remaining_s,
                epoch=fence.epoch if fence else 0,
                leader_since=_stamp(fence.taken_at) if fence else None,
                last_change=_last_change(replicas),
                replicas=replicas,
                updates_waiting=await connection.scalar(_UNDONE) or 0,
                backlog=await tx.sweeps.backlog(),
                generations={row[0]: row[1] for row in await connection.execute(_STATES)},
                dead_letters={row[0]: row[1] for row in await connection.execute(_DEAD)},
            )


async def _lease(lease_url: str, prefix: str, bot_id: int) -> tuple[str, float]:
    store = open_lease_store(lease_url, clock=SystemClock(), prefix=prefix)
    try:
        holder = await store.holder(f"{LEASE_NAME}:{bot_id}")
    except StoreUnreachable:
        return "unreachable", 0.0
    finally:
        await store.close()
    return (holder.replica, holder.remaining_s) if holder is not None else ("free", 0.0)


def _stamp(at: datetime) -> str:
    return at.isoformat(timespec="seconds")
