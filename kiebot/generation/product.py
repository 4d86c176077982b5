"""One model on sale as values: inputs, price list, cross-field rules, and the conditions they are written in; pure.

Conditions (`when` of a price or a rule) are data: a name with the value or values it must have, an absent input
counting as its default, and `_has`, `_has_any`, `_lacks`, `_more_than` for what is given at all.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from kiebot.generation.fields import FieldKind, InputField, Value


@dataclass(frozen=True, slots=True)
class PriceRule:
    """The provider's price per unit, when the conditions hold."""

    when: Mapping[str, Any]
    millicredits: int


@dataclass(frozen=True, slots=True)
class PriceList:
    """How one model is billed by the provider. Amounts in its millicredits per `per`.

    With `rules` the first that matches counts, and nothing is sellable without a match; `base_millicredits` is the
    price of a model without rules. `adds_seconds_of` and `seconds_from` name inputs; `extra_items` is a charge per
    file after the first few; `megapixels` and `output_sides` say which size is billed.
    """

    base_millicredits: int
    rules: tuple[PriceRule, ...]
    per: str
    times: str | None
    times_is_ceiling: bool
    seconds_from: str | None
    adds_seconds_of: tuple[str, ...]
    extra_items: tuple[str, int, int] | None  # field, free items, millicredits each
    megapixels: Mapping[str, Any] | None
    output_sides: Mapping[str, Any] | None

    @property
    def measured_source(self) -> str | None:
        """The media input whose own length is billed, if any."""
        source = self.seconds_from or ""
        return source.removeprefix("input:") if source.startswith("input:") else None

    @property
    def measured_fields(self) -> tuple[str, ...]:
        """Every media input whose length counts in the price."""
        return (*((self.measured_source,) if self.measured_source else ()), *self.adds_seconds_of)

    @property
    def sized_field(self) -> str | None:
        """The picture whose own pixels are billed, if any."""
        rule = self.megapixels or {"sizes": {}}
        return None if "sizes" in rule else str(rule["field"])


@dataclass(frozen=True, slots=True)
class Rule:
    """A limit across fields: broken when `when` holds and, for measures, the sum lies outside minimum and maximum."""

    code: str
    fields: tuple[str, ...]
    when: Mapping[str, Any]
    minimum: int | None = None
    maximum: int | None = None


@dataclass(frozen=True, slots=True)
class Follow:
    """What choosing one input sets with it, so that a user need not know the rule."""

    when: Mapping[str, Any]
    sets: Mapping[str, Value]


@dataclass(frozen=True, slots=True)
class ModelKind:
    """One shelf of the menu."""

    id: str
    title: str
    title_ru: str
    emoji: str

    def title_in(self, language: str) -> str:
        return self.title_ru if language == "ru" else self.title


@dataclass(frozen=True, eq=False)
class Model:
    """One model on sale. `slug` is its short name in button data; `expected_seconds` a class median, not a promise."""

    id: str
    slug: str
    title: str
    vendor: str
    type: str
    kind: str
    output: str  # image | video | audio
    summary: str
    summary_ru: str
    inputs: tuple[InputField, ...]
    price: PriceList
    rules: tuple[Rule, ...]
    follows: tuple[Follow, ...]
    schema: Mapping[str, Any]
    expected_seconds: int

    def field(self, name: str) -> InputField:
        """Raises: KeyError, for a name the model does not have."""
        found = next((field for field in self.inputs if field.name == name), None)
        if found is None:
            raise KeyError(f"{self.id} has no input {name}")
        return found

    def field_by_key(self, key: str) -> InputField | None:
        return next((field for field in self.inputs if field.key == key), None)

    def summary_in(self, language: str) -> str:
        return self.summary_ru if language == "ru" else self.summary

    @property
    def filter_fields(self) -> tuple[InputField, ...]:
        """The content-filter switches, empty for a model without any."""
        return tuple(field for field in self.inputs if field.filtered is not None)

    @property
    def prompt_field(self) -> InputField | None:
        """What a plain text message fills: the prompt, the text to speak or the dialogue; None for pure tools."""
        wanted = (FieldKind.PROMPT, FieldKind.DIALOGUE)
        return next((field for field in self.inputs if field.kind in wanted), None)


def value_of(model: Model, inputs: Mapping[str, Any], name: str) -> Any:
    """What the input holds, else its default, else None. Empty texts and lists count as absent."""
    value = inputs.get(name)
    if value is None or value in ("", [], ()):
        return next((field.default for field in model.inputs if field.name == name), None)
    return value


def holds(model: Model, when: Mapping[str, Any], inputs: Mapping[str, Any]) -> bool:
    """Whether every condition is met; `_output` is not judged here, it is known only after the run."""
    return all(_is_met(model, name, wanted, inputs) for name, wanted in when.items() if name != "_output")


def is_active(model: Model, field: InputField, inputs: Mapping[str, Any]) -> bool:
    """Whether the field counts at all with these inputs."""
    return field.active_when is None or holds(model, field.active_when, inputs)


def _is_met(model: Model, name: str, wanted: Any, inputs: Mapping[str, Any]) -> bool:
    match name:
        case "_has":
            return all(inputs.get(each) for each in _listed(wanted))
        case "_has_any":
            return all(any(inputs.get(each) for each in group) for group in wanted)
        case "_lacks":
            return not any(inputs.get(each) for each in _listed(wanted))
        case "_more_than":
            return all(len(inputs.get(each) or ()) > count for each, count in wanted.items())
    value = value_of(model, inputs, name)
    return any(value == each and isinstance(value, bool) == isinstance(each, bool) for each in _listed(wanted))


def _listed(value: Any) -> Sequence[Any]:
    return value if isinstance(value, list) else (value,)
