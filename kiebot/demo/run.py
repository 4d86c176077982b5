"""One run: engines, simulators and replicas up; people and blows; rest; the audit; everything down again."""

from __future__ import annotations

import asyncio
import contextlib
import random
import signal
import socket
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path

from redis.asyncio import Redis
from sqlalchemy import text

from kiebot.cluster import Cluster, Member
from kiebot.demo import faults
from kiebot.demo.audit import Verdict, audit
from kiebot.demo.collect import collect, unfinished
from kiebot.demo.faults import Stage
from kiebot.demo.feed import Feed
from kiebot.demo.mutants import prepare
from kiebot.demo.scenario import Person, invite
from kiebot.demo.show import Show, Snapshot, table
from kiebot.engines import Engines, open_engines
from kiebot.simulators.kie import KieSimulator
from kiebot.simulators.server import SimulatorServer
from kiebot.simulators.telegram import TelegramSimulator
from kiebot.storage.engine import make_engine
from kiebot.storage.migrate import migrate

REPLICAS = 3
WELCOME_CREDITS = 1000
LEASE_TTL_S, LEASE_RENEW_S = 5.0, 1.0  # half the defaults: a frozen leader is waited out once per run
KIE_PACE, KIE_DURATIONS = 0.05, 0.02  # KIE's seconds pass fifty times as fast here
USUAL_S = 1.0
SLOW_S = {"grok-imagine/text-to-video": 3.0, "ai-music-api/generate": 2.0}  # by model; no tail: a run has an end
START_S, REST_S, STOP_S = 30.0, 15.0, 8.0
WARM_UP_S, AFTERGLOW_S = 2.5, 2.0

_FENCE = text("SELECT epoch FROM fence")
_HANDLED = text("SELECT count(DISTINCT update_id) FROM inbox WHERE done_at IS NOT NULL")
_STATES = text("SELECT state, count(*) FROM generations GROUP BY state ORDER BY state")
_MONEY = text("""
    SELECT coalesce(sum(available + held) FILTER (WHERE key LIKE 'wallet:%'), 0)::bigint,
        coalesce(sum(held) FILTER (WHERE key LIKE 'wallet:%'), 0)::bigint,
        coalesce(sum(available) FILTER (WHERE key LIKE 'revenue:%'), 0)::bigint
    FROM accounts
""")


class NotStarted(Exception):
    """The replicas did not come up. The text holds the last lines of their log."""


@dataclass(frozen=True, slots=True)
class Options:
    """What `kiebot demo` was asked for."""

    seed: int = 0
    keep: bool = False
    plain: bool = False
    mutant: str | None = None
    home: Path | None = None


@dataclass(slots=True)
class Outside:
    """The simulators and where they listen."""

    telegram: TelegramSimulator
    kie: KieSimulator
    telegram_url: str
    kie_url: str
    kie_host: str


async def run(options: Options) -> int:
    """0: every promise was kept. 1: one was broken, and the table says which.

    SIGTERM cancels the run: replicas and engines are processes of their own and must not be left behind.
    Raises: EngineError, NotStarted.
    """
    task = asyncio.current_task()
    if task is not None:
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    show = Show(options.plain or not sys.stdout.isatty())
    with _home(options) as home:
        show.tell(f"seed {options.seed}; starting PostgreSQL and Redis")
        engines = await asyncio.to_thread(open_engines, home, durable=options.home is not None)
        try:
            async with _outside(options) as outside:
                return await _run(options, show, engines, outside, home)
        finally:
            show.end()
            await asyncio.to_thread(engines.close)


