"""Button presses waiting for their answer."""

import asyncio
from collections import OrderedDict
from dataclasses import dataclass, field

from kiebot.simulators.telegram.answers import refuse
from kiebot.simulators.telegram.request import Handler, Request

MAX_ANSWER_TEXT = 200
_KEPT = 100_000
TOO_OLD = "query is too old and response timeout expired or query ID is invalid"


@dataclass(frozen=True, slots=True)
class CallbackAnswer:
    """What the user sees after a press: a toast, an alert or nothing. `latency_s`: from the press to the answer."""

    text: str
    is_alert: bool
    url: str
    latency_s: float


@dataclass(slots=True, eq=False)
class Press:
    """One press of an inline button. `pressed_at` is monotonic seconds."""

    query_id: str
    user_id: int
    data: str
    pressed_at: float
    update_id: int | None = None
    answers: list[CallbackAnswer] = field(default_factory=list)
    _answered: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def answer(self) -> CallbackAnswer | None:
        return self.answers[0] if self.answers else None

    def take(self, answer: CallbackAnswer) -> None:
        self.answers.append(answer)
        self._answered.set()

    async def answered(self, timeout: float = 10.0) -> CallbackAnswer:
        """The bot's answer. Raises: TimeoutError after `timeout` seconds of the machine's time."""
        async with asyncio.timeout(timeout):
            await self._answered.wait()
        return self.answers[0]


class PressBook:
    """The presses of one bot's users, by query id."""

    def __init__(self) -> None:
        self._presses: OrderedDict[str, Press] = OrderedDict()

    def add(self, press: Press) -> None:
        self._presses[press.query_id] = press
        if len(self._presses) > _KEPT:
            self._presses.popitem(last=False)

    def get(self, query_id: str) -> Press | None:
        return self._presses.get(query_id)


def answer_callback_query(request: Request) -> bool:
    world, arguments = request.bot.world, request.arguments
    press = request.bot.presses.get(arguments.text("callback_query_id"))
    now = world.clock.monotonic()
    if press is None or now - press.pressed_at > world.rules.callback_deadline_s:
        refuse(TOO_OLD)
    if press.answers and world.rules.callback_answers_once:
        refuse(TOO_OLD)
    text = arguments.text("text")
    if len(text) > MAX_ANSWER_TEXT:
        refuse("MESSAGE_TOO_LONG")
    latency_s = now - press.pressed_at
    press.take(CallbackAnswer(text, arguments.boolean("show_alert"), arguments.text("url"), latency_s))
    return True


METHODS: dict[str, Handler] = {"answercallbackquery": answer_callback_query}
