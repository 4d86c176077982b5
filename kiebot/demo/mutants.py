"""Six deliberate bugs, each of which one mechanism prevents, and who notices them.

`python -m kiebot.demo.mutants --seeds 3` runs the demo with each of them, seed by seed, until a run breaks a promise,
and prints which. A mutant that survives means that the demo looks away.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping

import click
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

MUTANTS: Mapping[str, str] = {
    "confirm-before-store": "the next poll leaves before the last answer is recorded",
    "inbox-key-off": "the inbox takes an update as often as it comes",
    "fence-off": "the fence is not checked, and the inbox key is off with it",
    "capture-before-success": "the money is taken when the task is created",
    "resubmit-on-lost-answer": "a lost answer counts as nothing created",
    "lane-without-recheck": "a released lane is not looked at again",
}
_WITHOUT_KEY = ("inbox-key-off", "fence-off")
_RUN_S = 120
_KEYS = text("SELECT conname FROM pg_constraint WHERE conrelid = 'inbox'::regclass AND contype = 'u'")


async def prepare(engine: AsyncEngine, mutant: str) -> None:
    """What a mutant needs of the demo's own database."""
    if mutant not in _WITHOUT_KEY:
        return
    async with engine.begin() as connection:
        for name in (await connection.scalars(_KEYS)).all():
            await connection.execute(text(f'ALTER TABLE inbox DROP CONSTRAINT "{name}"'))


@click.command()
@click.option("--seeds", default=3, show_default=True, type=click.IntRange(1))
@click.option("--first", default=0, show_default=True, help="the first seed")
@click.argument("names", nargs=-1, type=click.Choice(sorted(MUTANTS)))
def main(seeds: int, first: int, names: tuple[str, ...]) -> None:
    """Run the demo with every mutant (or the named ones). Status 1 when one of them survives."""
    survivors = 0
    for name in names or MUTANTS:
        caught = next((found for seed in range(first, first + seeds) if (found := _try(name, seed))), None)
        survivors += caught is None
        click.echo(f"{name:<26}{caught or f'SURVIVED {seeds} seeds'}")
    sys.exit(1 if survivors else 0)


def _try(mutant: str, seed: int) -> str | None:
    """What broke, or None."""
    command = [sys.executable, "-m", "kiebot", "demo", "--plain", "--seed", str(seed), "--mutant", mutant]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as demo:  # noqa: S603
        try:
            output, _ = demo.communicate(timeout=_RUN_S)
        except subprocess.TimeoutExpired:
            demo.terminate()  # it stops its replicas and engines
            output, _ = demo.communicate()
        told = next((line for line in output.splitlines() if line.startswith("BROKEN")), None)
        return told if demo.returncode == 1 else None


if __name__ == "__main__":
    main()
