"""A thousand generations under every failure of KIE's, while replicas are killed: each ends once, nobody pays twice."""

from __future__ import annotations

import argparse
import asyncio
import logging
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import structlog

from kiebot.engines import await_stop, open_engines
from kiebot.storage.engine import make_engine
from kiebot.storage.migrate import migrate
from tests.chaos.opening import end_in_order
from tests.soak.generations.replica import MUTANTS
from tests.soak.generations.run import Options, soak
from tests.soak.generations.table import table

SMALL = Options(works=24, people=8, within_s=7.0, pace=0.02, kill_every_s=2.0, kills_all=0.0, checks=10, rest_s=60.0)

MUTANT_RESTS_S = 15.0  # some never come to rest


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--seed", type=int, default=0, help="decides profiles, people, storms and kills")
    parser.add_argument("--generations", type=int, default=1000)
    parser.add_argument("--users", type=int, default=200)
    parser.add_argument("--minutes", type=float, default=8.0, help="how long people buy, default 8")
    parser.add_argument("--mutant", choices=sorted(MUTANTS), help="break the replicas on purpose: status 1 expected")
    parser.add_argument("--log", type=Path, help="where the replicas' log goes; default: nowhere")
    parser.add_argument("--small", action="store_true", help="two dozen generations in a few seconds, as the tests do")


def run(options: argparse.Namespace) -> int:
    """0 when every promise was kept."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    logging.getLogger("asyncio").setLevel(logging.CRITICAL)  # a server whose client was killed writes into the void
    with tempfile.TemporaryDirectory(prefix="kb") as home:
        with open_engines(Path(home), durable=False, linger_s=0.0) as engines:
            status = asyncio.run(_run(engines.database_url, engines.redis_url, _chosen(options)))
        await_stop(Path(home))
    return status


def _chosen(options: argparse.Namespace) -> Options:
    whole = Options(works=options.generations, people=options.users, within_s=options.minutes * 60.0)
    chosen = replace(SMALL if options.small else whole, seed=options.seed, mutant=options.mutant, log=options.log)
    return replace(chosen, rest_s=MUTANT_RESTS_S) if options.mutant else chosen


async def _run(database_url: str, redis_url: str, options: Options) -> int:
    end_in_order()
    began = time.monotonic()
    engine = make_engine(database_url, pool_size=1)
    await migrate(engine)
    await engine.dispose()

    def tell(what: str) -> None:
        print(f"{time.monotonic() - began:6.1f} s  {what}", flush=True)

    tell(f"seed {options.seed}; {options.works} generations within {options.within_s:.0f} s, mutant: {options.mutant}")
    evidence, verdicts = await soak(database_url, redis_url, "soak", options, tell)
    print(f"\n{table(evidence, verdicts)}\n")
    broken = [verdict.promise for verdict in verdicts if not verdict.is_kept]
    took = f"{time.monotonic() - began:.0f} s, seed {options.seed}"
    print(f"BROKEN ({took}): {'; '.join(broken)}" if broken else f"all {len(verdicts)} promises kept ({took})")
    return 1 if broken else 0
