"""Checks one model of the catalogue: schema, defaults, price. Pure; run by `kiebot models check`."""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal

from jsonschema.exceptions import SchemaError
from jsonschema.validators import Draft202012Validator

from kiebot.errors import Refused
from kiebot.generation.fields import InputField
from kiebot.generation.pricing import price_from
from kiebot.generation.product import Model


def check_model(model: Model) -> Iterator[str]:
    """What is wrong with it, in sentences; nothing when all is well."""
    yield from _schema(model)
    for field in model.inputs:
        yield from _default(model, field)
    yield from _price(model)
    if not model.inputs:
        yield "has no inputs"
    if not (model.summary and model.summary_ru and model.title):
        yield "lacks a title or a summary"


def _schema(model: Model) -> Iterator[str]:
    try:
        Draft202012Validator.check_schema(dict(model.schema))
    except SchemaError as error:
        yield f"the schema is broken: {error.message}"
    names = set(model.schema.get("properties", {}))
    for name in model.schema.get("required", ()):
        if name not in names:
            yield f"requires {name}, which it does not have"


def _default(model: Model, field: InputField) -> Iterator[str]:
    if field.default is None:
        return
    part = model.schema["properties"].get(field.name)
    if part is None:
        return
    for error in Draft202012Validator(part).iter_errors(field.default):
        yield f"the default of {field.name} does not fit: {error.message}"


def _price(model: Model) -> Iterator[str]:
    try:
        cheapest = price_from(model, Decimal(1))
    except Refused as error:
        yield f"has no price: {error.code}"
        return
    if cheapest.price_millicredits <= 0:
        yield "costs nothing"
