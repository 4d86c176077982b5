"""From what a person types to what a field holds, and back to how it reads; pure.

A dialogue is lines "Voice: words" (a line without a voice goes on with the last one), shots are lines
"seconds: scene", subjects are lines "name: description" whose pictures follow.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from kiebot.generation.checks import Problem
from kiebot.generation.fields import Choice, FieldKind, InputField

_SPEAKER = re.compile(r"^([^\W\d_][^:\n]{0,39}?)\s*:\s+(.*)$")
_SHOT = re.compile(r"^(\d{1,3})\s*(?:s|sec|с|сек)?\.?\s*[:\-–—.)]?\s+(.+)$", re.IGNORECASE)
_SUBJECT = re.compile(r"^@?([\w-]{1,30})\s*[:\-–—]\s*(.+)$")
_MAX_DIGITS = 18
_VOICES_NAMED = 12


def parse(field: InputField, text: str, current: Any = None) -> Any | Problem:
    """The field's value for a typed text, or the problem with it. `current`: what a list of subjects holds already."""
    text = text.strip()
    if not text:
        return Problem("missing", (field.name,))
    return _PARSERS[field.kind](field, text, current)


def as_text(field: InputField, value: Any) -> str:
    """A value as the user could have typed it."""
    match field.kind:
        case FieldKind.DIALOGUE:
            return "\n".join(f"{_voice_name(field, line['voice'])}: {line['text']}" for line in value)
        case FieldKind.SHOTS:
            return "\n".join(f"{shot['duration']}: {shot['prompt']}" for shot in value)
        case FieldKind.SUBJECTS:
            return "\n".join(f"@{each['name']}: {each['description']}" for each in value)
    return str(value)


def _text(field: InputField, text: str, current: Any) -> str | Problem:
    if field.max_length is not None and len(text) > field.max_length:
        return Problem("too_long", (field.name,), field.max_length, {"length": len(text)})
    if field.min_length is not None and len(text) < field.min_length:
        return Problem("too_short", (field.name,), field.min_length)
    return text


def _choice(field: InputField, text: str, current: Any) -> Any | Problem:
    chosen = _choice_named(field.choices, text)
    return chosen.value if chosen else Problem("not_allowed", (field.name,))


def _choice_named(choices: Sequence[Choice], text: str) -> Choice | None:
    wanted = text.strip().casefold()
    names = ((each, {each.label.casefold(), each.label_ru.casefold(), str(each.value).casefold()}) for each in choices)
    return next((each for each, known in names if wanted in known), None)


def _number(field: InputField, text: str, current: Any) -> float | Problem:
    try:
        value = float(text.replace(",", ".")) if len(text) <= _MAX_DIGITS else float("nan")
    except ValueError:
        return Problem("wrong_type", (field.name,))
    if value != value:
        return Problem("wrong_type", (field.name,))
    return _in_range(field, value)


def _integer(field: InputField, text: str, current: Any) -> int | Problem:
    if not re.fullmatch(r"[+-]?\d+", text, re.ASCII) or len(text) > _MAX_DIGITS:
        return Problem("wrong_type", (field.name,))
    value = int(text)
    if field.step and value % field.step:
        return Problem("not_a_step", (field.name,), field.step)
    found = _in_range(field, value)
    return found if isinstance(found, Problem) else value


def _in_range(field: InputField, value: float) -> float | Problem:
    low, high = field.minimum, field.maximum
    if (low is not None and value < low) or (high is not None and value > high):
        return Problem("out_of_range", (field.name,), high, {"minimum": low, "maximum": high})
    return value


def _dialogue(field: InputField, text: str, current: Any) -> list[dict[str, str]] | Problem:
    voice = field.choices[0]
    lines: list[dict[str, str]] = []
    for line in filter(None, map(str.strip, text.splitlines())):
        said = line
        if match := _SPEAKER.match(line):
            speaker = _choice_named(field.choices, match[1])
            if speaker is None:
                return _unknown_voice(field, match[1])
            voice, said = speaker, match[2].strip()
        lines.append({"text": said, "voice": str(voice.value)})
    return [line for line in lines if line["text"]] or Problem("missing", (field.name,))


def _unknown_voice(field: InputField, name: str) -> Problem:
    known = ", ".join(choice.label for choice in field.choices[:_VOICES_NAMED])
    return Problem("unknown_voice", (field.name,), None, {"name": name, "known": known})


def _voice_name(field: InputField, value: object) -> str:
    choice = field.choice_of(value)
    return choice.label if choice else str(value)


def _shots(field: InputField, text: str, current: Any) -> list[dict[str, Any]] | Problem:
    shots: list[dict[str, Any]] = []
    for line in filter(None, map(str.strip, text.splitlines())):
        match = _SHOT.match(line)
        if match is None:
            return Problem("bad_shot", (field.name,), None, {"line": line[:60]})
        shots.append({"prompt": match[2].strip(), "duration": int(match[1])})
    if field.max_items is not None and len(shots) > field.max_items:
        return Problem("too_many", (field.name,), field.max_items)
    return shots


def _subjects(field: InputField, text: str, current: Any) -> list[dict[str, Any]] | Problem:
    subjects = {each["name"]: each for each in current or ()}
    for line in filter(None, map(str.strip, text.splitlines())):
        match = _SUBJECT.match(line)
        if match is None:
            return Problem("bad_subject", (field.name,), None, {"line": line[:60]})
        pictures = subjects.get(match[1], {}).get("element_input_urls", [])
        subjects[match[1]] = {"name": match[1], "description": match[2].strip(), "element_input_urls": pictures}
    if field.max_items is not None and len(subjects) > field.max_items:
        return Problem("too_many", (field.name,), field.max_items)
    return list(subjects.values())


_PARSERS: Mapping[FieldKind, Callable[[InputField, str, Any], Any]] = {
    FieldKind.PROMPT: _text,
    FieldKind.TEXT: _text,
    FieldKind.CHOICE: _choice,
    FieldKind.INTEGER: _integer,
    FieldKind.NUMBER: _number,
    FieldKind.DIALOGUE: _dialogue,
    FieldKind.SHOTS: _shots,
    FieldKind.SUBJECTS: _subjects,
}
