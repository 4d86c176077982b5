"""A generation as it is read from its row."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Row

from kiebot.generation.model import Generation, Quoted, State

COLUMNS = """
    id, number, user_id, chat_id, model_id, inputs, language, state, cost_millicredits, price_millicredits,
    is_maximum, accepted_at, attempt_no, attempt_id, task_id, submitted_at, finished_at, due_at, polls, failure,
    detail, result_urls, result_text, uploads, holds_running_slot, revision, claim_no, retakes, setbacks, busies,
    stumbles, seen_at, ready_at, missing_at, missings, troubled_at, now() AS read_at
"""


def generation_of(row: Row[Any]) -> Generation:
    """row: with all COLUMNS."""
    return Generation(
        id=row.id,
        number=row.number,
        user_id=row.user_id,
        chat_id=row.chat_id,
        model_id=row.model_id,
        inputs=row.inputs,
        language=row.language,
        state=State(row.state),
        quote=Quoted(row.cost_millicredits, row.price_millicredits, row.is_maximum),
        accepted_at=row.accepted_at,
        attempt_no=row.attempt_no,
        attempt_id=row.attempt_id,
        task_id=row.task_id,
        submitted_at=row.submitted_at,
        finished_at=row.finished_at,
        due_at=row.due_at,
        polls=row.polls,
        failure=row.failure,
        detail=row.detail,
        result_urls=tuple(row.result_urls),
        result_text=row.result_text,
        uploads=row.uploads,
        holds_slot=row.holds_running_slot,
        revision=row.revision,
        claim_no=row.claim_no,
        retakes=row.retakes,
        setbacks=row.setbacks,
        busies=row.busies,
        stumbles=row.stumbles,
        seen_at=row.seen_at,
        ready_at=row.ready_at,
        missing_at=row.missing_at,
        missings=row.missings,
        troubled_at=row.troubled_at,
        read_at=row.read_at,
    )
