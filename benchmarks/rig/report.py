"""Medians with their ranges, ratios of medians, and the machine they were measured on."""

from __future__ import annotations

import os
import platform
import statistics
from collections.abc import Sequence
from importlib.metadata import version

Row = Sequence[str]


def quantile(values: Sequence[float], share: float) -> float:
    """The nearest rank: a value that was really measured."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))]


def spread(values: Sequence[float], digits: int = 0) -> str:
    """`median (lowest-highest)`."""
    return f"{statistics.median(values):.{digits}f} ({min(values):.{digits}f}-{max(values):.{digits}f})"


def ratio(values: Sequence[float], baseline: Sequence[float]) -> str:
    """The median of the rounds' own ratios, and their range: both sides of each met the machine in the same state."""
    ratios = [value / base for value, base in zip(values, baseline, strict=True)]
    return spread(ratios, 2)


def table(title: str, head: Row, rows: Sequence[Row]) -> None:
    """Columns to the right, the first to the left."""
    widths = [max(map(len, column)) for column in zip(head, *rows, strict=True)]
    print(f"\n{title}\n")
    for first, *others in (head, *rows):
        cells = (cell.rjust(width) for cell, width in zip(others, widths[1:], strict=True))
        print("  " + "   ".join((first.ljust(widths[0]), *cells)))


def machine(engines: str) -> str:
    load = os.getloadavg()[0]
    libraries = ", ".join(f"{name} {version(name)}" for name in ("python-telegram-bot", "arq", "sqlalchemy", "asyncpg"))
    return (
        f"{os.cpu_count()} CPUs ({platform.machine()}), load {load:.1f} before; Python {platform.python_version()}\n"
        f"{engines}; {libraries}"
    )
