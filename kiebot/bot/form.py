"""The form of one model: what an answer changes and what is asked next; pure, no Telegram in it.

A form starts ready wherever defaults allow: usually the prompt is all that is missing. Every answer (a button, a text,
a file) leads from one FormState to a Step. Nothing a user sends breaks a form: what does not fit comes back as
Problems and leaves the state as it was.
"""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from typing import Any

import msgspec

from kiebot.bot.form_answers import parse
from kiebot.bot.form_media import BOT_API_DOWNLOAD_BYTES, media_fields, placed
from kiebot.bot.form_state import ON, Action, Event, FormState, MediaInput, Step, Verb, View, opened
from kiebot.generation.checks import Problem, is_media_ref, validate
from kiebot.generation.fields import FieldKind, InputField
from kiebot.generation.pricing import NotPriceable, Quote, quote
from kiebot.generation.product import Model, holds, is_active

_LISTS = (FieldKind.MEDIA_LIST, FieldKind.DIALOGUE, FieldKind.SHOTS, FieldKind.SUBJECTS)


def start(model: Model, *, like: Model | None = None, inputs: Mapping[str, Any] | None = None) -> FormState:
    """A fresh form. With `inputs` of this or another model (`like`) it takes over what fits: prompt, files, choices."""
    given = dict(inputs or {})
    kept = given if like is None or like is model else _carried(model, like, given)
    known = {name: value for name, value in kept.items() if name in model.schema["properties"]}
    return FormState(model_slug=model.slug, inputs=known)


def missing(model: Model, state: FormState) -> list[InputField]:
    """What must still be given, in the order to ask for it."""
    names = [problem.fields[0] for problem in validate(model, state.inputs) if problem.code == "missing"]
    return [model.field(name) for name in names]


def asked(model: Model, state: FormState) -> InputField | None:
    """The field the next message answers: the opened one, else the first that is missing."""
    return opened(model, state) or next(iter(missing(model, state)), None)


def is_ready(model: Model, state: FormState, *, content_filter: bool = True) -> bool:
    """Whether it can be confirmed as it is."""
    return not validate(model, state.inputs, content_filter=content_filter)


def price_of(model: Model, state: FormState, *, markup: Decimal | int) -> Quote | Problem | None:
    """The price of the draft as it stands; None while something it depends on is missing."""
    try:
        return quote(model, state.inputs, markup=markup)
    except NotPriceable as error:
        if error.code == "missing":
            return None
        fields = (str(error.facts["field"]),) if "field" in error.facts else ()
        limit = error.facts.get("limit")
        return Problem(error.code, fields, limit if isinstance(limit, int) else None)


def apply(model: Model, state: FormState, action: Action, *, content_filter: bool = True) -> Step:
    """Press a button. A button of another model, or of what is no longer there, is STALE and changes nothing."""
    if action.model != model.slug or state.model_slug != model.slug:
        return Step(state, Event.STALE)
    match action.verb:
        case Verb.HOME:
            return Step(_at_home(state))
        case Verb.MORE:
            return Step(msgspec.structs.replace(state, view=View.MORE, field="", page=action.number))
        case Verb.LEAVE:
            return Step(state, Event.LEAVE)
        case Verb.CANCEL:
            return Step(state, Event.CANCEL)
        case Verb.CONFIRM:
            problems = tuple(validate(model, state.inputs, content_filter=content_filter))
            return Step(state, Event.REDRAW if problems else Event.CONFIRM, problems)
    return _apply_to_field(model, state, action, content_filter)


def apply_text(model: Model, state: FormState, text: str) -> Step:
    """Take a text message: for the opened field, else the missing one, else as the new prompt."""
    field = _text_target(model, state)
    if field is None:
        return Step(state, problems=(Problem("no_text"),))
    value = parse(field, text, state.inputs.get(field.name))
    if isinstance(value, Problem):
        return Step(state, problems=(value,))
    changed = _with_value(model, state, field, value)
    return Step(changed if field.kind is FieldKind.SUBJECTS else _after(changed, field))


def apply_media(
    model: Model,
    state: FormState,
    media: MediaInput,
    caption: str | None = None,
    *,
    limit_bytes: int = BOT_API_DOWNLOAD_BYTES,
) -> Step:
    """Take a photo, video, audio or file; its caption counts as the prompt, or names the subject it shows."""
    field = opened(model, state)
    if field is not None and field.kind is FieldKind.SUBJECTS and caption:
        named = apply_text(model, state, caption)
        return Step(state, problems=named.problems) if named.problems else apply_media(model, named.state, media)
    found = placed(model, state, media, limit_bytes=limit_bytes)
    if isinstance(found, Problem):
        return Step(state, problems=(found,))
    taken = msgspec.structs.replace(state, inputs=found)
    prompt = model.prompt_field
    if not caption or prompt is None or not is_active(model, prompt, found):
        return Step(taken)
    value = parse(prompt, caption)
    if isinstance(value, Problem):
        return Step(taken, problems=(value,))
    return Step(_with_value(model, taken, prompt, value))


def _at_home(state: FormState) -> FormState:
    return msgspec.structs.replace(state, view=View.MAIN, field="", page=0)


