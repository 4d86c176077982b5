"""What Postgres may do in the middle of a transaction: end its session, find the disk full, freeze.

All of it happens inside the real server: a trigger strikes the first rows that a table gets.
"""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from uuid import UUID

import pytest
from sqlalchemy import event, text
from sqlalchemy.ext.asyncio import AsyncEngine

from kiebot.errors import Transient
from kiebot.generation.model import Generation, State
from kiebot.intake.ports import RawUpdate
from kiebot.storage.engine import close_engine, make_engine
from kiebot.storage.inbox import PostgresInbox
from kiebot.storage.transaction import Database
from tests.faults.conftest import ShakyStore
from tests.generation.conftest import Rig
from tests.scenarios.gate import Gate, before_postgres

Act = Callable[[], Awaitable[Generation]]

ENDS_THE_SESSION = "PERFORM pg_terminate_backend(pg_backend_pid()); PERFORM pg_sleep(5);"
DISK_FULL = "RAISE EXCEPTION 'could not extend file: No space left on device' USING ERRCODE = '53100';"
NOTICE = "the money moves"
SAYS_SO = f"RAISE NOTICE '{NOTICE}';"
WAITS = "PERFORM pg_advisory_xact_lock(4711);"

_SETTLED = "SELECT count(*) FROM settlements"
_MONEY_MOVES = "SELECT count(*) FROM postings WHERE kind IN ('hold', 'capture', 'void')"


@asynccontextmanager
async def struck(
    engine: AsyncEngine, table: str, blow: str, *, times: int = 1, is_deferred: bool = False
) -> AsyncIterator[None]:
    """`blow` falls after each of the first `times` rows written to `table`, or deferred: when they are committed.

    A sequence counts: no rollback undoes it.
    """
    function = f"""
        CREATE FUNCTION strike() RETURNS trigger LANGUAGE plpgsql AS
        $$ BEGIN IF nextval('blows') <= {times} THEN {blow} END IF; RETURN NULL; END $$
    """
    kind, when = ("CONSTRAINT TRIGGER", "DEFERRABLE INITIALLY DEFERRED") if is_deferred else ("TRIGGER", "")
    trigger = f"CREATE {kind} struck AFTER INSERT OR UPDATE ON {table} {when} FOR EACH ROW EXECUTE FUNCTION strike()"
    await execute(engine, "CREATE SEQUENCE blows", function, trigger)
    try:
        yield
    finally:
        await execute(engine, f"DROP TRIGGER struck ON {table}", "DROP FUNCTION strike", "DROP SEQUENCE blows")


async def execute(engine: AsyncEngine, *statements: str) -> None:
    async with engine.begin() as connection:
        for statement in statements:
            await connection.execute(text(statement))


async def count(rig: Rig, query: str) -> int:
    async with rig.database.engine.connect() as connection:
        return int(await connection.scalar(text(query)) or 0)


async def a_capture(rig: Rig) -> Act:
    """The step that takes the money of a work whose task has ended."""
    generation = await running(rig)
    return lambda: advanced(rig, generation.id)


async def a_void(rig: Rig) -> Act:
    rig.kie.fails_next("moderation_prompt")
    generation = await running(rig)
    return lambda: advanced(rig, generation.id)


async def a_hold(rig: Rig) -> Act:
    """The confirm press of a purchase, and whatever repeats it."""
    return lambda: rig.order(key="press")


async def running(rig: Rig) -> Generation:
    generation = await rig.order()
    await rig.engine.advance(generation.id)
    await asyncio.sleep(0.05)  # the task's own time
    found = await rig.read(generation.id)
    assert found.state is State.RUNNING
    return found


async def advanced(rig: Rig, generation_id: UUID) -> Generation:
    await rig.is_due(generation_id)
    await rig.engine.advance(generation_id)
    return await rig.read(generation_id)


ACTS = {"capture": a_capture, "void": a_void, "hold": a_hold}
WRITES = {"capture": "settlements", "void": "settlements", "hold": "holds"}
AFTERWARDS = {"capture": (8400, 0), "void": (10_000, 0), "hold": (8400, 1600)}


async def has_happened_once(rig: Rig, act: str) -> None:
    assert await rig.balance() == AFTERWARDS[act]
    assert await count(rig, _MONEY_MOVES) == (1 if act == "hold" else 2)
    assert await count(rig, "SELECT count(*) FROM generations") == 1
    assert await count(rig, "SELECT count(*) FROM outbox") == (0 if act == "hold" else 1)
    assert await count(rig, "SELECT coalesce(sum(stumbles), 0) FROM generations") == 0, "taken for a bug of ours"
    assert len(rig.kie.tasks) == (0 if act == "hold" else 1)
    await rig.books_are_right()


