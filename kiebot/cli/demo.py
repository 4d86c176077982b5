"""`kiebot demo`: the whole cluster on simulators, no token needed."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

import click

from kiebot.engines import EngineError


@click.command()
@click.option("--seed", default=0, show_default=True, help="decides who does what when, and the order of the blows")
@click.option("--plain", is_flag=True, help="lines for logs instead of a view that redraws itself")
@click.option("--keep", is_flag=True, help="leave the cluster running afterwards and print its addresses")
@click.option("--home", type=click.Path(path_type=Path), help="keep the engines' data and the replicas' log here")
@click.option("--mutant", hidden=True, help="switch on a deliberate bug in all replicas")
def demo(seed: int, plain: bool, keep: bool, home: Path | None, mutant: str | None) -> None:
    """Engines, Telegram, KIE and three replicas, a dozen people, and every misfortune. Ends within a minute.

    Exit status 0 only if everything adds up.
    """
    from kiebot.demo.mutants import MUTANTS
    from kiebot.demo.run import NotStarted, Options, run

    if mutant is not None and mutant not in MUTANTS:
        raise click.BadParameter(f"one of {', '.join(MUTANTS)}", param_hint="--mutant")
    try:
        status = asyncio.run(run(Options(seed, keep, plain, mutant, home)))
    except asyncio.CancelledError:  # SIGTERM: stopped in order, but nothing was shown to hold
        status = 1
    except (EngineError, NotStarted) as error:
        raise click.ClickException(str(error)) from None
    sys.exit(status)
