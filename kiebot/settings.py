"""Every environment variable, typed, with its default and its meaning; all problems are told at once.

Only the composition root and the command line read settings: everything else is given plain values.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import socket
from collections.abc import Mapping
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any, Literal

from dotenv import dotenv_values
from pydantic import AfterValidator, BeforeValidator, Field, SecretStr, ValidationError, ValidationInfo, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from kiebot import settings_checks as check
from kiebot.generation.tools import Limits
from kiebot.lease.term import Timing
from kiebot.payments.credit import Terms
from kiebot.payments.invoice import key_of

ENV_FILE = ".env"

SECRETS = (
    "telegram_bot_token",
    "kie_api_key",
    "database_url",
    "database_migrate_url",
    "redis_url",
    "lease_url",
    "webhook_secret",
    "kie_webhook_key",
)

Key = Annotated[SecretStr, AfterValidator(check.secretly(check.key))]
PostgresUrl = Annotated[SecretStr, AfterValidator(check.secretly(check.postgres_url))]
RedisUrl = Annotated[SecretStr, AfterValidator(check.secretly(check.redis_url))]
LeaseUrl = Annotated[SecretStr, AfterValidator(check.secretly(check.lease_url))]
Address = Annotated[str, AfterValidator(check.http_address)]


class ConfigurationError(Exception):
    """Settings are missing or do not fit. The text lists every problem, by the variable's name, without any value."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems


