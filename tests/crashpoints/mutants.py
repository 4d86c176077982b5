"""Rules of the engine, broken on purpose: the judge must find each of them, or it looks away."""

from __future__ import annotations

from dataclasses import dataclass

MUTANT = "CRASHPOINTS_MUTANT"  # the environment's variable that names the one in force


@dataclass(frozen=True)
class Mutant:
    """`old` becomes `new` in `module`; `only`: what a point holds at which a death then shows it."""

    what: str
    module: str
    old: str
    new: str
    only: str


MUTANTS = {
    "resubmit": Mutant(
        "a submit without an answer counts as nothing created",
        "kiebot.generation.submit",
        "AnswerLost(can_turn_up)",
        "NotCreated()",
        "generation/submit.py",
    ),
    "mark-first": Mutant(
        "a message is noted as sent before it is sent",
        "kiebot.delivery.courier",
        "sent = await self._dispatch(row)",
        "await self._mark_sent(row, Sent(1)); sent = await self._dispatch(row)",
        "delivery/courier.py",
    ),
}


def mutated(module: str, source: str, name: str | None) -> str:
    """The source as the mutant of that name has it. Raises: LookupError, when its rule stands there no more."""
    if name is None or MUTANTS[name].module != module:
        return source
    mutant = MUTANTS[name]
    if source.count(mutant.old) != 1:
        raise LookupError(f"mutant {name}: not once in {module}: {mutant.old!r}")
    return source.replace(mutant.old, mutant.new)
