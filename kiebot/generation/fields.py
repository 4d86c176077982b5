"""One input of a model as a form needs it: kind, limits, choices and titles in both languages; pure.

A property of the provider's JSON schema becomes an InputField once, when the catalogue is loaded. Short keys (four
base32 letters of a hash) name fields and choices in button data, where 64 bytes must carry everything, so that a
reordered schema never makes an old button mean something else.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache
from typing import Any

SMALL_RANGE = 32  # an integer with at most so many values is picked from buttons, not typed
PROMPT_NAMES = ("prompt", "text")
Value = str | int | float | bool


class FieldKind(StrEnum):
    PROMPT = "prompt"  # the text a plain message fills
    TEXT = "text"
    CHOICE = "choice"
    FLAG = "flag"
    INTEGER = "integer"
    NUMBER = "number"
    MEDIA = "media"
    MEDIA_LIST = "media_list"
    DIALOGUE = "dialogue"  # [{text, voice}], typed as lines "Voice: words"
    SHOTS = "shots"  # [{prompt, duration}], typed as lines "seconds: scene"
    SUBJECTS = "subjects"  # [{name, description, element_input_urls}], typed as "name: description", then pictures

    @property
    def is_media(self) -> bool:
        return self in (FieldKind.MEDIA, FieldKind.MEDIA_LIST)

    @property
    def is_typed(self) -> bool:
        """A text message can fill it. Long choices (voices, languages) can be typed as well as picked."""
        return self not in (FieldKind.FLAG, FieldKind.MEDIA, FieldKind.MEDIA_LIST)


@dataclass(frozen=True, slots=True)
class Choice:
    """One allowed value. `explicit` choices are offered only where the operator switched the content filter off."""

    value: Value
    label: str
    label_ru: str
    key: str
    explicit: bool = False

    def label_in(self, language: str) -> str:
        return self.label_ru if language == "ru" else self.label


@dataclass(frozen=True, slots=True)
class InputField:
    """One input. Lengths in characters, `max_bytes` per file, `max_items` None where the provider names no limit.

    `filtered` is what the content filter sends instead of the user's choice (None: no such field). The field counts
    only while `active_when` holds; otherwise it is neither shown nor sent.
    """

    name: str
    key: str
    title: str
    title_ru: str
    hint: str
    kind: FieldKind
    required: bool
    default: Any = None
    choices: tuple[Choice, ...] = ()
    minimum: float | None = None
    maximum: float | None = None
    step: int | None = None
    min_length: int | None = None
    max_length: int | None = None
    media: str | None = None
    min_items: int = 0
    max_items: int | None = None
    max_bytes: int | None = None
    advanced: bool = False
    hidden: bool = False
    filtered: Value | None = None
    active_when: Mapping[str, Any] | None = None

    def title_in(self, language: str) -> str:
        return self.title_ru if language == "ru" else self.title

    def choice_by_key(self, key: str) -> Choice | None:
        return next((choice for choice in self.choices if choice.key == key), None)

    def choice_of(self, value: object) -> Choice | None:
        """The choice with this very value: 5 and "5" differ, because the provider tells them apart."""
        return next((c for c in self.choices if c.value == value and type(c.value) is type(value)), None)


@dataclass(frozen=True, slots=True)
class Labels:
    """Words beside the catalogue: titles by English title, choices by value, languages by code; each [en, ru]."""

    titles: Mapping[str, Sequence[str]]
    choices: Mapping[str, Sequence[str]]
    languages: Mapping[str, Sequence[str]]


@lru_cache(maxsize=4096, typed=True)
def short_key(value: Value, letters: int = 4) -> str:
    """A stable short name for a value: the first base32 letters of its SHA-256, lower case."""
    digest = hashlib.sha256(json.dumps(value, ensure_ascii=False).encode()).digest()
    return base64.b32encode(digest)[:letters].decode().lower()


def field_from_schema(
    name: str,
    schema: Mapping[str, Any],
    *,
    required: bool,
    labels: Labels,
    extra: Mapping[str, Any],
    filters: Mapping[str, Any],
) -> InputField:
    """Build the field of one schema property. `extra`: the model's overlay; `filters`: name -> value when filtered.

    Raises: ValueError, for a shape that no form can fill: a new model of that shape must not be offered half.
    """
    kind = _kind(name, schema)
    title, title_ru = labels.titles.get(schema["title"], (schema["title"], schema["title"]))
    items = schema.get("items", {}) if kind is not FieldKind.SUBJECTS else _pictures_of(schema)
    return InputField(
        name=name,
        key=short_key(name),
        title=title,
        title_ru=title_ru,
        hint=schema.get("description", ""),
        kind=kind,
        required=required,
        default=schema.get("default"),
        choices=_choices(name, _voice_of(schema) if kind is FieldKind.DIALOGUE else schema, labels, extra),
        minimum=schema.get("minimum"),
        maximum=schema.get("maximum"),
        step=schema.get("multipleOf"),
        min_length=schema.get("minLength"),
        max_length=schema.get("maxLength"),
        media=schema.get("x-media") or items.get("x-media"),
        min_items=schema.get("minItems", 0),
        max_items=1 if kind is FieldKind.MEDIA else schema.get("maxItems"),
        max_bytes=schema.get("x-max-bytes") or items.get("x-max-bytes"),
        advanced=schema.get("x-advanced", False),
        hidden=name in extra.get("hidden", ()),
        filtered=filters.get(name),
        active_when=extra.get("active_when", {}).get(name),
    )


def _kind(name: str, schema: Mapping[str, Any]) -> FieldKind:
    match schema["type"]:
        case "array":
            return _array_kind(name, schema)
        case "boolean":
            return FieldKind.FLAG
        case "integer" | "number" | "string" if "enum" in schema:
            return FieldKind.CHOICE
        case "integer" if _is_small_range(schema):
            return FieldKind.CHOICE
        case "integer":
            return FieldKind.INTEGER
        case "number":
            return FieldKind.NUMBER
        case "string" if "x-media" in schema:
            return FieldKind.MEDIA
        case "string":
            return FieldKind.PROMPT if name in PROMPT_NAMES else FieldKind.TEXT
    raise ValueError(f"{name}: no form for type {schema['type']}")


def _array_kind(name: str, schema: Mapping[str, Any]) -> FieldKind:
    if "x-media" in schema:
        return FieldKind.MEDIA_LIST
    names = set(schema["items"].get("properties", ()))
    if names == {"text", "voice"}:
        return FieldKind.DIALOGUE
    if names == {"prompt", "duration"}:
        return FieldKind.SHOTS
    if {"name", "description", "element_input_urls"} <= names:
        return FieldKind.SUBJECTS
    raise ValueError(f"{name}: no form for a list of {sorted(names) or schema['items']}")


def _is_small_range(schema: Mapping[str, Any]) -> bool:
    return "minimum" in schema and "maximum" in schema and schema["maximum"] - schema["minimum"] < SMALL_RANGE


def _voice_of(schema: Mapping[str, Any]) -> Mapping[str, Any]:
    return schema["items"]["properties"]["voice"]  # type: ignore[no-any-return]  # JSON schema


def _pictures_of(schema: Mapping[str, Any]) -> Mapping[str, Any]:
    return schema["items"]["properties"]["element_input_urls"]  # type: ignore[no-any-return]  # JSON schema


def _choices(name: str, schema: Mapping[str, Any], labels: Labels, extra: Mapping[str, Any]) -> tuple[Choice, ...]:
    values: Sequence[Value] = schema.get("enum", ())
    if not values and schema.get("type") == "integer" and _is_small_range(schema):
        values = range(schema["minimum"], schema["maximum"] + 1)
    given = _distinct(schema.get("x-enum-labels", ()))
    explicit = extra.get("explicit", {}).get(name, ())
    own = extra.get("choice_labels", {}).get(name, {})
    chosen = []
    for position, value in enumerate(values):
        pair = (given[position],) * 2 if given else own.get(value) or _label(name, value, labels)
        chosen.append(Choice(value, pair[0], pair[1], short_key(value), value in explicit))
    return tuple(chosen)


def _distinct(names: Sequence[str]) -> list[str]:
    """Several voices share a name: the second "Mark" becomes "Mark 2", so that a typed name means one voice."""
    return [f"{n} {names[:i].count(n) + 1}" if n in names[:i] else n for i, n in enumerate(names)]


def _label(name: str, value: Value, labels: Labels) -> Sequence[str]:
    text = str(value)
    if name == "duration":
        return (f"{text} s", f"{text} с")
    if name == "upscale_factor":
        return (f"×{text}",) * 2
    if name == "language_code":
        return labels.languages[text]
    return labels.choices.get(text, (text, text))
