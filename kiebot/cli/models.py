"""`kiebot models`: the catalogue as operators see it."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from decimal import Decimal

import click

from kiebot.errors import KiebotError
from kiebot.generation.catalog import kinds, model_by_id, models_of
from kiebot.generation.catalog import models as live_models
from kiebot.generation.check_catalog import check_model
from kiebot.generation.pricing import credits_text, price_from
from kiebot.generation.product import Model


@click.group()
def models() -> None:
    """What can be bought."""


@models.command("list")
@click.option("--markup", type=Decimal, default=Decimal(1), show_default=True, help="prices are KIE's times this")
@click.option("--json", "as_json", is_flag=True, help="for programs")
def list_models(markup: Decimal, as_json: bool) -> None:
    """Every model on sale, by kind, with its lowest price in credits."""
    if as_json:
        rows = [{"id": m.id, "slug": m.slug, "kind": m.kind, "type": m.type, "output": m.output} for m in live_models()]
        click.echo(json.dumps(rows, indent=2))
        return
    for kind in kinds():
        click.echo(f"{kind.title}")
        for model in models_of(kind.id):
            price = price_from(model, markup)
            click.echo(f"  {model.slug}  {model.id:<44} from {credits_text(price.price_millicredits)} per {price.unit}")


@models.command()
@click.argument("model_id")
def show(model_id: str) -> None:
    """One model: its inputs, limits and defaults."""
    model = _on_sale(model_id)
    click.echo(f"{model.title} ({model.vendor}), {model.type} -> {model.output}\n{model.summary}\n")
    for field in model.inputs:
        need = "required" if field.required else f"default {field.default!r}"
        choices = f" one of {', '.join(str(choice.value) for choice in field.choices)}" if field.choices else ""
        click.echo(f"  {field.name:<24} {field.kind.value:<10} {need}{choices}")


@models.command()
def check() -> None:
    """Check every schema, default and price of the catalogue. Status 1 when anything is wrong."""
    problems = [f"{model.id}: {problem}" for model in live_models() for problem in check_model(model)]
    for problem in problems:
        click.echo(problem)
    click.echo(f"{len(live_models())} models, {len(problems)} problems")
    sys.exit(1 if problems else 0)


@models.command()
@click.argument("model_ids", nargs=-1)
@click.option("--schemas", is_flag=True, help="compare the inputs of every model too: one call a second")
@click.option("--json", "as_json", is_flag=True, help="for programs")
def refresh(model_ids: Sequence[str], schemas: bool, as_json: bool) -> None:
    """Compare the catalogue with KIE's own list, and the inputs of MODEL_IDS. Changes nothing.

    Status 1 when KIE does not list a model on sale any more, or describes one otherwise.
    """
    from kiebot.cli.refresh import compare  # here: the other commands of this group need no adapters

    wanted = live_models() if schemas else [_on_sale(model_id) for model_id in model_ids]
    try:
        found = compare(wanted)
    except KiebotError as error:
        raise click.ClickException(str(error)) from None
    click.echo(json.dumps(found.as_json, indent=2) if as_json else found.as_text)
    sys.exit(1 if found.gone or found.different else 0)


def _on_sale(model_id: str) -> Model:
    model = model_by_id(model_id)
    if model is None:
        raise click.ClickException(f"no such model on sale: {model_id}")
    return model
