"""People who buy: they open a model by its link, write a prompt, and press Create on the form that repeats it."""

from __future__ import annotations

import asyncio
import contextlib
import random
import re
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from kiebot.simulators.media import make_png
from kiebot.simulators.telegram.messages import MessageState, Readable
from kiebot.simulators.users import SimUser
from tests.scenarios.buying import CREATE, can_create, model, opens
from tests.scenarios.world import World
from tests.soak.generations.profiles import Profile, deal

FIRST_ID = 400_001
EDIT = "google/nano-banana-edit"  # of a photo, which is uploaded first
MODELS = {
    "z-image": 6,
    "nano-banana-2-lite": 6,
    EDIT: 2,
    "elevenlabs/text-to-speech-turbo-2-5": 1,
    "grok-imagine/text-to-video": 1,
}
IMPATIENT = 0.1  # so many press Create twice
PATIENCE_S = 90.0
PRESS_AGAIN_S = 3.0
TRY_LATER = "Nothing was charged; try later"  # of a model that rests
OLD_SCREEN = "That screen is old"
_NUMBER = re.compile(r"No\. (\d+)")
_THINGS = ("a lighthouse in the fog", "a fox reading a map", "an old tram at night", "rain on a tin roof")


@dataclass(slots=True)
class Order:
    """What somebody wants, when (seconds after the start), and whether they pressed Create for it, at which price."""

    serial: int
    profile: Profile
    prompt: str
    at_s: float
    is_impatient: bool = False
    price: str = ""
    pressed_at: float | None = None


@dataclass(slots=True)
class Buyer:
    """One person, one model, some orders in a row."""

    user: SimUser
    model_id: str
    orders: list[Order] = field(default_factory=list)
    trouble: str = ""

    async def lives(self, began: float) -> None:
        """Through all orders. `began`: the monotonic instant from which their times count."""
        try:
            await _sleep_until(began + self.orders[0].at_s)
            await opens(self.user, model(self.model_id))
            for order in self.orders:
                await _sleep_until(began + order.at_s)
                await self._buys(order)
        except (TimeoutError, LookupError) as error:
            self.trouble = f"{self.user.user_id} could not go on: {error}"

    async def _buys(self, order: Order) -> None:
        """One purchase. A new number in the chat says that it was made; a screen that says why not is pressed again."""
        if self.model_id == EDIT:
            await self.user.sends_photo(make_png(seed=order.serial), order.prompt)
        else:
            await self.user.sends(order.prompt)
        form = await self.user.hears(_form_of(order), timeout=PATIENCE_S)
        order.price = next(label for label in form.buttons if label.startswith(CREATE)).removeprefix(f"{CREATE} · ")
        order.pressed_at = time.time()
        known = self._last_number()
        press = await self.user.presses(CREATE)
        if order.is_impatient and press is not None:
            await self.user.presses_data(press.data, message=form)
        give_up = time.monotonic() + PATIENCE_S
        while not await self._hears_number(known):
            if time.monotonic() > give_up:
                raise TimeoutError(f"nothing came of Create for ({order.serial}); {self.user.sight()}")
            if any(self._screen_says(words) for words in (TRY_LATER, OLD_SCREEN)):
                await self.user.presses(CREATE)

    def _screen_says(self, words: str) -> bool:
        """Whether the newest screen with Create on it says so."""
        screen = next((each for each in reversed(self.user.messages) if can_create(each)), None)
        return screen is not None and screen.says(words)

    async def _hears_number(self, known: int) -> bool:
        with contextlib.suppress(TimeoutError):
            await self.user.hears(lambda state: _number_in(state) > known, timeout=PRESS_AGAIN_S)
        return self._last_number() > known

    def _last_number(self) -> int:
        return max((_number_in(event.state) for event in self.user.chat.events), default=0)


def _number_in(state: Readable) -> int:
    found = _NUMBER.search(state.text or state.caption or "")
    return int(found[1]) if found else 0


def _form_of(order: Order) -> Callable[[MessageState], bool]:
    return lambda state: can_create(state) and state.says(f"({order.serial})")


async def _sleep_until(instant: float) -> None:
    await asyncio.sleep(max(0.0, instant - time.monotonic()))


def gather(world: World, rng: random.Random, *, people: int, works: int, within_s: float, pace: float) -> list[Buyer]:
    """People with their orders, spread evenly over that time."""
    buyers = [
        Buyer(world.tg.user(FIRST_ID + number, f"P{number}", "en"), _model(rng)) for number in range(min(people, works))
    ]
    profiles = deal(rng, works)
    for serial, profile in enumerate(profiles, 1):
        words = f"({serial}) {rng.choice(_THINGS)} {profile.prompt_marks(rng, pace)}".strip()
        at_s = within_s * (serial - 1 + rng.random()) / works
        order = Order(serial, profile, words, at_s, is_impatient=rng.random() < IMPATIENT)
        buyers[serial % len(buyers)].orders.append(order)
    return [buyer for buyer in buyers if buyer.orders]


def _model(rng: random.Random) -> str:
    return rng.choices([*MODELS], [*MODELS.values()])[0]


async def live(buyers: Sequence[Buyer]) -> None:
    """Until everybody has pressed Create for everything they want, or could not go on."""
    began = time.monotonic()
    await asyncio.gather(*(buyer.lives(began) for buyer in buyers))
