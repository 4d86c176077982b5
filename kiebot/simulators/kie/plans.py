"""A task's fate, drawn when it is created: how long, through which states, to which end."""

import math
import random
import zlib
from dataclasses import dataclass
from typing import Any

from kiebot.simulators.kie.catalogue import MUSIC_MODEL, Model
from kiebot.simulators.kie.failures import FAILURES, Failure, failure_named
from kiebot.simulators.kie.marks import Marks, texts_of, without_marks
from kiebot.simulators.kie.prices import pictures_asked
from kiebot.simulators.kie.switches import CallbackMode, ModelSwitches, Profile, ResultMode

MEDIAN_SECONDS = {
    "fast_image": 10.0,
    "image": 50.0,
    "slow_image": 110.0,
    "fast_video": 75.0,
    "video": 190.0,
    "slow_video": 700.0,
    "veo": 180.0,
    "speech": 20.0,
    "music": 80.0,
}
SIGMA = 0.35
TAIL_SHARE, TAIL_FACTOR = 0.02, 4.0
GIVES_UP_AFTER_S = 660.0

_FAST_IMAGE = ("nano-banana-2-lite", "grok-imagine/text-to-image", "z-image", "google/imagen4-fast", "recraft/")
_STRAIGHT_TO_WORK = ("kling-3.0/video", "gpt-image-2-text-to-image", "seedream/5-lite-")
_URLS = {"grok-imagine/text-to-image": 6, "grok-imagine/image-to-image": 2, MUSIC_MODEL: 2}


@dataclass(frozen=True, slots=True)
class Plan:
    """What will happen to a task. Times are seconds after its creation; `ends_at_s` is infinite for a stuck one."""

    steps: tuple[tuple[float, str], ...]
    ends_at_s: float
    failure: Failure | None
    urls: int
    empty_result: str | None
    gap_s: float
    query_code: int | None
    result_mode: ResultMode
    callback_modes: tuple[CallbackMode, ...]

    def word_at(self, age_s: float) -> str:
        """The state a running task shows at that age."""
        return next(word for at, word in reversed(self.steps) if at <= max(age_s, 0.0))


def duration_class(model: Model) -> str:
    """Which of the measured duration classes a model belongs to."""
    if model.id == "veo-3-1":
        return "veo"
    if model.output == "audio":
        return "music" if model.id == MUSIC_MODEL else "speech"
    if model.output == "video":
        return _video_class(model.id)
    if model.id.startswith(_FAST_IMAGE):
        return "fast_image"
    return "slow_image" if model.id == "seedream/5-lite-image-to-image" else "image"


class Planner:
    """Draws plans from one seeded source. Moderation depends on the prompt alone, never on luck."""

    def __init__(self, rng: random.Random, seed: int) -> None:
        self._rng, self._seed = rng, seed

    def plan(
        self, model: Model, full: dict[str, Any], marks: Marks, own: ModelSwitches, bound_to_fail: Failure | None
    ) -> Plan:
        """The fate of one task. `bound_to_fail` is what the inputs themselves will bring about."""
        profile = marks.profile or own.profile or _usual_profile(model.id)
        failure = bound_to_fail or self._failure(profile, full, marks, own)
        duration = self._duration(model, marks, own, profile, failure)
        empty = own.empty_form if profile == "H" or marks.empty else None
        gap = marks.gap if marks.gap is not None else self._rng.uniform(*own.gap_s) * own.duration_scale
        return Plan(
            steps=_steps(profile, duration),
            ends_at_s=math.inf if profile == "E" else duration,
            failure=failure,
            urls=marks.urls or own.urls or (3 if profile == "I" else _usual_urls(model, full)),
            empty_result=empty,
            gap_s=gap,
            query_code=501 if profile == "J" else None,
            result_mode=marks.result or own.result_mode,
            callback_modes=marks.callback or own.callback_modes,
        )

    def _failure(self, profile: Profile, full: dict[str, Any], marks: Marks, own: ModelSwitches) -> Failure | None:
        if named := marks.fail or own.failure:
            return failure_named(named)
        if profile == "F":
            return self._moderation(full)
        if profile == "G":
            return FAILURES["timeout"][0]
        if own.moderation_rate and self._verdict(full) < own.moderation_rate:
            return self._moderation(full)
        if profile == "J" or (own.failure_rate and self._rng.random() < own.failure_rate):
            return self._rng.choice(FAILURES["server"] + FAILURES["timeout"] + FAILURES["capacity"])
        return None

    def _moderation(self, full: dict[str, Any]) -> Failure:
        choices = FAILURES["moderation_prompt"]
        return choices[self._digest(full) % len(choices)]

    def _verdict(self, full: dict[str, Any]) -> float:
        return self._digest(full) / 2**32

    def _digest(self, full: dict[str, Any]) -> int:
        words = [text for name in ("prompt", "text", "dialogue") for text in texts_of(full.get(name))]
        return zlib.crc32(without_marks("\n".join(words)).encode(), self._seed & 0xFFFFFFFF)

    def _duration(
        self, model: Model, marks: Marks, own: ModelSwitches, profile: Profile, failure: Failure | None
    ) -> float:
        if marks.seconds is not None or own.duration_s is not None:
            return marks.seconds if marks.seconds is not None else own.duration_s or 0.0
        if profile == "G":
            return (GIVES_UP_AFTER_S + self._rng.uniform(0, 240)) * own.duration_scale * marks.slow
        whole = self._rng.lognormvariate(math.log(MEDIAN_SECONDS[duration_class(model)]), SIGMA)
        if self._rng.random() < TAIL_SHARE:
            whole *= TAIL_FACTOR
        if failure is not None:
            early = profile == "F" or failure not in FAILURES["server"] + FAILURES["timeout"] + FAILURES["capacity"]
            whole = self._rng.uniform(2, 6) if early else whole * self._rng.uniform(0.1, 1.0)
        return whole * own.duration_scale * marks.slow


def _video_class(model_id: str) -> str:
    if model_id.startswith(("kling-3.0-omni", "wan/2-7-videoedit", "topaz/")):
        return "slow_video"
    return "fast_video" if model_id.startswith(("wan/2-7-r2v", "happyhorse", "wan/2-2-")) else "video"


def _usual_profile(model_id: str) -> Profile:
    return "B" if model_id.startswith(_STRAIGHT_TO_WORK) else "A"


def _usual_urls(model: Model, full: dict[str, Any]) -> int:
    return _URLS.get(model.id) or pictures_asked(model, full) or 1


def _steps(profile: Profile, duration: float) -> tuple[tuple[float, str], ...]:
    match profile:
        case "B":
            return ((0.0, "generating"),)
        case "C":
            return ((0.0, "waiting"), (duration * 0.2, "queuing"), (duration * 0.4, "generating"))
        case "D":
            return ((0.0, "waiting"), (duration * 0.3, "post_processing"), (duration * 0.8, "generating"))
        case _:
            return ((0.0, "waiting"),)
