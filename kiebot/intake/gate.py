"""Who sends more than can be answered is answered little: which updates of a lane are worth working on.

Everything that comes is recorded. Before a drain works on what it claimed, it asks the gate; what is turned away is
marked done with that reason, many updates in one statement, and its sender is told once a minute. So one who sends a
thousand updates a second costs little and waits for nobody's answer but his own.

Counted is when an update was *sent*: what piled up in hours while nobody listened is no flood. Nothing is turned away
that moves money or says that the bot was blocked.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import msgspec

from kiebot.intake.lanes import Waiting


class Gate(Protocol):
    """A share of the work for each lane, the same on all replicas. Never raises."""

    async def admit(self, lane: str, sent_at: Sequence[float]) -> list[bool]:
        """Which of these updates, sent at these instants (Unix seconds), are to be worked on."""
        ...


class OpenGate:
    """Turns nobody away."""

    async def admit(self, lane: str, sent_at: Sequence[float]) -> list[bool]:
        return [True] * len(sent_at)


class _Message(msgspec.Struct):
    date: int = 0
    successful_payment: dict[str, Any] | None = None
    refunded_payment: dict[str, Any] | None = None


class _Peek(msgspec.Struct):
    message: _Message | None = None
    my_chat_member: dict[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class Sifted:
    """What was claimed, in its order: to be worked on, and turned away. The rest was not asked about."""

    admitted: list[Waiting]
    away: list[Waiting]


async def sift(gate: Gate, lane: str, waiting: Sequence[Waiting], most: int) -> Sifted:
    """Ask about the first `most`; about all others only where none of these was let through: whoever is let through is
    counted, and to ask twice about what is then left for later would count it twice."""
    first = waiting[:most]
    away = await _turned_away(gate, lane, first)
    if len(away) == len(first) < len(waiting):
        first = waiting
        away |= await _turned_away(gate, lane, waiting[most:])
    return Sifted([each for each in first if each.id not in away], [each for each in first if each.id in away])


async def _turned_away(gate: Gate, lane: str, waiting: Sequence[Waiting]) -> set[int]:
    """Ids. An update that was begun before is never among them."""
    counted = [(each, sent) for each in waiting if not each.attempts and (sent := _sent_at(each)) is not None]
    verdicts = await gate.admit(lane, [sent for _, sent in counted]) if counted else []
    return {each.id for (each, _), is_admitted in zip(counted, verdicts, strict=True) if not is_admitted}


def _sent_at(update: Waiting) -> float | None:
    """None: it must be handled, however much there is."""
    try:
        peek = msgspec.json.decode(update.payload, type=_Peek)
    except msgspec.MsgspecError:
        return update.received_at
    message = peek.message
    if peek.my_chat_member is not None or (message and (message.successful_payment or message.refunded_payment)):
        return None
    return min(message.date, update.received_at) if message and message.date else update.received_at