async def _run(options: Options, show: Show, engines: Engines, outside: Outside, home: Path) -> int:
    engine = make_engine(engines.database_url, pool_size=4, application="kiebot demo")
    redis = Redis.from_url(engines.redis_url)
    rng = random.Random(options.seed)
    log = home / "replicas.log"
    try:
        await migrate(engine)
        if options.mutant:
            await prepare(engine, options.mutant)
        with log.open("ab") as output:
            cluster = _cluster(engines, outside, options, output)
            people = invite(outside.telegram, rng, show.tell)
            talker = rng.choice([person for person in people if person.taste is None])
            stage = Stage(cluster, outside.telegram, outside.kie, engine, redis, rng, show.tell, talker.provokes)
            feed = Feed(log)
            try:
                status = await _play(options, show, stage, people, feed)
                if options.keep:
                    await _leave_running(show, stage, engines, outside, log)
            finally:
                await cluster.stop_all(grace_s=STOP_S)
        return status
    finally:
        await redis.aclose()
        await engine.dispose()


async def _play(options: Options, show: Show, stage: Stage, people: Sequence[Person], feed: Feed) -> int:
    show.tell(f"starting {REPLICAS} replicas" + (f" with the mutant {options.mutant}" if options.mutant else ""))
    await stage.cluster.start_all()
    view = asyncio.create_task(_watch(show, stage, people, feed))
    try:
        await _until_somebody_polls(stage, feed)
        await _scenario(stage, people)
        await _come_to_rest(stage)
    finally:
        view.cancel()
        await asyncio.gather(view, return_exceptions=True)
    feed.read()
    evidence = await collect(stage, people, feed.epochs)
    verdicts = audit(evidence)
    show.end()
    print(table(evidence, verdicts))
    print(_summary(verdicts, show, options))
    return 0 if all(verdict.is_kept for verdict in verdicts) else 1


async def _scenario(stage: Stage, people: Sequence[Person]) -> None:
    """People live while the blows fall, and a little longer."""
    lives = [asyncio.create_task(person.lives()) for person in people]
    try:
        stage.tell(f"{len(people)} people begin to write")
        await asyncio.sleep(WARM_UP_S)
        stage.kie.fails_next("content policy")
        await faults.strike_all(stage)
        await asyncio.sleep(AFTERGLOW_S)
    finally:
        for life in lives:
            life.cancel()
        for person, end in zip(people, await asyncio.gather(*lives, return_exceptions=True), strict=True):
            if isinstance(end, Exception):
                stage.trouble.append(f"{person.name}: {type(end).__name__}: {end}")
    stage.tell("people fell silent; waiting until everything is done")


async def _come_to_rest(stage: Stage) -> None:
    give_up = time.monotonic() + REST_S
    while await unfinished(stage.engine, stage.telegram) and time.monotonic() < give_up:  # noqa: ASYNC110 - rows
        await asyncio.sleep(0.2)
    stage.tell("everything came to rest" if time.monotonic() < give_up else "something did not come to rest")


async def _until_somebody_polls(stage: Stage, feed: Feed) -> None:
    give_up = time.monotonic() + START_S
    while stage.leader() is None:
        if time.monotonic() > give_up or not any(member.is_alive for member in stage.cluster.members.values()):
            feed.read()
            raise NotStarted("no replica began to poll; they said:\n" + "\n".join(feed.last))
        await asyncio.sleep(0.05)


async def _watch(show: Show, stage: Stage, people: Sequence[Person], feed: Feed) -> None:
    while True:
        for told in feed.read():
            show.tell(told)
        with contextlib.suppress(Exception):  # a look that fails is no part of the run
            show.look(await _snapshot(stage, people))
        await asyncio.sleep(0.25 if not show.is_plain else 0.5)


async def _snapshot(stage: Stage, people: Sequence[Person]) -> Snapshot:
    async with stage.engine.connect() as connection:
        wallets, held, captured = (await connection.execute(_MONEY)).one()
        return Snapshot(
            leader=stage.leader() or "",
            epoch=await connection.scalar(_FENCE) or 0,
            replicas={
                name: "up" if member.is_alive else "down" for name, member in sorted(stage.cluster.members.items())
            },
            sent=sum(len(person.user.update_ids) for person in people),
            handled=await connection.scalar(_HANDLED) or 0,
            generations={row[0]: row[1] for row in await connection.execute(_STATES)},
            granted=wallets + captured,
            held=held,
            captured=captured,
        )


