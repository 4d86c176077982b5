"""Gathers the evidence of a run: KIE's own tasks and journal, the rows that are left, the chats as people see them."""

from __future__ import annotations

import math
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from decimal import Decimal
from typing import Any

from sqlalchemy import Row, text
from sqlalchemy.ext.asyncio import AsyncConnection

from kiebot.simulators.kie import KieSimulator
from kiebot.simulators.kie import Task as KieTask
from kiebot.simulators.kie.journal import Entry
from kiebot.simulators.telegram.messages import ChatMessage
from kiebot.storage.reckoning import ReckoningRepository
from kiebot.storage.verify import breaches_in
from tests.scenarios.world import World
from tests.soak.generations.crowd import Buyer
from tests.soak.generations.evidence import Attempt, Create, Evidence, Task, Wallet, Wish, Work

_WORKS = text(r"""
    SELECT coalesce(substring(g.inputs::text from '\((\d+)\)')::int, 0) AS serial, g.id::text AS key, g.number,
        g.user_id, g.chat_id, g.state, coalesce(g.failure, '') AS failure, g.price_millicredits AS price,
        s.outcome, coalesce(s.amount, 0) AS amount, extract(epoch FROM s.settled_at)::float8 AS settled_at,
        (SELECT count(*) FROM postings p WHERE p.generation_id = g.id AND p.kind = 'capture') AS captures,
        (SELECT count(*) FROM postings p WHERE p.generation_id = g.id AND p.kind = 'void') AS voids,
        -coalesce((SELECT sum(e.delta_available + e.delta_held) FROM entries e JOIN postings p ON p.key = e.posting_key
            WHERE p.generation_id = g.id AND e.account = 'wallet:' || g.user_id), 0)::bigint AS moved,
        coalesce((SELECT array_agg(a.file_id) FROM artifacts a WHERE a.generation_id = g.id), '{}') AS files
    FROM generations g LEFT JOIN settlements s ON s.generation_id = g.id ORDER BY g.number
""")
_ATTEMPTS = text("SELECT id::text, generation_id::text, no, state FROM attempts ORDER BY no")
_OUTCOMES = text("""
    SELECT generation_id::text AS key, kind, sent_at IS NULL AS is_unsent, message_id FROM outbox
    WHERE kind IN ('result', 'failed', 'late_result') AND generation_id IS NOT NULL ORDER BY id
""")
_WALLETS = text("""
    SELECT substring(a.key from 8)::bigint, coalesce((
            SELECT sum(e.delta_available) FROM entries e JOIN postings p ON p.key = e.posting_key
            WHERE p.kind = 'grant' AND e.account = a.key), 0)::bigint,
        a.available, a.held
    FROM accounts a WHERE a.key LIKE 'wallet:%'
""")
_REVENUE = text("SELECT coalesce(sum(available), 0)::bigint FROM accounts WHERE key LIKE 'revenue%'")
_LIVING_FILES = ("normal", "late", "private", "slow", "oversized", "endless", "wrong_type")
_LOST = ("lost", "cut", "late", "page")
_AMBIGUOUS_CODES = (503, 504)
_NEVER_VISIBLE_S = 600.0
_ADDRESS = re.compile(r"https?://\S+")


async def collect(world: World, buyers: Sequence[Buyer]) -> Evidence:
    """All but what the weather noted. Raises: LookupError, when a form named no price."""
    async with world.engine.connect() as connection:
        breaches = tuple(f"{each.invariant}: {', '.join(each.rows)}" for each in await breaches_in(connection))
        works = await _works(connection, world)
        wallets = tuple(Wallet(*row) for row in await connection.execute(_WALLETS))
        revenue = int(await connection.scalar(_REVENUE) or 0)
    return Evidence(
        wishes=tuple(_wishes(buyers)),
        works=tuple(works),
        tasks=tuple(_task(task) for task in world.kie.tasks.values()),
        creates=tuple(_create(entry) for entry in world.kie.journal.creates()),
        wallets=wallets,
        revenue=revenue,
        breaches=breaches,
        unfinished=tuple(f"{count} {what}" for what, count in (await world.waiting()).items() if count),
        trouble=tuple(buyer.trouble for buyer in buyers if buyer.trouble),
        repeated=len(world.tg.journal.duplicate_sends()),
    )


def last_end(kie: KieSimulator) -> float:
    """When the last task that ends at all will have ended, in Unix seconds."""
    return max((_ends_at(task) for task in kie.tasks.values() if math.isfinite(_ends_at(task))), default=0.0)


