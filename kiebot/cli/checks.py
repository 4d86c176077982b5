"""The doctor's questions. Each has an answer and, when something is wrong, the fix in words; none changes anything."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from urllib.parse import urlsplit

from sqlalchemy import text

from kiebot.bootstrap import LEASE_NAME, Stores
from kiebot.botapi.connection import close_bot, make_bot
from kiebot.botapi.setup import TelegramSetup, TokenState
from kiebot.clock import SystemClock
from kiebot.errors import AccountStopped, KiebotError, Permanent, Transient
from kiebot.generation.pricing import credits_text
from kiebot.jobs.pool import OUTAGES, make_pool
from kiebot.kie.client import KieProvider
from kiebot.lease.open import open_lease_store
from kiebot.lease.protocol import StoreUnreachable
from kiebot.settings import Settings
from kiebot.storage.engine import close_engine, make_engine, outages_as_transient
from kiebot.storage.migrate import HEAD, schema_version

MOST_SKEW_S = 5.0
FEW_CREDITS = 100_000
OLDEST_REDIS = (7, 0)
WEBHOOK_PORTS = (None, 443, 80, 88, 8443)  # Telegram calls no others
# Before these, whoever has the password could run code (CVE-2025-49844). 7.0 is patched by distributions only.
PATCHED = {
    "redis": {(7, 2): 11, (7, 4): 6, (8, 0): 4, (8, 2): 2},
    "valkey": {(7, 2): 11, (8, 0): 6, (8, 1): 4},
}
_CLOCK = text("SELECT extract(epoch FROM clock_timestamp())::float8")


class State(StrEnum):
    OK = "ok"
    WARN = "warn"
    FAIL = "fail"


@dataclass(frozen=True, slots=True)
class Finding:
    """What was found out. `fix`: what to do about it; empty when all is well."""

    what: str
    state: State
    said: str
    fix: str = ""


@dataclass(frozen=True, slots=True)
class Check:
    what: str
    ask: Callable[[], Awaitable[list[Finding]]]


def ok(what: str, said: str) -> Finding:
    return Finding(what, State.OK, said)


def warn(what: str, said: str, fix: str) -> Finding:
    return Finding(what, State.WARN, said, fix)


def fail(what: str, said: str, fix: str) -> Finding:
    return Finding(what, State.FAIL, said, fix)


def checks_of(settings: Settings, stores: Stores) -> Sequence[Check]:
    """All of them; they may run at once."""

    async def addresses() -> list[Finding]:
        return [public_address(settings), admins(settings)]

    return (
        Check("postgres", lambda: postgres(stores.database_url, is_embedded=stores.engines is not None)),
        Check("redis", lambda: redis(stores.redis_url, settings.redis_prefix)),
        Check("lease", lambda: lease(stores.lease_url, settings)),
        Check("telegram", lambda: telegram(settings)),
        Check("kie", lambda: kie(settings)),
        Check("addresses", addresses),
    )


async def postgres(url: str, *, is_embedded: bool) -> list[Finding]:
    """Reachable, its schema, and its clock against ours."""
    clock = SystemClock()
    engine = make_engine(url, pool_size=1, application="kiebot doctor")
    try:
        version = await schema_version(engine)
        with outages_as_transient("clock"):
            async with engine.connect() as connection:
                await connection.execute(text("SELECT 1"))  # so that connecting is no part of what is measured
                before, started = clock.now().timestamp(), clock.monotonic()
                theirs = float(await connection.scalar(_CLOCK) or 0.0)
                took_s = clock.monotonic() - started
    except Transient as error:
        return [fail("postgres", str(error), "start it, or correct DATABASE_URL (docs/operations.md)")]
    finally:
        await close_engine(engine)
    return [schema(version, is_embedded=is_embedded), skew(theirs - before - took_s / 2, took_s / 2)]


def schema(version: str | None, *, is_embedded: bool = False) -> Finding:
    """Of an embedded store the replicas see to the schema themselves."""
    if is_embedded and (version or "") < HEAD:
        return ok("postgres", f"reachable, schema {version or 'none yet'}: the next replica makes {HEAD}")
    if version is None:
        return fail("postgres", "reachable, without a schema", "run `kiebot migrate`")
    if version < HEAD:
        return fail("postgres", f"schema {version}, this version needs {HEAD}", "run `kiebot migrate`")
    if version > HEAD:
        return warn("postgres", f"schema {version} is newer than {HEAD}", "finish the deploy: this is an older version")
    return ok("postgres", f"reachable, schema {version}")


def skew(seconds: float, unsure_s: float) -> Finding:
    """seconds: how far the database's clock is ahead of ours; unsure_s: what the round trip leaves open."""
    said = f"differs from Postgres' by {seconds:+.2f} s"
    if abs(seconds) - unsure_s > MOST_SKEW_S:
        return fail("clock", said, "synchronise the clocks of both machines (NTP)")
    return ok("clock", said)


async def redis(url: str, prefix: str) -> list[Finding]:
    pool = make_pool(url, prefix=prefix, max_connections=1)
    try:
        await pool.ping()
        facts: dict[str, object] = await pool.info()
    except OUTAGES as error:
        said = f"unreachable ({type(error).__name__})"
        return [fail("redis", said, "start it, or correct REDIS_URL: address, password, TLS (rediss://)")]
    finally:
        await pool.aclose(close_connection_pool=True)
    return redis_facts(facts)


