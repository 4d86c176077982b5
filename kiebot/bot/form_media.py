"""Which field a sent file goes to, and why it may not; pure."""

from __future__ import annotations

from typing import Any

from kiebot.bot.form_state import FormState, MediaInput, opened
from kiebot.generation.checks import Problem, validate
from kiebot.generation.fields import FieldKind, InputField
from kiebot.generation.media import is_accepted
from kiebot.generation.product import Model, is_active

BOT_API_DOWNLOAD_BYTES = 20_000_000  # what Telegram's own Bot API server lets a bot download
PICTURES_PER_SUBJECT = 4
_JUDGED_AT_ONCE = ("seconds_each", "seconds_total")


def placed(model: Model, state: FormState, media: MediaInput, *, limit_bytes: int) -> dict[str, Any] | Problem:
    """The inputs with the file in its place: the asked field, else the first one that has room for its kind.

    Too large, of the wrong kind, too long or of unknown length where the price needs it: the problem, nothing placed.
    """
    field = _target(model, state, media)
    if isinstance(field, Problem):
        return field
    refused = _refusal(model, field, media, limit_bytes)
    if refused is not None:
        return refused
    value = _with_file(field, state.inputs.get(field.name), media)
    if isinstance(value, Problem):
        return value
    inputs = {**state.inputs, field.name: value}
    late = (p for p in validate(model, inputs) if p.code in _JUDGED_AT_ONCE and field.name in p.fields)
    return next(late, inputs)


def media_fields(model: Model, inputs: dict[str, Any]) -> list[InputField]:
    """The fields that take files now."""
    return [each for each in model.inputs if each.kind.is_media and not each.hidden and is_active(model, each, inputs)]


def _target(model: Model, state: FormState, media: MediaInput) -> InputField | Problem:
    asked = opened(model, state)
    if asked is not None and (asked.kind.is_media or asked.kind is FieldKind.SUBJECTS):
        return asked
    fields = media_fields(model, state.inputs)
    fitting = [each for each in fields if each.media == media.kind]
    if not fitting:
        return _wrong_kind(fields, media)
    ordered = sorted(fitting, key=lambda each: (not _is_wanted(each, state.inputs), each.advanced))
    free = [each for each in ordered if _has_room(each, state.inputs) and not _excluded(model, each, state.inputs)]
    if free:
        return free[0]
    if len(fitting) == 1 and fitting[0].max_items == 1:
        return fitting[0]  # the only place there is: the new file takes it
    return Problem("too_many", (fitting[-1].name,), fitting[-1].max_items)


def _wrong_kind(fields: list[InputField], media: MediaInput) -> Problem:
    if not fields:
        return Problem("no_media")
    return Problem("wrong_media", (fields[0].name,), None, {"wanted": fields[0].media, "sent": media.kind})


def _is_wanted(field: InputField, inputs: dict[str, Any]) -> bool:
    return field.required and not inputs.get(field.name)


def _has_room(field: InputField, inputs: dict[str, Any]) -> bool:
    held = inputs.get(field.name)
    if field.kind is FieldKind.MEDIA:
        return held is None
    return field.max_items is None or len(held or ()) < field.max_items


def _excluded(model: Model, field: InputField, inputs: dict[str, Any]) -> bool:
    tried = {**inputs, field.name: [{"file_id": ""}] if field.kind is FieldKind.MEDIA_LIST else {"file_id": ""}}
    return any(problem.code == "excludes" for problem in validate(model, tried))


def _refusal(model: Model, field: InputField, media: MediaInput, limit_bytes: int) -> Problem | None:
    name = (field.name,)
    if media.kind != field.media or (media.mime is not None and not is_accepted(media.kind, media.mime)):
        return Problem("wrong_media", name, None, {"wanted": field.media, "sent": media.mime or media.kind})
    limit = min(field.max_bytes or limit_bytes, limit_bytes)
    if media.size_bytes is not None and media.size_bytes > limit:
        return Problem("too_large", name, limit, {"size": media.size_bytes})
    if field.name in model.price.measured_fields and not media.seconds:
        return Problem("unmeasurable", name)
    if field.name == model.price.sized_field and not (media.width and media.height):
        return Problem("unmeasurable", name)
    return None


def _with_file(field: InputField, held: Any, media: MediaInput) -> Any:
    if field.kind is FieldKind.MEDIA:
        return media.reference()
    if field.kind is FieldKind.SUBJECTS:
        return _with_picture(field, held, media)
    items = list(held or ())
    if field.max_items == 1:
        return [media.reference()]
    if field.max_items is not None and len(items) >= field.max_items:
        return Problem("too_many", (field.name,), field.max_items)
    return [*items, media.reference()]


def _with_picture(field: InputField, held: Any, media: MediaInput) -> Any:
    if not held:
        return Problem("bad_subject", (field.name,), None, {"line": ""})
    *others, last = held
    pictures = [*last["element_input_urls"], media.reference()]
    if len(pictures) > PICTURES_PER_SUBJECT:
        return Problem("too_many", (field.name,), PICTURES_PER_SUBJECT)
    return [*others, {**last, "element_input_urls": pictures}]