def _wishes(buyers: Iterable[Buyer]) -> list[Wish]:
    pressed = [(buyer, order) for buyer in buyers for order in buyer.orders if order.pressed_at is not None]
    return [
        Wish(order.serial, order.profile.name, buyer.user.user_id, _millicredits(order.price))
        for buyer, order in pressed
    ]


def _millicredits(price: str) -> int:
    found = re.search(r"[\d.]+", price.replace(",", ""))
    if found is None:
        raise LookupError(f"no price in {price!r}")
    return int(Decimal(found[0]) * 1000)


async def _works(connection: AsyncConnection, world: World) -> list[Work]:
    losses = {str(loss.attempt_id) for loss in await ReckoningRepository(connection).losses(days=2)}
    attempts: dict[str, list[Attempt]] = defaultdict(list)
    for attempt_id, key, number, state in await connection.execute(_ATTEMPTS):
        attempts[key].append(Attempt(attempt_id, number, state, attempt_id in losses))
    outcomes: dict[str, list[Row[Any]]] = defaultdict(list)
    for row in await connection.execute(_OUTCOMES):
        outcomes[row.key].append(row)
    urls = _urls_by_attempt(world.kie)
    return [
        _work(row, tuple(attempts[row.key]), outcomes[row.key], _seen(world, row, outcomes[row.key], attempts, urls))
        for row in await connection.execute(_WORKS)
    ]


def _work(row: Row[Any], attempts: tuple[Attempt, ...], outcomes: Sequence[Row[Any]], seen: set[str]) -> Work:
    return Work(
        serial=row.serial,
        key=row.key,
        number=row.number,
        user_id=row.user_id,
        state=row.state,
        failure=row.failure,
        price=row.price,
        settled=row.outcome,
        amount=row.amount,
        settled_at=row.settled_at,
        moved=row.moved,
        captures=row.captures,
        voids=row.voids,
        attempts=attempts,
        decided=tuple(each.kind for each in outcomes),
        unsent=tuple(each.kind for each in outcomes if each.is_unsent),
        seen=frozenset(seen),
    )


def _seen(
    world: World,
    row: Row[Any],
    outcomes: Sequence[Row[Any]],
    attempts: Mapping[str, Sequence[Attempt]],
    urls: Mapping[str, set[str]],
) -> set[str]:
    """What of a generation stands in its chat."""
    chat = world.tg.bot.chats.get(row.chat_id)
    if chat is None:
        return set()
    messages = chat.from_bot()
    wanted = set().union(*(urls.get(attempt.attempt_id, set()) for attempt in attempts[row.key]))
    seen = {"media"} if any(_has_file(message, set(row.files)) for message in messages) else set()
    seen |= {"link"} if any(_links(message) & wanted for message in messages) else set()
    told = {each.message_id: each.kind for each in outcomes if each.message_id}
    return seen | {told[message.message_id] for message in messages if message.message_id in told}


def _has_file(message: ChatMessage, files: set[str]) -> bool:
    media = message.media
    return media is not None and bool(files & {media.file_id, *media.photo_size_ids})


def _links(message: ChatMessage) -> set[str]:
    buttons = {str(button["url"]) for row in message.keyboard for button in row if "url" in button}
    return buttons | set(_ADDRESS.findall(message.text or message.caption or ""))


def _urls_by_attempt(kie: KieSimulator) -> dict[str, set[str]]:
    return {attempt: {url for task in tasks for url in task.result_urls} for attempt, tasks in _by_attempt(kie).items()}


def _by_attempt(kie: KieSimulator) -> Mapping[str, Sequence[KieTask]]:
    return kie.tasks_by_attempt()


def _ends_at(task: KieTask) -> float:
    return task.created_at + task.plan.ends_at_s + task.hidden_s


def _task(task: KieTask) -> Task:
    is_success = task.plan.failure is None and math.isfinite(task.plan.ends_at_s)
    is_there = task.plan.empty_result is None and task.plan.gap_s < _NEVER_VISIBLE_S
    return Task(
        task_id=task.task_id,
        attempt_id=task.attempt_id or "",
        ends_at=_ends_at(task),
        is_success=is_success,
        has_result=is_success and is_there and task.plan.result_mode in _LIVING_FILES,
        billed=task.billed - task.refunded,
        told=tuple(each.kind for each in task.callbacks if each.status == 200),
    )


def _create(entry: Entry) -> Create:
    is_lost = entry.outcome.startswith(_LOST) or entry.code in _AMBIGUOUS_CODES
    return Create(entry.at, entry.attempt_id or "", entry.outcome, is_lost)
