"""What a run costs: the provider's price in whole millicredits, the markup applied once, rounded up to ten; pure.

There is no fallback price: a combination without a matching rule is not sellable. Lengths count as a careful biller
counts them: every measured file rounded up to a whole second, then summed; a thousand characters once begun; a
megapixel (1024 x 1024) once begun. Where the provider may find less (a measured length, a begun block, a ceiling of
pictures, the size of a result) the quote is a maximum: it is held, and the provider's own figure is captured.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction
from functools import cache
from itertools import product
from math import ceil
from typing import Any, Protocol

from kiebot.errors import Refused
from kiebot.generation.checks import chars_in, is_media_ref
from kiebot.generation.media import Measures
from kiebot.generation.product import Model, holds, value_of

STEP_MILLICREDITS = 10
MEGAPIXEL = 1024 * 1024
BLOCK_CHARS = 1000
FileMeasures = Mapping[str, Sequence[Measures]]  # input name -> one per file, in order


class NotPriceable(Refused):
    """No price can be named. Codes: missing, unmeasurable, not_sellable, result_too_large; facts: field, limit."""


@dataclass(frozen=True, slots=True)
class Line:
    """One term of a price: `quantity` times `unit`, at the provider's millicredits each."""

    unit: str  # image | task | second | 1000_chars | megapixel | extra_file
    quantity: int
    each_millicredits: int


@dataclass(frozen=True, slots=True)
class Quote:
    """What the provider takes, what the user pays (at most, when `is_maximum`), and how it came about."""

    cost_millicredits: int
    price_millicredits: int
    is_maximum: bool
    breakdown: tuple[Line, ...]


@dataclass(frozen=True, slots=True)
class FromPrice:
    """The lowest price of a model for menus, per `unit`: run, second or 1000_chars."""

    price_millicredits: int
    unit: str


class Priced(Protocol):
    """Any frozen quote, also one read back from its row."""

    @property
    def cost_millicredits(self) -> int: ...
    @property
    def price_millicredits(self) -> int: ...
    @property
    def is_maximum(self) -> bool: ...


@dataclass(frozen=True, slots=True)
class _Amount:
    quantity: int
    is_maximum: bool = False


def quote(
    model: Model, inputs: Mapping[str, Any], measures: FileMeasures | None = None, *, markup: Decimal | int
) -> Quote:
    """The price of one run. `measures` default to what the draft's media references say of themselves.

    Raises: NotPriceable.
    """
    sizes = measures_of(inputs) if measures is None else measures
    rate, rate_is_maximum = _rate(model, inputs, sizes)
    units, times = _units(model, inputs, sizes), _times(model, inputs)
    lines = (Line(model.price.per, units.quantity * times.quantity, rate), *_extras(model, inputs))
    cost = sum(line.quantity * line.each_millicredits for line in lines)
    return Quote(
        cost_millicredits=cost,
        price_millicredits=marked_up(cost, markup),
        is_maximum=rate_is_maximum or units.is_maximum or times.is_maximum,
        breakdown=lines,
    )


def settle(quote: Priced, consumed_millicredits: int | None) -> int:
    """What is captured of the hold. Only a maximum is settled by the provider's figure, and never above the hold.

    The markup is the frozen one, taken from the quote itself. Without a figure the hold is captured.
    """
    if not quote.is_maximum or consumed_millicredits is None or quote.cost_millicredits == 0:
        return quote.price_millicredits
    markup = Fraction(quote.price_millicredits, quote.cost_millicredits)
    return min(quote.price_millicredits, _up_to_step(max(consumed_millicredits, 0) * markup))


def marked_up(cost_millicredits: int, markup: Decimal | int) -> int:
    """The user's price of a provider's cost: exact, rounded up to ten millicredits once."""
    return _up_to_step(cost_millicredits * Fraction(markup))


