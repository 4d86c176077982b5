"""Every environment variable, typed, with its default and its meaning; all problems are told at once.

Only the composition root and the command line read settings: everything else is given plain values.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import re
import socket
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Literal, Self
from urllib.parse import urlsplit

from pydantic import Field, SecretStr, ValidationError, field_validator, model_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from kiebot.lease.term import Timing

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
_TOKEN = re.compile(r"[1-9]\d{0,19}:[A-Za-z0-9_-]{24,}")
_LOOPBACK = ("127.0.0.1", "localhost", "::1")


class ConfigurationError(Exception):
    """Settings are missing or do not fit. The text lists every problem, by the variable's name, without any value."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems


class Settings(BaseSettings):
    """The environment, `.env`, and `<NAME>_FILE` for secrets kept in files."""

    model_config = SettingsConfigDict(
        env_file=".env", env_file_encoding="utf-8", extra="ignore", hide_input_in_errors=True, env_ignore_empty=True
    )

    telegram_bot_token: SecretStr = Field(description="the bot's token, from @BotFather")
    kie_api_key: SecretStr = Field(description="the key of the KIE.ai account")

    database_url: SecretStr | None = Field(None, description="Postgres; without it an embedded one is started")
    database_migrate_url: SecretStr | None = Field(None, description="Postgres for migrations, a role with more rights")
    redis_url: SecretStr | None = Field(None, description="Redis or Valkey; without it an embedded one is started")
    lease_url: SecretStr | None = Field(None, description="where the poller's lease lives; default: REDIS_URL")
    redis_prefix: str = Field("kiebot", pattern=r"^[A-Za-z0-9_.-]{1,40}$", description="begins every key in Redis")
    kiebot_home: Path = Field(Path("~/.local/share/kiebot"), description="data of the embedded stores")

    bot_mode: Literal["polling", "webhook"] = Field("polling", description="how updates arrive: polling or webhook")
    public_url: str | None = Field(
        None, description="base address of the web part as the world sees it; RENDER_EXTERNAL_URL when unset"
    )
    webhook_url: str | None = Field(None, description="full address of the webhook; default: PUBLIC_URL + path")
    webhook_secret: SecretStr | None = Field(None, description="Telegram's secret header; derived when unset")
    kie_webhook_key: SecretStr | None = Field(None, description="HMAC key of KIE's console, checks callbacks")

    admin_ids: Annotated[frozenset[int], NoDecode] = Field(
        frozenset(), description="Telegram ids of operators, separated by commas"
    )
    support_contact: str | None = Field(None, description="whom users ask, e.g. @shop_help")

    port: int | None = Field(None, ge=1, le=65535, description="web server; none when unset")
    telegram_api_url: str = Field("https://api.telegram.org", description="another Bot API server")
    kie_api_url: str = Field("https://api.kie.ai", description="another KIE API host")
    kie_upload_url: str = Field("https://kieai.redpandaai.co", description="another KIE upload host")
    kie_result_hosts: Annotated[tuple[str, ...], NoDecode] = Field(
        (), description="more hosts that results may come from, separated by commas; host:port for plain http"
    )

    lease_ttl_s: float = Field(10.0, gt=0, description="how long a lease lives without renewal, seconds")
    lease_renew_s: float = Field(2.0, gt=0, description="how often it is renewed, seconds")

    replica_id: str = Field("", description="name of this replica; default: RENDER_INSTANCE_ID, else the host's name")
    max_jobs: int = Field(64, ge=1, le=1000, description="jobs that one replica works on at once")
    db_pool_size: int = Field(10, ge=2, le=200, description="connections to Postgres per replica")
    shutdown_grace_s: float = Field(25.0, ge=0, description="how long running steps may take after SIGTERM, seconds")

    max_running_per_user: int = Field(3, ge=1, description="generations of one user that run at once")
    max_open_per_user: int = Field(20, ge=1, description="generations of one user that are not finished")
    kie_create_per_10s: int = Field(20, ge=1, description="new tasks per 10 seconds the KIE account allows")

    kie_polls_per_s: int = Field(3, ge=1, description="questions about running tasks per second, whole account")

    markup: Decimal = Field(Decimal(2), gt=0, description="a user's price is KIE's times this")
    kie_credit_usd: Decimal = Field(Decimal("0.005"), gt=0, description="what a KIE credit costs, for margins only")
    stars_per_credit: Decimal = Field(Decimal(1), gt=0, description="Telegram Stars for one credit")
    welcome_credits: Decimal = Field(Decimal(0), ge=0, description="credits given to each new user")
    content_filter: bool = Field(True, description="the models' own content filters: on or off")

    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = Field("INFO", description="DEBUG, INFO, WARNING, ERROR")
    log_format: Literal["console", "json"] | None = Field(
        None, description="console or json; default: console on a terminal, json otherwise"
    )
    kie_pace: float = Field(1.0, gt=0, le=10, description="scales every wait for KIE; below 1 only for simulators")

    @field_validator("telegram_bot_token")
    @classmethod
    def _token_shape(cls, token: SecretStr) -> SecretStr:
        if not _TOKEN.fullmatch(token.get_secret_value().strip()):
            raise ValueError("does not look like a bot token (123456789:letters)")
        return SecretStr(token.get_secret_value().strip())

    @field_validator("admin_ids", mode="before")
    @classmethod
    def _ids(cls, value: object) -> object:
        if not isinstance(value, str):
            return value
        try:
            return frozenset(int(part) for part in value.replace(" ", "").split(",") if part)
        except ValueError:
            raise ValueError("must be whole numbers separated by commas") from None

    @field_validator("kie_result_hosts", mode="before")
    @classmethod
    def _hosts(cls, value: object) -> object:
        if isinstance(value, str):
            return tuple(part.strip() for part in value.split(",") if part.strip())
        return value

    @field_validator("telegram_api_url", "kie_api_url", "kie_upload_url", "public_url", "webhook_url")
    @classmethod
    def _url(cls, value: str | None) -> str | None:
        if value is None:
            return None
        parts = urlsplit(value)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError("must be an http(s) address")
        if parts.scheme == "http" and parts.hostname not in _LOOPBACK and "." in parts.hostname:
            raise ValueError("must be https: over plain http others could read what is secret")
        return value.rstrip("/")

    @field_validator("database_url", "database_migrate_url")
    @classmethod
    def _postgres(cls, value: SecretStr | None) -> SecretStr | None:
        if value is not None and not re.match(r"postgres(ql)?(\+asyncpg)?://", value.get_secret_value()):
            raise ValueError("must begin with postgresql://")
        return value and SecretStr(re.sub(r"^postgres(ql)?(\+asyncpg)?://", "postgresql://", value.get_secret_value()))

    @field_validator("redis_url")
    @classmethod
    def _redis(cls, value: SecretStr | None) -> SecretStr | None:
        if value is not None and not re.match(r"(rediss?|unix)://", value.get_secret_value()):
            raise ValueError("must begin with redis://, rediss:// or unix://")
        return value

    @field_validator("lease_url")
    @classmethod
    def _lease(cls, value: SecretStr | None) -> SecretStr | None:
        if value is not None and not re.match(r"(rediss?|unix)://", value.get_secret_value()):
            raise ValueError("must begin with redis://, rediss:// or unix://")
        return value

    @model_validator(mode="after")
    def _defaults_of_the_platform(self) -> Self:
        if self.public_url is None and (render := os.environ.get("RENDER_EXTERNAL_URL")):
            self.public_url = render.rstrip("/")
        if not self.replica_id:
            self.replica_id = os.environ.get("RENDER_INSTANCE_ID") or socket.gethostname()
        return self

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        problems: list[str] = []
        try:
            self.lease_timing()
        except ValueError as error:
            problems.append(f"LEASE_TTL_S, LEASE_RENEW_S: {error}")
        if self.bot_mode == "webhook" and self.webhook_address is None:
            problems.append("BOT_MODE: webhook needs PUBLIC_URL or WEBHOOK_URL")
        if problems:
            raise ValueError("; ".join(problems))
        return self

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

    def lease_timing(self) -> Timing:
        """Raises: ValueError, when the intervals do not fit each other."""
        return Timing.scaled(ttl_s=self.lease_ttl_s, renew_s=self.lease_renew_s)

    def secret_values(self) -> list[str]:
        """Every secret as it stands, for the redaction of logs."""
        found = (getattr(self, name) for name in SECRETS)
        return [secret.get_secret_value() for secret in found if secret is not None]


