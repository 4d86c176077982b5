"""How long nobody polls, and what is lost meanwhile, when the one who polls is struck; beside baselines.

    python -m benchmarks failover [--rounds N] [--network namespaces]

Measured from the blow (or from the release of the lease) to the next poll by another process, on the rig of
`tests/chaos`: three replicas with the default lease (TTL 10 s), real stores, people who write all the while. Every
round is also judged: updates lost or taken twice, writes of a stale holder, polls of living clients that met.

Baselines, in the same run, with the same people and blows: **lock**, the plain bot behind `SET NX PX` with renewal at a
third of its TTL, and **updater**, python-telegram-bot's own Updater in two processes at once. They have no inbox: an
update is lost when nobody ever answered it and doubled when it was answered twice. Their rounds are fewer.

Without --rounds: 100 rounds where a round is short, 20 pauses of two TTLs, 30 of all others.
"""

from __future__ import annotations

import asyncio
import os
import re
import signal
import sys
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field

from benchmarks.rig.report import quantile, table
from tests.chaos import blows, history
from tests.chaos.entering import Choice
from tests.chaos.opening import end_in_order, open_rig
from tests.chaos.rig import Rig
from tests.chaos.rows_redis import last_live_poll
from tests.chaos.webhooks import roll, to_polling, to_webhook

TTL_S = 10.0
OUTAGE_S = 60.0
RATE = 10.0
ROLL_RATE = 50.0
LOCK = (sys.executable, "-m", "benchmarks.rig.locked")
UPDATER = (sys.executable, "-m", "benchmarks.rig.plain")


@dataclass
class Figures:
    """Of one event and one contestant. `values` in seconds."""

    values: list[float] = field(default_factory=list)
    updates: int = 0
    lost: int = 0
    doubled: int = 0
    stale: int = 0
    conflicts: int = 0
    breaches: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def add(self, found: history.Found) -> None:
        self.updates += found.updates
        self.lost += found.lost
        self.doubled += found.doubled
        self.stale += found.stale_writes
        self.conflicts += len(found.conflicts)
        self.notes += [f"409 to {call.process}, which lived: {call.description}" for call in found.conflicts]
        self.breaches += found.breaches


Round = Callable[[Rig, Figures], Awaitable[None]]


@dataclass(frozen=True)
class Event:
    """`limit_s` is what `share` of the rounds must keep to."""

    name: str
    run: Round
    rounds: int
    limit_s: float | None
    share: float = 1.0
    polls_may_meet: bool = False  # the lease itself is lost in it


async def compare(rounds: int | None, only: str, network: Choice) -> bool:
    """Print every event as it is measured; whether all that must be was kept. `only`: events with this in the name;
    `network`: what the replicas live in, and so what cuts one off."""
    end_in_order()
    print(f"{os.cpu_count()} CPUs, load {os.getloadavg()[0]:.1f} before; TTL {TTL_S:g} s, 3 replicas, ", end="")
    print(f"{RATE:g} updates/s; network: {network.told}", flush=True)
    kept = True
    for events, replicas in ((EVENTS, 3), (ROLLS, 5)):
        if chosen := [event for event in events if only in event.name]:
            async with open_rig(ttl_s=TTL_S, replicas=replicas, network=network.make) as rig:
                for event in chosen:
                    kept &= _print(event, await _measure(rig, event, _count(event, rounds)))
    for name, command, processes in (("lock", LOCK, 3), ("updater", UPDATER, 2)):
        if only in f"baseline {name}":
            await _baseline(name, command, processes, rounds, network)
    return kept


def _count(event: Event, rounds: int | None) -> int:
    return event.rounds if rounds is None else min(rounds, event.rounds)


async def _measure(rig: Rig, event: Event, rounds: int) -> Figures:
    figures = Figures()
    await rig.heal()
    for _ in range(rounds):
        since = await history.mark(rig)
        try:
            await event.run(rig, figures)
        except TimeoutError as error:
            figures.breaches.append(str(error))
        await rig.heal()
        await rig.settles(120.0 + len(rig.crowd.sent) / 15)  # answers leave at thirty a second
        figures.add(await history.look(rig, since, polls_may_meet=event.polls_may_meet))
    return figures


def _print(event: Event, figures: Figures) -> bool:
    quick = quantile(figures.values, event.share) if figures.values else None
    misses = [f"{quick * 1000:.0f} ms"] if quick is not None and event.limit_s and quick > event.limit_s else []
    misses += [f"{figures.lost} lost"] * bool(figures.lost) + [f"{figures.doubled} doubled"] * bool(figures.doubled)
    misses += [f"{figures.stale} stale writes"] * bool(figures.stale) + figures.breaches[:3]
    limit = f"{'p95' if event.share < 1 else 'all'} <= {event.limit_s * 1000:.0f} ms" if event.limit_s else "-"
    rows = [("kiebot", *_cells(figures), limit, "kept" if not misses else "MISSED: " + "; ".join(misses))]
    table(event.name, HEAD, rows)
    for note, count in Counter(figures.notes).items():
        print(f"    {note}" + (f"  ({count} times)" if count > 1 else ""))
    sys.stdout.flush()
    return not misses