def price_from(model: Model, markup: Decimal | int) -> FromPrice:
    """The lowest price any sellable choice of inputs has, for menus."""
    cost, unit = _lowest_cost(model)
    return FromPrice(marked_up(cost, markup), unit)


def measures_of(inputs: Mapping[str, Any]) -> dict[str, list[Measures]]:
    """What the media references in a draft say of their length and size."""
    found = {}
    for name, value in inputs.items():
        refs = [each for each in (value if isinstance(value, list) else [value]) if is_media_ref(each)]
        if refs:
            found[name] = [Measures(ref.get("seconds"), ref.get("width"), ref.get("height")) for ref in refs]
    return found


def credits_text(millicredits: int) -> str:
    """Credits as people read them: 4000 -> "4", 800 -> "0.8", -12500 -> "-12.5"."""
    whole, rest = divmod(abs(millicredits), 1000)
    decimals = f".{rest:03d}".rstrip("0") if rest else ""
    return f"{'-' if millicredits < 0 else ''}{whole}{decimals}"


def _up_to_step(amount: Fraction) -> int:
    return ceil(amount / STEP_MILLICREDITS) * STEP_MILLICREDITS


def _rate(model: Model, inputs: Mapping[str, Any], sizes: FileMeasures) -> tuple[int, bool]:
    if not model.price.rules:
        return model.price.base_millicredits, False
    matching = [rule for rule in model.price.rules if holds(model, rule.when, inputs)]
    if not matching:
        raise NotPriceable("not_sellable")
    if "_output" not in matching[0].when:
        return matching[0].millicredits, False
    reachable = _reachable_outputs(model, inputs, sizes)
    return max(rule.millicredits for rule in matching if rule.when["_output"] in reachable), True


def _reachable_outputs(model: Model, inputs: Mapping[str, Any], sizes: FileMeasures) -> list[str]:
    """The result classes that may come: one when the source was measured, all when it was not."""
    rule = model.price.output_sides or {}
    classes: Mapping[str, int] = rule["sides"]
    source = next(iter(sizes.get(rule["field"], ())), Measures())
    if source.width is None or source.height is None:
        return list(classes)
    side = max(source.width, source.height) * int(value_of(model, inputs, rule["factor"]))
    fitting = [name for name, longest in classes.items() if side <= longest]
    if not fitting:
        raise NotPriceable("result_too_large", field=rule["field"], limit=max(classes.values()))
    return fitting[:1]


def _units(model: Model, inputs: Mapping[str, Any], sizes: FileMeasures) -> _Amount:
    match model.price.per:
        case "image" | "task":
            return _Amount(1)
        case "second":
            return _seconds(model, inputs, sizes)
        case "1000_chars":
            return _blocks(model, inputs)
        case "megapixel":
            return _megapixels(model, inputs, sizes)
    raise NotPriceable("not_sellable")


def _times(model: Model, inputs: Mapping[str, Any]) -> _Amount:
    if model.price.times is None:
        return _Amount(1)
    count = int(value_of(model, inputs, model.price.times) or 1)
    return _Amount(count, is_maximum=model.price.times_is_ceiling and count > 1)


def _extras(model: Model, inputs: Mapping[str, Any]) -> Iterator[Line]:
    if model.price.extra_items is not None:
        name, free, millicredits = model.price.extra_items
        count = len(inputs.get(name) or ()) - free
        if count > 0:
            yield Line("extra_file", count, millicredits)


def _seconds(model: Model, inputs: Mapping[str, Any], sizes: FileMeasures) -> _Amount:
    source = model.price.seconds_from or ""
    added = [_measured(name, inputs, sizes) for name in model.price.adds_seconds_of if inputs.get(name)]
    if source.startswith("input:"):
        return _Amount(_measured(source.removeprefix("input:"), inputs, sizes) + sum(added), is_maximum=True)
    exact = _from_inputs(model, inputs, source)
    return _Amount(ceil(exact) + sum(added), is_maximum=bool(added) or ceil(exact) != exact)


