"""Plays stories, ends the process at a point of one, lets another replica go on, and looks at what came of it."""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from kiebot.bot.handlers.cancel import is_urgent
from kiebot.botapi.updates import UpdateReader
from kiebot.simulators.server import Receive, Scope, Send, SimulatorServer
from kiebot.storage.inbox import PostgresInbox
from kiebot.storage.verify import breaches_in
from tests.crashpoints.points import KILLED, ROOT
from tests.crashpoints.small_replica import KNOCKS, SmallReplica
from tests.crashpoints.stories import Stage, Story, prepares
from tests.scenarios.buying import CREATE
from tests.scenarios.world import World, open_world

RESUME_S = 20.0
LONGEST_S = 50.0  # of a whole story
_people = itertools.count(900_001)

_ENDED = text("""
    SELECT g.id, g.state, coalesce(g.failure, '') AS failure, s.outcome, s.amount,
        (SELECT count(*) FROM attempts a WHERE a.generation_id = g.id) AS attempts,
        (SELECT count(*) FROM outbox o WHERE o.generation_id = g.id AND o.kind IN ('result', 'failed')) AS outcomes,
        (SELECT count(*) FROM outbox o WHERE o.generation_id = g.id AND o.kind = 'late_result') AS gifts,
        (SELECT count(*) FROM outbox o WHERE o.chat_id = g.chat_id AND sent_at IS NULL AND buried_at IS NULL) AS unsent
    FROM generations g LEFT JOIN settlements s ON s.generation_id = g.id WHERE g.user_id = :user
""")
_WALLET = text("SELECT available, held, running, open_count FROM accounts WHERE key = :key")
_UNDONE = text("SELECT count(*) FROM inbox WHERE done_at IS NULL")
_BURIED = text("SELECT count(*) FROM dead_letters WHERE kind = 'update'")


@dataclass(frozen=True)
class Played:
    """What became of one story. `wrong`: the promises that broke; `passed`: points come by, when nobody died."""

    status: int
    passed: tuple[str, ...]
    wrong: tuple[str, ...]
    state: str

    @property
    def was_killed(self) -> bool:
        return self.status == KILLED


