"""`kiebot models refresh`: what is on sale here beside what KIE says of it."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field

from kiebot.bootstrap import Stores, open_stores
from kiebot.clock import SystemClock
from kiebot.errors import Permanent
from kiebot.generation.catalog import model_by_id, models
from kiebot.generation.compare_catalog import differences
from kiebot.generation.product import Model
from kiebot.jobs.pool import make_pool
from kiebot.kie.budget import Budget
from kiebot.kie.client import KieProvider
from kiebot.kie.discovery import CATALOGUE_LIMIT, KieDiscovery, Listed
from kiebot.settings import Settings, load_settings


@dataclass(slots=True)
class Compared:
    """What KIE says, beside what is on sale here."""

    listed: list[Listed] = field(default_factory=list)
    gone: list[str] = field(default_factory=list)
    new: list[Listed] = field(default_factory=list)
    different: dict[str, list[str]] = field(default_factory=dict)

    @property
    def as_json(self) -> dict[str, object]:
        new = [
            {"id": each.model_id, "title": each.title, "types": each.task_types, "price": each.price}
            for each in self.new
        ]
        return {"listed": len(self.listed), "gone": self.gone, "new": new, "different": self.different}

    @property
    def as_text(self) -> str:
        lines = [f"gone: {model_id}" for model_id in self.gone]
        lines += [f"new: {each.model_id} ({', '.join(each.task_types)}) {each.price}".rstrip() for each in self.new]
        lines += [f"{model_id}: {told}" for model_id, every in self.different.items() for told in every]
        gone, new = len(self.gone), len(self.new)
        lines.append(f"KIE lists {len(self.listed)} models; {gone} of ours are gone, {new} are not sold here")
        return "\n".join(lines)


def compare(wanted: Sequence[Model]) -> Compared:
    """The list, and the inputs of the models wanted: one call a second. Raises: KiebotError."""
    settings = load_settings()
    stores = open_stores(settings)
    try:
        return asyncio.run(_compare(settings, stores, wanted))
    finally:
        stores.close()


async def _compare(settings: Settings, stores: Stores, wanted: Sequence[Model]) -> Compared:
    redis, clock = make_pool(stores.redis_url, prefix=settings.redis_prefix), SystemClock()
    budget = Budget(redis, f"{settings.redis_prefix}:kie:models", CATALOGUE_LIMIT, clock=clock)
    provider = KieProvider(settings.kie_api_key.get_secret_value(), api_url=settings.kie_api_url)
    try:
        discovery = KieDiscovery(provider, budget, clock)
        found = Compared(listed=await discovery.listed())
        known = {each.model_id for each in found.listed}
        found.gone = [model.id for model in models() if model.id not in known]
        found.new = [each for each in found.listed if model_by_id(each.model_id) is None]
        for model in wanted:
            if told := await _differences(discovery, model):
                found.different[model.id] = told
        return found
    finally:
        await provider.close()
        await redis.aclose(close_connection_pool=True)


async def _differences(discovery: KieDiscovery, model: Model) -> list[str]:
    try:
        schema = await discovery.schema(model.id)
    except Permanent:
        return ["KIE does not know it"]
    return [] if schema is None else list(differences(model, schema))
