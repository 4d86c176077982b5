"""What can be bought: the shelves of the menu and the models on them, read once on first use; pure.

`models.json` holds the facts as compiled, `catalog_overrides.json` what this project adds or corrects (each with its
reason), `catalog_labels.json` the words. Only models the provider documents and prices today (`live`) are offered.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from functools import cache
from importlib import resources
from typing import Any

import msgspec

from kiebot.generation.fields import Labels, field_from_schema, short_key
from kiebot.generation.product import Follow, Model, ModelKind, PriceList, PriceRule, Rule

__all__ = ["Model", "ModelKind", "kinds", "model_by_id", "model_by_slug", "models", "models_of"]

SLUG_LETTERS = 5
_SECONDS_OF_A_TYPICAL_CLIP = 6


class _RawRule(msgspec.Struct):
    when: dict[str, Any]
    credits: Decimal


class _RawExtra(msgspec.Struct):
    field: str
    after: int
    credits: Decimal


class _RawPrice(msgspec.Struct):
    credits: Decimal | None = None
    rules: list[_RawRule] = []
    per: str = ""
    times: str | None = None
    times_is_ceiling: bool = False
    seconds_from: str | None = None
    adds_seconds_of: tuple[str, ...] = ()
    extra_items: _RawExtra | None = None
    megapixels: dict[str, Any] | None = None
    output_sides: dict[str, Any] | None = None


class _RawModel(msgspec.Struct):
    id: str
    title: str
    vendor: str
    type: str
    output: str
    summary: str
    summary_ru: str
    status: str
    input: dict[str, Any]
    price: _RawPrice | None = None


class _Shelf(msgspec.Struct):
    id: str
    title: str
    title_ru: str
    emoji: str
    types: list[str]
    first: list[str]


class _Expected(msgspec.Struct):
    types: dict[str, int]
    models: dict[str, int]


class _RawOverlay(msgspec.Struct):
    """One model's corrections; `price` is decoded apart, so that its credits stay exact."""

    reason: str
    inputs: dict[str, Any] = {}
    price: _RawPrice = msgspec.field(default_factory=_RawPrice)
    rules: list[dict[str, Any]] = []
    follows: list[dict[str, Any]] = []
    active_when: dict[str, Any] = {}
    explicit: dict[str, list[str]] = {}
    choice_labels: dict[str, Any] = {}
    hidden: list[str] = []
    kind: str | None = None


class _Overrides(msgspec.Struct):
    kinds: list[_Shelf]
    expected_seconds: _Expected
    content_filter: dict[str, Any]
    hidden: list[str]
    models: dict[str, _RawOverlay]


@dataclass(frozen=True, slots=True)
class _Catalogue:
    kinds: tuple[ModelKind, ...]
    by_kind: Mapping[str, tuple[Model, ...]]
    by_id: Mapping[str, Model]
    by_slug: Mapping[str, Model]


def models() -> tuple[Model, ...]:
    """Every model on sale, in menu order."""
    catalogue = _load()
    return tuple(model for kind in catalogue.kinds for model in catalogue.by_kind[kind.id])


def kinds() -> tuple[ModelKind, ...]:
    """The shelves of the menu, in order."""
    return _load().kinds


def models_of(kind: str) -> tuple[Model, ...]:
    """The models of one shelf, well-liked ones first, then from cheap to dear; empty for an unknown shelf."""
    return _load().by_kind.get(kind, ())


def model_by_id(model_id: str) -> Model | None:
    """The model with the provider's id; None when it is not on sale (any more)."""
    return _load().by_id.get(model_id)


def model_by_slug(slug: str) -> Model | None:
    """The model a button's short name means; None when it is not on sale (any more)."""
    return _load().by_slug.get(slug)


