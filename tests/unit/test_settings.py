"""Settings: every problem at once, named, without a value; defaults of the platform; secrets from files."""

from __future__ import annotations

import os
import socket
from decimal import Decimal
from pathlib import Path

import pytest

from kiebot.observe.redaction import Redactor
from kiebot.settings import SECRETS, ConfigurationError, Settings, configuration_markdown, describe, load_settings

TOKEN = "123456789:AAFcanary0canary1canary2canary3_-xyz"
KEY = "kie-canary-0123456789abcdef"
DOCS = Path(__file__).parents[2] / "docs" / "configuration.md"


class Environment:
    """The environment variables and the `.env` of a process that is about to start."""

    def __init__(self, patch: pytest.MonkeyPatch, folder: Path) -> None:
        self._patch = patch
        self.folder = folder
        for name in (*os.environ,):
            if name.removesuffix("_FILE").lower() in Settings.model_fields or name.startswith("RENDER_"):
                patch.delenv(name)
        patch.chdir(folder)

    def set(self, **values: str) -> None:
        for name, value in values.items():
            self._patch.setenv(name, value)

    def file(self, name: str, content: str | bytes) -> str:
        path = self.folder / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return str(path)

    def problems(self, **values: str) -> list[str]:
        self.set(**values)
        with pytest.raises(ConfigurationError) as raised:
            load_settings()
        assert str(raised.value) == "\n".join(raised.value.problems)
        return raised.value.problems

    def problem(self, **values: str) -> str:
        [problem] = self.problems(**values)
        return problem


