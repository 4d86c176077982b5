"""A dozen people. Some only chat, in bursts; the others buy pictures, edits, video and audio by the buttons they see.

Every message carries a number of its own, so that its answer can be counted. People have patience: how long something
took is for the audit to judge, not for them.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from kiebot.simulators.media import make_jpeg
from kiebot.simulators.telegram import TelegramSimulator
from kiebot.simulators.telegram.messages import ChatMessage, MessageState
from kiebot.simulators.users import SimUser

Tell = Callable[[str], None]

_LOOK_UP_S = 2.0
_MOST_PURCHASES = 3


@dataclass(frozen=True, slots=True)
class Words:
    """What the buttons say in one language."""

    example: str
    create: str
    again: str
    shelves: Mapping[str, str]


WORDS = {
    "en": Words(
        "Show me an example",
        "Create ·",
        "Make another",
        {"image": "Pictures", "edit": "Edit pictures", "video": "Video from text", "audio": "Music and speech"},
    ),
    "ru": Words(
        "Показать пример",
        "Создать ·",
        "Сделать ещё",
        {"image": "Картинки", "edit": "Правка картинок", "video": "Видео по тексту", "audio": "Музыка и речь"},
    ),
}

_TALK = {
    "en": ("a lighthouse in the fog", "a fox reading a map", "an old tram at night", "rain on a tin roof"),
    "ru": ("маяк в тумане", "лиса читает карту", "старый трамвай ночью", "дождь по крыше"),
}


@dataclass(frozen=True, slots=True)
class Taste:
    """What somebody buys: a shelf and a model on it; `sends_photo` first, where the model edits one."""

    shelf: str
    model: str
    sends_photo: bool = False
    is_impatient: bool = False  # presses Create twice


CHAT_ONLY: Taste | None = None
TASTES: tuple[Taste | None, ...] = (
    Taste("image", "Z-Image"),
    Taste("image", "Nano Banana 2 Lite", is_impatient=True),
    Taste("image", "GPT Image 2"),
    Taste("edit", "Nano Banana Edit", sends_photo=True),
    Taste("video", "Grok Imagine Video"),
    Taste("video", "Grok Imagine Video", is_impatient=True),
    Taste("audio", "ElevenLabs Turbo"),
    Taste("audio", "Suno Music"),
    CHAT_ONLY,
    CHAT_ONLY,
    CHAT_ONLY,
    CHAT_ONLY,
)
_NAMES = ("Anna", "Boris", "Clara", "Daria", "Emil", "Fatima", "Gleb", "Hugo", "Ines", "Jakob", "Kira", "Leon")


@dataclass(slots=True)
class Spoken:
    """A numbered message and the chat's events before it."""

    mark: str
    at: float


@dataclass(slots=True)
class Person:
    """One scripted person. `pressed`: Create, on forms that had not been bought before."""

    user: SimUser
    name: str
    language: str
    taste: Taste | None
    rng: random.Random
    tell: Tell
    spoken: list[Spoken] = field(default_factory=list)
    pressed: int = 0
    has_form: bool = False
    trouble: str = ""
    _count: int = 0

    @property
    def words(self) -> Words:
        return WORDS[self.language]

    async def lives(self) -> None:
        """Until cancelled, or until they have had enough."""
        try:
            await asyncio.sleep(self.rng.uniform(0.0, 2.0))
            await self.user.sends("/start")
            await self._hears(lambda state: _shows(state, self.words.example))
            await (self._chats() if self.taste is None else self._buys(self.taste))
        except LookupError as error:
            self.trouble = f"{self.name} could not go on: {error}"
            self.tell(self.trouble)

    async def provokes(self) -> None:
        """Something to handle, now."""
        await self.says(is_marked=self.has_form)

    async def says(self, *, is_marked: bool = True) -> str:
        """One numbered message. Its answer is counted only where the answer repeats it: when a form is open."""
        self._count += 1
        mark = f"({self.name} {self._count})"
        action = await self.user.sends(f"{self.rng.choice(_TALK[self.language])} {mark}")
        if is_marked:
            self.spoken.append(Spoken(mark, action.at))
        return mark

    async def _chats(self) -> None:
        """Bursts, so that messages arrive while the one before is being handled."""
        await self.user.presses(self.words.example)
        await self._hears(lambda state: _shows(state, self.words.create))
        self.has_form = True
        while True:
            for _ in range(self.rng.randint(2, 3)):
                mark = await self.says()
                await asyncio.sleep(self.rng.choice((0.0, 0.005, 0.01, 0.02, 0.05, 0.3)))
            await self._hears(lambda state, last=mark: state.says(last))  # type: ignore[misc]  # bound at once
            await asyncio.sleep(self.rng.uniform(2.5, 4.0))

    async def _buys(self, taste: Taste) -> None:
        form = await self._finds(taste)
        for _ in range(_MOST_PURCHASES):
            await self._creates(form, taste)
            await self._hears(lambda state: _shows(state, self.words.again))
            await asyncio.sleep(self.rng.uniform(0.5, 3.0))
            form = await self._describes(taste)

    async def _finds(self, taste: Taste) -> ChatMessage:
        """From the first words through the shelves to a form that is ready."""
        shelf = self.words.shelves[taste.shelf]
        if taste.sends_photo:
            await self.user.sends_photo(make_jpeg(self.user.user_id), "make it look like winter")
        else:
            await self.says(is_marked=False)
        await self._hears(lambda state: _shows(state, shelf) and not _shows(state, self.words.example))
        await self.user.presses(shelf)
        await self._hears(lambda state: _shows(state, taste.model))
        await self.user.presses(taste.model)
        return await self._hears(lambda state: _shows(state, self.words.create))

    async def _describes(self, taste: Taste) -> ChatMessage:
        """The next one with the same model: words, and a new photo where it needs one."""
        if taste.sends_photo:
            await self.user.sends_photo(make_jpeg(self.rng.randrange(1 << 16)), "now as an oil painting")
            return await self._hears(lambda state: _shows(state, self.words.create))
        mark = await self.says()
        return await self._hears(lambda state: _shows(state, self.words.create) and state.says(mark))

    async def _creates(self, form: ChatMessage, taste: Taste) -> None:
        press = await self.user.presses(self.words.create)
        self.pressed += 1
        if taste.is_impatient and press is not None:
            await asyncio.sleep(self.rng.uniform(0.0, 0.1))
            await self.user.presses_data(press.data, message=form)

    async def _hears(self, wanted: Callable[[MessageState], bool]) -> ChatMessage:
        while True:
            try:
                return await self.user.hears(wanted, timeout=_LOOK_UP_S)
            except TimeoutError:
                continue


def invite(simulator: TelegramSimulator, rng: random.Random, tell: Tell) -> list[Person]:
    """The dozen, half of them English, half Russian."""
    languages = ["en", "ru"] * (len(TASTES) // 2)
    rng.shuffle(languages)
    people = []
    for number, (name, taste, language) in enumerate(zip(_NAMES, TASTES, languages, strict=True)):
        user = simulator.user(700_000_001 + number, name, language)
        people.append(Person(user, name, language, taste, random.Random(rng.random()), tell))
    return people


def _shows(state: MessageState, label: str) -> bool:
    return any(label.casefold() in button.casefold() for button in state.buttons)
