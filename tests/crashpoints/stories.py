"""What people do and what happens to them, so that every await of the engine is come by in one story or another."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass
from typing import Any

from kiebot.simulators.media import make_png
from kiebot.simulators.users import SimUser
from tests.scenarios.buying import can_create, model
from tests.scenarios.world import World

QUIET = "SELECT true"
EDIT = "google/nano-banana-edit"
Act = Callable[["Stage"], Coroutine[Any, Any, None]]


@dataclass
class Stage:
    """What an act may touch: the person, the world, and `pump`, which brings what they sent into the inbox."""

    anna: SimUser
    world: World
    pump: Callable[[], Awaitable[None]]


@dataclass(frozen=True)
class Story:
    """One purchase. `marks` go into the prompt and decide the task's fate; `before` sets faults, when all is prepared.

    act: what happens after the press of Create, while the replica works. done: true when the story is over.
    ends: the states in which its generation may end when nobody dies.
    """

    name: str
    marks: str = ""
    model_id: str = "z-image"
    callbacks: bool = False
    before: Callable[[World], None] = lambda world: None
    act: Act | None = None
    done: str = QUIET
    ends: tuple[str, ...] = ("succeeded",)


async def _cancels(stage: Stage) -> None:
    """The account is stopped, so that there is something to take back."""
    await stage.anna.hears(lambda state: any("Take back" in label for label in state.buttons), timeout=10)
    await stage.anna.presses("Take back")
    await stage.pump()


def _kie(endpoint: str, *kinds: str) -> Callable[[World], None]:
    def before(world: World) -> None:
        for kind in kinds:
            world.kie.faults.add(endpoint, kind)  # type: ignore[arg-type]  # one of its names

    return before


def _telegram(*faults: tuple[str, dict[str, Any]]) -> Callable[[World], None]:
    def before(world: World) -> None:
        for method, facts in faults:
            world.tg.faults.answers(method, **facts)

    return before


LATE_RESULT = """
    SELECT EXISTS (
        SELECT 1 FROM outbox WHERE kind = 'late_result'
            AND generation_id = (SELECT id FROM generations ORDER BY number DESC LIMIT 1)
    )
"""
_GONE = {"status": 403, "description": "Forbidden: bot was blocked by the user"}
_NO_MEDIA = {"status": 400, "description": "Bad Request: PHOTO_INVALID_DIMENSIONS"}
_SLOW_DOWN = {"status": 429, "retry_after": 1}

STORIES = (
    Story("success"),
    Story("lost answer", "[[sim:lose=a]]", ends=("failed",)),
    Story("lost answer, found by its callback", "[[sim:lose=a]]", callbacks=True),
    Story(
        "lost answer, found too late",
        "[[sim:lose=a]] [[sim:seconds=1.6]]",
        callbacks=True,
        done=LATE_RESULT,
        ends=("failed",),
    ),
    Story("callback of a running task", "[[sim:seconds=0.4]]", callbacks=True),
    Story("failure", "[[sim:fail=server]]", ends=("failed",)),
    Story("moderated", "[[sim:fail=moderation_prompt]]", ends=("failed",)),
    Story("refused at once", "[[sim:code=422]]", ends=("failed",)),
    Story("asked to wait", before=_kie("create", "code_429", "code_455")),
    Story("polls that fail", before=_kie("query", "code_429", "html_502")),
    Story("cancel", act=_cancels, ends=("failed",)),
    Story("upload", model_id=EDIT),
    Story("upload that fails at first", model_id=EDIT, before=_kie("upload", "html_502")),
    Story("uploads the maker could not read", "[[sim:fail=input_fetch]]", model_id=EDIT, ends=("failed",)),
    Story("result not there", "[[sim:result=late]]"),
    Story("result lost", "[[sim:dead_result]]", ends=("failed",)),
    Story("result of the wrong kind", "[[sim:result=html]]", ends=("failed",)),
    Story("album", "[[sim:urls=3]]"),
    Story("result too large", "[[sim:result=oversized]]"),
    Story("file refused, then taken", before=_telegram(("sendPhoto", _NO_MEDIA))),
    Story("file refused twice", before=_telegram(("sendPhoto", _NO_MEDIA), ("sendDocument", _NO_MEDIA))),
    Story("blocked by the user", before=_telegram(("sendPhoto", _GONE))),
    Story(
        "Telegram in trouble",
        before=_telegram(
            ("sendPhoto", _SLOW_DOWN), ("sendPhoto", {"status": 500}), ("editMessageText", {"status": 500}),
            ("editMessageText", {"status": 500}), ("deleteMessage", _SLOW_DOWN)
        ),
    ),
    Story(
        "card gone",
        before=_telegram(("editMessageText", {"status": 400, "description": "Bad Request: message to edit not found"})),
    ),
)  # fmt: skip


async def prepares(stage: Stage, story: Story, prompt: str) -> None:
    """Up to a form that only waits for the press of Create."""
    wanted = model(story.model_id)
    await stage.anna.sends(f"/start m_{wanted.slug}")
    await stage.pump()
    await stage.anna.hears(wanted.title, timeout=10)
    if story.model_id == EDIT:
        await stage.anna.sends_photo(make_png(seed=stage.anna.user_id))
        await stage.pump()
        await stage.anna.hears(
            lambda state: "Create" in str(state.buttons) or "Describe" in str(state.text), timeout=10
        )
    await stage.anna.sends(f"{prompt} {story.marks}")
    await stage.pump()
    await stage.anna.hears(can_create, timeout=10)
