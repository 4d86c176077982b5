"""What a form remembers, and what its buttons say: both small, versioned and plain data; pure.

The state is one row of drafts. A button carries an Action of at most MAX_ACTION_BYTES, naming model, field and choice
by short keys, so a button of an old screen is either still meant as it was or recognised as stale.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

import msgspec

from kiebot.generation.checks import Problem
from kiebot.generation.fields import InputField
from kiebot.generation.product import Model, is_active

ACTION_VERSION = "f1"
MAX_ACTION_BYTES = 40


class View(StrEnum):
    MAIN = "main"
    MORE = "more"  # the advanced fields
    FIELD = "field"  # one field, being asked


class FormState(msgspec.Struct, frozen=True, omit_defaults=True):
    """A draft. `inputs` hold only what the user chose; media as references until they are uploaded."""

    model_slug: str
    inputs: dict[str, Any] = {}
    view: View = View.MAIN
    field: str = ""
    page: int = 0

    def to_row(self) -> dict[str, Any]:
        """Plain JSON data for the drafts table."""
        row: dict[str, Any] = msgspec.to_builtins(self)
        return row


def state_from_row(row: Mapping[str, Any]) -> FormState | None:
    """The draft in a row; None when the row is of no shape this version reads."""
    try:
        return msgspec.convert(dict(row), FormState)
    except msgspec.ValidationError:
        return None


def opened(model: Model, state: FormState) -> InputField | None:
    """The field the state has open, if the model still has it and it counts."""
    if state.view is not View.FIELD:
        return None
    found = next((each for each in model.inputs if each.name == state.field and not each.hidden), None)
    return found if found is not None and is_active(model, found, state.inputs) else None


@dataclass(frozen=True, slots=True)
class MediaInput:
    """A file a user sent. `kind`: image, video, audio or document; seconds and size as far as Telegram tells them."""

    file_id: str
    kind: str
    size_bytes: int | None = None
    mime: str | None = None
    seconds: float | None = None
    width: int | None = None
    height: int | None = None
    file_name: str | None = None

    def reference(self) -> dict[str, Any]:
        """How the draft keeps it."""
        facts: dict[str, Any] = {"seconds": self.seconds, "size": self.size_bytes, "mime": self.mime}
        facts |= {"width": self.width, "height": self.height, "file_name": self.file_name}
        known = {name: value for name, value in facts.items() if value is not None}
        return {"file_id": self.file_id, "kind": self.kind, **known}


class Verb(StrEnum):
    SET = "s"  # field := choice
    EDIT = "e"  # open a field, at a page
    REMOVE = "r"  # take item `number` out of a list
    CLEAR = "c"  # back to the default
    MORE = "m"
    HOME = "h"
    CONFIRM = "g"
    LEAVE = "l"  # back to the models
    CANCEL = "x"


@dataclass(frozen=True, slots=True)
class Action:
    """What one button does. `field` and `choice` are short keys, `number` a page or the place of an item."""

    verb: Verb
    model: str
    field: str = ""
    choice: str = ""
    number: int = 0


_VERBS = frozenset(verb.value for verb in Verb)
ON, OFF = "on", "off"  # the choices of a flag


def encode(action: Action) -> str:
    """The button's data, at most MAX_ACTION_BYTES of ASCII."""
    parts = (ACTION_VERSION, action.verb.value, action.model, action.field, action.choice, str(action.number or ""))
    return ":".join(parts).rstrip(":")


def decode(data: str) -> Action | None:
    """The action in a button's data; None for another version, or anything a stranger may have put there."""
    parts = data.split(":")
    if len(data) > MAX_ACTION_BYTES or not 3 <= len(parts) <= 6 or parts[0] != ACTION_VERSION:
        return None
    verb, model, key, choice, number = (*parts[1:], *[""] * (6 - len(parts)))
    if verb not in _VERBS or not data.isascii() or not (number.isdigit() or not number) or len(number) > 4:
        return None
    return Action(Verb(verb), model, key, choice, int(number or 0))


class Event(StrEnum):
    REDRAW = "redraw"
    CONFIRM = "confirm"  # ready: take the price and accept
    LEAVE = "leave"
    CANCEL = "cancel"
    STALE = "stale"  # the button belongs to another screen: redraw politely


@dataclass(frozen=True, slots=True)
class Step:
    """What an answer led to: the next state, what the caller does, and why something was not taken."""

    state: FormState
    event: Event = Event.REDRAW
    problems: tuple[Problem, ...] = field(default=())
