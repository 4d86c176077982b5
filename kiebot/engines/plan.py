"""What a keeper is told, and what it tells: plain values that pass through JSON."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from kiebot.engines import locks
from kiebot.engines.binaries import Binaries, Program, Recorded
from kiebot.engines.layout import SYSTEM_DIR, WAYS, Layout, read_json


@dataclass(frozen=True)
class Plan:
    """How the engines of one home are to run. `linger_s`: how long without users before they stop."""

    home: Path
    binaries: Binaries
    durable: bool
    linger_s: float
    debug_commands: bool = False
    ways: tuple[str, ...] = WAYS
    system: Path = SYSTEM_DIR

    def to_json(self) -> str:
        return json.dumps(asdict(self), default=str)

    @classmethod
    def from_json(cls, text: str) -> Plan:
        values = json.loads(text)
        programs = [Program(**each | {"path": Path(each["path"])}) for each in values["binaries"].values()]
        paths = {"home": Path(values["home"]), "system": Path(values["system"])}
        return cls(**values | paths | {"binaries": Binaries(*programs), "ways": tuple(values["ways"])})


@dataclass(frozen=True)
class Word:
    """A running keeper's word on its engines, which serve. `uid` owns the sockets."""

    pid: int
    described: str
    sockets: Path
    uid: int
    durable: bool
    debug_commands: bool


def heard(layout: Layout) -> Word | None:
    """The word of the keeper that lives now; None when none has given its word, or the one who did is dead.

    The keeper holds the very file exclusively locked, so what a killed one left behind cannot be mistaken for news.
    """
    try:
        fd = locks.open_existing(layout.keeper_word)
    except FileNotFoundError:
        return None
    with os.fdopen(fd) as file:
        return None if locks.try_shared(fd) else _word(json.load(file))


def _word(values: dict[str, Any]) -> Word:
    return Word(**values | {"sockets": Path(values["sockets"])})


@dataclass(frozen=True)
class State:
    """What made the data of a home; nothing is known of a home without data. `data` is where it lies, if elsewhere."""

    postgres: Recorded | None = None
    redis: Recorded | None = None
    data: Path | None = None

    @classmethod
    def of(cls, layout: Layout) -> State:
        values = read_json(layout.state)
        if not values:
            return cls()
        return cls(Recorded(**values["postgres"]), Recorded(**values["redis"]), _path(values["data"]))

    def to_values(self) -> dict[str, Any]:
        return asdict(self) | {"data": str(self.data) if self.data else None}


def _path(text: str | None) -> Path | None:
    return Path(text) if text else None


def recorded(program: Program) -> Recorded:
    return Recorded(program.product, program.major, program.source)
