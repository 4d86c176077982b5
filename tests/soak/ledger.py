"""A random walk over the ledger: sequences of steps, all invariants after each, on two cores."""

from __future__ import annotations

import argparse
import asyncio
import os
import random
import tempfile
import time
import traceback
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass
from multiprocessing import get_context
from pathlib import Path

from sqlalchemy import text
from sqlalchemy.engine import make_url
from sqlalchemy.ext.asyncio import AsyncEngine

from kiebot.engines import await_stop, open_engines
from kiebot.storage.engine import make_engine
from kiebot.storage.migrate import migrate
from tests.storage.ledger_walk import Tally, walk

CHUNK = 50  # sequences that share a seed: what has to be walked again when one of them fails


@dataclass(frozen=True)
class Chunk:
    seed: int
    sequences: int
    steps: int


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--sequences", type=int, default=2000)
    parser.add_argument("--steps", type=int, default=140, help="rules of each sequence; some find nothing to do")
    parser.add_argument("--seed", type=int, help="of the first chunk; default: drawn, and printed")
    parser.add_argument("--processes", type=int, default=min(2, os.cpu_count() or 1))


def run(options: argparse.Namespace) -> int:
    """0 when every step left the books right."""
    first = options.seed if options.seed is not None else random.SystemRandom().randrange(10**9)
    count = -(-options.sequences // CHUNK)
    sizes = [min(CHUNK, options.sequences - place * CHUNK) for place in range(count)]
    chunks = [Chunk(first + place, size, options.steps) for place, size in enumerate(sizes)]
    print(f"seed {first}, {options.sequences} sequences of {options.steps} rules, {options.processes} processes")
    began, failed, whole = time.monotonic(), 0, Tally()
    with tempfile.TemporaryDirectory(prefix="kb") as home:
        with open_engines(Path(home), durable=False, linger_s=0.0) as engines:
            for chunk, tally, error in _walked(engines.database_url, chunks, options.processes):
                failed += error is not None
                whole.add(tally)
                if error is not None:
                    print(f"\nseed {chunk.seed} ({chunk.sequences} sequences of {chunk.steps} rules):\n{error}")
                print(
                    f"  {whole.sequences} sequences, {whole.steps} steps, {time.monotonic() - began:.0f} s", flush=True
                )
        await_stop(Path(home))
    each = whole.steps // max(1, whole.sequences)
    print(
        f"{whole.sequences} sequences, {whole.steps} steps, {each} each ({whole.refused} refused, "
        f"{whole.repeated} repeated), invariants checked after each; {failed} chunks failed; "
        f"{time.monotonic() - began:.0f} s"
    )
    return 1 if failed else 0


Walked = tuple[Chunk, Tally, str | None]


def _walked(url: str, chunks: list[Chunk], processes: int) -> Iterator[Walked]:
    """As they end; with what went wrong, if something did."""
    with ProcessPoolExecutor(processes, mp_context=get_context("spawn")) as pool:
        waiting = {pool.submit(walk_chunk, url, chunk): chunk for chunk in chunks}
        for future in as_completed(waiting):
            yield waiting[future], *future.result()


def walk_chunk(url: str, chunk: Chunk) -> tuple[Tally, str | None]:
    """In a database of its own, in a process of the pool."""
    loop = asyncio.new_event_loop()
    tally = Tally()
    try:
        walk(_database(loop, url, f"walk_{chunk.seed}"), loop, tally=tally, **asdict(chunk))
    except BaseException as error:
        return tally, "".join(traceback.format_exception(error))
    return tally, None


def _database(loop: asyncio.AbstractEventLoop, url: str, name: str) -> AsyncEngine:
    async def made() -> AsyncEngine:
        server = make_engine(url, pool_size=1).execution_options(isolation_level="AUTOCOMMIT")
        async with server.connect() as connection:
            await connection.execute(text(f"CREATE DATABASE {name}"))
        await server.dispose()
        # Each savepoint is a statement of its own: they must not drive the real ones out of the cache.
        own = make_url(url).set(database=name).update_query_dict({"prepared_statement_cache_size": "2000"})
        engine = make_engine(own.render_as_string(hide_password=False), pool_size=1)
        await migrate(engine)
        return engine

    return loop.run_until_complete(made())
