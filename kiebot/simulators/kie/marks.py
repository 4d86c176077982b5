"""Magic marks in a prompt, such as `[[sim:fail=content policy]]`: scenarios for clients that see only the API."""

import re
from dataclasses import dataclass
from typing import Any, get_args

from kiebot.simulators.kie.switches import CallbackMode, LoseVariant, Profile, ResultMode

_MARK = re.compile(r"\[\[sim:([a-z_]+)(?:=([^\]]*))?\]\]")


@dataclass(slots=True)
class Marks:
    """What the marks of one input ask for.

    fail=TEXT or fail=CLASS, profile=A..J, lose=a..e, urls=N, empty, slow=FACTOR (runs that many times as long),
    seconds=S (runs exactly that long), code=NNN (refused at create), gap=S, result=MODE, dead_result, callback=MODE.
    Unknown names and impossible values are ignored, as the service ignores unknown inputs.
    """

    fail: str | None = None
    profile: Profile | None = None
    lose: LoseVariant | None = None
    urls: int | None = None
    empty: bool = False
    slow: float = 1.0
    seconds: float | None = None
    code: int | None = None
    gap: float | None = None
    result: ResultMode | None = None
    callback: tuple[CallbackMode, ...] = ()


def read_marks(text: str) -> Marks:
    """The marks found anywhere in `text`; of a repeated one the last counts, except `callback`, which adds up."""
    marks = Marks()
    if "[[sim:" in text:
        for name, value in _MARK.findall(text):
            _apply(marks, name, value.strip())
    return marks


def without_marks(text: str) -> str:
    """`text` as a person meant it."""
    return _MARK.sub("", text).strip()


def texts_of(value: Any) -> list[str]:
    """Every string inside a JSON value, in order."""
    if isinstance(value, str):
        return [value]
    if isinstance(value, dict):
        return [text for each in value.values() for text in texts_of(each)]
    if isinstance(value, list):
        return [text for each in value for text in texts_of(each)]
    return []


def _apply(marks: Marks, name: str, value: str) -> None:
    match name:
        case "fail":
            marks.fail = value or "server"
        case "profile":
            marks.profile = next((each for each in get_args(Profile) if each == value.upper()), None)
        case "lose":
            marks.lose = next((each for each in get_args(LoseVariant) if each == (value or "a")), None)
        case "empty":
            marks.empty = True
        case "urls":
            marks.urls = int(value) if value.isdecimal() else None
        case "code":
            marks.code = int(value) if value.isdecimal() else None
        case "slow" | "seconds" | "gap":
            _apply_number(marks, name, value)
        case "dead_result":
            marks.result = "dead"
        case "result":
            marks.result = next((each for each in get_args(ResultMode) if each == value), None)
        case "callback":
            marks.callback += tuple(each for each in get_args(CallbackMode) if each == value)


def _apply_number(marks: Marks, name: str, value: str) -> None:
    if re.fullmatch(r"\d+(\.\d+)?", value):
        setattr(marks, name, float(value))