class Theatre:
    """A world, a process that forks the doomed, and a replica that outlives them all."""

    def __init__(self, world: World, zygote: asyncio.subprocess.Process, callbacks: str) -> None:
        self._world = world
        self._zygote = zygote
        self._callbacks = callbacks
        self._reader = UpdateReader(is_urgent)
        self._inbox = PostgresInbox(world.engine, world.tg.bot.bot_id)

    async def plays(self, story: Story, point: str | None) -> Played:
        """From a new person's first word to the end, with a death at `point`."""
        playing = asyncio.create_task(self._plays(story, point))
        await asyncio.wait({playing}, timeout=LONGEST_S)
        if playing.done():
            return playing.result()
        where = " < ".join(f"{frame.f_code.co_name}:{frame.f_lineno}" for frame in playing.get_stack())
        playing.cancel()
        return Played(-1, (), (f"nothing more for {LONGEST_S:.0f} s, at {where}",), "?")

    async def _plays(self, story: Story, point: str | None) -> Played:
        anna = self._world.tg.user(next(_people))
        prompt = f"a ginger cat, number {anna.user_id}"
        stage = Stage(anna, self._world, self.pump)
        callbacks = self._callbacks if story.callbacks else None
        home = SmallReplica(self._world.environment(REPLICA_ID="home", KIE_PACE="0.01"), callbacks=callbacks)
        await home.begins(alone=True)
        try:
            await self._helped_by(home, prepares(stage, story, prompt))
            story.before(self._world)
            if story.act is not None:
                self._world.kie.set_credits(0)
            await anna.presses(CREATE)
            await self.pump()
            answer = await self._doomed(story, stage, point, callbacks)
            self._world.kie.set_credits(100_000)
            await self._clear()
            survivor = SmallReplica(self._world.environment(REPLICA_ID="next", KIE_PACE="0.01"), callbacks=callbacks)
            try:
                await survivor.begins(alone=True)
                async with asyncio.timeout(RESUME_S):
                    await survivor.works(_at_once)
            finally:
                await survivor.ends()
            wrong, state = await self._judged(story, prompt, anna.user_id, killed=answer["status"] == KILLED)
        except TimeoutError as error:
            return Played(-1, (), (f"nothing more for {RESUME_S:.0f} s: {error}",), "?")
        finally:
            await home.ends()
        return Played(answer["status"], tuple(answer["passed"]), tuple(wrong), state)

    async def pump(self) -> None:
        """What waits at Telegram is recorded, as by a poller."""
        queue = self._world.tg.bot.queue
        for update in queue.snapshot():
            await self._inbox.record([self._reader.read(update.body)], token=None)
            queue.remove(update)

    async def _helped_by(self, home: SmallReplica, preparing: object) -> None:
        prepared = asyncio.Event()

        async def is_prepared() -> bool:
            return prepared.is_set()

        working = asyncio.create_task(home.works(is_prepared))
        try:
            await preparing  # type: ignore[misc]  # a coroutine
        finally:
            prepared.set()
            await working  # it ends by itself, with nothing left to be done

    async def _doomed(self, story: Story, stage: Stage, point: str | None, callbacks: str | None) -> dict:  # type: ignore[type-arg]  # JSON
        environment = self._world.environment(REPLICA_ID="doomed", KIE_PACE="0.01")
        job = {"environment": environment, "callbacks": callbacks, "point": point, "done": story.done}
        assert self._zygote.stdin is not None and self._zygote.stdout is not None
        self._zygote.stdin.write(json.dumps(job).encode() + b"\n")
        await self._zygote.stdin.drain()
        answering = asyncio.create_task(self._zygote.stdout.readline())
        acting = asyncio.create_task(story.act(stage)) if story.act is not None else None
        answer = json.loads(await answering)
        if acting is not None:
            acting.cancel()
            await asyncio.gather(acting, return_exceptions=True)
        return answer  # type: ignore[no-any-return]  # JSON

    async def _clear(self) -> None:
        """Faults that have not struck are no part of what comes next, nor is a model that one of them switched off."""
        await self._world.execute("DELETE FROM model_switches")
        self._world.kie.faults.clear()
        self._world.tg.faults.clear()

    async def _judged(self, story: Story, prompt: str, user_id: int, *, killed: bool) -> tuple[list[str], str]:
        async with self._world.engine.connect() as connection:
            rows = (await connection.execute(_ENDED, {"user": user_id})).all()
            wallet = (await connection.execute(_WALLET, {"key": f"wallet:{user_id}"})).one()
            wrong = [f"{breach.invariant}: {breach.rows}" for breach in await breaches_in(connection)]
            wrong += await _left_over(connection)
        if len(rows) != 1:
            return [*wrong, f"{len(rows)} generations of one press"], "?"
        (row,) = rows
        wrong += self._of_tasks(prompt, row.attempts)
        if row.state not in ("succeeded", "failed"):
            wrong.append(f"it never ended: {row.state}")
        if not killed and row.state not in story.ends:
            wrong.append(f"the story should end as {story.ends}, not {row.state} ({row.failure})")
        if row.outcomes != 1 or row.unsent:
            wrong.append(f"{row.outcomes} outcomes decided, {row.unsent} messages unsent")
        if (row.state == "succeeded") != (row.outcome == "captured") or (row.gifts and row.state == "succeeded"):
            wrong.append(f"{row.state} but {row.outcome}, {row.gifts} gifts")
        if wallet.available + (row.amount or 0) != 100_000 or wallet.held or wallet.running or wallet.open_count:
            wrong.append(f"the wallet has {wallet} after {row.amount} were taken")
        return wrong, f"{row.state} {row.failure}".strip()

    def _of_tasks(self, prompt: str, attempts: int) -> list[str]:
        """Tasks at the provider, told apart by this person's own prompt."""
        billed = [task for task in self._world.kie.billed_tasks() if prompt in str(task.input)]
        made = [task for task in self._world.kie.tasks.values() if prompt in str(task.input)]
        wrong = [] if len(made) <= attempts else [f"{len(made)} tasks for {attempts} attempts"]
        return wrong if len(billed) <= 1 else [*wrong, f"{len(billed)} tasks were billed"]


async def _left_over(connection: AsyncConnection) -> list[str]:
    undone, buried = await connection.scalar(_UNDONE), await connection.scalar(_BURIED)
    return [f"{undone} updates not handled, {buried} buried"] if undone or buried else []


async def _at_once() -> bool:
    return True


class CallbackDesk:
    """Where KIE's callbacks come in: each becomes a knock in Valkey, for whoever lives."""

    def __init__(self, knocks: SmallReplica) -> None:
        self._redis, self._key = knocks.adapters.redis, f"{knocks.adapters.settings.redis_prefix}:{KNOCKS}"

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        body, more = b"", True
        while more:
            message = await receive()
            body, more = body + message.get("body", b""), message.get("more_body", False)
        task_id = (json.loads(body).get("data") or {}).get("taskId")
        knock = json.dumps([scope["path"].rsplit("/", 1)[-1], task_id])
        await self._redis.rpush(self._key, knock)  # type: ignore[misc]  # as it is typed
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"ok"})


@asynccontextmanager
async def open_theatre(database_url: str, redis_url: str, prefix: str) -> AsyncIterator[Theatre]:
    """On an empty, migrated database. The process that forks ends with it."""
    async with open_world(database_url, redis_url, prefix) as world:
        world.kie.switches.gap_s = (0.0, 0.0)
        world.kie.switches.late_file_s = 0.1
        desk = SmallReplica(world.environment(REPLICA_ID="desk"))
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        zygote = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "tests.crashpoints.doomed"),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL if "CRASHPOINTS_SPEAK" not in os.environ else None,
            env=environment,
            cwd=ROOT,
            limit=2**20,
        )
        try:
            async with SimulatorServer(CallbackDesk(desk)) as server:
                yield Theatre(world, zygote, server.url)
        finally:
            with suppress(ProcessLookupError):
                zygote.send_signal(signal.SIGKILL)
            await zygote.wait()
            await desk.ends()
