"""Gathers the evidence of a run: the simulators' journals and the rows that are left."""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Sequence
from typing import Any

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from kiebot.demo.evidence import (
    Attempt,
    Books,
    Conflict,
    Create,
    Epoch,
    Evidence,
    Marked,
    Overlap,
    Pressed,
    Purchases,
    Recorded,
    Repeat,
    Sent,
    Task,
    Work,
)
from kiebot.demo.faults import Stage
from kiebot.demo.scenario import Person
from kiebot.generation.catalog import model_by_id
from kiebot.simulators.kie import KieSimulator
from kiebot.simulators.telegram import TelegramSimulator
from kiebot.storage.verify import verify

_INBOX = text("""
    SELECT i.update_id, extract(epoch FROM i.received_at)::float8, extract(epoch FROM i.done_at)::float8,
        extract(epoch FROM i.swept_at)::float8, d.id IS NOT NULL
    FROM inbox i LEFT JOIN dead_letters d ON d.kind = 'update' AND d.source_id = i.id ORDER BY i.id
""")
_WORKS = text("""
    SELECT g.number, g.id::text AS key, g.user_id, g.chat_id, g.model_id, g.state, s.outcome,
        coalesce(s.amount, 0) AS amount,
        extract(epoch FROM s.settled_at)::float8 AS settled_at,
        (SELECT array_agg(a.file_id) FROM artifacts a WHERE a.generation_id = g.id) AS files,
        EXISTS (SELECT 1 FROM outbox o WHERE o.generation_id = g.id AND o.sent_at IS NOT NULL
            AND o.kind IN ('result', 'failed')) AS told
    FROM generations g LEFT JOIN settlements s ON s.generation_id = g.id ORDER BY g.number
""")
_ATTEMPTS = text("SELECT generation_id::text, no, state, id::text FROM attempts")
_SUMS = text("""
    SELECT
        coalesce((SELECT sum(e.delta_available) FROM entries e JOIN postings p ON p.key = e.posting_key
            WHERE p.kind = 'grant' AND e.account LIKE 'wallet:%'), 0)::bigint,
        coalesce((SELECT sum(amount) FROM settlements WHERE outcome = 'captured'), 0)::bigint,
        coalesce((SELECT sum(available + held) FROM accounts WHERE key LIKE 'wallet:%'), 0)::bigint
""")
_UNFINISHED = text("""
    SELECT 'updates not handled', count(*) FROM inbox WHERE done_at IS NULL
    UNION ALL SELECT 'messages not sent', count(*) FROM outbox WHERE sent_at IS NULL AND buried_at IS NULL
    UNION ALL SELECT 'generations not finished', count(*) FROM generations WHERE finished_at IS NULL
    UNION ALL SELECT 'cards behind', count(*) FROM cards WHERE wanted_version > sent_version
""")


async def collect(stage: Stage, people: Sequence[Person], epochs: Sequence[Epoch]) -> Evidence:
    """Everything the audit needs. Raises: Transient, when Postgres is away."""
    breaches = tuple(f"{each.invariant}: {', '.join(each.rows)}" for each in await verify(stage.engine))
    async with stage.engine.connect() as connection:
        inbox = tuple(Recorded(*row) for row in await connection.execute(_INBOX))
        attempts = [tuple(row) for row in await connection.execute(_ATTEMPTS)]
        owners = {attempt_id: key for key, _, _, attempt_id in attempts}
        works, made = await _works(connection, stage.telegram)
        granted, captured, wallets = (await connection.execute(_SUMS)).one()
    return Evidence(
        strikes=tuple(stage.strikes),
        sent=_sent(people),
        inbox=inbox,
        confirmed_at=_confirmed(stage.telegram, people),
        marks=tuple(mark for person in people for mark in _marks(person)),
        presses=tuple(press for person in people for press in _presses(person)),
        repeats=_repeats(stage.telegram),
        purchases=tuple(Purchases(each.name, each.pressed, made[each.user.user_id]) for each in people),
        works=works,
        creates=_creates(stage.kie, owners),
        tasks=_tasks(stage.kie, owners),
        attempts=tuple(Attempt(key, number, state) for key, number, state, _ in attempts),
        books=Books(granted, captured, wallets, breaches),
        epochs=tuple(epochs),
        overlaps=_overlaps(stage.telegram),
        conflicts=_conflicts(stage.telegram),
        failovers=tuple(stage.failovers),
        unfinished=tuple(await unfinished(stage.engine, stage.telegram)),
        trouble=(*stage.trouble, *(person.trouble for person in people if person.trouble), *_never_made(works)),
    )


async def unfinished(engine: AsyncEngine, telegram: TelegramSimulator) -> list[str]:
    """What still moves; empty when the cluster has come to rest."""
    async with engine.connect() as connection:
        rows = [(str(what), int(count)) for what, count in await connection.execute(_UNFINISHED)]
    rows.append(("updates still with Telegram", len(telegram.bot.queue)))
    return [f"{count} {what}" for what, count in rows if count]


