"""The people of a benchmark: what they do, and what they waited for. All of them behave alike for every variant."""

from __future__ import annotations

import asyncio
import random
from collections import deque
from dataclasses import dataclass, field

from benchmarks.rig.stage import Stage
from kiebot.bot.form_state import Verb
from kiebot.simulators.telegram import Press
from kiebot.simulators.telegram.messages import ChatMessage
from kiebot.simulators.users import SimUser

ANSWER_S = 20.0
PER_CHAT = 3
_FIRST_ID = 500_000
_SAFE = tuple(f"f1:{verb.value}:" for verb in (Verb.SET, Verb.EDIT, Verb.MORE))  # buttons that stay within the form


@dataclass
class Waits:
    """Seconds from each act to what it led to. `pressed`: the answer of a press; `seen`: the new or changed message."""

    pressed: list[float] = field(default_factory=list)
    seen: list[float] = field(default_factory=list)


class Crowd:
    """People who know the bot already, half of them in English, half in Russian."""

    def __init__(self, stage: Stage, count: int) -> None:
        self.stage = stage
        users = (_FIRST_ID + number for number in range(count))
        self._marks: dict[int, int] = {}
        self._people = [stage.telegram.user(each, f"P{each}", "ru" if each % 2 else "en") for each in users]

    async def meets_the_bot(self) -> None:
        """Everybody's first message is answered: rows, caches and connections are there afterwards."""
        before = self._sent()
        for person in self._people:
            await person.sends("/start")
        await self.stage.until(lambda: self._sent() >= before + len(self._people), 60.0)

    def _sent(self) -> int:
        return self.stage.telegram.journal.counts["sendmessage", 200]

    # taps, spread over time

    async def taps(self, per_s: float, seconds: float, rng: random.Random) -> Waits:
        """Acts at random instants, as many as one expects of independent people; nobody acts again before the answer.

        Raises: TimeoutError, when one of them is not answered.
        """
        waits, idle = Waits(), deque(rng.sample(self._people, len(self._people)))
        loop, acts = asyncio.get_running_loop(), list[asyncio.Task[None]]()
        end, next_at = loop.time() + seconds, loop.time()
        while (next_at := next_at + rng.expovariate(per_s)) < end:
            await asyncio.sleep(next_at - loop.time())
            if idle:
                acts.append(asyncio.create_task(_tap(idle.popleft(), idle, waits)))
        await asyncio.gather(*acts)
        return waits

    # a backlog

    async def backlog(self) -> float:
        """PER_CHAT updates of everybody arrive at one instant; returns the seconds until all were answered."""
        self._marks = {person.chat_id: _last_event(person) for person in self._people}
        before, loop = self._sent(), asyncio.get_running_loop()
        for turn in range(PER_CHAT):
            for person in self._people:
                await person.sends(("/start", f"/n{person.user_id}", "a lighthouse in the fog")[turn])
        began = loop.time()
        await self.stage.until(lambda: self._sent() >= before + PER_CHAT * len(self._people), 120.0)
        return loop.time() - began

    async def check_backlog(self) -> None:
        """Raises: RuntimeError, when an answer of the last backlog is missing, doubled or out of order."""
        await asyncio.sleep(0.3)  # one too many would come now
        for person in self._people:
            mark = self._marks[person.chat_id]
            told = [event.state.text or "" for event in person.chat.events if event.number > mark]
            named = [place for place, words in enumerate(told) if f"/n{person.user_id}" in words]
            if len(told) != PER_CHAT or named != [1]:
                raise RuntimeError(f"{self.stage.variant.name}: lost, doubled or out of order: {told}")


async def _tap(person: SimUser, idle: deque[SimUser], waits: Waits) -> None:
    """The next step of a round through the menu: start, a shelf, a model, its form, words for it."""
    loop = asyncio.get_running_loop()
    changed, seen_at = person.chat.changed(), loop.create_future()
    changed.add_done_callback(lambda _: seen_at.set_result(loop.time()))
    began = loop.time()
    press = await _act(person)
    async with asyncio.timeout(ANSWER_S):
        waits.seen.append(await seen_at - began)
        if press is not None:
            waits.pressed.append((await press.answered(ANSWER_S)).latency_s)
    idle.append(person)


async def _act(person: SimUser) -> Press | None:
    match len(person.actions) % 5:
        case 0:
            await person.sends("/start")
        case 1:
            return await _press(person, "k1:")
        case 2:
            return await _press(person, "m1:")
        case 3:
            return await _press(person, *_SAFE)
        case _:
            await person.sends("a cat on a tram")
    return None


async def _press(person: SimUser, *prefixes: str) -> Press:
    shown = person.last_message
    return await person.presses_data(_button(shown, prefixes), message=shown)


def _button(shown: ChatMessage, prefixes: tuple[str, ...]) -> str:
    """The first button of such a kind."""
    found = (str(each.get("callback_data", "")) for row in shown.keyboard for each in row)
    return next(data for data in found if data.startswith(prefixes))


def _last_event(person: SimUser) -> int:
    return person.chat.events[-1].number if person.chat.events else 0