class Settings(BaseSettings):
    """The environment, `.env`, and `<NAME>_FILE` for secrets kept in files."""

    model_config = SettingsConfigDict(
        env_file=ENV_FILE,
        env_file_encoding="utf-8",
        env_ignore_empty=True,
        extra="ignore",
        hide_input_in_errors=True,
        validate_default=True,  # defaults may come from the platform, and settings are checked against each other
    )

    telegram_bot_token: Annotated[SecretStr, AfterValidator(check.secretly(check.bot_token))] = Field(
        description="the bot's token, from @BotFather"
    )
    kie_api_key: Key = Field(description="the key of the KIE.ai account")

    database_url: PostgresUrl | None = Field(None, description="Postgres; without it an embedded one is started")
    database_migrate_url: PostgresUrl | None = Field(
        None, description="Postgres for migrations, a role with more rights"
    )
    redis_url: RedisUrl | None = Field(None, description="Redis or Valkey; without it an embedded one is started")
    lease_url: LeaseUrl | None = Field(
        None,
        description="where the poller's lease lives: Redis, postgresql:// or, on one host, file:///path; "
        "default: REDIS_URL",
    )
    redis_prefix: str = Field("kiebot", pattern=r"^[A-Za-z0-9_.-]{1,40}$", description="begins every key in Redis")
    kiebot_home: Path = Field(Path("~/.local/share/kiebot"), description="data of the embedded stores")

    bot_mode: Annotated[Literal["polling", "webhook"], BeforeValidator(check.lower)] = Field(
        "polling", description="how updates arrive: polling or webhook"
    )
    public_url: Address | None = Field(
        None, description="base address of the web part as the world sees it; RENDER_EXTERNAL_URL when unset"
    )
    webhook_url: Address | None = Field(None, description="full address of the webhook; default: PUBLIC_URL + path")
    webhook_secret: Annotated[SecretStr, AfterValidator(check.secretly(check.webhook_secret))] | None = Field(
        None, description="Telegram's secret header, 16 to 256 of A-Z a-z 0-9 _ -; derived from the token when unset"
    )
    kie_webhook_key: Key | None = Field(None, description="HMAC key of KIE's console, checks callbacks")

    admin_ids: Annotated[frozenset[int], NoDecode, BeforeValidator(check.user_ids)] = Field(
        frozenset(), description="Telegram ids of operators, separated by commas"
    )
    admin_grant_per_day: Decimal = Field(
        Decimal(1000), ge=0, decimal_places=3, description="credits that one admin may give away within 24 hours"
    )
    support_contact: str | None = Field(None, description="whom users ask, e.g. @shop_help")

    port: int | None = Field(None, ge=1, le=65535, description="web server; none when unset")
    telegram_api_url: Address = Field("https://api.telegram.org", description="another Bot API server")
    kie_api_url: Address = Field("https://api.kie.ai", description="another KIE API host")
    kie_upload_url: Address = Field("https://kieai.redpandaai.co", description="another KIE upload host")
    kie_result_hosts: Annotated[tuple[str, ...], NoDecode, BeforeValidator(check.hosts)] = Field(
        (), description="more hosts that results may come from, separated by commas; host:port for plain http"
    )

    lease_ttl_s: float = Field(10.0, gt=0, le=3600, description="how long a lease lives without renewal, seconds")
    lease_renew_s: float = Field(2.0, gt=0, le=900, description="how often it is renewed, seconds")

    replica_id: str = Field(
        "", max_length=100, description="name of this replica; RENDER_INSTANCE_ID, else the host's name when unset"
    )
    max_jobs: int = Field(64, ge=1, le=1000, description="jobs that one replica works on at once")
    db_pool_size: int = Field(10, ge=2, le=200, description="connections to Postgres per replica")
    shutdown_grace_s: float = Field(
        25.0, ge=0, le=3600, description="how long running steps may take after SIGTERM, seconds"
    )

    max_running_per_user: int = Field(3, ge=1, description="generations of one user that run at once")
    max_open_per_user: int = Field(20, ge=1, description="generations of one user that are not finished")
    kie_create_per_10s: int = Field(20, ge=1, description="new tasks per 10 seconds the KIE account allows")

    kie_polls_per_s: int = Field(3, ge=1, description="questions about running tasks per second, whole account")

    markup: Decimal = Field(Decimal(2), gt=0, description="a user's price is KIE's times this")
    kie_credit_usd: Decimal = Field(Decimal("0.005"), gt=0, description="what a KIE credit costs, for margins only")
    stars_per_credit: Decimal = Field(Decimal(1), gt=0, description="Telegram Stars for one credit")
    welcome_credits: Decimal = Field(
        Decimal(0), ge=0, decimal_places=3, description="credits given to each new user, at most 3 decimals"
    )
    daily_credits: Decimal = Field(
        Decimal(0),
        ge=0,
        decimal_places=3,
        description="credits given to each user on each day (UTC) they come; 0: none",
    )
    spend_per_user_per_day: Decimal = Field(
        Decimal(0), ge=0, decimal_places=3, description="credits one user may spend in a day (UTC); 0: no limit"
    )
    spend_per_day: Decimal = Field(
        Decimal(0),
        ge=0,
        decimal_places=3,
        description="credits all users together may spend in a day (UTC); 0: no limit",
    )
    content_filter: bool = Field(True, description="the models' own content filters: on or off")

    log_level: Annotated[Literal["DEBUG", "INFO", "WARNING", "ERROR"], BeforeValidator(check.upper)] = Field(
        "INFO", description="DEBUG, INFO, WARNING or ERROR"
    )
    log_format: Annotated[Literal["console", "json"] | None, BeforeValidator(check.lower)] = Field(
        None, description="console or json; default: console on a terminal, json otherwise"
    )
    kie_pace: float = Field(1.0, gt=0, le=10, description="scales every wait for KIE; below 1 only for simulators")
    kie_result_patience_s: float = Field(
        86_400.0,
        ge=60,
        le=86_400,
        description="how long the file of a finished, billed result is looked for before the money goes back",
    )

    @field_validator("public_url", mode="before")
    @classmethod
    def _public_url_of_the_platform(cls, value: object) -> object:
        return value or os.environ.get("RENDER_EXTERNAL_URL") or None

    @field_validator("replica_id", mode="before")
    @classmethod
    def _name_of_the_platform(cls, value: object) -> object:
        return value or os.environ.get("RENDER_INSTANCE_ID") or socket.gethostname()

    @field_validator("replica_id")
    @classmethod
    def _replica_id_is_a_key(cls, value: str) -> str:
        return check.key(value)

    # Settings that must fit each other. A field sees those declared before it, as far as they are valid: so no problem
    # hides another, as it would if the whole were checked after its parts.

    @field_validator("webhook_url")
    @classmethod
    def _webhook_has_an_address(cls, value: str | None, info: ValidationInfo) -> str | None:
        is_unknown = value is None and info.data.get("public_url", "") is None
        if is_unknown and info.data.get("bot_mode") == "webhook":
            raise ValueError("BOT_MODE=webhook needs it, or PUBLIC_URL")
        return value

    @field_validator("lease_renew_s")
    @classmethod
    def _lease_intervals_fit(cls, renew_s: float, info: ValidationInfo) -> float:
        if "lease_ttl_s" in info.data:
            try:
                Timing.scaled(ttl_s=info.data["lease_ttl_s"], renew_s=renew_s)
            except ValueError as error:
                raise ValueError(f"does not fit LEASE_TTL_S: {error}") from None
        return renew_s

    @field_validator("max_open_per_user")
    @classmethod
    def _caps_fit(cls, most_open: int, info: ValidationInfo) -> int:
        if most_open < info.data.get("max_running_per_user", 0):
            raise ValueError("must not be below MAX_RUNNING_PER_USER")
        return most_open

    @property
    def bot_id(self) -> int:
        return int(self.telegram_bot_token.get_secret_value().split(":", 1)[0])

    @property
    def home(self) -> Path:
        return self.kiebot_home.expanduser()

    @property
    def webhook_address(self) -> str | None:
        if self.webhook_url:
            return self.webhook_url
        return f"{self.public_url}/telegram/webhook" if self.public_url else None

    @property
    def webhook_secret_value(self) -> str:
        """The secret header's value: given, or derived from the token so that all replicas agree on it."""
        if self.webhook_secret is not None:
            return self.webhook_secret.get_secret_value()
        token = self.telegram_bot_token.get_secret_value().encode()
        return hmac.new(token, b"kiebot webhook secret", hashlib.sha256).hexdigest()

    @property
    def welcome_millicredits(self) -> int:
        return int(self.welcome_credits * 1000)

    @property
    def admin_grant_millicredits(self) -> int:
        return int(self.admin_grant_per_day * 1000)

    @property
    def daily_millicredits(self) -> int:
        return int(self.daily_credits * 1000)

    def limits(self) -> Limits:
        """What a user, and all of them, may have and spend."""
        return Limits(
            self.max_running_per_user,
            self.max_open_per_user,
            int(self.spend_per_user_per_day * 1000),
            int(self.spend_per_day * 1000),
        )

    def payment_terms(self) -> Terms:
        return Terms(self.stars_per_credit, key_of(self.telegram_bot_token.get_secret_value()))

    def lease_timing(self) -> Timing:
        return Timing.scaled(ttl_s=self.lease_ttl_s, renew_s=self.lease_renew_s)

    def secret_values(self) -> list[str]:
        """Every secret as it stands, the derived one too, for the redaction of logs."""
        given = (getattr(self, name) for name in SECRETS)
        return [*(secret.get_secret_value() for secret in given if secret is not None), self.webhook_secret_value]


