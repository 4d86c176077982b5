"""Generations and their attempts, in the caller's transaction."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any
from uuid import UUID

from sqlalchemy import Row, text
from sqlalchemy.ext.asyncio import AsyncConnection

from kiebot.admin.model import EVERYTHING
from kiebot.generation.model import (
    Ahead,
    Artifact,
    AttemptState,
    Claim,
    Deferred,
    Generation,
    Order,
)
from kiebot.generation.ports import TaskState
from kiebot.storage.claims import takeable
from kiebot.storage.generation_rows import COLUMNS, generation_of

_ADD = text(f"""
    INSERT INTO generations (id, confirm_key, user_id, chat_id, model_id, inputs, language, state,
        cost_millicredits, price_millicredits, is_maximum, due_at)
    VALUES (:id, :confirm_key, :user_id, :chat_id, :model_id, CAST(:inputs AS jsonb), :language, 'accepted',
        :cost, :price, :is_maximum, now())
    ON CONFLICT (confirm_key) DO NOTHING
    RETURNING {COLUMNS}
""")
_GET = text(f"SELECT {COLUMNS} FROM generations WHERE id = :id")
_LOCK = text(f"SELECT {COLUMNS} FROM generations WHERE id = :id FOR UPDATE")
_OF_USER = text(f"SELECT {COLUMNS} FROM generations WHERE user_id = :user_id AND number = :number")
_BY_CONFIRM = text(f"SELECT {COLUMNS} FROM generations WHERE confirm_key = :key")
_HISTORY = text(f"""
    SELECT {COLUMNS} FROM generations WHERE user_id = :user_id ORDER BY number DESC LIMIT :most OFFSET :skip
""")
_OPEN = text(f"""
    SELECT {COLUMNS} FROM generations
    WHERE user_id = :user_id AND finished_at IS NULL ORDER BY number LIMIT :most
""")
_CLAIM = text(f"""
    UPDATE generations SET claimed_by = :owner, claimed_at = now(), claim_no = claim_no + 1
    WHERE id = :id AND finished_at IS NULL AND {takeable("generations")}
        AND (due_at <= now() OR state = 'submitting')  -- a submit that nobody living holds is due whatever it says
    RETURNING {COLUMNS}
""")
_RELEASE = text("""
    UPDATE generations SET claimed_by = NULL, claimed_at = NULL
    WHERE id = :id AND claimed_by = :owner AND claim_no = :claim_no
""")
_FREE = text("UPDATE generations SET claimed_by = NULL, claimed_at = NULL WHERE id = :id")
# A write that ends a step ends its claim too: the wake-up that follows the commit must not find it still held.
_END_CLAIM = """claimed_by = CASE WHEN claimed_by = CAST(:owner AS uuid) AND claim_no = :claim_no
            THEN NULL ELSE claimed_by END"""
_SAVE = text(f"""
    UPDATE generations SET state = :state, attempt_no = :attempt_no, attempt_id = :attempt_id, task_id = :task_id,
        failure = :failure, detail = :detail, result_urls = CAST(:result_urls AS jsonb), result_text = :result_text,
        polls = :polls, retakes = :retakes, setbacks = :setbacks, busies = :busies, revision = revision + 1,
        seen_at = CASE WHEN :submitted THEN NULL ELSE seen_at END,
        ready_at = CASE WHEN :submitted THEN NULL ELSE ready_at END,
        missing_at = CASE WHEN :submitted THEN NULL ELSE missing_at END,
        missings = CASE WHEN :submitted THEN 0 ELSE missings END,
        troubled_at = CASE WHEN CAST(:setbacks AS smallint) = 0 THEN NULL ELSE coalesce(troubled_at, now()) END,
        holds_running_slot = :slot, {_END_CLAIM},
        due_at = CASE WHEN CAST(:due_in AS float8) IS NULL THEN NULL ELSE now() + make_interval(secs => :due_in) END,
        submitted_at = CASE WHEN :submitted THEN now() ELSE submitted_at END,
        finished_at = CASE WHEN :finished THEN coalesce(finished_at, now()) ELSE NULL END
    WHERE id = :id RETURNING revision
