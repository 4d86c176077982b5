"""Plays stories, ends the process at a point of one, lets another replica go on, and has the end judged."""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import signal
import socket
import time
import traceback
from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from kiebot.bot.handlers.cancel import is_urgent
from kiebot.botapi.updates import UpdateReader
from kiebot.simulators.server import Receive, Scope, Send, SimulatorServer
from kiebot.simulators.telegram.rules import FloodRules
from kiebot.storage.inbox import PostgresInbox
from tests.conftest import empty
from tests.crashpoints.judge import Mark, died, judged, mark
from tests.crashpoints.points import KILLED
from tests.crashpoints.small_replica import KNOCKS, SmallReplica
from tests.crashpoints.stage import BOSS, DOOMED_SESSIONS, Stage, Story, clear_misfortune
from tests.scenarios.world import World, open_world

RESUME_S = 20.0
LONGEST_S = 50.0  # of a whole story
_QUICK = {
    "KIE_PACE": "0.01",
    "KIE_POLLS_PER_S": "1000",
    "KIE_CREATE_PER_10S": "1000",
    "DB_POOL_SIZE": "3",
    "ADMIN_IDS": str(BOSS),
}
Lines = tuple[asyncio.StreamReader, asyncio.StreamWriter]
_people = itertools.count(900_001)


@dataclass(frozen=True)
class Played:
    """What became of one story. `wrong`: the promises that broke; `passed`: how often points were come by.

    doubles: double effects among what is wrong. repeats: messages sent again that were sent and not yet noted.
    """

    status: int
    passed: dict[str, int]
    wrong: tuple[str, ...]
    state: str
    repeats: int = 0
    doubles: int = 0
    resume_s: float = 0.0

    @property
    def was_killed(self) -> bool:
        return self.status == KILLED


