"""KIE's own list of models, read at the pace KIE allows, against the simulator."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass, field

import pytest
from redis.asyncio import Redis

from kiebot.clock import SystemClock
from kiebot.errors import AccountStopped, Permanent
from kiebot.generation.catalog import model_by_id, models
from kiebot.generation.compare_catalog import differences
from kiebot.kie.budget import Budget
from kiebot.kie.client import KieProvider
from kiebot.kie.discovery import CATALOGUE_LIMIT, KieDiscovery, input_schema
from kiebot.simulators.kie import KieSimulator
from kiebot.simulators.server import SimulatorServer


@dataclass
class Shop:
    kie: KieSimulator
    url: str
    redis: Redis
    providers: list[KieProvider] = field(default_factory=list)

    def provider(self, key: str = "k-test") -> KieProvider:
        self.providers.append(KieProvider(key, api_url=self.url))
        return self.providers[-1]

    def discovery(self, key: str = "k-test") -> KieDiscovery:
        return KieDiscovery(self.provider(key), Budget(self.redis, "t:kie:models", CATALOGUE_LIMIT), SystemClock())


@pytest.fixture
async def shop(redis: Redis) -> AsyncIterator[Shop]:
    kie = KieSimulator(api_key="k-test")
    async with kie, SimulatorServer(kie.asgi) as server:
        opened = Shop(kie, server.url, redis)
        yield opened
        for provider in opened.providers:
            await provider.close()


async def test_two_that_ask_at_once_keep_to_one_call_a_second_together(shop: Shop) -> None:
    first, second = shop.discovery(), shop.discovery()
    listed = await first.listed()
    schema = await second.schema("kling-3.0/video")
    assert {"z-image", "kling-3.0/video"} <= {each.model_id for each in listed}
    assert any(each.price == "0.8 credits per image" for each in listed)
    assert schema is not None
    assert "duration" in schema["properties"]
    assert [entry.code for entry in shop.kie.journal] == [200, 200]


async def test_a_refusal_by_the_pace_is_waited_out(shop: Shop) -> None:
    await shop.provider().catalogue()  # somebody who does not keep to it
    assert len(await shop.discovery().listed()) > 80


async def test_an_unknown_model_is_told_and_a_missing_schema_is_nothing(shop: Shop) -> None:
    with pytest.raises(Permanent) as caught:
        await shop.discovery().schema("no/such")
    assert caught.value.code == "unknown_model"
    assert await shop.discovery().schema(shop.kie.discovery.without_schema) is None


async def test_a_refused_key_says_so(shop: Shop) -> None:
    with pytest.raises(AccountStopped):
        await shop.discovery("another key").listed()


@pytest.mark.parametrize("openapi", [None, [], {"paths": []}, {"paths": {"/x": {"post": {"requestBody": "y"}}}}])
def test_a_description_of_another_shape_is_none(openapi: object) -> None:
    assert input_schema(openapi) is None


def test_a_model_agrees_with_itself() -> None:
    for model in models():
        assert list(differences(model, model.schema)) == []


def test_every_difference_is_named() -> None:
    model = model_by_id("z-image")
    assert model is not None
    theirs = {
        "properties": {
            "prompt": {"type": "string"},
            "aspect_ratio": {"enum": ["1:1", "21:9"]},
            "seed": {"type": "integer"},
            "style": {"type": "string"},
        },
        "required": ["prompt", "style"],
    }
    assert list(differences(model, theirs)) == [
        "the provider does not know the input nsfw_checker",
        "the provider requires the input style, which is not offered",
        "the input seed is not offered",
        "aspect_ratio: the provider does not take 4:3, 3:4, 16:9, 9:16",
        "aspect_ratio: not offered: 21:9",
    ]