def _from_inputs(model: Model, inputs: Mapping[str, Any], source: str) -> Fraction:
    """Seconds held by one input, or by one input over another such as frames over frames per second."""
    first, *others = (Fraction(value_of(model, inputs, name) or 0) for name in source.split("/"))
    for each in others:
        first /= each
    return first


def _measured(name: str, inputs: Mapping[str, Any], sizes: FileMeasures) -> int:
    if not inputs.get(name):
        raise NotPriceable("missing", field=name)
    count = len(inputs[name]) if isinstance(inputs[name], list | tuple) else 1
    known = [each.seconds for each in sizes.get(name, ()) if each.seconds is not None]
    if len(known) < count:
        raise NotPriceable("unmeasurable", field=name)
    return sum(max(1, ceil(seconds)) for seconds in known)


def _blocks(model: Model, inputs: Mapping[str, Any]) -> _Amount:
    text = model.prompt_field
    chars = chars_in(inputs.get(text.name)) if text else 0
    if not chars:
        raise NotPriceable("missing", field=text.name if text else "")
    return _Amount(ceil(chars / BLOCK_CHARS), is_maximum=chars % BLOCK_CHARS != 0)


def _megapixels(model: Model, inputs: Mapping[str, Any], sizes: FileMeasures) -> _Amount:
    rule = model.price.megapixels or {}
    if "sizes" in rule:
        pixels = rule["sizes"].get(value_of(model, inputs, rule["field"]))
        if pixels is None:
            raise NotPriceable("not_sellable")
        return _Amount(ceil(pixels / MEGAPIXEL))
    if not inputs.get(rule["field"]):
        raise NotPriceable("missing", field=rule["field"])
    source = next(iter(sizes.get(rule["field"], ())), Measures())
    if source.width is None or source.height is None:
        raise NotPriceable("unmeasurable", field=rule["field"])
    blocks = ceil(source.width * source.height / MEGAPIXEL)
    return _Amount(max(1, blocks), is_maximum=blocks > 1)


@cache
def _lowest_cost(model: Model) -> tuple[int, str]:
    samples = {"second": Measures(1.0, 1, 1)}.get(model.price.per, Measures(None, 1, 1))
    costs = []
    for inputs in _sample_inputs(model):
        sizes = {name: [samples] for name in inputs}
        try:
            costs.append(quote(model, inputs, sizes, markup=1).cost_millicredits)
        except NotPriceable:
            continue
    return min(costs), _menu_unit(model)


def _menu_unit(model: Model) -> str:
    if model.price.per == "1000_chars":
        return "1000_chars"
    return "second" if (model.price.seconds_from or "").startswith("input:") else "run"


def _sample_inputs(model: Model) -> Iterator[dict[str, Any]]:
    """Every choice of what the price depends on, one file or one character where files or texts are measured."""
    price = model.price
    names = {name for rule in price.rules for name in rule.when if not name.startswith("_")}
    names |= {name for name in (price.times, price.seconds_from) if name and name in model.schema["properties"]}
    fixed: dict[str, Any] = {name: [{"file_id": ""}] for name in (price.measured_source,) if name}
    fixed |= {name: {"file_id": ""} for name in _size_fields(model)}
    if price.per == "1000_chars" and model.prompt_field:
        fixed[model.prompt_field.name] = "x" if model.prompt_field.kind == "prompt" else [{"text": "x"}]
    ordered = sorted(names)
    for values in product(*(_values(model, name) for name in ordered)):
        yield fixed | dict(zip(ordered, values, strict=True))


def _size_fields(model: Model) -> list[str]:
    rules = (model.price.megapixels, model.price.output_sides)
    return [rule["field"] for rule in rules if rule and "sizes" not in rule]


def _values(model: Model, name: str) -> Sequence[Any]:
    field = model.field(name)
    if field.kind == "flag":
        return (False, True)
    return [choice.value for choice in field.choices] or [field.default]
