"""Where the catalogue and the provider's own words about a model part; pure. Run by `kiebot models refresh`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from kiebot.generation.product import Model


def differences(model: Model, theirs: Mapping[str, Any]) -> Iterator[str]:
    """In sentences; nothing when both agree. Unknown inputs are ignored by the provider without a word, so a name that
    only we know is one that does nothing."""
    ours, found = model.schema["properties"], theirs["properties"]
    for name in sorted(set(ours) - set(found)):
        yield f"the provider does not know the input {name}"
    for name in sorted(set(_listed(theirs.get("required"))) - set(ours)):
        yield f"the provider requires the input {name}, which is not offered"
    for name in sorted(set(found) - set(ours) - set(_listed(theirs.get("required")))):
        yield f"the input {name} is not offered"
    for name in sorted(set(ours) & set(found)):
        yield from _choices(name, ours[name], found[name])


def _choices(name: str, ours: Mapping[str, Any], theirs: object) -> Iterator[str]:
    told = theirs.get("enum") if isinstance(theirs, Mapping) else None
    if not isinstance(told, list) or "enum" not in ours:
        return
    gone = [value for value in ours["enum"] if value not in told]
    new = [value for value in told if value not in ours["enum"]]
    if gone:
        yield f"{name}: the provider does not take {_said(gone)}"
    if new:
        yield f"{name}: not offered: {_said(new)}"


def _listed(value: object) -> list[str]:
    return [str(each) for each in value] if isinstance(value, list) else []


def _said(values: list[Any]) -> str:
    return ", ".join(str(value)[:60] for value in values)
