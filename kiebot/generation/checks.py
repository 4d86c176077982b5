"""Is it ready to buy, and what exactly is sent: the provider's schema plus the limits a schema cannot show; pure.

Inputs are what a draft holds: plain values, media as references {"file_id", "kind", "seconds", "size", ...} until the
files are uploaded, then as URLs. Both validate alike; lengths can be judged only on references that carry them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import TYPE_CHECKING, Any

from kiebot.generation.fields import InputField
from kiebot.generation.product import Model, Rule, holds, is_active, value_of

if TYPE_CHECKING:
    from jsonschema.exceptions import ValidationError
    from jsonschema.protocols import Validator

_STAND_IN_URL = "https://media.invalid/file"


@dataclass(frozen=True, slots=True)
class Problem:
    """Why it cannot be sent yet. `code` is a fixed word, `fields` name the inputs, `limit` is the number it breaks.

    Codes: missing, too_long, too_short, out_of_range, not_a_step, not_allowed, wrong_type, too_many, too_few,
    too_large (bytes), wrong_media, combination, excludes, needs, seconds_each, seconds_total, chars_total,
    shots_total, unmeasurable, unknown_voice, bad_shot, bad_subject, no_text, no_media;
    from prices also not_sellable and result_too_large (pixels).
    """

    code: str
    fields: tuple[str, ...] = ()
    limit: float | str | None = None
    facts: Mapping[str, Any] = field(default_factory=dict)


def is_media_ref(value: object) -> bool:
    """Whether a value stands for a user's file that is not uploaded yet."""
    return isinstance(value, Mapping) and "file_id" in value


def validate(model: Model, inputs: Mapping[str, Any], *, content_filter: bool = True) -> list[Problem]:
    """Everything that keeps these inputs from being sent, `missing` first; empty when they are ready."""
    wanted = request_input(model, inputs, content_filter=content_filter)
    problems = [*_absent(model, wanted), *_schema_errors(model, wanted)]
    problems += [Problem("not_allowed", (f.name,)) for f in model.inputs if content_filter and _is_explicit(f, wanted)]
    problems += [problem for rule in model.rules for problem in _broken(model, rule, inputs)]
    unique = {(problem.code, problem.fields): problem for problem in reversed(problems)}.values()
    return sorted(unique, key=lambda problem: (problem.code != "missing", _position(model, problem)))


def request_input(model: Model, inputs: Mapping[str, Any], content_filter: bool = True) -> dict[str, Any]:
    """The `input` object as it goes to the provider: known keys only, its types, the filter as the operator set it.

    Defaults are sent for what is required, what the price depends on, and what the form shows as chosen, so that a
    changed default on the provider's side changes neither price nor result. Untouched advanced fields stay out.
    """
    sent: dict[str, Any] = {}
    for each in model.inputs:
        value = _sent_value(model, each, inputs, content_filter)
        if value is not None:
            sent[each.name] = value
    return sent


def _sent_value(model: Model, field: InputField, inputs: Mapping[str, Any], content_filter: bool) -> Any:
    if content_filter and field.filtered is not None:
        return field.filtered
    if not is_active(model, field, inputs):
        return field.default if field.required else None
    given = None if field.hidden else inputs.get(field.name)
    if given is not None and given not in ("", [], ()):
        return given
    shown = field.required or not (field.advanced or field.hidden) or field.name in _priced_fields(model)
    return field.default if shown else None


@cache
def _priced_fields(model: Model) -> frozenset[str]:
    price = model.price
    names = {name for rule in price.rules for name in rule.when}
    names |= {price.times or "", (price.megapixels or {}).get("field", "")}
    return frozenset(names | set((price.seconds_from or "").split("/")))


@cache
def _validator(model: Model) -> Validator:
    from jsonschema import Draft202012Validator  # here, because importing it costs more than the whole catalogue

    return Draft202012Validator(model.schema)


def _with_stand_ins(value: Any) -> Any:
    if is_media_ref(value):
        return _STAND_IN_URL
    if isinstance(value, Mapping):
        return {name: _with_stand_ins(each) for name, each in value.items()}
    return [_with_stand_ins(each) for each in value] if isinstance(value, list | tuple) else value


def _is_explicit(field: InputField, wanted: Mapping[str, Any]) -> bool:
    choice = field.choice_of(wanted.get(field.name))
    return choice is not None and choice.explicit


_SCHEMA_CODES = {
    "maxLength": "too_long",
    "minLength": "too_short",
    "maximum": "out_of_range",
    "minimum": "out_of_range",
    "multipleOf": "not_a_step",
    "enum": "not_allowed",
    "maxItems": "too_many",
    "minItems": "too_few",
}


def _from_schema(error: ValidationError) -> Problem:
    fields = (str(error.absolute_path[0]),) if error.absolute_path else ()
    limit = error.validator_value if isinstance(error.validator_value, int | float | str) else None
    return Problem(_SCHEMA_CODES.get(str(error.validator), "wrong_type"), fields, limit)


