"""Models switched off and on, in the caller's transaction. Every replica reads the rows with each decision."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from kiebot.admin.model import EVERYTHING, Switch
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
# order, so that two such statements never wait for each other.
_HURRY = text("""
    UPDATE generations SET due_at = now(), revision = revision + 1 WHERE id IN (
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


def _scope(model_id: str) -> dict[str, str]:
    return {"id": model_id, "everything": EVERYTHING}
