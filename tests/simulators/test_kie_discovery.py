"""The catalogue calls."""

from collections.abc import AsyncIterator

import pytest

from tests.simulators.kie_client import KieClient, simulated


@pytest.fixture
async def kie() -> AsyncIterator[KieClient]:
    async with simulated() as client:
        yield client


async def test_the_list_can_be_searched(kie: KieClient) -> None:
    data = (await kie.get("/api/v1/models"))["data"]
    assert data["total"] == len(data["models"]) == 91
    assert set(data["models"][0]) == {
        "model", "slug", "title", "provider", "taskType", "description", "pricingDesc",
    }  # fmt: skip
    await kie.clock.advance(1)
    query = {"taskType": "Text to Video,Lip Sync", "provider": "kuaishou", "q": "avatar"}
    found = (await kie.get("/api/v1/models", params=query))["data"]["models"]
    assert {row["model"] for row in found} >= {"kling/ai-avatar-standard", "kling/ai-avatar-pro"}
    assert all(row["taskType"] in (["Text to Video"], ["Lip Sync"]) for row in found)


async def test_a_model_with_a_slash_has_schema_price_and_rates(kie: KieClient) -> None:
    model = "kling-3.0/video"
    schema = (await kie.get(f"/api/v1/models/{model}/schema"))["data"]
    request = schema["openapi"]["paths"]["/api/v1/jobs/createTask"]["post"]["requestBody"]
    assert "duration" in request["content"]["application/json"]["schema"]["properties"]["input"]["properties"]
    await kie.clock.advance(1)
    assert "18 credits per second" in (await kie.get(f"/api/v1/models/{model}/price"))["data"]["pricingDesc"]
    await kie.clock.advance(1)
    points = (await kie.get(f"/api/v1/models/{model}/success-rate"))["data"]["points"]
    assert len(points) == 144
    assert {point["end"] - point["start"] for point in points} == {600_000}
    assert None in {point["successRate"] for point in points}


async def test_one_schema_and_one_price_are_null(kie: KieClient) -> None:
    discovery = kie.sim.discovery
    assert (await kie.get(f"/api/v1/models/{discovery.without_schema}/schema"))["data"]["openapi"] is None
    await kie.clock.advance(1)
    assert (await kie.get(f"/api/v1/models/{discovery.without_price}/price"))["data"]["pricingDesc"] is None


@pytest.mark.parametrize("rest", ["no/such/schema", "sora-2-text-to-video/schema", "z-image/nothing", "z-image"])
async def test_unknown_models_and_calls_get_404(kie: KieClient, rest: str) -> None:
    assert (await kie.get(f"/api/v1/models/{rest}"))["code"] == 404


async def test_all_catalogue_calls_share_one_request_a_second(kie: KieClient) -> None:
    assert (await kie.get("/api/v1/models"))["code"] == 200
    assert (await kie.get("/api/v1/models/z-image/price"))["code"] == 429
    await kie.clock.advance(1)
    assert (await kie.get("/api/v1/models/z-image/price"))["code"] == 200


async def test_the_public_price_feed_needs_no_key(kie: KieClient) -> None:
    page = (await kie.anonymous.post("/client/v1/model-pricing/page", json={"pageNum": 2, "pageSize": 40})).json()
    assert (len(page["data"]["records"]), page["data"]["pages"]) == (40, 3)
    assert (await kie.anonymous.get("/client/v1/model-pricing/count")).json()["data"] == 91
