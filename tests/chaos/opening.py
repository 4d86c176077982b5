"""Setting up the rig: stores, simulators, doors, replicas, and everything gone in the end."""

from __future__ import annotations

import asyncio
import logging
import random
import signal
import sys
import tempfile
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import structlog
from redis.asyncio import Redis
from sqlalchemy import text

from kiebot.cluster import Cluster, Member
from kiebot.demo import mutants
from kiebot.demo.feed import Feed
from kiebot.simulators.telegram import FloodRules
from kiebot.storage.engine import make_engine
from kiebot.storage.migrate import migrate
from tests.chaos.crowd import Crowd
from tests.chaos.door import Address, Door
from tests.chaos.network import KINDS, Loopback, Network
from tests.chaos.rig import PREFIX, Doors, Rig
from tests.chaos.running import dying_with_us
from tests.chaos.stores import Stores, make_stores
from tests.scenarios.gate import free_port
from tests.scenarios.world import World, open_world

REPLICAS = 3
STOP_S = 20.0

# Every row that enters the inbox, who wrote it, and who held the fence at that instant.
_WITNESS = (
    "CREATE TABLE witness (id bigserial PRIMARY KEY, update_id bigint, writer text, holder text, epoch bigint, "
    "at timestamptz DEFAULT clock_timestamp())",
    """CREATE FUNCTION witnesses() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
        INSERT INTO witness (update_id, writer, holder, epoch)
        SELECT NEW.update_id, split_part(current_setting('application_name'), ' ', 2), f.replica, f.epoch
        FROM (SELECT 1) AS one LEFT JOIN fence f ON f.bot_id = NEW.bot_id;
        RETURN NEW; END $$""",
    "CREATE TRIGGER witnessed AFTER INSERT ON inbox FOR EACH ROW EXECUTE FUNCTION witnesses()",
)


@asynccontextmanager
async def open_rig(
    *,
    ttl_s: float = 10.0,
    replicas: int = REPLICAS,
    seed: int = 0,
    durable: bool = True,
    command: Sequence[str] = (sys.executable, "-m", "kiebot", "run"),
    has_web: bool = True,
    mutant: str = "",
    network: Callable[[], Network] = Loopback,
    **environment: str,
) -> AsyncIterator[Rig]:
    """Stores, simulators and replicas, all at work; everything is gone in the end. `environment`: more for all.

    `mutant`: the stores become such that replicas with this bug can run; `command` is to start them. Without `has_web`
    the processes are others than kiebot's and are ready when one of them polls. `network`: what they live in."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR))  # of this process alone
    async with AsyncExitStack() as stack:
        home = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="kc", ignore_cleanup_errors=True)))
        stores = make_stores(home, durable=durable)
        stack.push_async_callback(stores.stop)
        await stores.start()
        await _prepare(stores, mutant)
        world = await stack.enter_async_context(
            open_world(stores.postgres.url, stores.redis.url, PREFIX, flood=FloodRules(is_on=False))
        )
        rng = random.Random(seed)
        net = network()
        stack.callback(net.close)
        doors = {f"r{number}": await _doors(stack, stores, world, net, rng) for number in range(replicas)}
        ports = {name: free_port() for name in doors}
        hosts = [
            world.kie_url.removeprefix("http://"),
            *(f"{each.kie.host}:{each.kie.port}" for each in doors.values()),
        ]
        environment = {"KIE_RESULT_HOSTS": ",".join(hosts)} | environment
        members = [
            Member(name, _environment(world, stores, doors[name], ttl_s) | own | environment, enter=enter)
            for name in doors
            if (enter := (*doors[name].place.enter, *dying_with_us()))
            if (own := {"REPLICA_ID": name, "PORT": str(ports[name])})
        ]
        log = home / "replicas.log"
        output = stack.enter_context(log.open("ab"))
        cluster = Cluster(members, command=command, output=output)
        redis = Redis.from_url(stores.redis.url, socket_timeout=5.0)
        stack.push_async_callback(redis.aclose)
        rig = Rig(world, stores, cluster, doors, ports, Feed(log), Crowd(world, rng), redis, rng, ttl_s, home, has_web)
        stack.push_async_callback(_stop, rig)
        await cluster.start_all()
        await rig.are_ready()
        await rig.holder()
        yield rig


def end_in_order() -> None:
    """SIGTERM cancels the calling task: replicas and stores are processes of their own and must not be left behind."""
    task = asyncio.current_task()
    if task is not None:
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)


async def _prepare(stores: Stores, mutant: str) -> None:
    engine = make_engine(stores.postgres.url, pool_size=1)
    await migrate(engine)
    await mutants.prepare(engine, mutant)
    async with engine.begin() as connection:
        for statement in _WITNESS:
            await connection.execute(text(statement))
    await engine.dispose()


async def _doors(stack: AsyncExitStack, stores: Stores, world: World, net: Network, rng: random.Random) -> Doors:
    sockets: tuple[Address, ...] = (stores.postgres.socket, stores.redis.socket)
    targets = (*sockets, _address(world.tg_url), _address(world.kie_url))
    place = net.place()
    doors = [
        Door(target, host=net.address_of(kind), line=place.line, rng=rng)
        for kind, target in zip(KINDS, targets, strict=True)
    ]
    return Doors(*[await stack.enter_async_context(door) for door in doors], place=place)


def _address(url: str) -> tuple[str, int]:
    host, port = url.removeprefix("http://").split(":")
    return host, int(port)


def _environment(world: World, stores: Stores, doors: Doors, ttl_s: float) -> dict[str, str]:
    kie = f"http://{doors.kie.host}:{doors.kie.port}"
    return world.environment(
        DATABASE_URL=_through(stores.postgres.url, "postgresql://", doors.postgres) + "/kiebot",
        REDIS_URL=_through(stores.redis.url, "redis://", doors.redis),
        TELEGRAM_API_URL=f"http://{doors.telegram.host}:{doors.telegram.port}",
        KIE_API_URL=kie,
        KIE_UPLOAD_URL=kie,
        LEASE_TTL_S=f"{ttl_s:g}",
        LEASE_RENEW_S=f"{ttl_s / 5:g}",
        MAX_OPEN_PER_USER="100",
    )


def _through(url: str, scheme: str, door: Door) -> str:
    """The same account at the door."""
    account = url.split("://", 1)[1].split("@", 1)[0]
    return f"{scheme}{account}@{door.host}:{door.port}"


async def _stop(rig: Rig) -> None:
    """Whoever is frozen or cut off could not drain."""
    rig.stores.postgres.thaw()
    rig.stores.redis.thaw()
    for name in rig.names:
        rig.send(name, signal.SIGCONT)
    for doors in rig.doors.values():
        await doors.open()
    await rig.cluster.stop_all(grace_s=STOP_S)