def _never_made(works: Sequence[Work]) -> list[str]:
    """A run in which nobody bought a video has shown nothing about videos."""
    made = {work.output for work in works if work.settled == "captured"}
    return [f"nobody was sold any {output}" for output in ("image", "video", "audio") if output not in made]


def _sent(people: Sequence[Person]) -> tuple[Sent, ...]:
    return tuple(
        Sent(update_id, f"{action.kind} of {person.name}", action.at)
        for person in people
        for action in person.user.actions
        for update_id in action.update_ids
    )


def _confirmed(telegram: TelegramSimulator, people: Sequence[Person]) -> dict[int, float]:
    """When the first offset beyond an update reached Telegram: from then on nobody is given it again."""
    waiting = sorted(update_id for person in people for update_id in person.user.update_ids)
    confirmed: dict[int, float] = {}
    for poll in telegram.journal.polls():
        offset = poll.arguments.get("offset", "0")
        if not offset.isdigit() or (poll.status is None and not poll.is_cut and poll.ended_at is not None):
            continue
        while waiting and waiting[0] < int(offset):
            confirmed[waiting.pop(0)] = poll.at
    return confirmed


def _marks(person: Person) -> list[Marked]:
    """Sends are counted, not messages in sight: edits repeat a number without a new message."""
    clock_offset = time.time() - time.monotonic()
    calls = person.user.bot.world.journal.calls("sendMessage", chat_id=person.user.chat_id)
    return [
        Marked(
            person.name,
            spoken.mark,
            spoken.at,
            tuple(
                clock_offset + (call.ended_at or call.started_at)
                for call in calls
                if call.sent and spoken.mark in str(call.sent)
            ),
        )
        for spoken in person.spoken
    ]


def _presses(person: Person) -> list[Pressed]:
    clock_offset = time.time() - time.monotonic()
    return [
        Pressed(person.name, press.data, clock_offset + press.pressed_at, bool(press.answers))
        for press in person.user.presses_made
    ]


def _repeats(telegram: TelegramSimulator) -> tuple[Repeat, ...]:
    return tuple(
        Repeat(group[0].chat_id or 0, str(group[0].sent[1:])[:60], tuple(call.at for call in group))
        for group in telegram.journal.duplicate_sends()
    )


def _overlaps(telegram: TelegramSimulator) -> tuple[Overlap, ...]:
    return tuple(
        Overlap(each.second.at, each.first.process, each.second.process, each.seconds)
        for each in telegram.journal.live_poll_overlaps()
    )


def _conflicts(telegram: TelegramSimulator) -> tuple[Conflict, ...]:
    clock_offset = time.time() - time.monotonic()
    return tuple(
        Conflict(clock_offset + (call.ended_at or call.started_at), call.process)
        for call in telegram.journal.conflicts_to_live_clients()
    )


async def _works(connection: AsyncConnection, telegram: TelegramSimulator) -> tuple[tuple[Work, ...], Counter[int]]:
    works, made = [], Counter[int]()
    for row in await connection.execute(_WORKS):
        model = model_by_id(row.model_id)
        made[row.user_id] += 1
        works.append(
            Work(
                number=row.number,
                key=row.key,
                output=model.output if model is not None else "unknown",
                state=row.state,
                settled=row.outcome,
                amount=row.amount,
                settled_at=row.settled_at,
                delivered=_in_chat(telegram, row.chat_id, set(row.files or ())),
                is_told=row.told,
            )
        )
    return tuple(works), made


def _in_chat(telegram: TelegramSimulator, chat_id: int, file_ids: set[str]) -> tuple[str, ...]:
    """The kinds of those files among the messages that the bot sent into the chat."""
    chat = telegram.bot.chats.get(chat_id)
    if chat is None:
        return ()
    sent = [message.media for message in chat.from_bot() if message.media is not None]
    return tuple(media.kind for media in sent if file_ids & {media.file_id, *media.photo_size_ids})


def _creates(kie: KieSimulator, owners: dict[str, Any]) -> tuple[Create, ...]:
    return tuple(
        Create(
            entry.at, owners.get(entry.attempt_id or "", ""), entry.attempt_id or "", entry.outcome.startswith("lost")
        )
        for entry in kie.journal.creates()
    )


def _tasks(kie: KieSimulator, owners: dict[str, Any]) -> tuple[Task, ...]:
    return tuple(
        Task(
            work=owners.get(task.attempt_id or "", ""),
            attempt_id=task.attempt_id or "",
            ends_at=task.created_at + task.plan.ends_at_s if math.isfinite(task.plan.ends_at_s) else math.inf,
            is_success=task.final_state == "success",
            is_billed=task.billed > task.refunded,
        )
        for task in kie.tasks.values()
    )