def _absent(model: Model, wanted: Mapping[str, Any]) -> Iterator[Problem]:
    yield from (Problem("missing", (each.name,)) for each in model.inputs if each.required and each.name not in wanted)


def _schema_errors(model: Model, wanted: Mapping[str, Any]) -> Iterator[Problem]:
    for error in _validator(model).iter_errors(_with_stand_ins(wanted)):
        if error.validator != "required" or error.absolute_path:  # absent inputs are named one by one above
            yield _from_schema(error)


def _position(model: Model, problem: Problem) -> int:
    names = [each.name for each in model.inputs]
    return names.index(problem.fields[0]) if problem.fields and problem.fields[0] in names else len(names)


def _broken(model: Model, rule: Rule, inputs: Mapping[str, Any]) -> Iterator[Problem]:
    if not holds(model, rule.when, inputs):
        return
    check = _RULES.get(rule.code)
    if check is not None:
        yield from check(model, rule, inputs)
    else:  # the conditions are the rule: combination, excludes, needs
        given = tuple(name for name in rule.fields if rule.code == "needs" or value_of(model, inputs, name) is not None)
        yield Problem(rule.code, given)


def _missing(model: Model, rule: Rule, inputs: Mapping[str, Any]) -> Iterator[Problem]:
    yield from (Problem("missing", (name,)) for name in rule.fields if value_of(model, inputs, name) in (None, [], ""))


def _seconds_each(model: Model, rule: Rule, inputs: Mapping[str, Any]) -> Iterator[Problem]:
    low, high = rule.minimum or 0, rule.maximum or float("inf")
    if any(not low <= seconds <= high for name in rule.fields for seconds in lengths_of(inputs.get(name))):
        yield Problem("seconds_each", rule.fields, rule.maximum, {"minimum": low, "maximum": rule.maximum})


def _seconds_total(model: Model, rule: Rule, inputs: Mapping[str, Any]) -> Iterator[Problem]:
    total = sum(_seconds_in(model.field(name), value_of(model, inputs, name)) for name in rule.fields)
    if rule.maximum is not None and total > rule.maximum:
        yield Problem("seconds_total", rule.fields, rule.maximum)


def _seconds_in(field: InputField, value: Any) -> float:
    return sum(lengths_of(value)) if field.kind.is_media else float(value or 0)


def _chars_total(model: Model, rule: Rule, inputs: Mapping[str, Any]) -> Iterator[Problem]:
    if rule.maximum is not None and sum(chars_in(inputs.get(name)) for name in rule.fields) > rule.maximum:
        yield Problem("chars_total", rule.fields, rule.maximum)


def _shots_total(model: Model, rule: Rule, inputs: Mapping[str, Any]) -> Iterator[Problem]:
    shots, whole = rule.fields
    total = sum(shot["duration"] for shot in inputs.get(shots) or ())
    if total != int(value_of(model, inputs, whole)):
        yield Problem("shots_total", rule.fields, int(value_of(model, inputs, whole)), {"total": total})


_RULES: Mapping[str, Callable[[Model, Rule, Mapping[str, Any]], Iterator[Problem]]] = {
    "missing": _missing,
    "seconds_each": _seconds_each,
    "seconds_total": _seconds_total,
    "chars_total": _chars_total,
    "shots_total": _shots_total,
}


def lengths_of(value: Any) -> list[float]:
    """Seconds of the media references in a value, as far as they are known."""
    items = value if isinstance(value, list | tuple) else [value]
    return [item["seconds"] for item in items if is_media_ref(item) and item.get("seconds") is not None]


def chars_in(value: Any) -> int:
    """Characters of a text, or of all lines of a dialogue."""
    if isinstance(value, str):
        return len(value)
    return sum(len(line["text"]) for line in value or ())


def media_refs(model: Model, inputs: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Every user's file these inputs would send, each file_id once, in order."""
    found: dict[str, Mapping[str, Any]] = {}
    for value in request_input(model, inputs).values():
        found.update((ref["file_id"], ref) for ref in _refs_in(value))
    return list(found.values())


def with_urls(model: Model, inputs: Mapping[str, Any], urls: Mapping[str, str]) -> dict[str, Any]:
    """The inputs that will be sent, with every reference replaced by its uploaded address; request_input comes after.

    Raises: KeyError, for a file_id without an address: it must not be sent as it is.
    """
    sent = request_input(model, inputs)
    return {name: _replaced(value, urls) for name, value in inputs.items() if name in sent}


def _refs_in(value: Any) -> Iterator[Mapping[str, Any]]:
    if is_media_ref(value):
        yield value
    elif isinstance(value, Mapping):
        yield from (ref for each in value.values() for ref in _refs_in(each))
    elif isinstance(value, list | tuple):
        yield from (ref for each in value for ref in _refs_in(each))


def _replaced(value: Any, urls: Mapping[str, str]) -> Any:
    if is_media_ref(value):
        return urls[value["file_id"]]
    if isinstance(value, Mapping):
        return {name: _replaced(each, urls) for name, each in value.items()}
    return [_replaced(each, urls) for each in value] if isinstance(value, list | tuple) else value