HEAD = ("ms", "n", "median", "p95", "worst", "updates", "lost", "doubled", "stale", "conflicts", "must", "")


def _cells(figures: Figures) -> Sequence[str]:
    values = [value * 1000 for value in figures.values]
    times = (
        [f"{quantile(values, share):.0f}" for share in (0.5, 0.95)] + [f"{max(values):.0f}"] if values else ["-"] * 3
    )
    counts = (figures.updates, figures.lost, figures.doubled, figures.stale, figures.conflicts)
    return (str(len(values)), *times, *(str(count) for count in counts))


# Events


async def _hand_over(rig: Rig, figures: Figures) -> None:
    async with rig.crowd.talking(RATE):
        takeover = await blows.hand_over(rig)
    figures.values.append(takeover.released_s if takeover.released_s is not None else takeover.took_s)


async def _kill(rig: Rig, figures: Figures) -> None:
    async with rig.crowd.talking(RATE):
        figures.values.append((await blows.kill(rig)).took_s)


async def _cut_off(rig: Rig, figures: Figures) -> None:
    figures.values.append((await blows.cut_off(rig)).took_s)


async def _freeze(rig: Rig, figures: Figures) -> None:
    takeover, aimed = await blows.freeze_in_the_write(rig, 2 * rig.ttl_s)
    figures.values.append(takeover.took_s)
    figures.notes.append("a write was on its way" if aimed else "no write was on its way")


async def _redis_killed(rig: Rig, figures: Figures) -> None:
    async with rig.crowd.talking(RATE):
        await rig.stores.redis.kill()
        await asyncio.sleep(1.0)
        await rig.stores.redis.empty()
        await rig.stores.redis.start()
        figures.values.append(await rig.led(2 * rig.ttl_s))


async def _flushed(rig: Rig, figures: Figures) -> None:
    async with rig.crowd.talking(RATE):
        await rig.redis.flushall()
        figures.values.append(await rig.led(2 * rig.ttl_s))
        await asyncio.sleep(1.0)


async def _clock_back(rig: Rig, figures: Figures) -> None:
    figures.values.append((await blows.clock_steps_back(rig)).took_s)


async def _clock_forward(rig: Rig, figures: Figures) -> None:
    async with rig.crowd.talking(RATE):
        await blows.clock_steps_forward(rig)
        figures.values.append(await rig.led(2 * rig.ttl_s))
        await asyncio.sleep(1.0)


async def _redis_away(rig: Rig, figures: Figures) -> None:
    await _away(rig, figures, rig.stores.redis.kill, rig.stores.redis.start, rig.deadline_s)


async def _postgres_away(rig: Rig, figures: Figures) -> None:
    async def stop() -> None:
        await rig.stores.postgres.stop(signal.SIGINT)

    await _away(rig, figures, stop, rig.stores.postgres.start, rig.deadline_s)


async def _away(
    rig: Rig,
    figures: Figures,
    begin: Callable[[], Awaitable[None]],
    end: Callable[[], Awaitable[None]],
    stops_s: float,
) -> None:
    """People write now and then, not so much that what waits at Telegram takes long to handle afterwards."""
    at = time.time()
    async with rig.crowd.talking(1.0):
        await begin()
        await asyncio.sleep(OUTAGE_S / 2)
        _, ready = await rig.readiness(rig.names[0])
        await asyncio.sleep(at + OUTAGE_S - time.time())
        stopped_s = last_live_poll(rig, at) - at
        await end()
        figures.values.append(await rig.led(2 * rig.ttl_s))
    figures.notes.append(f"polls stopped after {stopped_s:.1f} s (deadline {stops_s:g} s); /readyz: {_trouble(ready)}")
    if stopped_s > stops_s + 0.1:
        figures.breaches.append(f"polls stopped only after {stopped_s:.1f} s")
    if not all(member.is_alive for member in rig.cluster.members.values()):
        figures.breaches.append("a replica ended")


def _trouble(ready: dict[str, object]) -> str:
    return ", ".join(f"{name} {state}" for name, state in ready.items() if state != "ok") or "nothing"


async def _roll(rig: Rig, figures: Figures) -> None:
    async with rig.crowd.talking(ROLL_RATE):
        figures.values.append(await roll(rig))


