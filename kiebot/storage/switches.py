"""Models switched off and on, in the caller's transaction. Every replica reads the rows with each decision."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import Row, text
from sqlalchemy.ext.asyncio import AsyncConnection

from kiebot.admin.model import EVERYTHING, Switch
from kiebot.generation.model import Trouble
from kiebot.wakeups import Advance, RefreshCard, Wakeup

STEADY_S = 120.0  # without a pause for so long, the provider works again
MOST_WAKEUPS = 100  # sweepers find the rest

_OFF = text("""
    SELECT model_id, reason, actor, off_since, until FROM model_switches
    WHERE until IS NULL OR until > now() ORDER BY off_since
""")
# An admin's word stands above the pauses that the provider's answers bring; those leave a row without `until` alone.
_TURN_OFF = text("""
    INSERT INTO model_switches (model_id, reason, actor) VALUES (:id, :reason, :actor)
    ON CONFLICT (model_id) DO UPDATE
    SET reason = excluded.reason, actor = excluded.actor, until = NULL, off_since = now()
    WHERE model_switches.until IS NOT NULL
    RETURNING model_id
""")
# A stop is told while its pauses follow one another, with the time between them in which one call is tried.
_STOPPED = text("""
    SELECT count(*) FILTER (WHERE model_id = :everything), count(*) FILTER (WHERE model_id <> :everything)
    FROM model_switches WHERE until IS NULL OR until > now() - make_interval(secs => :steady_s)
""")
_TURN_ON = text("""
    DELETE FROM model_switches WHERE model_id = :id RETURNING until IS NULL OR until > now()
""")
# All of them, those just being looked at too: the new revision tells a look that still saw the switch off. In one
# order, so that two such statements never wait for each other. Patience begins anew: no hour of a pause was trouble.
_HURRY = text("""
    UPDATE generations SET due_at = now(), revision = revision + 1, setbacks = 0, troubled_at = NULL WHERE id IN (
        SELECT id FROM generations
        WHERE state = 'accepted' AND finished_at IS NULL AND (:id = :everything OR model_id = :id)
        ORDER BY id FOR UPDATE
    ) RETURNING id, revision
""")
_REDRAW = text("""
    UPDATE cards SET wanted_version = wanted_version + 1 FROM generations g
    WHERE g.id = cards.generation_id AND g.state = 'accepted' AND NOT cards.is_gone
        AND (:id = :everything OR g.model_id = :id)
    RETURNING cards.generation_id, cards.wanted_version
""")
_SWITCH_OFF = text("""
    INSERT INTO model_switches (model_id, reason, actor, until)
    VALUES (:id, :reason, :actor, now() + make_interval(secs => :for_s))
    ON CONFLICT (model_id) DO UPDATE SET reason = excluded.reason, actor = excluded.actor, until = excluded.until,
        off_since = CASE WHEN model_switches.until < now() - interval '10 minutes' THEN now()
            ELSE model_switches.off_since END
    WHERE model_switches.until IS NOT NULL
    RETURNING off_since
""")
_SWITCHES = text("""
    SELECT model_id, until IS NULL OR until > now() AS is_off FROM model_switches WHERE model_id IN (:everything, :id)
""")
# Whoever takes a switch whose time is over has it alone: the others find it off again, or locked.
_PROBE = text("""
    UPDATE model_switches SET until = now() + make_interval(secs => :for_s) WHERE model_id IN (
        SELECT model_id FROM model_switches WHERE model_id = ANY(:ids) AND until <= now()
        ORDER BY model_id FOR UPDATE SKIP LOCKED
    ) RETURNING model_id
""")
_LEAVE_PROBE = text("UPDATE model_switches SET until = now() WHERE model_id = ANY(:ids) AND until IS NOT NULL")
_SWITCH_ON = text("""
    DELETE FROM model_switches WHERE model_id = ANY(:ids) AND until IS NOT NULL RETURNING model_id, off_since
""")
_MARK_TROUBLE = text("UPDATE attempts SET is_trouble = true WHERE id = :id")
_TROUBLE = text("""
    SELECT count(DISTINCT a.generation_id) AS works, array_agg(DISTINCT g.model_id) AS models
    FROM attempts a JOIN generations g ON g.id = a.generation_id
    WHERE a.is_trouble AND a.answered_at > greatest(now() - make_interval(secs => :window_s), (
        SELECT max(answered_at) FROM attempts
        WHERE state IN ('created', 'adopted') AND answered_at > now() - make_interval(secs => :window_s)
    ))
