"""Many runs at once, a process per core."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor

import structlog

from tests.simulation.storm import Result, simulate

ROUND = 20  # seeds handed to a process at a time


def be_quiet() -> None:
    """What the parts log is of use for one seed only, and costs half the time."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(50))


def run_all(seeds: range) -> Iterator[Result]:
    """In the order of the seeds. Processes are spawned: one forked from a process with threads may hang."""
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(os.cpu_count(), mp_context=spawn, initializer=be_quiet) as pool:
        yield from pool.map(simulate, seeds, chunksize=ROUND)
