"""A person who knows what they want: opens a model by its link, answers what the form asks, and presses Create."""

from __future__ import annotations

import asyncio
import itertools

from kiebot.generation.catalog import model_by_id
from kiebot.generation.fields import FieldKind, InputField
from kiebot.generation.product import Model
from kiebot.simulators.media import MediaSpec, make_media
from kiebot.simulators.telegram.messages import ChatMessage, Readable
from kiebot.simulators.users import Payment, SimUser

CHEAP = "z-image"
PROMPT = "a ginger cat rides a tram through the rain"
CREATE = "✨ Create"
PATIENCE_S = 30.0
SECONDS = 5
_seeds = itertools.count(1)


def model(model_id: str = CHEAP) -> Model:
    found = model_by_id(model_id)
    assert found is not None, model_id
    return found


def can_create(state: Readable) -> bool:
    return any(label.startswith(CREATE) for label in state.buttons)


async def opens(anna: SimUser, wanted: Model) -> ChatMessage:
    """By the deep link; the form's screen."""
    await anna.sends(f"/start m_{wanted.slug}")
    return await anna.hears(wanted.title, timeout=PATIENCE_S)


async def creates(anna: SimUser, wanted: Model | None = None, prompt: str = PROMPT) -> None:
    """A purchase of a model that needs a prompt only, up to the press of Create."""
    await opens(anna, wanted or model())
    await anna.sends(prompt)
    await anna.hears(can_create, timeout=PATIENCE_S)
    await anna.presses(CREATE)


async def tops_up(anna: SimUser, credits: int) -> Payment:
    """Buys credits for Stars, at a Star each, up to the receipt. Raises: LookupError, when the bot said no."""
    payment = await anna.pays(await asks_for_credits(anna, credits))
    if not payment.is_paid:
        raise LookupError(payment.error or "nobody answered in time")
    await anna.hears(f"⭐ {credits} paid", timeout=PATIENCE_S, ever=True)
    return payment


async def asks_for_credits(anna: SimUser, credits: int) -> ChatMessage:
    """The invoice, not paid yet."""
    await anna.sends("/topup")
    await anna.hears("How many credits?", timeout=PATIENCE_S)
    await anna.presses(f"{credits} credits · ⭐ {credits}")
    return await anna.hears(lambda state: state.invoice is not None, timeout=PATIENCE_S)


async def gets(anna: SimUser, wanted: str, timeout: float = PATIENCE_S) -> ChatMessage:
    """The outcome: a message with this text, ever."""
    return await anna.hears(wanted, timeout=timeout, ever=True)


async def gets_media(anna: SimUser, timeout: float = PATIENCE_S) -> ChatMessage:
    return await anna.hears(lambda state: state.media_kind is not None, timeout=timeout, ever=True)


async def answers(anna: SimUser, asked: InputField) -> None:
    """One message, the least that fits a field: a small real file, or words."""
    match asked.kind:
        case FieldKind.MEDIA | FieldKind.MEDIA_LIST:
            await sends_file(anna, asked.media or "image")
        case FieldKind.DIALOGUE:
            await anna.sends("Hello there!\nAnd good-bye.")
        case FieldKind.SHOTS:
            await anna.sends("3: a cat wakes up\n2: it yawns")
        case FieldKind.CHOICE:
            await anna.sends(asked.choices[0].label)
        case FieldKind.INTEGER | FieldKind.NUMBER:
            await anna.sends(str(int(asked.minimum or 1)))
        case _:
            await anna.sends(PROMPT)


async def sends_file(anna: SimUser, kind: str) -> None:
    """A small real file, unlike anybody else's."""
    seed = next(_seeds)
    match kind:
        case "video":
            await anna.sends_video(await _made(MediaSpec("mp4", seed, seconds=SECONDS, side=640)), seconds=SECONDS)
        case "audio":
            await anna.sends_audio(await _made(MediaSpec("mp3", seed, seconds=SECONDS)), seconds=SECONDS)
        case _:
            await anna.sends_photo(await _made(MediaSpec("jpeg", seed, side=512)))


async def _made(spec: MediaSpec) -> bytes:
    return await asyncio.to_thread(make_media, spec)
