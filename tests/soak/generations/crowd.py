"""People who buy: they open a model by its link, write a prompt, and press Create on the form that repeats it."""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from kiebot.simulators.telegram.messages import ChatMessage, MessageState
from kiebot.simulators.users import SimUser
from tests.scenarios.buying import CREATE, can_create, model, opens
from tests.scenarios.world import World
from tests.soak.generations.profiles import Profile, deal

FIRST_ID = 400_001
MODELS = {
    "z-image": 6,
    "nano-banana-2-lite": 6,
    "elevenlabs/text-to-speech-turbo-2-5": 1,
    "grok-imagine/text-to-video": 1,
}
IMPATIENT = 0.1  # so many press Create twice
PATIENCE_S = 90.0
LOOK_S = 0.2
PRESS_AGAIN_S = 2.0
RESTS = "Nothing was charged; try later"
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
        await self.user.sends(order.prompt)
        form = await self.user.hears(_form_of(order), timeout=PATIENCE_S)
        order.price = next(label for label in form.buttons if label.startswith(CREATE)).removeprefix(f"{CREATE} · ")
        order.pressed_at = time.time()
        press = await self.user.presses(CREATE)
        if order.is_impatient and press is not None:
            await self.user.presses_data(press.data, message=form)
        await self._is_sold(form)

    async def _is_sold(self, form: ChatMessage) -> None:
        """Until the form is a form no more; a model that rests is asked for again, as its screen says."""
        give_up, pressed_at = time.monotonic() + PATIENCE_S, time.monotonic()
        while not form.is_deleted and can_create(form):
            if time.monotonic() > give_up:
                raise TimeoutError(f"nothing came of Create; {self.user.sight()}")
            await asyncio.sleep(LOOK_S)
            if form.says(RESTS) and time.monotonic() - pressed_at > PRESS_AGAIN_S:
                pressed_at = time.monotonic()
                with contextlib.suppress(LookupError):  # it was sold in this very moment
                    await self.user.presses(CREATE)


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
