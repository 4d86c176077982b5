"""Where a benchmark takes place: both simulators in this process, fresh stores, the processes under test beside it."""

from __future__ import annotations

import asyncio
import itertools
import os
import signal
import sys
import tempfile
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import psutil
from sqlalchemy import make_url, text
from sqlalchemy.ext.asyncio import AsyncEngine

from kiebot.engines import Engines, await_stop, open_engines
from kiebot.simulators.kie import KieSimulator
from kiebot.simulators.server import SimulatorServer
from kiebot.simulators.telegram import FloodRules, Rules, TelegramSimulator, make_token
from kiebot.storage.engine import make_engine
from kiebot.storage.migrate import migrate

ROOT = Path(__file__).parents[2]
START_S = 30.0
STOP_S = 15.0
_LOOK_S = 0.01
_TEMPLATE = "bench_template"
_INHERITED = ("PATH", "HOME", "LANG", "VIRTUAL_ENV", "LD_LIBRARY_PATH")
_numbers = itertools.count(1)


@dataclass(frozen=True)
class Variant:
    """What is measured. kind: plain, locked (both without a database), kiebot or arq; processes: replicas."""

    kind: str
    processes: int = 1

    @property
    def name(self) -> str:
        return "plain bot" if self == Variant("plain") else f"{self.kind} x{self.processes}"

    @property
    def program(self) -> str:
        """The module of benchmarks.rig that is started."""
        return self.kind if self.kind in ("plain", "locked") else "replica"


@dataclass(frozen=True)
class Stage:
    """One variant, running: its Telegram and KIE, its database (None: it has none), what its processes were told."""

    variant: Variant
    telegram: TelegramSimulator
    kie: KieSimulator
    engine: AsyncEngine | None
    directory: Path
    environment: Mapping[str, str] = field(default_factory=dict)
    pids: list[int] = field(default_factory=list)

    def cpu_s(self) -> float:
        """What the processes under test have used up, stores and simulators not counted."""
        times = [psutil.Process(pid).cpu_times() for pid in self.pids]
        return sum(each.user + each.system for each in times)

    async def until(self, reached: Callable[[], bool], timeout_s: float) -> None:
        """Raises: TimeoutError, with the end of what the processes printed."""
        try:
            async with asyncio.timeout(timeout_s):
                while not reached():  # noqa: ASYNC110 - other processes make it true
                    await asyncio.sleep(_LOOK_S)
        except TimeoutError:
            raise TimeoutError(f"{self.variant.name}: nothing more for {timeout_s} s\n{self.printed()}") from None

    def printed(self, most: int = 3000) -> str:
        return "\n".join(file.read_text(errors="replace")[-most:] for file in sorted(self.directory.glob("*.log")))

    async def count(self, query: str) -> float:
        assert self.engine is not None
        async with self.engine.connect() as connection:
            return float(await connection.scalar(text(query)) or 0)


@dataclass(frozen=True)
class House:
    """The stores of a whole run. Every stage gets a database and a Redis prefix of its own."""

    engines: Engines
    directory: Path

    @asynccontextmanager
    async def stage(
        self, variant: Variant, flood: FloodRules | None = None, /, **environment: str
    ) -> AsyncIterator[Stage]:
        """A variant started on its own simulators, polling; stopped in the end. `environment`: more of it; `flood`:
        Telegram's limits on sending, which are off else."""
        number = next(_numbers)
        directory = self.directory / f"stage{number}"
        directory.mkdir()
        rules = Rules(flood=flood or FloodRules(is_on=False), keep_messages_per_chat=60, callback_deadline_s=60.0)
        token = make_token(bot_id=8_000_000 + number)
        telegram = TelegramSimulator({token: "kiebot_bot"}, seed=number, rules=rules, journal_keep=1000)
        kie = KieSimulator(api_key="sim-kie-key", seed=number)
        async with telegram, kie, SimulatorServer(telegram.asgi) as ts, SimulatorServer(kie.asgi) as ks:
            common = {
                "TELEGRAM_BOT_TOKEN": token,
                "TELEGRAM_API_URL": ts.url,
                "REDIS_URL": self.engines.redis_url,
                "REDIS_PREFIX": f"bench{number}",
                "PYTHONPATH": str(ROOT),
                **environment,
            }
            if variant.program != "replica":
                async with _running(Stage(variant, telegram, kie, None, directory, common)) as stage:
                    yield stage
                return
            database_url = await self.database(f"bench_{number}")
            common |= {
                "DATABASE_URL": database_url,
                "KIE_API_KEY": kie.api_key,
                "KIE_API_URL": ks.url,
                "KIE_UPLOAD_URL": ks.url,
                "KIE_RESULT_HOSTS": ks.url.removeprefix("http://"),
                "SUPPORT_CONTACT": "@shop_help",
                "LOG_FORMAT": "json",
                "BENCH_WORKER": variant.kind,
            }
            engine = make_engine(database_url, pool_size=2, application="benchmark")
            async with _running(Stage(variant, telegram, kie, engine, directory, common)) as stage:
                yield stage
            await engine.dispose()

    async def database(self, name: str) -> str:
        """A fresh, migrated database; its URL."""
        url = make_url(self.engines.database_url)
        await _execute(self.engines.database_url, f"CREATE DATABASE {name} TEMPLATE {_TEMPLATE}")
        return url.set(database=name).render_as_string(hide_password=False)