async def _change_mode(rig: Rig, figures: Figures) -> None:
    mark, first = rig.mark(), len(rig.crowd.sent)
    async with rig.crowd.talking(ROLL_RATE / 2):
        began = time.monotonic()
        async with to_webhook(rig):
            await asyncio.sleep(2.0)
            await to_polling(rig)
        figures.values.append(time.monotonic() - began)
        await asyncio.sleep(1.0)
    sent = {each.update_id for each in rig.crowd.sent[first:]}
    brought = {each.update_id for each in rig.world.tg.bot.webhook.deliveries if each.status == 200} & sent
    fetched = {update_id for poll in rig.polls_since(mark) for update_id in poll.update_ids} & sent
    figures.notes.append(f"{len(brought)} updates came by webhook, {len(fetched)} by polls")
    if not brought or not fetched:
        figures.breaches.append("the mode never changed")


EVENTS = (
    Event("SIGTERM of the holder, from the release to the next poll", _hand_over, 100, 0.05, 0.95),
    Event("SIGKILL of the holder", _kill, 100, 1.0, 0.95),
    Event("the holder is cut off from everything, nothing is closed", _cut_off, 30, TTL_S + 0.1),
    Event("SIGSTOP for two TTLs with a write on its way", _freeze, 20, TTL_S + 0.1),
    Event("Redis killed, back empty after 1 s", _redis_killed, 30, 1.0, polls_may_meet=True),
    Event("FLUSHALL", _flushed, 30, 1.0, polls_may_meet=True),
    Event("Redis' clock steps back an hour, the holder is lost", _clock_back, 30, 1.1 * TTL_S),
    Event("Redis' clock steps forward an hour", _clock_forward, 30, 1.0, polls_may_meet=True),
    Event("Redis away for 60 s, from its return", _redis_away, 30, 1.0, polls_may_meet=True),
    Event("Postgres away for 60 s, from its return", _postgres_away, 30, 1.0),
)
ROLLS = (
    Event("rolling restart of 5 replicas under 50 updates/s (whole roll)", _roll, 30, None),
    Event("polling, webhook, polling by rolling restarts of 5 under 25 updates/s (both)", _change_mode, 30, None),
)


# Baselines


async def _baseline(name: str, command: Sequence[str], processes: int, rounds: int | None, network: Choice) -> None:
    """The same blows; what is left is judged by the answers in the chats."""
    rows = []
    count = max(1, min(5, rounds or 5))
    opened = open_rig(ttl_s=TTL_S, replicas=processes, command=command, has_web=False, network=network.make)
    async with opened as rig:
        for title, blow, is_quick in BASELINE_BLOWS:
            figures = Figures()
            for _ in range(count * 2 if is_quick else count):
                await _baseline_round(rig, blow, figures)
            rows.append((title, *_cells(figures), "", ""))
    title = "the plain bot behind SET NX PX" if name == "lock" else "python-telegram-bot's Updater in two processes"
    table(f"Baseline: {title}", HEAD, rows)
    sys.stdout.flush()


BASELINE_BLOWS: tuple[tuple[str, Callable[[Rig], Awaitable[blows.Takeover]], bool], ...] = (
    ("SIGTERM", blows.hand_over, True),
    ("SIGKILL", blows.kill, False),
    ("cut off", blows.cut_off, False),
)


async def _baseline_round(rig: Rig, blow: Callable[[Rig], Awaitable[blows.Takeover]], figures: Figures) -> None:
    rig.victims.clear()
    mark, first = rig.mark(), len(rig.crowd.serials)
    async with rig.crowd.talking(RATE):
        await asyncio.sleep(1.0)
        try:
            figures.values.append((await blow(rig)).took_s)
        except TimeoutError as error:
            figures.breaches.append(str(error))
        await asyncio.sleep(0.5)
    await rig.heal()
    await asyncio.sleep(3.0)
    answers = _answers(rig, mark)
    serials = rig.crowd.serials[first:]
    figures.updates += len(serials)
    figures.lost += sum(answers[serial] == 0 for serial in serials)
    figures.doubled += sum(answers[serial] > 1 for serial in serials)
    figures.conflicts += sum(
        poll.status == 409 and poll.disconnected_at is None and poll.process not in rig.victims
        for poll in rig.polls_since(mark)
    )


def _answers(rig: Rig, mark: int) -> Counter[int]:
    """How many messages answered each command."""
    sent = rig.world.tg.journal.calls("sendMessage", after=mark)
    words = (word for call in sent for word in str(call.arguments.get("text", "")).split() if call.sent)
    return Counter(int(found[1]) for word in words if (found := re.search(r"/n(\d+)", word)))