def redis_facts(facts: dict[str, object]) -> list[Finding]:
    """What INFO says."""
    kind = "valkey" if "valkey_version" in facts else "redis"
    told = str(facts.get("valkey_version") or facts.get("redis_version") or "")
    found = re.match(r"(\d+)\.(\d+)(?:\.(\d+))?", told)
    numbers = tuple(int(part or 0) for part in found.groups()) if found else (0, 0, 0)
    name = f"{kind.title()} {told or '?'}"
    if numbers[:2] < OLDEST_REDIS:
        return [fail("redis", f"{name} is too old", "use Redis 7.0 or newer, or Valkey")]
    policy = str(facts.get("maxmemory_policy", "noeviction"))
    if policy != "noeviction":
        fix = "set maxmemory-policy noeviction: an evicted key is a lost job or lease"
        return [fail("redis", f"{name}, maxmemory-policy is {policy}", fix)]
    patched = PATCHED[kind].get((numbers[0], numbers[1]))
    if patched is not None and numbers[2] < patched:
        fix = f"update to {numbers[0]}.{numbers[1]}.{patched} or newer (CVE-2025-49844)"
        return [warn("redis", f"{name}, noeviction, with a known hole", fix)]
    return [ok("redis", f"{name}, noeviction")]


async def lease(url: str, settings: Settings) -> list[Finding]:
    store = open_lease_store(url, clock=SystemClock(), prefix=settings.redis_prefix)
    try:
        holder = await store.holder(f"{LEASE_NAME}:{settings.bot_id}")
    except StoreUnreachable as error:
        said = f"store unreachable ({type(error).__name__})"
        return [fail("lease", said, "correct LEASE_URL; Postgres needs a direct address, no transaction pooler")]
    finally:
        await store.close()
    return [ok("lease", f"held by {holder.replica}" if holder else "free: no replica runs")]


async def telegram(settings: Settings) -> list[Finding]:
    bot = make_bot(settings.telegram_bot_token.get_secret_value(), api_url=settings.telegram_api_url, replica="doctor")
    try:
        state = await TelegramSetup(bot).token_state()
    except (Permanent, AccountStopped):
        return [fail("telegram", "the token is refused", "take a new one from @BotFather: /mybots, API Token")]
    except KiebotError as error:
        return [fail("telegram", f"unreachable: {error}", "see whether TELEGRAM_API_URL is reachable from here")]
    finally:
        await close_bot(bot)
    who = ok("telegram", f"@{state.username}, {state.pending_update_count} updates wait")
    return [who, webhook(settings, state)]


def webhook(settings: Settings, state: TokenState) -> Finding:
    """The leader brings the bot into its mode; what it would change, or could not, is worth a word."""
    if settings.bot_mode == "polling":
        if not state.webhook_url:
            return ok("webhook", "none, as polling needs it")
        fix = "a replica removes it before its first poll; does another system use this token? then rotate it"
        return warn("webhook", "one is set although BOT_MODE is polling", fix)
    if state.webhook_url != settings.webhook_address:
        said = "not ours" if state.webhook_url else "none is set"
        return warn("webhook", f"{said}, although BOT_MODE is webhook", "start a replica: the leader sets it")
    if state.last_error:
        fix = "see whether a replica with PORT answers at PUBLIC_URL"
        return warn("webhook", f"set; the last delivery failed: {state.last_error}", fix)
    return ok("webhook", "set")


async def kie(settings: Settings) -> list[Finding]:
    provider = KieProvider(
        settings.kie_api_key.get_secret_value(), api_url=settings.kie_api_url, upload_url=settings.kie_upload_url
    )
    try:
        left = await provider.credits_left()
    except AccountStopped as error:
        if error.reason == "no_credits":
            return [no_credits()]
        return [fail("kie", f"the key cannot work: {error.reason}", "see the keys of the account at kie.ai")]
    except KiebotError as error:
        return [fail("kie", f"unreachable: {error}", "see whether KIE_API_URL is reachable from here")]
    finally:
        await provider.close()
    return [credits_left(left)]


def credits_left(millicredits: int) -> Finding:
    if millicredits <= 0:
        return no_credits()
    said = f"the key works, {credits_text(millicredits)} credits left"
    return ok("kie", said) if millicredits >= FEW_CREDITS else warn("kie", said, "top up the account at kie.ai")


def no_credits() -> Finding:
    return fail("kie", "no credits left", "top up the account at kie.ai")


def public_address(settings: Settings) -> Finding:
    """Its form only: whether the world reaches it can only be seen from the world."""
    url = settings.webhook_url or settings.public_url
    if url is None:
        fix = "set PUBLIC_URL and PORT: then results are announced at once, and a lost answer may find its work"
        return warn("public_url", "not set: results are only found by asking", fix)
    parts = urlsplit(url)
    if parts.scheme != "https" or not _is_public(parts.hostname or ""):
        return fail("public_url", f"{url} cannot be reached by Telegram and KIE", "a public name, over https")
    if settings.bot_mode == "webhook" and parts.port not in WEBHOOK_PORTS:
        return fail("public_url", f"port {parts.port} is none that Telegram calls", "443, 80, 88 or 8443")
    if settings.port is None:
        fix = "set PORT on at least one replica behind that address"
        return warn("public_url", f"{url}, but PORT is not set here", fix)
    return ok("public_url", url)


def _is_public(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_global
    except ValueError:
        return "." in host and not host.endswith((".internal", ".local", ".localhost"))


def admins(settings: Settings) -> Finding:
    if settings.admin_ids:
        return ok("admins", f"{len(settings.admin_ids)}")
    return warn("admins", "none", "set ADMIN_IDS to use /admin in the bot")
