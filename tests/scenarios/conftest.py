from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path

import pytest
import structlog
from sqlalchemy import text
from sqlalchemy.engine import make_url

from kiebot.engines import Engines
from kiebot.storage.engine import make_engine
from tests.scenarios.console import Run, console
from tests.scenarios.crew import Crew
from tests.scenarios.fleet import Fleet
from tests.scenarios.world import World, open_world

MakeDatabase = Callable[[str], Awaitable[str]]


@pytest.fixture(autouse=True, scope="package")
def plain_logs() -> Iterator[None]:
    """Short lines: structlog's own way to print a traceback takes seconds, and the event loop with it."""
    before = structlog.get_config()
    renderer = structlog.dev.ConsoleRenderer(colors=False, exception_formatter=structlog.dev.plain_traceback)
    structlog.configure(
        processors=[structlog.contextvars.merge_contextvars, structlog.processors.add_log_level, renderer]
    )
    yield
    structlog.configure(**before)


@pytest.fixture
async def world(database_url: str, redis_url: str, redis_prefix: str) -> AsyncIterator[World]:
    """Both simulators and fresh stores, no replica yet."""
    async with open_world(database_url, redis_url, redis_prefix) as opened:
        yield opened


@pytest.fixture
def kiebot(world: World) -> Run:
    """The command line with this world's settings."""
    return console(world)


@pytest.fixture
async def crew(world: World) -> AsyncIterator[Crew]:
    """Replicas in this process, none started yet; all are drained in the end."""
    made = Crew(world)
    yield made
    await made.stop_all()


@pytest.fixture
async def cluster(crew: Crew) -> Crew:
    """Two replicas in this process."""
    crew.start()
    crew.start()
    return crew


@pytest.fixture
async def fleet(world: World, tmp_path: Path) -> AsyncIterator[Fleet]:
    """Replicas as processes, none started yet; what still runs in the end must drain."""
    made = Fleet(world, tmp_path)
    yield made
    await made.stop_all()


@pytest.fixture(scope="session")
def make_database(engines: Engines, template_database: str) -> MakeDatabase:
    """Databases for worlds that many tests share."""

    async def make(name: str) -> str:
        engine = make_engine(engines.database_url, pool_size=1)
        async with engine.execution_options(isolation_level="AUTOCOMMIT").connect() as connection:
            await connection.execute(text(f"CREATE DATABASE {name} TEMPLATE {template_database} STRATEGY file_copy"))
        await engine.dispose()
        return make_url(engines.database_url).set(database=name).render_as_string(hide_password=False)

    return make