@cache
def _load() -> _Catalogue:
    raw = msgspec.json.decode(_read("models.json"), type=list[_RawModel])
    overrides = msgspec.json.decode(_read("catalog_overrides.json"), type=_Overrides)
    labels = Labels(**msgspec.json.decode(_read("catalog_labels.json")))
    found = {each.id: _model(each, overrides, labels) for each in raw if each.status == "live"}
    by_kind = {shelf.id: _shelved(shelf, found.values()) for shelf in overrides.kinds}
    shelves = tuple(ModelKind(each.id, each.title, each.title_ru, each.emoji) for each in overrides.kinds)
    return _Catalogue(shelves, by_kind, found, {model.slug: model for model in found.values()})


def _read(name: str) -> bytes:
    return resources.files("kiebot.generation").joinpath(name).read_bytes()


def _model(raw: _RawModel, overrides: _Overrides, labels: Labels) -> Model:
    overlay = overrides.models.get(raw.id) or _RawOverlay(reason="")
    schema = _merged(raw.input, {"properties": overlay.inputs})
    extra = msgspec.structs.asdict(overlay) | {"hidden": [*overrides.hidden, *overlay.hidden]}
    shelf = next(each.id for each in overrides.kinds if raw.type in each.types)
    expected = overrides.expected_seconds
    return Model(
        id=raw.id,
        slug=short_key(raw.id, SLUG_LETTERS),
        title=raw.title,
        vendor=raw.vendor,
        type=raw.type,
        kind=overlay.kind or shelf,
        output=raw.output,
        summary=raw.summary,
        summary_ru=raw.summary_ru,
        inputs=tuple(
            field_from_schema(
                name,
                property_schema,
                required=name in schema.get("required", ()),
                labels=labels,
                extra=extra,
                filters=overrides.content_filter,
            )
            for name, property_schema in schema["properties"].items()
        ),
        price=_price(raw, overlay.price),
        rules=tuple(_rule(each) for each in overlay.rules),
        follows=tuple(Follow(each["when"], each["set"]) for each in overlay.follows),
        schema=schema,
        expected_seconds=expected.models.get(raw.id, expected.types[raw.type]),
    )


def _merged(base: Mapping[str, Any], patch: Mapping[str, Any]) -> dict[str, Any]:
    both = {
        name: _merged(base[name], value) if isinstance(base.get(name), dict) else value for name, value in patch.items()
    }
    return {**base, **both}


def _price(raw: _RawModel, added: _RawPrice) -> PriceList:
    price = raw.price
    if price is None or price.credits is None:
        raise ValueError(f"{raw.id} is live without a price")
    extra = added.extra_items
    return PriceList(
        base_millicredits=_millicredits(price.credits),
        rules=tuple(PriceRule(each.when, _millicredits(each.credits)) for each in price.rules),
        per=price.per,
        times=price.times,
        times_is_ceiling=added.times_is_ceiling,
        seconds_from=price.seconds_from,
        adds_seconds_of=added.adds_seconds_of,
        extra_items=(extra.field, extra.after, _millicredits(extra.credits)) if extra else None,
        megapixels=added.megapixels,
        output_sides=added.output_sides,
    )


def _millicredits(credits: Decimal) -> int:
    """Raises: ValueError, for a price finer than a millicredit: it could not be booked exactly."""
    scaled = credits * 1000
    if scaled != int(scaled):
        raise ValueError(f"{credits} credits is finer than a millicredit")
    return int(scaled)


def _rule(raw: Mapping[str, Any]) -> Rule:
    return Rule(raw["code"], tuple(raw["fields"]), raw.get("when", {}), raw.get("min"), raw.get("max"))


def _shelved(shelf: _Shelf, found: Iterable[Model]) -> tuple[Model, ...]:
    first = {model_id: position for position, model_id in enumerate(shelf.first)}
    members = [model for model in found if model.kind == shelf.id]
    return tuple(sorted(members, key=lambda model: (first.get(model.id, len(first)), _rough_cost(model), model.title)))


def _rough_cost(model: Model) -> int:
    cheapest = min((rule.millicredits for rule in model.price.rules), default=model.price.base_millicredits)
    return cheapest * (_SECONDS_OF_A_TYPICAL_CLIP if model.price.per == "second" else 1)