class Theatre:
    """A world, a process that forks the doomed, and replicas that outlive them all. One story at a time."""

    def __init__(self, world: World, zygote: Lines, callbacks: str) -> None:
        self._world = world
        self._told, self._tell = zygote
        self._callbacks = callbacks
        self._reader = UpdateReader(is_urgent)
        self._inbox = PostgresInbox(world.engine, world.tg.bot.bot_id)
        self._homes: dict[str | None, SmallReplica] = {}

    async def plays(self, story: Story, point: str | None, at: int = 1) -> Played:
        """From a new person's first word to the end, with a death when it comes by `point` for the `at`-th time."""
        playing = asyncio.create_task(self._plays(story, point, at))
        await asyncio.wait({playing}, timeout=LONGEST_S)
        if not playing.done():
            where = " < ".join(f"{frame.f_code.co_name}:{frame.f_lineno}" for frame in playing.get_stack())
            playing.cancel()
            await asyncio.gather(playing, return_exceptions=True)
            played = Played(-1, {}, (f"nothing more for {LONGEST_S:.0f} s, at {where}",), "?")
        elif (error := playing.exception()) is not None:
            last = "".join(traceback.format_exception(error)[-2:])
            played = Played(-1, {}, (f"the story broke off: {last}",), "?")
        else:
            played = playing.result()
        if played.wrong:  # what it left behind is no part of the next one
            await self._clear()
            await self._begins_anew()
        return played

    async def ends(self) -> None:
        for home in self._homes.values():
            await home.ends()

    async def pump(self) -> None:
        """What waits at Telegram is recorded, as by a poller."""
        queue = self._world.tg.bot.queue
        for update in queue.snapshot():
            read = self._reader.read(update.body)
            for home in self._homes.values():
                home.adapters.checkouts.serve([read])
            await self._inbox.record([read], token=None)
            queue.remove(update)

    async def _plays(self, story: Story, point: str | None, at: int) -> Played:
        await self._world.execute(f"SELECT pg_terminate_backend(pid) {DOOMED_SESSIONS}")  # whose owner is long dead
        self._world.kie.switches.set(**_SWITCHES)
        anna = self._world.tg.user(next(_people))
        callbacks = self._callbacks if story.callbacks else None
        home = await self._home(callbacks)
        stage = Stage(anna, self._world.tg.user(BOSS), self._world, home, self.pump)
        await _helped_by(home, story.earlier(stage, story, f"a ginger cat, number {anna.user_id},"))
        await story.moves(stage)
        await story.before(self._world)
        since = await mark(self._world)
        answer = await self._doomed(story, stage, {"point": point, "time": at, "callbacks": callbacks})
        return await self._resumed(story, stage, answer, since, callbacks)

    async def _home(self, callbacks: str | None) -> SmallReplica:
        if callbacks not in self._homes:
            self._homes[callbacks] = SmallReplica(self._environment("home"), callbacks=callbacks)
        await self._homes[callbacks].begins(alone=True)
        return self._homes[callbacks]

    def _environment(self, replica: str, **more: str) -> dict[str, str]:
        return self._world.environment(REPLICA_ID=replica, **_QUICK) | more

    async def _doomed(self, story: Story, stage: Stage, death: dict[str, Any]) -> dict[str, Any]:
        job = {
            "environment": self._environment("doomed", **story.environment),
            "done": story.done,
            "facts": {"user": stage.anna.user_id} if ":user" in story.done else {},
            **death,
        }
        self._tell.write(json.dumps(job).encode() + b"\n")
        await self._tell.drain()
        pid = (await self._answer())["pid"]
        stage.cuts_job = lambda: os.kill(pid, signal.SIGUSR1)
        acting = asyncio.ensure_future(story.act(stage)) if story.act is not None else None
        answer = await self._answer()
        if acting is not None:
            acting.cancel()
            (said,) = await asyncio.gather(acting, return_exceptions=True)
            if answer["status"] == 0 and isinstance(said, Exception):
                raise said  # nobody died, and what was to happen did not
        return answer

    async def _answer(self) -> dict[str, Any]:
        said = await self._told.readline()
        if not said:
            raise ChildProcessError("the process that forks replicas has ended")
        return dict(json.loads(said))

    async def _resumed(
        self, story: Story, stage: Stage, answer: dict[str, Any], since: Mark, callbacks: str | None
    ) -> Played:
        user = stage.anna.user_id
        death = await died(self._world, user) if answer["status"] == KILLED else None
        await self._clear()
        began = time.monotonic()
        survivor = SmallReplica(self._environment("next", **story.environment), callbacks=callbacks)
        try:
            await survivor.begins(alone=True)
            async with asyncio.timeout(RESUME_S):
                await survivor.works(_at_once)
                while self._world.tg.bot.queue.snapshot():  # what Telegram itself had to say of it
                    await self.pump()
                    await survivor.works(_at_once)
        except TimeoutError:
            waiting = {what: count for what, count in (await self._world.waiting()).items() if count}
            return Played(answer["status"], {}, (f"stuck: after {RESUME_S:.0f} s there still wait {waiting}",), "?")
        finally:
            await survivor.ends()
        took_s = time.monotonic() - began
        verdict = await judged(self._world, story, user, since, alive=survivor.adapters.incarnation, death=death)
        odd = () if answer["status"] in (0, KILLED) else (f"it ended by itself, with status {answer['status']}",)
        return Played(
            answer["status"],
            answer["passed"],
            (*verdict.wrong, *odd),
            verdict.state,
            verdict.repeats,
            verdict.doubles,
            took_s,
        )

    async def _clear(self) -> None:
        """Faults that have not struck are no part of what comes next, nor is a model that one of them switched off."""
        await clear_misfortune(self._world)
        await self._world.execute("DELETE FROM model_switches")
        self._world.kie.faults.clear()
        self._world.tg.faults.clear()
        self._world.kie.set_credits(100_000)

    async def _begins_anew(self) -> None:
        for home in self._homes.values():
            await home.ends()
        self._homes.clear()
        await empty(self._world.engine)


_SWITCHES: dict[str, Any] = {
    "gap_s": (0.0, 0.0),
    "late_file_s": 0.1,
    "rate_limits": False,
    "late_answer_s": 0.8,
    "record_fields": "newest",
}


async def _helped_by(home: SmallReplica, preparing: Awaitable[None]) -> None:
    prepared = asyncio.Event()
    helping = asyncio.create_task(home.helps(prepared))
    try:
        await preparing
    finally:
        prepared.set()
        await helping


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
async def open_theatre(database_url: str, redis_url: str, prefix: str, zygote: socket.socket) -> AsyncIterator[Theatre]:
    """On an empty, migrated database. zygote: the process that forks replicas, which ends with the theatre."""
    async with open_world(database_url, redis_url, prefix, flood=FloodRules(is_on=False)) as world:
        world.kie.switches.set(**_SWITCHES)
        desk = SmallReplica(world.environment(REPLICA_ID="desk"))
        lines = await asyncio.open_connection(sock=zygote, limit=2**20)
        try:
            async with SimulatorServer(CallbackDesk(desk)) as server:
                theatre = Theatre(world, lines, server.url)
                yield theatre
                await theatre.ends()
        finally:
            lines[1].close()
            await desk.ends()
