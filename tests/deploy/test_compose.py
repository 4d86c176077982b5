"""docker-compose.yml and its simulators, read as compose reads them."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from tests.deploy.reading import (
    ROOT,
    SIMULATED_TOKEN,
    VARIABLES,
    check_command,
    document,
    interpolated,
    merged,
    schema_errors,
    seconds,
    settings_from,
)

BASE, OVER = "docker-compose.yml", "docker-compose.simulators.yml"
REPLICAS = ("replica", "web")
OURS = (*REPLICAS, "migrate")


@pytest.fixture(scope="module")
def base() -> dict[str, Any]:
    return document(BASE)


@pytest.fixture(scope="module")
def simulated() -> dict[str, Any]:
    whole: dict[str, Any] = merged(document(BASE), document(OVER))
    return whole


def environment_of(service: dict[str, Any], directory: str) -> dict[str, str]:
    """With nothing set around compose, and the secrets' files where they lie on this side of the mount."""
    found = {name: interpolated(value, {}) for name, value in service.get("environment", {}).items()}
    return {name: value.replace("/run/secrets", str(ROOT / directory)) for name, value in found.items()}


@pytest.mark.parametrize("name", [BASE, OVER])
def test_a_compose_file_follows_the_specification(name: str) -> None:
    assert schema_errors(name, "compose.schema.json") == []


def test_every_variable_given_to_kiebot_is_a_setting(simulated: dict[str, Any]) -> None:
    ours = [service for service in simulated["services"].values() if service["command"][0] == "kiebot"]
    assert len(ours) == 5
    for service in ours:
        assert set(service["environment"]) <= VARIABLES