@pytest.fixture
def bare(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Environment:
    return Environment(monkeypatch, tmp_path)


@pytest.fixture
def env(bare: Environment) -> Environment:
    bare.set(TELEGRAM_BOT_TOKEN=TOKEN, KIE_API_KEY=KEY)
    return bare


def test_two_secrets_are_all_that_is_needed(env: Environment) -> None:
    settings = load_settings()
    assert settings.bot_id == 123456789
    assert settings.bot_mode == "polling"
    assert (settings.lease_ttl_s, settings.lease_renew_s) == (10.0, 2.0)
    assert (settings.max_jobs, settings.db_pool_size, settings.shutdown_grace_s) == (64, 10, 25.0)
    assert (settings.max_running_per_user, settings.max_open_per_user, settings.kie_create_per_10s) == (3, 20, 20)
    assert (settings.markup, settings.kie_credit_usd) == (Decimal(2), Decimal("0.005"))
    assert settings.stars_per_credit == 1
    assert settings.content_filter
    assert [settings.database_url, settings.redis_url, settings.lease_url, settings.port] == [None] * 4
    assert settings.redis_prefix == "kiebot"


def test_without_any_setting_both_secrets_are_named(bare: Environment) -> None:
    assert bare.problems() == ["TELEGRAM_BOT_TOKEN: is not set", "KIE_API_KEY: is not set"]


def test_an_empty_variable_is_the_same_as_none(env: Environment) -> None:
    env.set(PORT="", PUBLIC_URL="", LEASE_TTL_S="", ADMIN_IDS="", WEBHOOK_SECRET="", REPLICA_ID="")
    settings = load_settings()
    assert (settings.port, settings.public_url, settings.lease_ttl_s) == (None, None, 10.0)


def test_every_problem_is_told_at_once_single_values_and_pairs_alike(bare: Environment) -> None:
    problems = bare.problems(
        TELEGRAM_BOT_TOKEN="nonsense",
        DATABASE_URL="mysql://db",
        REDIS_URL="http://redis",
        BOT_MODE="webhook",
        PORT="70000",
        LEASE_TTL_S="5",
        LEASE_RENEW_S="2",
        MAX_RUNNING_PER_USER="30",
        ADMIN_IDS="1,anna",
        LOG_LEVEL="loud",
        MARKUP="0",
    )
    assert sorted(problem.split(":")[0] for problem in problems) == [
        "ADMIN_IDS",
        "DATABASE_URL",
        "KIE_API_KEY",
        "LEASE_RENEW_S",
        "LOG_LEVEL",
        "MARKUP",
        "MAX_OPEN_PER_USER",
        "PORT",
        "REDIS_URL",
        "TELEGRAM_BOT_TOKEN",
        "WEBHOOK_URL",
    ]


@pytest.mark.parametrize("name", [field.upper() for field in SECRETS])
def test_no_problem_shows_the_value_of_a_secret(bare: Environment, name: str) -> None:
    bare.set(TELEGRAM_BOT_TOKEN=TOKEN, KIE_API_KEY=KEY)
    problem = bare.problem(**{name: "x://canary:canary canary#/[\n"})
    assert problem.startswith(f"{name}: ")
    assert "canary" not in problem


@pytest.mark.parametrize("name", ["TELEGRAM_API_URL", "PUBLIC_URL", "WEBHOOK_URL", "KIE_API_URL", "KIE_UPLOAD_URL"])
@pytest.mark.parametrize("value", ["http://u:canary@[", "https://h:canary", "https://u:canary@h", "canary"])
def test_no_problem_shows_an_address_that_may_hold_one(env: Environment, name: str, value: str) -> None:
    assert "canary" not in env.problem(**{name: value})


@pytest.mark.parametrize(
    "token", ["123456789", "123456789:short", "bot123456789:" + "A" * 35, "0123:" + "A" * 35, TOKEN + " " + TOKEN]
)
def test_a_token_must_look_like_one(env: Environment, token: str) -> None:
    assert "bot token" in env.problem(TELEGRAM_BOT_TOKEN=token)


def test_white_space_around_a_secret_is_no_part_of_it(env: Environment) -> None:
    env.set(TELEGRAM_BOT_TOKEN=f" {TOKEN}\n", KIE_API_KEY=f"{KEY}\n")
    settings = load_settings()
    assert settings.telegram_bot_token.get_secret_value() == TOKEN
    assert settings.kie_api_key.get_secret_value() == KEY


@pytest.mark.parametrize("key", ["   ", "two words", "ключ", "a\x07b"])
def test_a_key_that_no_header_can_carry_is_refused(env: Environment, key: str) -> None:
    assert env.problem(KIE_API_KEY=key).startswith("KIE_API_KEY: ")


class TestFiles:
    def test_every_secret_may_come_from_a_file(self, bare: Environment) -> None:
        contents = {
            "telegram_bot_token": TOKEN,
            "kie_api_key": KEY,
            "database_url": "postgresql://db/kiebot",
            "database_migrate_url": "postgresql://owner@db/kiebot",
            "redis_url": "redis://redis:6379/0",
            "lease_url": "rediss://lease:6379/0",
            "webhook_secret": "webhook-secret-0123",
            "kie_webhook_key": "hmac-key",
        }
        assert set(contents) == set(SECRETS)
        for field, content in contents.items():
            bare.set(**{f"{field.upper()}_FILE": bare.file(field, content + "\n")})
        settings = load_settings()
        assert {field: getattr(settings, field).get_secret_value() for field in SECRETS} == contents

    def test_a_variable_goes_before_its_file(self, env: Environment) -> None:
        env.set(KIE_API_KEY_FILE=env.file("key", "another-key"))
        assert load_settings().kie_api_key.get_secret_value() == KEY

    def test_a_file_that_cannot_be_read_is_one_problem(self, bare: Environment) -> None:
        bare.set(TELEGRAM_BOT_TOKEN=TOKEN)
        assert bare.problem(KIE_API_KEY_FILE="/nowhere/canary").startswith("KIE_API_KEY_FILE: cannot be read")

    def test_an_optional_secret_that_cannot_be_read_is_never_taken_for_unset(self, env: Environment) -> None:
        assert env.problem(DATABASE_URL_FILE="/nowhere").startswith("DATABASE_URL_FILE: ")

    @pytest.mark.parametrize(("content", "word"), [(b" \n", "empty"), (b"\xff\xfecanary", "cannot be read")])
    def test_a_file_with_nothing_useful_in_it_is_a_problem(self, env: Environment, content: bytes, word: str) -> None:
        problem = env.problem(DATABASE_URL_FILE=env.file("url", content))
        assert word in problem
        assert "canary" not in problem

    def test_what_a_file_holds_is_checked_like_a_variable(self, bare: Environment) -> None:
        bare.set(KIE_API_KEY=KEY)
        problem = bare.problem(TELEGRAM_BOT_TOKEN_FILE=bare.file("token", "canary"))
        assert problem.startswith("TELEGRAM_BOT_TOKEN: ")
        assert "canary" not in problem


class TestEnvFile:
    def test_settings_are_read_from_it(self, bare: Environment) -> None:
        bare.file(".env", f"TELEGRAM_BOT_TOKEN={TOKEN}\nKIE_API_KEY='{KEY}'\nMAX_JOBS=7\nUNKNOWN=1\n")
        assert load_settings().max_jobs == 7

    def test_the_environment_goes_before_it(self, env: Environment) -> None:
        env.file(".env", "KIE_API_KEY=another-key\nMAX_JOBS=7\n")
        env.set(MAX_JOBS="8")
        settings = load_settings()
        assert (settings.max_jobs, settings.kie_api_key.get_secret_value()) == (8, KEY)

    def test_it_may_name_the_file_of_a_secret(self, bare: Environment) -> None:
        bare.file(".env", f"TELEGRAM_BOT_TOKEN={TOKEN}\nKIE_API_KEY_FILE={bare.file('key', KEY)}\n")
        assert load_settings().kie_api_key.get_secret_value() == KEY

    def test_a_file_named_by_the_environment_goes_before_a_value_in_it(self, bare: Environment) -> None:
        bare.file(".env", f"TELEGRAM_BOT_TOKEN={TOKEN}\nKIE_API_KEY=from-env-file\n")
        bare.set(KIE_API_KEY_FILE=bare.file("key", KEY))
        assert load_settings().kie_api_key.get_secret_value() == KEY

    def test_one_that_is_no_text_is_a_problem_without_its_contents(self, env: Environment) -> None:
        env.file(".env", b"MARKUP=3\nX=canary\xff\n")
        problem = env.problem()
        assert problem.startswith(".env: cannot be read")
        assert "canary" not in problem


class TestAddresses:
    @pytest.mark.parametrize(
        "address",
        [
            "https://api.example.com",
            "https://api.example.com:8443/base",
            "http://127.0.0.1:8081",
            "http://[::1]:8081",
            "http://localhost",
            "http://bot-api:8081",
            "http://10.1.2.3:8081",
            "http://host.docker.internal:8081",
        ],
    )
    def test_https_is_taken_from_anywhere_and_http_from_nearby(self, env: Environment, address: str) -> None:
        env.set(TELEGRAM_API_URL=address + "/")
        assert load_settings().telegram_api_url == address

    @pytest.mark.parametrize(
        "address",
        [
            "http://api.example.com",
            "http://8.8.8.8",
            "http://[2001:4860:4860::8888]:80",
            "ftp://api.example.com",
            "//api.example.com",
            "https://",
            "https://user@api.example.com",
            "https://api.example.com/?x=1",
        ],
    )
    def test_others_are_refused(self, env: Environment, address: str) -> None:
        assert env.problem(TELEGRAM_API_URL=address).startswith("TELEGRAM_API_URL: must")

    @pytest.mark.parametrize("scheme", ["postgresql", "postgres", "postgresql+asyncpg"])
    def test_every_usual_spelling_of_postgres_becomes_one(self, env: Environment, scheme: str) -> None:
        env.set(DATABASE_URL=f"{scheme}://u:postgres:%2F@db:5432/kiebot?sslmode=require")
        url = load_settings().database_url
        assert url is not None
        assert url.get_secret_value() == "postgresql://u:postgres:%2F@db:5432/kiebot?sslmode=require"

    @pytest.mark.parametrize("name", ["DATABASE_URL", "REDIS_URL"])
    def test_a_password_that_breaks_the_url_is_explained(self, env: Environment, name: str) -> None:
        scheme = "postgresql" if name == "DATABASE_URL" else "redis"
        problem = env.problem(**{name: f"{scheme}://user:can/ary@host:1/x"})
        assert "percent-encoded" in problem
        assert "can" not in problem.removeprefix(name).replace("special characters", "")

    def test_embedded_sockets_are_valid_urls(self, env: Environment) -> None:
        env.set(DATABASE_URL="postgresql://u:p@/kiebot?host=/run/user/0/kb", REDIS_URL="unix:///run/kb/redis.sock?db=0")
        assert load_settings().redis_url is not None


class TestWebhook:
    def test_it_needs_an_address(self, env: Environment) -> None:
        assert env.problem(BOT_MODE="webhook") == "WEBHOOK_URL: BOT_MODE=webhook needs it, or PUBLIC_URL"

    def test_a_broken_address_is_one_problem_not_two(self, env: Environment) -> None:
        assert env.problem(BOT_MODE="webhook", PUBLIC_URL="nonsense").startswith("PUBLIC_URL: ")

    def test_its_address_is_below_the_public_one(self, env: Environment) -> None:
        env.set(BOT_MODE="webhook", PUBLIC_URL="https://bot.example.com/")
        assert load_settings().webhook_address == "https://bot.example.com/telegram/webhook"

    def test_an_address_of_its_own_goes_first(self, env: Environment) -> None:
        env.set(BOT_MODE="webhook", PUBLIC_URL="https://bot.example.com", WEBHOOK_URL="https://hooks.example.com/t")
        assert load_settings().webhook_address == "https://hooks.example.com/t"

    def test_the_derived_secret_is_the_same_on_all_replicas_and_another_for_another_bot(self, env: Environment) -> None:
        first, second = load_settings().webhook_secret_value, load_settings().webhook_secret_value
        env.set(TELEGRAM_BOT_TOKEN=TOKEN[:-1] + "9")
        assert first == second != load_settings().webhook_secret_value
        assert len(first) == 64
        assert first.isalnum()

    @pytest.mark.parametrize("secret", ["short", "x" * 257, "with space 0123456", "кириллица-0123456789"])
    def test_a_secret_telegram_would_refuse_is_refused(self, env: Environment, secret: str) -> None:
        assert "16 to 256" in env.problem(WEBHOOK_SECRET=secret)


class TestPlatform:
    def test_render_gives_the_public_address_and_the_name(self, env: Environment) -> None:
        env.set(RENDER_EXTERNAL_URL="https://kiebot.onrender.com", RENDER_INSTANCE_ID="srv-abc-xyz12")
        settings = load_settings()
        assert (settings.public_url, settings.replica_id) == ("https://kiebot.onrender.com", "srv-abc-xyz12")

    def test_what_is_set_goes_before_what_render_gives(self, env: Environment) -> None:
        env.set(RENDER_EXTERNAL_URL="https://kiebot.onrender.com", RENDER_INSTANCE_ID="srv-abc-xyz12")
        env.set(PUBLIC_URL="https://bot.example.com", REPLICA_ID="blue-1")
        settings = load_settings()
        assert (settings.public_url, settings.replica_id) == ("https://bot.example.com", "blue-1")

    def test_elsewhere_a_replica_is_named_after_its_host(self, env: Environment) -> None:
        assert load_settings().replica_id == socket.gethostname()

    def test_renders_address_serves_the_webhook(self, env: Environment) -> None:
        env.set(BOT_MODE="webhook", RENDER_EXTERNAL_URL="https://kiebot.onrender.com")
        assert load_settings().webhook_address == "https://kiebot.onrender.com/telegram/webhook"


class TestNumbers:
    @pytest.mark.parametrize(
        ("ttl_s", "renew_s"), [("7.9", "2"), ("4", "1.01"), ("0", "1"), ("inf", "2"), ("nan", "1")]
    )
    def test_a_lease_without_room_for_four_renewals_is_refused(
        self, env: Environment, ttl_s: str, renew_s: str
    ) -> None:
        assert env.problem(LEASE_TTL_S=ttl_s, LEASE_RENEW_S=renew_s).startswith("LEASE_")

    def test_short_leases_that_fit_are_taken(self, env: Environment) -> None:
        env.set(LEASE_TTL_S="2", LEASE_RENEW_S="0.4")
        assert load_settings().lease_timing().ttl_s == 2.0

    @pytest.mark.parametrize("value", ["NaN", "Infinity", "-1", "0", "two"])
    def test_a_markup_must_be_a_number_above_zero(self, env: Environment, value: str) -> None:
        assert env.problem(MARKUP=value).startswith("MARKUP: ")

    def test_welcome_credits_are_whole_millicredits(self, env: Environment) -> None:
        env.set(WELCOME_CREDITS="12.345")
        assert load_settings().welcome_millicredits == 12345
        assert env.problem(WELCOME_CREDITS="0.0005").startswith("WELCOME_CREDITS: ")

    @pytest.mark.parametrize(("text", "ids"), [("1, 22 ,333,", {1, 22, 333}), ("7", {7}), (" , ", set())])
    def test_admins_are_listed_by_number(self, env: Environment, text: str, ids: set[int]) -> None:
        env.set(ADMIN_IDS=text)
        assert load_settings().admin_ids == ids

    @pytest.mark.parametrize("text", ["@anna", "-5", "0", "1_000", "1;2", "1.5", "٣", "9" * 20])
    def test_admins_are_never_guessed(self, env: Environment, text: str) -> None:
        assert env.problem(ADMIN_IDS=text).startswith("ADMIN_IDS: ")

    @pytest.mark.parametrize(("text", "is_on"), [("on", True), ("off", False), ("true", True), ("0", False)])
    def test_the_filter_is_on_or_off(self, env: Environment, text: str, is_on: bool) -> None:
        env.set(CONTENT_FILTER=text)
        assert load_settings().content_filter is is_on


def test_result_hosts_are_names_or_endpoints(env: Environment) -> None:
    env.set(KIE_RESULT_HOSTS="cdn.example.com, https://media.example.com/, 127.0.0.1:8099,[::1]:80")
    assert load_settings().kie_result_hosts == ("cdn.example.com", "media.example.com", "127.0.0.1:8099", "[::1]:80")


@pytest.mark.parametrize("hosts", ["cdn.example.com/path", "*.example.com", "host:0", "host:99999", "a b"])
def test_anything_else_is_no_result_host(env: Environment, hosts: str) -> None:
    assert env.problem(KIE_RESULT_HOSTS=hosts).startswith("KIE_RESULT_HOSTS: ")


def test_words_are_taken_in_any_case(env: Environment) -> None:
    env.set(LOG_LEVEL="debug", LOG_FORMAT="JSON", BOT_MODE="Polling")
    settings = load_settings()
    assert (settings.log_level, settings.log_format, settings.bot_mode) == ("DEBUG", "json", "polling")


def test_a_name_that_no_key_can_carry_is_refused(env: Environment) -> None:
    assert env.problem(REPLICA_ID="two words").startswith("REPLICA_ID: ")


def test_everything_secret_is_known_to_the_redaction(env: Environment) -> None:
    env.set(DATABASE_URL="postgresql://u:db-canary-1@db/x", REDIS_URL="redis://:redis-canary@r/0")
    settings = load_settings()
    redactor = Redactor()
    redactor.add(settings.secret_values())
    for text in (TOKEN, KEY, settings.webhook_secret_value, "db-canary-1", "redis-canary"):
        assert redactor(f"it is {text}") == "it is [redacted]"


def test_the_description_names_every_variable_and_masks_every_secret(env: Environment) -> None:
    env.set(DATABASE_URL="postgresql://u:canary@db/x", WEBHOOK_SECRET="canary-canary-canary", ADMIN_IDS="2,1")
    rows = {name: (value, meaning) for name, value, meaning in describe(load_settings())}
    assert set(rows) == {field.upper() for field in Settings.model_fields}
    assert "canary" not in str(rows)
    assert rows["KIE_API_KEY"][0] == rows["DATABASE_URL"][0] == "(set)"
    assert rows["REDIS_URL"][0] == "(not set)"
    assert rows["ADMIN_IDS"][0] == "1,2"
    assert rows["CONTENT_FILTER"][0] == "on"
    assert all(meaning for _, meaning in rows.values())


def test_settings_never_show_a_secret_by_themselves(env: Environment) -> None:
    settings = load_settings()
    assert "canary" not in repr(settings) + str(settings) + str(settings.model_dump())


def test_the_documentation_is_what_the_code_says() -> None:
    assert DOCS.read_text(encoding="utf-8") == configuration_markdown()