@asynccontextmanager
async def open_house() -> AsyncIterator[House]:
    """Embedded engines in a directory of their own, durable as users get them; everything is gone in the end."""
    with tempfile.TemporaryDirectory(prefix="kb") as temporary:
        home = Path(temporary)
        engines = await asyncio.to_thread(open_engines, home, linger_s=0.0)
        try:
            await _execute(engines.database_url, f"CREATE DATABASE {_TEMPLATE}")
            template = make_url(engines.database_url).set(database=_TEMPLATE)
            engine = make_engine(template.render_as_string(hide_password=False), pool_size=1)
            await migrate(engine)
            await engine.dispose()
            (directory := home / "bench").mkdir()
            yield House(engines, directory)
        finally:
            engines.close()
            await asyncio.to_thread(await_stop, home)


async def _execute(url: str, statement: str) -> None:
    engine = make_engine(url, pool_size=1)
    async with engine.execution_options(isolation_level="AUTOCOMMIT").connect() as connection:
        await connection.execute(text(statement))
    await engine.dispose()


@asynccontextmanager
async def _running(stage: Stage) -> AsyncIterator[Stage]:
    program, places = stage.variant.program, range(stage.variant.processes)
    processes = [await _launch(stage, place) for place in places]
    try:
        await _ready(stage, processes)
        stage.pids.extend(each.pid for each in processes)
        yield stage
    finally:
        await _stop(processes, signal.SIGTERM if program == "replica" else signal.SIGKILL)


async def _launch(stage: Stage, place: int) -> asyncio.subprocess.Process:
    """In a directory of its own, so that no `.env` of a developer is read."""
    inherited = {name: os.environ[name] for name in _INHERITED if name in os.environ}
    program = stage.variant.program
    with (stage.directory / f"{program}{place}.log").open("wb") as output:
        return await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", f"benchmarks.rig.{program}"),
            env={**inherited, **stage.environment, "REPLICA_ID": f"r{place}"},
            cwd=stage.directory,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=output,
            stderr=asyncio.subprocess.STDOUT,
        )


async def _ready(stage: Stage, processes: list[asyncio.subprocess.Process]) -> None:
    """Until a poll is parked, and every process has shown itself."""

    def has_ended() -> bool:
        return any(each.returncode is not None for each in processes)

    await stage.until(lambda: stage.telegram.bot.polls.parked is not None or has_ended(), START_S)
    while not has_ended() and await _shown(stage) < len(processes):  # noqa: ASYNC110 - see `until`
        await asyncio.sleep(_LOOK_S)
    if has_ended():
        raise RuntimeError(f"{stage.variant.name} ended at its start:\n{stage.printed()}")


async def _shown(stage: Stage) -> float:
    """How many processes are at work: replicas by their heartbeats, pollers by their polls, bidders by their words."""
    if stage.engine is not None:
        return await stage.count("SELECT count(*) FROM replicas")
    if stage.variant.kind == "locked":
        return stage.printed().count("waiting")
    return len({call.process for call in stage.telegram.journal.polls()})


async def _stop(processes: list[asyncio.subprocess.Process], how: signal.Signals) -> None:
    for number in (how, signal.SIGKILL):
        for each in processes:
            if each.returncode is None:
                with suppress(ProcessLookupError):
                    each.send_signal(number)
        with suppress(TimeoutError):
            async with asyncio.timeout(STOP_S):
                await asyncio.gather(*(each.wait() for each in processes))
                return