def load_settings() -> Settings:
    """Read the environment, `.env`, and the files they name. Raises: ConfigurationError, with every problem."""
    written, problems = _read_env_file()
    from_files, unread = _secrets_from_files(written)
    settings: Settings | None = None
    try:
        given: dict[str, Any] = {**from_files, "_env_file": None if problems else ENV_FILE}
        settings = Settings(**given)
    except ValidationError as error:
        told = [(str(e["loc"][0]).upper() if e["loc"] else "", e["msg"]) for e in error.errors()]
        problems += [_problem(name, message) for name, message in told if name not in unread]
    problems += unread.values()
    if settings is None or problems:
        raise ConfigurationError(problems)
    return settings


def _read_env_file() -> tuple[Mapping[str, str | None], list[str]]:
    try:
        return dotenv_values(ENV_FILE, encoding="utf-8"), []
    except (OSError, UnicodeDecodeError) as error:
        return {}, [f"{ENV_FILE}: cannot be read ({type(error).__name__})"]


def _secrets_from_files(written: Mapping[str, str | None]) -> tuple[dict[str, str], dict[str, str]]:
    """Secrets by field, and problems by variable."""
    found: dict[str, str] = {}
    problems: dict[str, str] = {}
    for field in SECRETS:
        name = field.upper()
        path = _file_of(name, written)
        if path is None:
            continue
        try:
            found[field] = Path(path).read_text(encoding="utf-8").strip()
        except (OSError, ValueError) as error:
            problems[name] = f"{name}_FILE: cannot be read ({type(error).__name__})"
        else:
            if not found[field]:
                problems[name] = f"{name}_FILE: is empty"
    return found, problems


def _file_of(name: str, written: Mapping[str, str | None]) -> str | None:
    """The environment goes before `.env`, and in either the value itself before a file that holds it."""
    for where in (os.environ, written):
        if where.get(name):
            return None
        if path := where.get(f"{name}_FILE"):
            return path
    return None


def _problem(name: str, message: str) -> str:
    text = message.removeprefix("Value error, ")
    if message == "Field required":
        text = "is not set"
    return f"{name}: {text}" if name else text


def describe(settings: Settings) -> list[tuple[str, str, str]]:
    """Name, value (secrets masked) and meaning of every variable."""
    rows: list[tuple[str, str, str]] = []
    for name, field in Settings.model_fields.items():
        value = getattr(settings, name)
        rows.append((name.upper(), _shown(value), field.description or ""))
    return rows


def _shown(value: object) -> str:
    if value is None:
        return "(not set)"
    if isinstance(value, SecretStr):
        return "(set)"
    if isinstance(value, (frozenset, tuple)):
        return ",".join(str(item) for item in sorted(value)) or "(none)"
    if isinstance(value, bool):
        return "on" if value else "off"
    return str(value)


def configuration_markdown() -> str:
    """docs/configuration.md, from the code."""
    lines = [
        "# Configuration",
        "",
        "Every setting is an environment variable, or a line of `.env` in the working directory; the environment goes",
        "first, and an empty value is the same as none. A secret may also be read from a file named by `<NAME>_FILE`.",
        "Wrong settings end the process with status 78, after naming every problem. `kiebot config` shows what is set.",
        "",
        "| Variable | Default | Meaning |",
        "|---|---|---|",
    ]
    for name, field in Settings.model_fields.items():
        default = "**required**" if field.is_required() else f"`{_default(field.default)}`"
        secret = " (secret)" if name in SECRETS else ""
        lines.append(f"| `{name.upper()}` | {default} | {field.description}{secret} |")
    return "\n".join(lines) + "\n"


def _default(value: object) -> str:
    if value in (None, "", (), frozenset()):
        return "–"
    if isinstance(value, bool):
        return "on" if value else "off"
    return str(value)