async def _leave_running(show: Show, stage: Stage, engines: Engines, outside: Outside, log: Path) -> None:
    """Until Ctrl-C or SIGTERM."""
    print("\nstill running; stop with Ctrl-C")
    for name, value in (
        ("TELEGRAM_API_URL", f"{outside.telegram_url}  (people and faults under /_sim)"),
        ("TELEGRAM_BOT_TOKEN", outside.telegram.token),
        ("KIE_API_URL", f"{outside.kie_url}  (faults under /_sim)"),
        ("KIE_API_KEY", outside.kie.api_key),
        ("DATABASE_URL", engines.database_url),
        ("REDIS_URL", engines.redis_url),
        ("log", str(log)),
    ):
        print(f"  {name:<20}{value}")
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    await stop.wait()


@contextmanager
def _home(options: Options) -> Iterator[Path]:
    if options.home is not None:
        options.home.mkdir(parents=True, exist_ok=True)
        yield options.home
        return
    with tempfile.TemporaryDirectory(prefix="kiebot-demo-", ignore_cleanup_errors=True) as made:
        yield Path(made)


@asynccontextmanager
async def _outside(options: Options) -> AsyncIterator[Outside]:
    telegram = TelegramSimulator(seed=options.seed, control=options.keep)
    kie = KieSimulator(seed=options.seed, duration_scale=KIE_DURATIONS, control=options.keep)
    kie.switches.set(duration_s=USUAL_S)
    for model, seconds in SLOW_S.items():
        kie.switches.set_model(model, duration_s=seconds)
    async with telegram, kie, SimulatorServer(telegram.asgi) as bot_api, SimulatorServer(kie.asgi) as kie_api:
        yield Outside(telegram, kie, bot_api.url, kie_api.url, f"{kie_api.host}:{kie_api.port}")


def _cluster(engines: Engines, outside: Outside, options: Options, output: object) -> Cluster:
    port = _free_port()
    common = {
        "TELEGRAM_BOT_TOKEN": outside.telegram.token,
        "TELEGRAM_API_URL": outside.telegram_url,
        "KIE_API_KEY": outside.kie.api_key,
        "KIE_API_URL": outside.kie_url,
        "KIE_UPLOAD_URL": outside.kie_url,
        "KIE_RESULT_HOSTS": outside.kie_host,
        "KIE_PACE": str(KIE_PACE),
        "KIE_POLLS_PER_S": "30",
        "DATABASE_URL": engines.database_url,
        "REDIS_URL": engines.redis_url,
        "LEASE_URL": engines.redis_url,
        "LEASE_TTL_S": str(LEASE_TTL_S),
        "LEASE_RENEW_S": str(LEASE_RENEW_S),
        "WELCOME_CREDITS": str(WELCOME_CREDITS),
        "PUBLIC_URL": f"http://127.0.0.1:{port}",
        "BOT_MODE": "polling",
        "LOG_FORMAT": "json",
        "LOG_LEVEL": "INFO",
        "PORT": "",
    }
    members = []
    for number in range(REPLICAS):
        name = f"replica-{number}"
        own = {"REPLICA_ID": name} | ({"PORT": str(port)} if number == 0 else {})
        members.append(Member(name, common | own))
    module = ("kiebot", "run") if not options.mutant else ("kiebot.demo.mutant_replica", "--mutant", options.mutant)
    return Cluster(members, command=(sys.executable, "-m", *module), output=output)  # type: ignore[arg-type]


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _summary(verdicts: Sequence[Verdict], show: Show, options: Options) -> str:
    broken = [verdict.promise for verdict in verdicts if not verdict.is_kept]
    took = f"{time.monotonic() - show.started:.0f} s, seed {options.seed}"
    if broken:
        return f"\nBROKEN ({took}): {'; '.join(broken)}"
    return f"\nall {len(verdicts)} promises kept ({took})"