# The session is ended


@pytest.mark.parametrize("act", ACTS)
async def test_a_session_ended_in_the_middle_of_a_move_of_money_leaves_nothing_and_the_next_try_moves_it(
    rig: Rig, act: str
) -> None:
    await rig.grant(10)
    do = await ACTS[act](rig)
    before = await rig.balance()
    async with struck(rig.database.engine, WRITES[act], ENDS_THE_SESSION):
        with pytest.raises(Transient):
            await do()
        assert await rig.balance() == before
        assert await count(rig, f"SELECT count(*) FROM {WRITES[act]}") == 0
        await do()
    await has_happened_once(rig, act)


class DeafAfterCommit(Gate):
    """Breaks one connection with the answer to its COMMIT in hand, once a notice told that it wrote what matters."""

    has_heard = False
    has_cut = False

    async def _copy(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while chunk := await reader.read(65536):
            self.has_heard = self.has_heard or NOTICE.encode() in chunk
            if self.has_heard and not self.has_cut and b"COMMIT\0" in chunk:
                self.has_cut = True
                break
            writer.write(chunk)
            await writer.drain()
        raise ConnectionResetError


@asynccontextmanager
async def deaf_after_commit(rig: Rig) -> AsyncIterator[tuple[Rig, DeafAfterCommit]]:
    """The same rig behind such a gate."""
    plain, url = before_postgres(rig.database.engine.url.render_as_string(hide_password=False))
    gate = DeafAfterCommit(plain.connect, plain.port)
    await gate.open()
    database = Database(make_engine(url, pool_size=2), rig.queue)
    yield replace(rig, database=database, tools=replace(rig.tools, store=database)), gate
    await close_engine(database.engine)
    await gate.close()


@pytest.mark.parametrize("act", ACTS)
async def test_a_connection_that_breaks_between_the_commit_and_its_answer_moves_the_money_once(
    rig: Rig, act: str
) -> None:
    await rig.grant(10)
    prepare = ACTS[act]
    async with deaf_after_commit(rig) as (deaf, gate), struck(rig.database.engine, WRITES[act], SAYS_SO):
        do = await prepare(deaf)
        with pytest.raises(Transient):
            await do()
        assert gate.has_cut
        assert await rig.balance() == AFTERWARDS[act], "it was committed, and nobody heard of it"
        await do()
    await has_happened_once(rig, act)


# The disk is full


@pytest.mark.parametrize("table", ["settlements", "accounts", "outbox"])
@pytest.mark.parametrize("act", ["capture", "void"])
async def test_a_disk_that_is_full_for_a_while_puts_off_a_settlement_and_no_half_of_it_is_done(
    rig: Rig, act: str, table: str
) -> None:
    await rig.grant(10)
    do = await ACTS[act](rig)
    before = await rig.balance()
    async with struck(rig.database.engine, table, DISK_FULL, times=3):
        for _ in range(3):
            with pytest.raises(Transient):
                await do()
            assert await rig.balance() == before
            assert await count(rig, _SETTLED) == await count(rig, "SELECT count(*) FROM outbox") == 0
        await do()
    await has_happened_once(rig, act)


async def test_a_batch_of_updates_that_finds_the_disk_full_is_not_recorded_at_all_and_then_once(
    engine: AsyncEngine,
) -> None:
    inbox = PostgresInbox(engine, 42)
    batch = [RawUpdate(number, f"c{number}", b"{}") for number in (1, 2, 3)]
    async with struck(engine, "inbox", DISK_FULL, times=2):
        for _ in range(2):
            with pytest.raises(Transient):
                await inbox.record(batch, token=None)
        assert len(await inbox.record(batch, token=None)) == 3
    async with engine.connect() as connection:
        assert await connection.scalar(text("SELECT count(*) FROM inbox")) == 3


# A frozen process of the server

PATIENCE_S = 0.6  # of a statement; 25 s in earnest


@asynccontextmanager
async def impatient(rig: Rig) -> AsyncIterator[tuple[Rig, ShakyStore, AsyncEngine]]:
    """The same rig on one connection, whose server is given up after a moment."""
    engine = make_engine(rig.database.engine.url.render_as_string(hide_password=False), pool_size=1)

    @event.listens_for(engine.sync_engine, "do_connect")
    def shorten(_: object, __: object, ___: object, arguments: dict[str, object]) -> None:
        settings = arguments["server_settings"]
        assert isinstance(settings, dict)
        arguments["command_timeout"], settings["lock_timeout"] = PATIENCE_S, "300"

    store = ShakyStore(Database(engine, rig.queue))
    yield replace(rig, tools=replace(rig.tools, store=store)), store, engine
    await close_engine(engine)


@asynccontextmanager
async def frozen() -> AsyncIterator[Callable[[int], None]]:
    """Freezes processes, which go on in the end."""
    pids: list[int] = []

    def freeze(pid: int) -> None:
        pids.append(pid)
        os.kill(pid, signal.SIGSTOP)

    try:
        yield freeze
    finally:
        for pid in pids:
            os.kill(pid, signal.SIGCONT)


async def test_a_process_that_freezes_before_a_capture_is_given_up_and_another_connection_takes_the_money(
    rig: Rig,
) -> None:
    await rig.grant(10)
    generation = await running(rig)
    async with impatient(rig) as (hasty, store, its_own):
        async with frozen() as freeze:
            victims: list[int] = []

            async def freeze_its_own() -> None:
                async with its_own.connect() as connection:
                    victims.append((await connection.execute(text("SELECT pg_backend_pid()"))).scalar_one())
                freeze(victims[0])

            store.before[3] = freeze_its_own  # 1: claim, 2: what it cost, 3: capture
            with pytest.raises(Transient):
                async with asyncio.timeout(20 * PATIENCE_S):
                    await hasty.engine.advance(generation.id)
            assert victims
            assert await rig.balance() == (8400, 1600)
            await ends(hasty, generation)
            await has_happened_once(rig, "capture")
        await is_gone(rig.database.engine, victims[0])
        assert (await advanced(hasty, generation.id)).state is State.SUCCEEDED
    await has_happened_once(rig, "capture")


@pytest.mark.parametrize("moment", ["after the settlement", "at the commit"])
async def test_a_process_that_freezes_in_the_middle_of_a_capture_takes_the_money_once(rig: Rig, moment: str) -> None:
    """It keeps its locks while it is frozen: nobody can settle then, and everything goes on once it is back."""
    await rig.grant(10)
    generation = await running(rig)
    engine = rig.database.engine
    async with (
        impatient(rig) as (hasty, _, _),
        engine.connect() as gatekeeper,
        struck(engine, "settlements", WAITS, is_deferred=moment == "at the commit"),
    ):
        await gatekeeper.execute(text("SELECT pg_advisory_xact_lock(4711)"))
        async with frozen() as freeze:
            capturing = asyncio.create_task(hasty.engine.advance(generation.id))
            pid = await until_one_waits(engine)
            freeze(pid)
            await gatekeeper.rollback()
            await asyncio.sleep(2 * PATIENCE_S)
            assert await rig.balance() == (8400, 1600)
        with pytest.raises(Transient):
            async with asyncio.timeout(20 * PATIENCE_S):
                await capturing
        await is_gone(engine, pid)
        await ends(hasty, generation)
    await has_happened_once(rig, "capture")


async def ends(rig: Rig, generation: Generation) -> None:
    """Tried as often as its job and the sweepers would."""
    async with asyncio.timeout(20 * PATIENCE_S):
        while not (await rig.read(generation.id)).state.is_final:
            with suppress(Transient):
                await advanced(rig, generation.id)
    assert (await rig.read(generation.id)).state is State.SUCCEEDED


async def until_one_waits(engine: AsyncEngine) -> int:
    """The process of the session that waits where it was struck."""
    query = text("SELECT pid FROM pg_stat_activity WHERE wait_event = 'advisory'")
    async with asyncio.timeout(10):
        while True:
            async with engine.connect() as connection:
                if pid := await connection.scalar(query):
                    return int(pid)
            await asyncio.sleep(0.01)


async def is_gone(engine: AsyncEngine, pid: int) -> None:
    """The thawed process has seen that nobody listens to it any more."""
    query = text("SELECT count(*) FROM pg_stat_activity WHERE pid = :pid")
    async with asyncio.timeout(10):
        while True:
            async with engine.connect() as connection:
                if not await connection.scalar(query, {"pid": pid}):
                    return
            await asyncio.sleep(0.02)