def load_settings() -> Settings:
    """Read the environment. Raises: ConfigurationError, with every problem."""
    from_files, problems = _secrets_from_files()
    try:
        return Settings(**from_files)  # type: ignore[arg-type]  # pydantic turns the texts into their types
    except ValidationError as error:
        problems += [_problem(str(e["loc"][0]).upper() if e["loc"] else "", e["msg"]) for e in error.errors()]
    raise ConfigurationError(problems)


def _secrets_from_files() -> tuple[dict[str, str], list[str]]:
    found: dict[str, str] = {}
    problems: list[str] = []
    for name in SECRETS:
        path = os.environ.get(f"{name.upper()}_FILE")
        if not path or os.environ.get(name.upper()):
            continue
        try:
            found[name] = Path(path).read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError) as error:
            problems.append(f"{name.upper()}_FILE: cannot be read ({type(error).__name__})")
    return found, problems


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
        rows.append((name.upper(), _shown(name, value), field.description or ""))
    return rows


def _shown(name: str, value: object) -> str:
    if value is None:
        return "(not set)"
    if name in SECRETS:
        return "(set)"
    if isinstance(value, (frozenset, tuple)):
        return ",".join(str(item) for item in sorted(value)) or "(none)"
    return str(value)


def configuration_markdown() -> str:
    """docs/configuration.md, from the code."""
    lines = [
        "# Configuration",
        "",
        "Every setting is an environment variable, or a line of `.env`. A secret may also be read from a file named by",
        "`<NAME>_FILE`. Wrong settings end the process with status 78, after naming every problem.",
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