def test_every_command_exists(simulated: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    for service in simulated["services"].values():
        if service["command"][0] == "kiebot":
            check_command(service["command"], environment_of(service, "deploy/simulated"), monkeypatch)


def test_whatever_a_service_names_is_declared(simulated: dict[str, Any]) -> None:
    services = simulated["services"]
    for name, service in services.items():
        assert set(service.get("depends_on", {})) <= services.keys() - {name}
        assert set(service.get("networks", [])) <= simulated["networks"].keys()
        assert set(service.get("secrets", [])) <= simulated["secrets"].keys()
        assert {v["source"] for v in service.get("volumes", []) if "source" in v} <= simulated["volumes"].keys()


def test_every_secret_is_a_file_that_its_service_is_given(base: dict[str, Any]) -> None:
    used = set()
    for service in base["services"].values():
        for name, value in service.get("environment", {}).items():
            if name.endswith("_FILE"):
                assert value == f"/run/secrets/{Path(value).name}"
                assert Path(value).name in service["secrets"]
        used |= set(service.get("secrets", []))
    assert used == base["secrets"].keys()
    assert all(secret["file"] == f"./secrets/{name}" for name, secret in base["secrets"].items())


def test_who_waits_for_health_waits_for_someone_who_reports_it(simulated: dict[str, Any]) -> None:
    services = simulated["services"]
    for service in services.values():
        for other, wanted in service.get("depends_on", {}).items():
            if wanted["condition"] == "service_healthy":
                assert "test" in services[other]["healthcheck"]


@pytest.mark.parametrize("name", REPLICAS)
def test_a_replica_starts_after_stores_and_migrations(base: dict[str, Any], name: str) -> None:
    conditions = {other: wanted["condition"] for other, wanted in base["services"][name]["depends_on"].items()}
    assert conditions == {
        "postgres": "service_healthy",
        "valkey": "service_healthy",
        "migrate": "service_completed_successfully",
    }
    assert base["services"]["migrate"]["command"] == ["kiebot", "migrate"]
    assert base["services"]["migrate"]["restart"].startswith("on-failure")  # a one-shot that restarts never completes


def test_replicas_can_be_scaled(base: dict[str, Any]) -> None:
    replica = base["services"]["replica"]
    assert replica["deploy"]["replicas"] == 3
    assert "ports" not in replica
    assert not any("container_name" in service for service in base["services"].values())


def test_only_the_web_replica_is_published_and_by_default_to_this_host_alone(base: dict[str, Any]) -> None:
    published = {name: service["ports"] for name, service in base["services"].items() if "ports" in service}
    assert published.keys() == {"web"}
    assert interpolated(published["web"][0], {}) == "127.0.0.1:10000:10000"
    assert interpolated(published["web"][0], {"WEB_ADDRESS": "0.0.0.0:80"}) == "0.0.0.0:80:10000"


@pytest.mark.parametrize("name", REPLICAS)
def test_compose_waits_longer_than_a_drain_takes(
    base: dict[str, Any], name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    service = base["services"][name]
    settings = settings_from(environment_of(service, "deploy/simulated"), monkeypatch, tmp_path)
    assert seconds(service["stop_grace_period"]) >= settings.shutdown_grace_s + 15


@pytest.mark.parametrize("name", OURS)
def test_our_containers_run_with_as_little_as_they_need(base: dict[str, Any], name: str) -> None:
    service = base["services"][name]
    assert service["init"] and service["read_only"]
    assert service["cap_drop"] == ["ALL"]
    assert "no-new-privileges:true" in service["security_opt"]


def test_every_container_has_limits_a_restart_policy_and_bounded_logs(simulated: dict[str, Any]) -> None:
    for name, service in simulated["services"].items():
        limits = service["deploy"]["resources"]["limits"]
        assert limits.keys() == {"cpus", "memory"}
        assert service["restart"] != "no"
        assert name in ("telegram", "kie") or service["logging"]["options"].keys() == {"max-size", "max-file"}


def test_the_stores_are_out_of_the_worlds_reach(base: dict[str, Any]) -> None:
    assert base["networks"]["stores"]["internal"] is True
    for name in ("postgres", "valkey"):
        assert base["services"][name]["networks"] == ["stores"]


def test_the_queues_store_keeps_what_it_was_given(base: dict[str, Any]) -> None:
    words = base["services"]["valkey"]["command"]
    options = dict(zip(words[2::2], words[3::2], strict=True))
    assert options["--maxmemory-policy"] == "noeviction"
    assert options["--appendonly"] == "yes"
    assert words[1] == "/run/secrets/valkey_auth"


def test_the_health_check_asks_the_port_that_is_served(
    base: dict[str, Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name in REPLICAS:
        service = base["services"][name]
        settings = settings_from(environment_of(service, "deploy/simulated"), monkeypatch, tmp_path)
        assert f"http://127.0.0.1:{settings.port}/readyz" in service["healthcheck"]["test"][-1]
        assert all(port.endswith(f":{settings.port}") for port in service.get("ports", []))


def test_the_made_up_secrets_agree_with_each_other_and_with_the_simulators(simulated: dict[str, Any]) -> None:
    secret = {name: (ROOT / entry["file"]).read_text().strip() for name, entry in simulated["secrets"].items()}
    assert secret["telegram_bot_token"] == SIMULATED_TOKEN
    assert simulated["services"]["telegram"]["environment"]["TELEGRAM_BOT_TOKEN"] == SIMULATED_TOKEN
    assert simulated["services"]["kie"]["environment"]["KIE_API_KEY"] == secret["kie_api_key"]
    assert urlsplit(secret["database_url"]).password == secret["postgres_password"]
    assert secret["valkey_auth"] == f"requirepass {urlsplit(secret['redis_url']).password}"


@pytest.mark.parametrize("name", REPLICAS)
def test_on_simulators_a_replica_has_everything_and_calls_nobody_else(
    simulated: dict[str, Any], name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    service = simulated["services"][name]
    settings = settings_from(environment_of(service, "deploy/simulated"), monkeypatch, tmp_path)
    addresses = (settings.telegram_api_url, settings.kie_api_url, settings.kie_upload_url, settings.public_url or "")
    for address in addresses:
        target = simulated["services"][urlsplit(address).hostname or ""]
        assert str(urlsplit(address).port) in " ".join([*target["command"], *target["ports"]])
    assert settings.kie_result_hosts == (urlsplit(settings.kie_api_url).netloc,)
    assert settings.database_url is not None and settings.redis_url is not None
    hosts = {urlsplit(url.get_secret_value()).hostname for url in (settings.database_url, settings.redis_url)}
    assert hosts == {"postgres", "valkey"}
