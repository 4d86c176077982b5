"""One person sends a thousand updates a second, five hundred generation requests among them: what do others notice?

Two replicas, Telegram's own limits on sending, other people who tap through the menu. The same taps with and without
the flood, in turns; nothing of the flood may be lost, so each round also waits until all of it is recorded and worked
off. A press of Create is repeated on the newest form in sight, as far as the bot shows one.
"""

from __future__ import annotations

import asyncio
import math
import random
import statistics
import time
from dataclasses import dataclass

from benchmarks.rig.crowd import Crowd, Waits
from benchmarks.rig.report import quantile, ratio, spread, table
from benchmarks.rig.stage import House, Stage, Variant
from kiebot.generation.catalog import model_by_id
from kiebot.simulators.telegram import FloodRules
from kiebot.simulators.telegram.messages import ChatMessage
from kiebot.simulators.users import SimUser

PER_S, SECONDS = 1000, 10.0
REQUESTS = 500
PEOPLE, TAPS_PER_S = 60, 6
MOST_ROUNDS = 3
MUST_S = 1.0
_FLOODER = 999_000
_WITHIN_S = 180.0
_TICK_S = 0.01
_LINE = ("/start", "hello?", "/balance", "a cat on a tram", "/works", "/n")
_RECORDED = "SELECT count(*) FROM inbox WHERE lane LIKE '%c{user}'"
_LEFT = _RECORDED + " AND done_at IS NULL"
_BOUGHT = "SELECT count(*) FROM generations WHERE user_id = {user}"
_ANSWERS = "SELECT count(*) FROM outbox WHERE chat_id = {user}"


@dataclass(frozen=True)
class Flooded:
    """Of one round: the waits of the others; of the flooder what was recorded, when it was done, what came of it;
    refused: messages to anybody (429)."""

    calm: Waits
    flooded: Waits
    recorded: int
    done_s: float
    bought: int
    answers: int
    refused: int

    def later_s(self, share: float) -> float:
        return quantile(self.flooded.seen, share) - quantile(self.calm.seen, share)


async def compare(house: House, rounds: int) -> list[Flooded]:
    """Raises: RuntimeError, when others wait too long; TimeoutError, when a part of the flood is lost or left over."""
    rounds = min(rounds, MOST_ROUNDS)
    found = await _rounds(house, rounds, "")
    open_gate = await _rounds(house, 1, "open")
    _print({"": found, ", nobody turned away": open_gate})
    later_s = statistics.median(each.later_s(1.0) for each in found)
    if later_s >= MUST_S:
        raise RuntimeError(f"others wait {later_s:.1f} s longer; at most {MUST_S} s")
    return found


async def _rounds(house: House, rounds: int, gate: str) -> list[Flooded]:
    more = {"BENCH_SENDING": "real", "WELCOME_CREDITS": "10000", "BENCH_GATE": gate}
    async with house.stage(Variant("kiebot", 2), FloodRules(), **more) as stage:
        crowd = Crowd(stage, PEOPLE)
        await crowd.meets_the_bot()
        return [await _round(stage, crowd, number, waits=not gate) for number in range(rounds)]


async def _round(stage: Stage, crowd: Crowd, number: int, *, waits: bool) -> Flooded:
    flooder = Flooder(stage, _FLOODER + number)
    await flooder.opens_a_form()
    calm = await crowd.taps(TAPS_PER_S, SECONDS, random.Random(number))
    flooded, _ = await asyncio.gather(crowd.taps(TAPS_PER_S, SECONDS, random.Random(number)), flooder.floods())
    done_s = await flooder.is_done(waits_for_all=waits)
    recorded, bought, answers = [await flooder.count(each) for each in (_RECORDED, _BOUGHT, _ANSWERS)]
    refused = sum(count for (_, status), count in stage.telegram.journal.counts.items() if status == 429)
    return Flooded(calm, flooded, recorded, done_s if waits else math.inf, bought, answers, refused)


class Flooder:
    def __init__(self, stage: Stage, user_id: int) -> None:
        self._stage = stage
        self.user: SimUser = stage.telegram.user(user_id, "Flo", "en")

    async def opens_a_form(self) -> None:
        model = model_by_id("z-image")
        assert model is not None
        await self.user.sends(f"/start m_{model.slug}")
        await self.user.hears(model.title, timeout=20.0)
        await self.user.sends("a cat on a tram")
        await self.user.hears(lambda state: any(label.startswith("✨ Create") for label in state.buttons), timeout=20.0)

    async def floods(self) -> None:
        """PER_S updates a second, evenly; REQUESTS of them are presses of Create."""
        total, loop = int(PER_S * SECONDS), asyncio.get_running_loop()
        began, every = loop.time(), int(PER_S * SECONDS) // REQUESTS
        for number in range(total):
            if number % int(PER_S * _TICK_S) == 0:
                await asyncio.sleep(max(0.0, began + number / PER_S - loop.time()))
            if number % every == 0:
                await self._requests()
            else:
                await self.user.sends(_LINE[number % len(_LINE)])

    async def _requests(self) -> None:
        form = next(event.message for event in reversed(self.user.chat.events) if _create_of(event.message) is not None)
        await self.user.presses_data(_create_of(form) or "", message=form)

    async def count(self, query: str) -> int:
        return int(await self._stage.count(query.format(user=self.user.user_id)))

    async def is_done(self, *, waits_for_all: bool) -> float:
        """Seconds until all of the flood is recorded, and on request worked off. Raises: TimeoutError."""
        began, sent = time.monotonic(), len(self.user.update_ids)
        async with asyncio.timeout(_WITHIN_S):
            while await self._is_left(sent, waits_for_all):  # noqa: ASYNC110 - other processes work on it
                await asyncio.sleep(0.1)
        return time.monotonic() - began

    async def _is_left(self, sent: int, waits_for_all: bool) -> bool:
        return await self.count(_RECORDED) < sent or (waits_for_all and await self.count(_LEFT) > 0)


def _create_of(message: ChatMessage) -> str | None:
    """What the message's Create button says when pressed."""
    buttons = (button for row in message.keyboard for button in row)
    return next((str(each["callback_data"]) for each in buttons if str(each["text"]).startswith("✨ Create")), None)


def _print(found: dict[str, list[Flooded]]) -> None:
    rows = []
    for kind, rounds in found.items():
        for name, share in (("p50", 0.5), ("p95", 0.95), ("worst", 1.0)):
            calm = [quantile(each.calm.seen, share) * 1000 for each in rounds]
            flooded = [quantile(each.flooded.seen, share) * 1000 for each in rounds]
            later = [each.later_s(share) * 1000 for each in rounds]
            rows.append((f"{name}{kind}", spread(calm), spread(flooded), ratio(flooded, calm), spread(later)))
    title = f"Another's answer while one sends {PER_S} updates/s for {SECONDS:.0f} s, {TAPS_PER_S} taps/s of others"
    table(title, ("ms", "calm", "flooded", "x calm", "later by"), rows)
    became = [
        (
            f"kiebot{kind}",
            spread([each.recorded for each in rounds]),
            spread([each.done_s for each in rounds], 1) if math.isfinite(rounds[0].done_s) else "not waited for",
            spread([each.bought for each in rounds]),
            spread([each.answers for each in rounds]),
            str(rounds[-1].refused),
        )
        for kind, rounds in found.items()
    ]
    head = ("", "recorded", "done, s after", "bought", "messages to the flooder", "429s")
    table("What became of the flood", head, became)