def _after(state: FormState, field: InputField) -> FormState:
    """Where a choice was made is where the next one is likely: advanced fields stay among themselves."""
    if not field.advanced or state.view is View.MAIN:
        return _at_home(state)
    page = state.page if state.view is View.MORE else 0
    return msgspec.structs.replace(state, view=View.MORE, field="", page=page)


def _apply_to_field(model: Model, state: FormState, action: Action, content_filter: bool) -> Step:
    field = model.field_by_key(action.field)
    if field is None or field.hidden or not is_active(model, field, state.inputs):
        return Step(state, Event.STALE)
    if content_filter and field.filtered is not None:
        return Step(state, Event.STALE)
    match action.verb:
        case Verb.EDIT:
            return Step(msgspec.structs.replace(state, view=View.FIELD, field=field.name, page=action.number))
        case Verb.SET:
            return _set(model, state, field, action.choice, content_filter)
        case Verb.CLEAR:
            return Step(_without(state, field))
    return _remove(state, field, action.number)


def _set(model: Model, state: FormState, field: InputField, key: str, content_filter: bool) -> Step:
    back = _after(state, field)
    if field.kind is FieldKind.FLAG:
        return Step(_with_value(model, back, field, key == ON))
    choice = field.choice_by_key(key) if field.kind is FieldKind.CHOICE else None
    if choice is None or (choice.explicit and content_filter):
        return Step(state, Event.STALE)
    return Step(_with_value(model, back, field, choice.value))


def _remove(state: FormState, field: InputField, number: int) -> Step:
    items = state.inputs.get(field.name)
    if field.kind not in _LISTS or not items or number >= len(items):
        return Step(state, Event.STALE)
    rest = [*items[:number], *items[number + 1 :]]
    if not rest:
        return Step(_without(state, field))
    return Step(msgspec.structs.replace(state, inputs={**state.inputs, field.name: rest}))


def _without(state: FormState, field: InputField) -> FormState:
    return msgspec.structs.replace(state, inputs={k: v for k, v in state.inputs.items() if k != field.name})


def _with_value(model: Model, state: FormState, field: InputField, value: Any) -> FormState:
    """Set a value, and what follows from it: shots bring sound, several shots and the clip's length with them."""
    inputs = {**state.inputs, field.name: value}
    for follow in model.follows:
        touched = field.name in follow.when or field.name == follow.when.get("_has")
        if touched and holds(model, follow.when, inputs):
            inputs.update(follow.sets)
    if field.kind is FieldKind.SHOTS:
        inputs.update(_length_of_shots(model, value))
    return msgspec.structs.replace(state, inputs=inputs)


def _length_of_shots(model: Model, shots: Any) -> dict[str, Any]:
    whole = next((model.field(rule.fields[1]) for rule in model.rules if rule.code == "shots_total"), None)
    total = str(sum(shot["duration"] for shot in shots))
    fitting = [choice.value for choice in whole.choices if str(choice.value) == total] if whole else []
    return {whole.name: fitting[0]} if whole and fitting else {}


def _text_target(model: Model, state: FormState) -> InputField | None:
    field = opened(model, state)
    if field is not None and field.kind.is_typed:
        return field
    wanted = next((each for each in missing(model, state) if each.kind.is_typed), None)
    prompt = model.prompt_field
    if wanted is not None:
        return wanted
    return prompt if prompt is not None and is_active(model, prompt, state.inputs) else None


def _carried(model: Model, like: Model, inputs: Mapping[str, Any]) -> dict[str, Any]:
    """What another model's draft has that this one can use: its prompt, choices with the same values, its files."""
    state = FormState(model_slug=model.slug)
    for old in like.inputs:
        value = inputs.get(old.name)
        if value is None or old.kind.is_media:
            continue
        new = model.prompt_field if old == like.prompt_field else _same(model, old)
        if new is not None and not _misfits(model, new, value, same_kind=new.kind is old.kind):
            state = msgspec.structs.replace(state, inputs={**state.inputs, new.name: value})
    for ref in _files(like, inputs):
        found = placed(model, state, _as_media(ref), limit_bytes=BOT_API_DOWNLOAD_BYTES)
        if not isinstance(found, Problem):
            state = msgspec.structs.replace(state, inputs=found)
    return state.inputs


def _same(model: Model, old: InputField) -> InputField | None:
    return next((each for each in model.inputs if each.name == old.name and each.kind is old.kind), None)


def _misfits(model: Model, field: InputField, value: Any, *, same_kind: bool) -> bool:
    return not same_kind or any(field.name in p.fields for p in validate(model, {field.name: value}))


def _files(like: Model, inputs: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    held = (inputs.get(each.name) for each in media_fields(like, dict(inputs)))
    return [item for value in held for item in _listed(value) if is_media_ref(item)]


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def _as_media(ref: Mapping[str, Any]) -> MediaInput:
    return MediaInput(
        file_id=ref["file_id"],
        kind=ref.get("kind", "document"),
        size_bytes=ref.get("size"),
        mime=ref.get("mime"),
        seconds=ref.get("seconds"),
        width=ref.get("width"),
        height=ref.get("height"),
        file_name=ref.get("file_name"),
    )
