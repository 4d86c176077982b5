"""What a task costs, worked out from a catalogue row's price rules."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from kiebot.simulators.kie.catalogue import Model
from kiebot.simulators.kie.marks import texts_of

UNKNOWN_SECONDS = 5.0
"""Billed for an input clip whose length nobody can read, such as a foreign URL."""

_SECONDS_CAP = {"infinitalk/from-audio": 15}
_ADDS_REFERENCE_SECONDS = ("bytedance/seedance-2", "wan/3-0-video")
_SOURCES_ON_TOP = {"seedream/5-pro-image-to-image": 500}  # millicredits for every source picture after the first


@dataclass(frozen=True, slots=True)
class InputFacts:
    """What can be learned from an input's files: a clip's length in seconds, a picture's longer edge in pixels."""

    seconds: Callable[[str], float | None]
    longer_edge: Callable[[str], int | None]


def price_of(model: Model, full: dict[str, Any], facts: InputFacts, *, rounds_up: bool = False) -> int:
    """Millicredits for an input that has its defaults filled in.

    The first rule whose conditions all hold gives the unit price, else the base price. Seconds and thousands of
    characters count as they are, or in whole units when `rounds_up`; `times` multiplies by the pictures asked for.
    """
    unit = _unit_price(model, full, facts)
    count = _units(model, full, facts)
    if rounds_up:
        count = Fraction(math.ceil(count))
    times = model.price.get("times")
    pictures = int(full.get(times) or 1) if times else 1
    return math.ceil(unit * count * pictures * 1000) + _extra(model, full)


def pictures_asked(model: Model, full: dict[str, Any]) -> int | None:
    """How many results the input asks for, when the model has such an input."""
    times = model.price.get("times") or ("num_images" if "num_images" in model.schema["properties"] else None)
    return int(full.get(times) or 1) if times else None


def _unit_price(model: Model, full: dict[str, Any], facts: InputFacts) -> Fraction:
    for rule in model.price.get("rules", ()):
        if all(_holds(name, wanted, full, facts) for name, wanted in rule["when"].items()):
            return Fraction(str(rule["credits"]))
    return Fraction(str(model.price["credits"]))


def _holds(name: str, wanted: Any, full: dict[str, Any], facts: InputFacts) -> bool:
    if name == "_has":
        return all(full.get(each) for each in ([wanted] if isinstance(wanted, str) else wanted))
    if name == "_output":
        return bool(_output_size(full, facts) == wanted)
    return bool(full.get(name) == wanted)


def _output_size(full: dict[str, Any], facts: InputFacts) -> str | None:
    edge = facts.longer_edge(str(full.get("image_url")))
    if edge is None:
        return None
    result = edge * int(full.get("upscale_factor") or 1)
    return "<=2K" if result <= 2048 else "4K" if result <= 4096 else "8K"


def _units(model: Model, full: dict[str, Any], facts: InputFacts) -> Fraction:
    match model.price.get("per"):
        case "second":
            return _seconds(model, full, facts)
        case "minute":
            return _seconds(model, full, facts) / 60
        case "1000_chars":
            spoken = [full.get("text"), *(line.get("text") for line in full.get("dialogue") or ())]
            return Fraction(sum(len(text) for text in texts_of(spoken)), 1000)
        case _:
            return Fraction(1)


def _seconds(model: Model, full: dict[str, Any], facts: InputFacts) -> Fraction:
    source = str(model.price.get("seconds_from") or "duration")
    if source.startswith("input:"):
        seconds = _length(full.get(source.removeprefix("input:")), facts)
    elif "/" in source:
        above, below = source.split("/")
        seconds = Fraction(int(full.get(above) or 0), int(full.get(below) or 1))
    else:
        seconds = Fraction(str(full.get(source) or UNKNOWN_SECONDS))
    if model.id.startswith(_ADDS_REFERENCE_SECONDS):
        seconds += _length(full.get("reference_video_urls"), facts)
    return min(seconds, Fraction(_SECONDS_CAP.get(model.id, 100_000)))


def _length(urls: Any, facts: InputFacts) -> Fraction:
    lengths = (facts.seconds(url) for url in texts_of(urls))
    return sum((Fraction(str(round(UNKNOWN_SECONDS if each is None else each, 3))) for each in lengths), Fraction(0))


def _extra(model: Model, full: dict[str, Any]) -> int:
    per_source = _SOURCES_ON_TOP.get(model.id)
    return per_source * max(0, len(full.get("image_urls") or ()) - 1) if per_source else 0