""")
# A wish that came while the row was being looked at (its revision moved) is not put off by what the look found.
_DEFER = text(f"""
    UPDATE generations SET polls = polls + :polls, setbacks = setbacks + :setbacks, stumbles = stumbles + :stumbles,
        revision = revision + 1,
        seen_at = CASE WHEN :report IN ('running', 'succeeded') THEN coalesce(seen_at, now()) ELSE seen_at END,
        ready_at = CASE WHEN :report = 'succeeded' THEN coalesce(ready_at, now()) ELSE ready_at END,
        missing_at = CASE WHEN :report = 'missing' THEN coalesce(missing_at, now())
            WHEN :report = '' THEN missing_at ELSE NULL END,
        missings = CASE WHEN :report = 'missing' THEN missings + 1 WHEN :report = '' THEN missings ELSE 0 END,
        troubled_at = CASE WHEN CAST(:setbacks AS smallint) > 0 THEN coalesce(troubled_at, now()) ELSE troubled_at END,
        due_at = CASE
            WHEN CAST(:seen AS bigint) IS NOT NULL AND revision <> :seen
            THEN least(due_at, now() + make_interval(secs => :due_in))
            ELSE now() + make_interval(secs => :due_in) END, {_END_CLAIM}
    WHERE id = :id AND finished_at IS NULL
    RETURNING revision, greatest(0, extract(epoch FROM due_at - now()))::float8 AS due_in
""")
_HURRY = text("""
    UPDATE generations SET due_at = least(due_at, now()), revision = revision + 1 WHERE id = :id AND state = 'running'
    RETURNING revision
""")
_MARK_SLOT = text("""
    UPDATE generations SET holds_running_slot = true
    WHERE id = :id AND state = 'accepted' AND NOT holds_running_slot RETURNING user_id
""")
_UNMARK_SLOT = text("UPDATE generations SET holds_running_slot = false WHERE id = :id")
# SKIP LOCKED: whoever holds that row now has yet to look at the wallet, and waits for us there; to wait for it here
# could be a circle. What was submitted before and has not asked for a slot since (polls) waits because the provider
# said so: two of them would wake each other without a pause. A model that is off leaves the slot to another one's work.
_HURRY_NEXT = text("""
    UPDATE generations SET due_at = least(due_at, now()), revision = revision + 1 WHERE id = (
        SELECT id FROM generations g
        WHERE user_id = :user_id AND id <> :but AND state = 'accepted' AND finished_at IS NULL
            AND NOT holds_running_slot AND (attempt_no = 0 OR polls > 0)
        ORDER BY EXISTS (
            SELECT 1 FROM model_switches s
            WHERE s.model_id IN (g.model_id, :everything) AND (s.until IS NULL OR s.until > now())
        ), number LIMIT 1 FOR UPDATE OF g SKIP LOCKED
    ) RETURNING id, revision
""")
_MODEL_OFF = text("SELECT 1 FROM model_switches WHERE model_id = :id AND (until IS NULL OR until > now())")
# An upload that worked has its own patience behind it: what comes next begins with all of its own.
_UPLOADS = text("""
    UPDATE generations SET uploads = CAST(:uploads AS jsonb), setbacks = 0, troubled_at = NULL WHERE id = :id
""")
_OPEN_ATTEMPT = text("""
    INSERT INTO attempts (id, generation_id, no, state) VALUES (:id, :generation_id, :no, 'intent')
""")
_MARK_ATTEMPT = text("""
    UPDATE attempts SET state = :state, task_id = coalesce(:task_id, task_id), error = :error, answered_at = now(),
        suspected_loss = :suspected
    WHERE id = :id
""")
_SUSPECT_LOSS = text("""
    UPDATE attempts SET suspected_loss = true WHERE id = :id AND state IN ('created', 'adopted', 'intent')
""")
_CONSUMED = text("UPDATE attempts SET consumed_millicredits = :amount WHERE id = :id")
_ATTEMPT = text("SELECT generation_id, task_id FROM attempts WHERE id = :id")
_OF_TASK = text("SELECT id FROM attempts WHERE task_id = :task_id")
_ADD_ARTIFACT = text("""
    INSERT INTO artifacts (generation_id, position, kind, mime, size_bytes, file_id, url)
    VALUES (:generation_id, :position, :kind, :mime, :size_bytes, :file_id, :url)
    ON CONFLICT (generation_id, position) DO UPDATE SET file_id = excluded.file_id, kind = excluded.kind
""")
_ARTIFACTS = text("""
    SELECT generation_id, position, kind, mime, size_bytes, file_id, url FROM artifacts
    WHERE generation_id = :id ORDER BY position
""")
# Another user's works that wait for a running slot of theirs stand behind nobody else's way.
_AHEAD = text("""
    WITH me AS (SELECT accepted_at, user_id FROM generations WHERE id = :id)
    SELECT count(*) AS works, count(*) FILTER (WHERE g.user_id = me.user_id) AS own, (
        SELECT count(*) FROM generations r, me
        WHERE r.user_id = me.user_id AND r.finished_at IS NULL AND r.state <> 'accepted' AND r.holds_running_slot
    ) AS under_way
    FROM generations g, me
    WHERE g.state = 'accepted' AND g.accepted_at < me.accepted_at AND (g.holds_running_slot OR g.user_id = me.user_id)
