"""Real engines for all tests: one Postgres and one Valkey per test process, a fresh database per test."""

from __future__ import annotations

import asyncio
import itertools
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import structlog
from sqlalchemy import insert, text
from sqlalchemy.engine import make_url
from sqlalchemy.ext.asyncio import AsyncEngine

from kiebot.engines import Engines, await_stop, open_engines
from kiebot.engines.binaries import find_binaries
from kiebot.storage.engine import make_engine
from kiebot.storage.migrate import migrate
from kiebot.storage.models import APPEND_ONLY, CONTRA_ACCOUNTS, accounts, metadata

# Unconfigured, structlog draws tracebacks with every local in a frame, which takes seconds for each.
structlog.configure(processors=[structlog.processors.KeyValueRenderer(repr_native_str=False)])


@pytest.fixture(autouse=True)
def _logs_as_before() -> Iterator[None]:
    """Some rigs quiet the logs of their process; the next test may want to read them."""
    before = structlog.get_config()
    yield
    structlog.configure(**before)


_databases = itertools.count(1)
_prefixes = itertools.count(1)


@pytest.fixture(scope="session")
def engines() -> Iterator[Engines]:
    """The embedded engines, as users get them, but without fsync."""
    with tempfile.TemporaryDirectory(prefix="kb") as home:
        with open_engines(Path(home), durable=False, linger_s=0.0, debug_commands=True) as opened:
            yield opened
        await_stop(Path(home))


def pytest_report_header() -> str:
    return f"engines: {find_binaries().described}"


@pytest.fixture(scope="session")
def template_database(engines: Engines) -> str:
    """A migrated database, copied for each test: much quicker than migrating again."""
    asyncio.run(_make_template(engines.database_url))
    return "template_kiebot"


@pytest.fixture
async def database_url(engines: Engines, template_database: str) -> AsyncIterator[str]:
    """A fresh, migrated database of this test alone."""
    name = f"test_{next(_databases)}"
    await _execute(engines.database_url, f"CREATE DATABASE {name} TEMPLATE {template_database}")
    yield make_url(engines.database_url).set(database=name).render_as_string(hide_password=False)
    await _execute(engines.database_url, f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture(scope="session")
def shared_database_url(engines: Engines, template_database: str) -> str:
    """One database for all tests that only need it empty: making one for each costs far more than most tests do."""
    asyncio.run(_execute(engines.database_url, f"CREATE DATABASE shared TEMPLATE {template_database}"))
    return make_url(engines.database_url).set(database="shared").render_as_string(hide_password=False)


@pytest.fixture
async def engine(shared_database_url: str) -> AsyncIterator[AsyncEngine]:
    """A pool on a database as empty as a new one, for tests that run no replica."""
    made = make_engine(shared_database_url, pool_size=8)
    await empty(made)
    yield made
    await made.dispose()


@pytest.fixture
def redis_url(engines: Engines) -> str:
    return engines.redis_url


@pytest.fixture
def redis_prefix() -> str:
    """A prefix of this test alone: the server is shared."""
    return f"t{next(_prefixes)}"


async def _make_template(url: str) -> None:
    await _execute(url, "CREATE DATABASE template_kiebot")
    engine = make_engine(
        make_url(url).set(database="template_kiebot").render_as_string(hide_password=False), pool_size=1
    )
    await migrate(engine)
    await engine.dispose()


async def empty(engine: AsyncEngine) -> None:
    """Every table as after the migration. The triggers that forbid it are off for this one transaction."""
    names = [table.name for table in metadata.sorted_tables]
    async with engine.begin() as connection:
        for name in APPEND_ONLY:
            await connection.execute(text(f"ALTER TABLE {name} DISABLE TRIGGER USER"))
        await connection.execute(text(f"TRUNCATE {', '.join(names)} RESTART IDENTITY"))
        for name in APPEND_ONLY:
            await connection.execute(text(f"ALTER TABLE {name} ENABLE TRIGGER USER"))
        await connection.execute(insert(accounts), [{"key": key} for key in CONTRA_ACCOUNTS])


async def _execute(url: str, statement: str) -> None:
    engine = make_engine(url, pool_size=1)
    async with engine.execution_options(isolation_level="AUTOCOMMIT").connect() as connection:
        await connection.execute(text(statement))
    await engine.dispose()
