"""The engine on a real Postgres against the KIE simulator over HTTP; jobs are run by hand, one after another."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import datetime
from uuid import UUID, uuid4

import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from kiebot.clock import SystemClock
from kiebot.generation.catalog import model_by_id
from kiebot.generation.model import Generation, Order, Quoted
from kiebot.generation.pace import Pace
from kiebot.generation.pricing import quote
from kiebot.generation.service import Generations, accept
from kiebot.generation.tools import Limits, Tools
from kiebot.kie.client import KieProvider
from kiebot.kie.results import KieResults
from kiebot.simulators.kie import KieSimulator
from kiebot.simulators.server import SimulatorServer
from kiebot.storage.transaction import Database
from kiebot.storage.verify import verify
from kiebot.wakeups import Advance, Wakeup

ANNA = 7


def an_order(model_id: str = "z-image", key: str | None = None, **inputs: object) -> Order:
    model = model_by_id(model_id)
    assert model is not None
    filled = {"prompt": "a cat on a tram", **inputs}
    priced = quote(model, filled, markup=2)
    quoted = Quoted(priced.cost_millicredits, priced.price_millicredits, priced.is_maximum)
    return Order(uuid4(), key or str(uuid4()), ANNA, 70, model_id, filled, quoted, "en")


class Unlimited:
    """A budget that makes nobody wait unless told so, and remembers refusals."""

    def __init__(self) -> None:
        self.refusals = 0
        self.events: list[str] = []
        self.waits: list[float] = []  # told before anybody is let through

    async def take(self, turn: str, since: datetime | None = None) -> float:
        if self.waits:
            return self.waits.pop(0)
        self.events.append("let through")
        return 0.0

    async def answered(self, turn: str) -> None:
        self.events.append("answered")

    async def hurry(self, turn: str) -> None:
        self.events.append(f"hurried {turn}")

    async def refused(self, *, pause_s: float = 0.0) -> None:
        self.refusals += 1


class Pictures:
    """Users' files as Telegram would stream them."""

    def __init__(self) -> None:
        self.opened = 0
        self.on_open: Callable[[], None] | None = None

    @asynccontextmanager
    async def open(self, file: object) -> AsyncIterator[AsyncIterator[bytes]]:
        from kiebot.simulators.media import make_png

        self.opened += 1
        if self.on_open is not None:
            self.on_open()

        async def chunks() -> AsyncIterator[bytes]:
            yield make_png(seed=self.opened)

        yield chunks()


class RememberingQueue:
    def __init__(self) -> None:
        self.wakeups: list[Wakeup] = []

    async def enqueue(self, wakeups: Sequence[Wakeup]) -> None:
        self.wakeups.extend(wakeups)


@dataclass
class Rig:
    kie: KieSimulator
    database: Database
    queue: RememberingQueue
    tools: Tools
    files: Pictures
    kie_host: str

    @property
    def engine(self) -> Generations:
        return Generations(self.tools)

    async def grant(self, credits: int = 1000) -> None:
        async with self.database.transaction() as tx:
            await tx.ledger.grant(f"g{uuid4()}", ANNA, credits * 1000, reason="test", actor="test")

    async def order(self, model_id: str = "z-image", key: str | None = None, **inputs: object) -> Generation:
        order = an_order(model_id, key, **inputs)
        async with self.database.transaction() as tx:
            return await accept(tx, order, self.tools.limits)

    async def read(self, generation_id: UUID) -> Generation:
        async with self.database.transaction() as tx:
            found = await tx.generations.get(generation_id)
        assert found is not None
        return found

    async def settles(self, generation_id: UUID, tries: int = 400) -> Generation:
        """Advance until it has ended, as jobs and sweepers would."""
        for _ in range(tries):
            await self.engine.advance(generation_id)
            found = await self.read(generation_id)
            if found.state.is_final:
                return found
            await self.tools.clock.sleep(0.01)
        raise AssertionError(f"{found.state} after {tries} steps")

    async def is_due(self, generation_id: UUID) -> None:
        """As if its time had come."""
        from sqlalchemy import text

        async with self.database.engine.begin() as connection:
            await connection.execute(
                text("UPDATE generations SET due_at = now() WHERE id = :id"), {"id": generation_id}
            )

    async def balance(self) -> tuple[int, int]:
        async with self.database.transaction() as tx:
            wallet = await tx.ledger.balance(ANNA)
        return wallet.available, wallet.held

    async def told(self, generation_id: UUID) -> list[str]:
        from sqlalchemy import text

        async with self.database.engine.connect() as connection:
            rows = await connection.execute(
                text("SELECT kind, payload->>'reason' FROM outbox WHERE generation_id = :id ORDER BY id"),
                {"id": generation_id},
            )
            return [f"{row[0]}:{row[1]}" if row[1] else row[0] for row in rows]

    async def books_are_right(self) -> None:
        assert await verify(self.database.engine) == []

    def advances(self) -> list[Advance]:
        return [wakeup for wakeup in self.queue.wakeups if isinstance(wakeup, Advance)]

    def with_callbacks(self) -> Rig:
        return replace(self, tools=replace(self.tools, callback_url=lambda attempt: f"http://127.0.0.1:9/{attempt}"))


@pytest.fixture
async def rig(engine: AsyncEngine) -> AsyncIterator[Rig]:
    kie = KieSimulator(api_key="k-test", duration_scale=0.0005, rate_limits=False)
    kie.switches.gap_s = (0.0, 0.0)
    async with kie, SimulatorServer(kie.asgi) as server:
        host = server.url.removeprefix("http://")
        queue = RememberingQueue()
        database = Database(engine, queue)
        owner = uuid4()
        async with database.transaction() as tx:
            await tx.replicas.beat(owner, "r", {})
        files = Pictures()
        provider = KieProvider("k-test", api_url=server.url, upload_url=server.url)
        results = KieResults([host])
        tools = Tools(
            store=database,
            provider=provider,
            results=results,
            files=files,
            create_budget=Unlimited(),
            poll_budget=Unlimited(),
            clock=SystemClock(),
            owner=owner,
            limits=Limits(),
            pace=Pace(scale=0.001, result_patience_s=120.0),
        )
        yield Rig(kie, database, queue, tools, files, host)
        await provider.close()
        await results.close()
