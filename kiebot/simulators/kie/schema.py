"""Checks an input as the service does: strict about types and values, blind to keys it does not know."""

from typing import Any

from kiebot.simulators.kie.catalogue import Model

TOO_LONG = "The text length cannot exceed the maximum limit"
OUT_OF_RANGE = "Value must be within the specified range"
REQUIRED = "This field is required"

_TYPES: dict[str, type | tuple[type, ...]] = {
    "string": str,
    "integer": int,
    "number": (int, float),
    "boolean": bool,
    "array": list,
    "object": dict,
}


def with_defaults(model: Model, given: dict[str, Any]) -> dict[str, Any]:
    """The input as the service stores it: what was sent, plus the defaults of what was not.

    A required field's documented default is filled in too, but only after `problem_of` has looked.
    """
    properties = model.schema.get("properties", {})
    defaults = {name: part["default"] for name, part in properties.items() if "default" in part and name not in given}
    return {**given, **defaults}


def problem_of(model: Model, given: dict[str, Any]) -> str | None:
    """The text of the first thing wrong with an input, or None. Unknown keys are never wrong."""
    return _object_problem(model.schema, given) or combination_problem(model.id, with_defaults(model, given))


def combination_problem(model_id: str, full: dict[str, Any]) -> str | None:
    """What is wrong with values that are each allowed but not together."""
    seconds, size = str(full.get("duration")), str(full.get("resolution", full.get("quality"))).lower()
    if (model_id == "runway" or model_id.startswith("hailuo/2-3-")) and (seconds, size) == ("10", "1080p"):
        return "duration is not within the range of allowed options"
    if model_id.startswith("gpt-image-2-"):
        ratio = full.get("aspect_ratio")
        if (ratio in (None, "auto") and size in ("2k", "4k")) or (ratio == "1:1" and size == "4k"):
            return "resolution is not within the range of allowed options"
    if (
        model_id == "ai-music-api/generate"
        and full.get("custom_mode")
        and not (full.get("style") and full.get("title"))
    ):
        return "style is required" if not full.get("style") else "title is required"
    if model_id == "kling-3.0/video" and full.get("multi_shots") and not full.get("sound"):
        return "sound is not within the range of allowed options"
    return None


def mixes_frames_and_references(model_id: str, full: dict[str, Any]) -> bool:
    """True for the one mixture that is accepted at create and fails the task later."""
    if not (model_id.startswith("bytedance/seedance-2") or model_id == "wan/3-0-video"):
        return False
    frames = full.get("first_frame_url") or full.get("last_frame_url")
    return bool(frames) and any(full.get(f"reference_{kind}_urls") for kind in ("image", "video", "audio"))


def _object_problem(schema: dict[str, Any], given: dict[str, Any]) -> str | None:
    for name in schema.get("required", ()):
        if given.get(name) is None or (given[name] == "" and "enum" not in schema["properties"][name]):
            return f"{name} is required" if len(name) % 2 else REQUIRED  # both wordings occur
    for name, part in schema.get("properties", {}).items():
        if given.get(name) is not None and (problem := _value_problem(name, part, given[name])):
            return problem
    return None


def _value_problem(name: str, schema: dict[str, Any], value: Any) -> str | None:
    expected = _TYPES.get(schema.get("type", ""), object)
    mistyped = not isinstance(value, expected) or (isinstance(value, bool) and expected is not bool)
    if mistyped or ("enum" in schema and value not in schema["enum"]):
        return f"{name} is not within the range of allowed options"
    if isinstance(value, str):
        return _text_problem(schema, value)
    if isinstance(value, list):
        return _list_problem(name, schema, value)
    if isinstance(value, dict):
        return _object_problem(schema, value)
    return _number_problem(schema, value)


def _text_problem(schema: dict[str, Any], value: str) -> str | None:
    if len(value) > schema.get("maxLength", len(value)):
        return TOO_LONG
    return OUT_OF_RANGE if len(value) < schema.get("minLength", 0) else None


def _list_problem(name: str, schema: dict[str, Any], value: list[Any]) -> str | None:
    if not schema.get("minItems", 0) <= len(value) <= schema.get("maxItems", len(value)):
        return REQUIRED if not value else OUT_OF_RANGE
    problems = (_value_problem(name, schema.get("items", {}), each) for each in value)
    return next((problem for problem in problems if problem), None)


def _number_problem(schema: dict[str, Any], value: float) -> str | None:
    if isinstance(value, bool):
        return None
    low, high = schema.get("minimum", value), schema.get("maximum", value)
    return None if low <= value <= high else OUT_OF_RANGE
