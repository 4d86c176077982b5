from __future__ import annotations

from typing import Any

import pytest

from kiebot.botapi.setup import TokenState
from kiebot.cli import checks
from kiebot.cli.checks import State
from kiebot.settings import Settings
from kiebot.storage.migrate import HEAD


def settings(**more: Any) -> Settings:
    made_up = {"telegram_bot_token": "7000:" + "fake" * 9, "kie_api_key": "k", "public_url": None, "port": None}
    given: dict[str, Any] = {"_env_file": None, **made_up, **more}
    return Settings(**given)


@pytest.mark.parametrize(
    ("facts", "state", "words"),
    [
        ({"redis_version": "7.0.15", "maxmemory_policy": "noeviction"}, State.OK, "Redis 7.0.15"),
        ({"redis_version": "6.2.7", "maxmemory_policy": "noeviction"}, State.FAIL, "too old"),
        ({"redis_version": "7.4.6", "maxmemory_policy": "allkeys-lru"}, State.FAIL, "allkeys-lru"),
        ({"redis_version": "7.4.5", "maxmemory_policy": "noeviction"}, State.WARN, "known hole"),
        ({"redis_version": "7.2.4", "valkey_version": "8.1.4", "maxmemory_policy": "noeviction"}, State.OK, "Valkey"),
        ({"redis_version": "7.2.4", "valkey_version": "8.1.3", "maxmemory_policy": "noeviction"}, State.WARN, "hole"),
        ({"redis_version": "9.1.0"}, State.OK, "noeviction"),
        ({}, State.FAIL, "too old"),
    ],
)
def test_a_redis_that_forgets_or_is_old_is_named(facts: dict[str, object], state: State, words: str) -> None:
    (found,) = checks.redis_facts(facts)
    assert found.state is state
    assert words in found.said
    assert bool(found.fix) is (state is not State.OK)


@pytest.mark.parametrize(
    ("version", "state"), [(None, State.FAIL), ("0001", State.FAIL), (HEAD, State.OK), ("9999", State.WARN)]
)
def test_the_schema_is_this_versions(version: str | None, state: State) -> None:
    assert checks.schema(version).state is state


@pytest.mark.parametrize("version", [None, "0001", HEAD])
def test_the_schema_of_an_embedded_store_is_the_replicas_business(version: str | None) -> None:
    assert checks.schema(version, is_embedded=True).state is State.OK


@pytest.mark.parametrize(
    ("ahead_s", "unsure_s", "state"),
    [(0.1, 0.01, State.OK), (-4.9, 0.0, State.OK), (6.0, 0.5, State.FAIL), (-6.0, 0.5, State.FAIL), (6.0, 2, State.OK)],
)
def test_clocks_may_differ_by_seconds_that_no_round_trip_explains(
    ahead_s: float, unsure_s: float, state: State
) -> None:
    assert checks.skew(ahead_s, unsure_s).state is state


OURS = "https://shop.example.org/telegram/webhook"


@pytest.mark.parametrize(
    ("mode", "url", "error", "state"),
    [
        ("polling", "", None, State.OK),
        ("polling", OURS, None, State.WARN),
        ("webhook", "", None, State.WARN),
        ("webhook", "https://other.example.org/x", None, State.WARN),
        ("webhook", OURS, "Connection refused", State.WARN),
        ("webhook", OURS, None, State.OK),
    ],
)
def test_the_webhook_is_compared_with_the_mode(mode: str, url: str, error: str | None, state: State) -> None:
    told = TokenState(7000, "shop_bot", "Shop", url, 0, (), error)
    found = checks.webhook(settings(bot_mode=mode, public_url="https://shop.example.org"), told)
    assert found.state is state


@pytest.mark.parametrize(
    ("more", "state"),
    [
        ({}, State.WARN),
        ({"public_url": "https://shop.example.org", "port": 80}, State.OK),
        ({"public_url": "https://shop.example.org"}, State.WARN),
        ({"public_url": "http://localhost:8000", "port": 80}, State.FAIL),
        ({"public_url": "https://10.0.0.7", "port": 80}, State.FAIL),
        ({"public_url": "https://shop.internal", "port": 80}, State.FAIL),
        ({"public_url": "https://shop.example.org:9000", "port": 80}, State.OK),
        ({"public_url": "https://shop.example.org:9000", "port": 80, "bot_mode": "webhook"}, State.FAIL),
    ],
)
def test_a_public_address_has_a_form_that_the_world_can_reach(more: dict[str, Any], state: State) -> None:
    assert checks.public_address(settings(**more)).state is state


@pytest.mark.parametrize(("left", "state"), [(0, State.FAIL), (99_999, State.WARN), (100_000, State.OK)])
def test_few_credits_are_a_warning_and_none_a_failure(left: int, state: State) -> None:
    assert checks.credits_left(left).state is state
