"""Where replicas live: all on loopback, or each in a network namespace of its own behind a router that drops packets.

In namespaces a command runs itself once more inside an empty network (entering.py), so nothing of the machine's own is
touched, and lays everything out there (namespaces.py):

    here      stores, simulators, doors and the rig; one address per kind of target, and one that only the rig uses
    router    a namespace that forwards; rules and queues in it are the faults
    r0, r1 …  a namespace per replica, joined to the router

A namespace lives as long as a process in it or a descriptor of it. No process of ours stays there but replicas: once
this one has ended, in whatever way, nothing is left.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Protocol

from tests.scenarios.gate import LOOPBACK

Direction = Literal["up", "down"]  # to the server, to the client
BOTH: tuple[Direction, ...] = ("up", "down")
EVERYTHING = ""
KINDS = ("postgres", "redis", "telegram", "kie")


@dataclass
class Weather:
    """How one direction is. `loss`: the share of what comes that is lost and sent once more."""

    is_silent: bool = False
    delay_s: float = 0.0
    loss: float = 0.0
    bytes_per_s: float = 0.0


class Line(Protocol):
    """What joins one replica to all others. Everything passes at first."""

    def drops(self, address: str, *directions: Direction) -> None:
        """What goes between the replica and that address (EVERYTHING: whatever it talks to) is lost from now on."""

    def passes(self, address: str) -> None:
        """No longer. Safe to call at any time."""

    def has(self, weather: Weather) -> str:
        """Be slow or lossy in both directions; by what means, or nothing when this kernel has none."""

    def clears_up(self) -> None:
        """As fast as ever."""


@dataclass(frozen=True)
class Place:
    """Where a replica lives. `host`: how it is reached; `enter`: what has to be put before its command; without a
    `line` only doors can cut it off."""

    host: str = LOOPBACK
    enter: tuple[str, ...] = ()
    line: Line | None = None


LOCAL = Place()


class Network(Protocol):
    def address_of(self, kind: str) -> str:
        """Where doors to that kind of target listen."""

    def place(self) -> Place:
        """One more replica's."""

    def close(self) -> None:
        """Everything laid out is gone."""


class Loopback:
    """Everybody on one address: only doors can cut anybody off."""

    def address_of(self, kind: str) -> str:
        del kind
        return LOOPBACK

    def place(self) -> Place:
        return LOCAL

    def close(self) -> None:
        """Nothing was laid out."""
