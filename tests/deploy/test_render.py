"""render.yaml, read as Render reads it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from kiebot.settings import SECRETS, Settings
from tests.deploy.reading import (
    ROOT,
    SIMULATED_TOKEN,
    VARIABLES,
    check_command,
    document,
    schema_errors,
    settings_from,
)

WORKER, WEB = "kie-ai-bot", "kie-ai-bot-web"
PROMPTED = {"TELEGRAM_BOT_TOKEN": SIMULATED_TOKEN, "KIE_API_KEY": "simulated-key-for-compose-only"}
PLATFORM = {"RENDER_EXTERNAL_URL": "https://shop.example"}
CONNECTION = {
    "kie-ai-bot-postgres": "postgresql://kiebot:x@database:5432/kiebot",
    "kie-ai-bot-keyvalue": "redis://red-0:6379",
}
POSTGRES_CONNECTIONS = 97  # of the smallest plan, after what is reserved for superusers


@pytest.fixture(scope="module")
def blueprint() -> dict[str, Any]:
    return document("render.yaml")


def service(blueprint: dict[str, Any], name: str) -> dict[str, Any]:
    found: dict[str, Any] = next(entry for entry in blueprint["services"] if entry["name"] == name)
    return found


def environment_of(blueprint: dict[str, Any], name: str) -> dict[str, str]:
    """What Render gives the service, with both prompts answered."""
    found = dict(PLATFORM) if service(blueprint, name)["type"] == "web" else {}
    for entry in service(blueprint, name)["envVars"]:
        if "fromGroup" in entry:
            group = next(one for one in blueprint["envVarGroups"] if one["name"] == entry["fromGroup"])
            found |= {item["key"]: item["value"] for item in group["envVars"]}
        else:
            found[entry["key"]] = value_of(blueprint, entry)
    return found


def value_of(blueprint: dict[str, Any], entry: Mapping[str, Any]) -> str:
    if "value" in entry:
        return str(entry["value"])
    if "fromDatabase" in entry:
        assert entry["fromDatabase"]["name"] in {one["name"] for one in blueprint["databases"]}
        return CONNECTION[entry["fromDatabase"]["name"]]
    if "fromService" in entry:
        source = entry["fromService"]
        assert service(blueprint, source["name"])["type"] == source["type"]
        if "envVarKey" in source:
            return environment_of(blueprint, source["name"])[source["envVarKey"]]
        return CONNECTION[source["name"]]
    return PROMPTED[entry["key"]]


def test_the_blueprint_follows_renders_format() -> None:
    assert schema_errors("render.yaml", "render.schema.json") == []


def test_render_asks_for_the_two_secrets_and_for_nothing_else(blueprint: dict[str, Any]) -> None:
    prompted = [
        entry["key"] for one in blueprint["services"] for entry in one.get("envVars", []) if entry.get("sync") is False
    ]
    assert sorted(prompted) == sorted(PROMPTED)


def test_no_secret_stands_in_the_file(blueprint: dict[str, Any]) -> None:
    plain = [entry for one in blueprint["services"] for entry in one.get("envVars", []) if "value" in entry]
    grouped = [entry for group in blueprint["envVarGroups"] for entry in group["envVars"]]
    assert {entry["key"] for entry in plain + grouped}.isdisjoint({name.upper() for name in SECRETS})


def test_every_variable_is_a_setting_and_is_set_once(blueprint: dict[str, Any]) -> None:
    groups = {group["name"]: [entry["key"] for entry in group["envVars"]] for group in blueprint["envVarGroups"]}
    for name in (WORKER, WEB):
        keys: list[str] = []
        for entry in service(blueprint, name)["envVars"]:
            keys += groups[entry["fromGroup"]] if "fromGroup" in entry else [entry["key"]]
        assert len(keys) == len(set(keys))
        assert set(keys) <= VARIABLES


def test_the_worker_is_started_by_arq_and_is_more_than_one(blueprint: dict[str, Any]) -> None:
    worker = service(blueprint, WORKER)
    assert worker["type"] == "worker"
    assert worker["dockerCommand"] == "arq workers.settings"
    assert worker["numInstances"] >= 2


def test_every_command_exists(blueprint: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (WORKER, WEB):
        for command in ("dockerCommand", "preDeployCommand"):
            check_command(service(blueprint, name)[command].split(), {}, monkeypatch)
        assert (ROOT / service(blueprint, name)["dockerfilePath"]).is_file()


def test_every_replica_can_start_with_what_render_gives_it(
    blueprint: dict[str, Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    worker, web = (
        settings_from(environment_of(blueprint, name), monkeypatch, tmp_path).model_dump() for name in (WORKER, WEB)
    )
    assert worker["port"] is None  # nothing can reach a worker
    assert web["port"] == 10000
    assert worker["public_url"] == web["public_url"] == PLATFORM["RENDER_EXTERNAL_URL"]
    assert {name for name in worker if worker[name] != web[name]} == {"port"}


def test_a_change_to_webhooks_is_one_word(
    blueprint: dict[str, Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name in (WORKER, WEB):
        environment = environment_of(blueprint, name) | {"BOT_MODE": "webhook"}
        settings = settings_from(environment, monkeypatch, tmp_path)
        assert settings.webhook_address == "https://shop.example/telegram/webhook"


def test_render_waits_longer_than_a_drain_takes(
    blueprint: dict[str, Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name in (WORKER, WEB):
        settings = settings_from(environment_of(blueprint, name), monkeypatch, tmp_path)
        assert service(blueprint, name)["maxShutdownDelaySeconds"] >= settings.shutdown_grace_s + 15


def test_old_and_new_version_together_fit_into_the_database(
    blueprint: dict[str, Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    needed = 0
    for name in (WORKER, WEB):
        settings: Settings = settings_from(environment_of(blueprint, name), monkeypatch, tmp_path)
        needed += 2 * service(blueprint, name)["numInstances"] * settings.db_pool_size
    assert needed < POSTGRES_CONNECTIONS


def test_readiness_gates_the_web_replica(blueprint: dict[str, Any]) -> None:
    assert service(blueprint, WEB)["healthCheckPath"] == "/readyz"


def test_the_stores_are_private_never_evict_and_are_near(blueprint: dict[str, Any]) -> None:
    keyvalue = service(blueprint, "kie-ai-bot-keyvalue")
    assert keyvalue["maxmemoryPolicy"] == "noeviction"
    assert keyvalue["ipAllowList"] == []
    assert all(database["ipAllowList"] == [] for database in blueprint["databases"])
    assert len({entry["region"] for entry in blueprint["services"] + blueprint["databases"]}) == 1