""")


class SwitchRepository:
    """`model_id` EVERYTHING means all models: the pause."""

    def __init__(self, connection: AsyncConnection) -> None:
        self._connection = connection

    async def off(self) -> list[Switch]:
        """What is off just now, whoever switched it."""
        rows = await self._connection.execute(_OFF)
        return [Switch(*row) for row in rows]

    async def turn_off(self, model_id: str, reason: str, actor: str) -> bool:
        """Off until somebody turns it on. False: it is so already."""
        facts = {"id": model_id, "reason": reason, "actor": actor}
        return await self._connection.scalar(_TURN_OFF, facts) is not None

    async def turn_on(self, model_id: str) -> bool:
        """On, whoever switched it off. False: it is on."""
        return bool(await self._connection.scalar(_TURN_ON, {"id": model_id}))

    async def stopped(self) -> tuple[int, int]:
        """1 while everything is off, else 0; how many single models are off. By admins and by the provider."""
        facts = {"everything": EVERYTHING, "steady_s": STEADY_S}
        everything, single = (await self._connection.execute(_STOPPED, facts)).one()
        return everything, single

    async def hurry(self, model_id: str) -> Sequence[Wakeup]:
        """What waits for this switch may go on now."""
        rows = (await self._connection.execute(_HURRY, _scope(model_id))).all()
        return [Advance(row.id, row.revision) for row in rows[:MOST_WAKEUPS]]

    async def redraw(self, model_id: str) -> Sequence[Wakeup]:
        """The status cards of what waits tell it: they are out of date now."""
        rows = (await self._connection.execute(_REDRAW, _scope(model_id))).all()
        return [RefreshCard(row.generation_id, row.wanted_version) for row in rows[:MOST_WAKEUPS]]

    async def switch_off(self, model_id: str, reason: str, actor: str, *, for_s: float) -> datetime | None:
        """Off for a while; since when it is, pauses that follow one another being one stop. A switch that an operator
        set without an end stays as it is: None."""
        facts = {"id": model_id, "reason": reason[:300], "actor": actor, "for_s": for_s}
        since: datetime | None = await self._connection.scalar(_SWITCH_OFF, facts)
        return since

    async def is_held_back(self, model_id: str) -> bool:
        """This model, or all of them."""
        return any(row.is_off for row in await self._switches(model_id))

    async def pass_switches(self, model_id: str, *, probe_s: float) -> tuple[str, ...] | None:
        """None: it is held back. Else it may be submitted, as the probe of the switches named: their time is over, and
        for `probe_s` seconds nobody else passes them."""
        rows = await self._switches(model_id)
        if any(row.is_off for row in rows):
            return None
        if not rows:
            return ()
        ids = [row.model_id for row in rows]
        taken = tuple(await self._connection.scalars(_PROBE, {"ids": ids, "for_s": probe_s}))
        if len(taken) == len(ids):
            return taken
        await self.leave_probe(taken)
        return None

    async def leave_probe(self, model_ids: Sequence[str]) -> None:
        """The probe proved nothing: the next one may come."""
        await self._connection.execute(_LEAVE_PROBE, {"ids": list(model_ids)})

    async def switch_on(self, model_ids: Sequence[str]) -> list[tuple[str, datetime]]:
        """The probe was a success. Which stops that ended, and since when they had lasted."""
        rows = await self._connection.execute(_SWITCH_ON, {"ids": list(model_ids)})
        return [(row.model_id, row.off_since) for row in rows]

    async def trouble(self, attempt_id: UUID, *, window_s: float) -> Trouble:
        """This attempt met a fault of the provider's. All such since the last success, at most so long ago."""
        await self._connection.execute(_MARK_TROUBLE, {"id": attempt_id})
        row = (await self._connection.execute(_TROUBLE, {"window_s": window_s})).one()
        return Trouble(row.works, tuple(row.models or ()))

    async def _switches(self, model_id: str) -> Sequence[Row[Any]]:
        return (await self._connection.execute(_SWITCHES, {"everything": EVERYTHING, "id": model_id})).all()


def _scope(model_id: str) -> dict[str, str]:
    return {"id": model_id, "everything": EVERYTHING}