""")
_TYPICAL = text("""
    SELECT percentile_cont(0.5) WITHIN GROUP (ORDER BY extract(epoch FROM finished_at - submitted_at))::float8
    FROM (
        SELECT finished_at, submitted_at FROM generations
        WHERE model_id = :model_id AND state = 'succeeded' ORDER BY number DESC LIMIT 200
    ) AS latest
""")


class GenerationRepository:
    """Rows of generations, attempts and artifacts."""

    def __init__(self, connection: AsyncConnection) -> None:
        self._connection = connection

    async def add(self, order: Order) -> Generation | None:
        """The new row, or None when this confirm press has bought one before."""
        facts = {
            "id": order.generation_id,
            "confirm_key": order.confirm_key,
            "user_id": order.user_id,
            "chat_id": order.chat_id,
            "model_id": order.model_id,
            "inputs": json.dumps(dict(order.inputs)),
            "language": order.language,
            "cost": order.quote.cost_millicredits,
            "price": order.quote.price_millicredits,
            "is_maximum": order.quote.is_maximum,
        }
        return await self._one(_ADD, facts)

    async def get(self, generation_id: UUID) -> Generation | None:
        return await self._one(_GET, {"id": generation_id})

    async def lock(self, generation_id: UUID) -> Generation:
        """The row, locked until the transaction ends. Raises: LookupError."""
        generation = await self._one(_LOCK, {"id": generation_id})
        if generation is None:
            raise LookupError(f"no generation {generation_id}")
        return generation

    async def of_user(self, user_id: int, number: int) -> Generation | None:
        """By its short number, only for its owner."""
        return await self._one(_OF_USER, {"user_id": user_id, "number": number})

    async def by_confirm_key(self, key: str) -> Generation | None:
        return await self._one(_BY_CONFIRM, {"key": key})

    async def history(self, user_id: int, *, most: int, skip: int = 0) -> list[Generation]:
        return await self._all(_HISTORY, {"user_id": user_id, "most": most, "skip": skip})

    async def open_of(self, user_id: int, *, most: int = 20) -> list[Generation]:
        return await self._all(_OPEN, {"user_id": user_id, "most": most})

    async def claim(self, generation_id: UUID, owner: UUID) -> Generation | None:
        """The right to advance it, or None: it has ended, or somebody living works on it."""
        return await self._one(_CLAIM, {"id": generation_id, "owner": owner})

    async def release(self, generation_id: UUID, claim: Claim) -> None:
        await self._connection.execute(_RELEASE, {"id": generation_id, **_claim_facts(claim)})

    async def free(self, generation_id: UUID) -> None:
        """Whoever holds it may not end with it: what they still write finds their claim gone."""
        await self._connection.execute(_FREE, {"id": generation_id})

    async def save(
        self,
        generation: Generation,
        *,
        slot: bool,
        due_in_s: float | None,
        newly_submitted: bool = False,
        ends: Claim | None = None,
    ) -> int:
        """Write the present state; returns the new revision. due_in_s: when to look again, None for never."""
        facts = {
            "id": generation.id,
            "state": generation.state.value,
            "attempt_no": generation.attempt_no,
            "attempt_id": generation.attempt_id,
            "task_id": generation.task_id,
            "failure": generation.failure,
            "detail": generation.detail,
            "result_urls": json.dumps(list(generation.result_urls)),
            "result_text": generation.result_text,
            "polls": generation.polls,
            "retakes": generation.retakes,
            "setbacks": generation.setbacks,
            "busies": generation.busies,
            "slot": slot,
            "due_in": due_in_s,
            "submitted": newly_submitted,
            "finished": generation.state.is_final,
            **_claim_facts(ends),
        }
        return int(await self._connection.scalar(_SAVE, facts) or 0)

    async def defer(
        self,
        generation_id: UUID,
        due_in_s: float,
        *,
        polled: bool = False,
        setback: bool = False,
        stumble: bool = False,
        report: TaskState | None = None,
        seen: int | None = None,
        ends: Claim | None = None,
    ) -> Deferred | None:
        """Look again in `due_in_s` seconds, or sooner when the row asks for it; None when it has ended.

        report: what the provider said of the task. seen: the revision this look began with.
        """
        facts = {
            "id": generation_id,
            "due_in": due_in_s,
            "polls": int(polled),
            "setbacks": int(setback),
            "stumbles": int(stumble),
            "report": "" if report is None else report.value,
            "seen": seen,
            **_claim_facts(ends),
        }
        row = (await self._connection.execute(_DEFER, facts)).one_or_none()
        return None if row is None else Deferred(row.revision, row.due_in)

    async def hurry(self, generation_id: UUID) -> int | None:
        """There is news of its task, so it is due now: its new revision. None: it runs no longer."""
        revision: int | None = await self._connection.scalar(_HURRY, {"id": generation_id})
        return revision

    async def mark_slot(self, generation_id: UUID) -> bool:
        """It counts among its user's running ones from now on. False: it does already, or is not waiting any more."""
        return await self._connection.scalar(_MARK_SLOT, {"id": generation_id}) is not None

    async def unmark_slot(self, generation_id: UUID) -> None:
        await self._connection.execute(_UNMARK_SLOT, {"id": generation_id})

    async def hurry_next_of(self, user_id: int, *, but: UUID) -> tuple[UUID, int] | None:
        """The user's oldest other generation that waits for a slot is due now: its id and new revision. To be called
        by who has changed the wallet's count of them in this transaction."""
        facts = {"user_id": user_id, "but": but, "everything": EVERYTHING}
        row = (await self._connection.execute(_HURRY_NEXT, facts)).one_or_none()
        return None if row is None else (row.id, row.revision)

    async def model_is_off(self, model_id: str) -> bool:
        return await self._connection.scalar(_MODEL_OFF, {"id": model_id}) is not None

    async def set_uploads(self, generation_id: UUID, uploads: Mapping[str, object]) -> None:
        await self._connection.execute(_UPLOADS, {"id": generation_id, "uploads": json.dumps(dict(uploads))})

    async def open_attempt(self, generation: Generation) -> None:
        """The intent, committed before the call leaves."""
        facts = {"id": generation.attempt_id, "generation_id": generation.id, "no": generation.attempt_no}
        await self._connection.execute(_OPEN_ATTEMPT, facts)

    async def mark_attempt(
        self,
        attempt_id: UUID,
        state: AttemptState,
        *,
        task_id: str | None = None,
        error: str | None = None,
        suspected_loss: bool = False,
    ) -> None:
        """suspected_loss: the provider may bill this attempt, and no user will pay for it."""
        facts = {
            "id": attempt_id,
            "state": state.value,
            "task_id": task_id,
            "error": None if error is None else error[:500],
            "suspected": suspected_loss,
        }
        await self._connection.execute(_MARK_ATTEMPT, facts)

    async def suspect_loss(self, attempt_id: UUID) -> None:
        """The money went back while the attempt's task may still be running, and be billed."""
        await self._connection.execute(_SUSPECT_LOSS, {"id": attempt_id})

    async def consumed(self, attempt_id: UUID, amount: int) -> None:
        """What the provider says it took for this attempt, in millicredits."""
        await self._connection.execute(_CONSUMED, {"id": attempt_id, "amount": amount})

    async def attempt_owner(self, attempt_id: UUID) -> tuple[UUID, str | None] | None:
        """The generation of an attempt, and the attempt's own task as far as it is known."""
        row = (await self._connection.execute(_ATTEMPT, {"id": attempt_id})).one_or_none()
        return None if row is None else (row.generation_id, row.task_id)

    async def attempt_of_task(self, task_id: str) -> UUID | None:
        found: UUID | None = await self._connection.scalar(_OF_TASK, {"task_id": task_id})
        return found

    async def add_artifact(self, artifact: Artifact) -> None:
        facts = {name: getattr(artifact, name) for name in artifact.__slots__}
        await self._connection.execute(_ADD_ARTIFACT, facts)

    async def artifacts(self, generation_id: UUID) -> list[Artifact]:
        rows: Sequence[Row[Any]] = (await self._connection.execute(_ARTIFACTS, {"id": generation_id})).all()
        return [Artifact(**row._mapping) for row in rows]

    async def ahead_of(self, generation_id: UUID) -> Ahead:
        """What waits in front of this one."""
        return Ahead(*(await self._connection.execute(_AHEAD, {"id": generation_id})).one())

    async def typical_seconds(self, model_id: str) -> float | None:
        """Median time from submit to success of the last 200, None without history."""
        seconds: float | None = await self._connection.scalar(_TYPICAL, {"model_id": model_id})
        return seconds

    async def _one(self, statement: Any, facts: Mapping[str, object]) -> Generation | None:
        row = (await self._connection.execute(statement, dict(facts))).one_or_none()
        return None if row is None else generation_of(row)

    async def _all(self, statement: Any, facts: Mapping[str, object]) -> list[Generation]:
        rows = await self._connection.execute(statement, dict(facts))
        return [generation_of(row) for row in rows]


def _claim_facts(claim: Claim | None) -> dict[str, object]:
    return {"owner": claim.owner if claim else None, "claim_no": claim.no if claim else -1}
