"""The real parts with one rule broken each: a simulation that finds none of these proves nothing."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from kiebot.insist import insist
from kiebot.intake.drain import Drainer
from kiebot.intake.lanes import LaneClaim
from kiebot.intake.poller import Poller
from kiebot.intake.ports import RawUpdate
from kiebot.lease.candidate import Candidate
from kiebot.lease.protocol import Lease
from kiebot.lease.term import Term


class ConfirmsFirst(Poller):
    """Moves Telegram's offset as soon as it has fetched."""

    async def _fetch(self, term: Term, offset: int) -> list[RawUpdate]:
        updates = await super()._fetch(term, offset)
        if updates:
            updates += await super()._fetch(term, max(update.update_id for update in updates) + 1)
        return updates


class EndlessTerm(Term):
    def remaining(self) -> float:
        return 0.0 if self._ended else 100.0


class TrustsForEver(Candidate):
    """Acts on whatever was ever granted, until it hears otherwise."""

    def _answered(self, granted: Lease | None, asked_at: tuple[float, ...]) -> Term | None:
        if granted is None or super()._answered(granted, asked_at) is None:
            return None
        return EndlessTerm(granted, self._timing, self._clocks, asked_at, self._renew)


class LooksOnce(Drainer):
    """Releases a lane and does not look at it again."""

    async def _let_go(self, claim: LaneClaim, chats: Iterable[int]) -> None:
        async def release() -> None:
            async with self._store.single() as tx:
                await tx.lanes.release(claim)

        await insist(release, self._clock, what="lane.release")


@dataclass(frozen=True)
class Mutant:
    """`found_within`: so many seeds, from 0 on, find it at the latest."""

    name: str = "none"
    found_within: int = 0
    says: str = ""  # part of what is found
    candidate: type[Candidate] = Candidate
    poller: type[Poller] = Poller
    drainer: type[Drainer] = Drainer
    counts_trust_from_the_answer: bool = False
    has_margin: bool = True
    is_fenced: bool = True
    has_inbox_key: bool = True


SOUND = Mutant()
MUTANTS = (
    Mutant("trust counted from the answer", 60, "may act", counts_trust_from_the_answer=True),
    Mutant("no margin", 120, "may act", has_margin=False),
    Mutant("no deadline", 30, "may act", candidate=TrustsForEver),
    Mutant("offset confirmed before the batch is stored", 10, "lost", poller=ConfirmsFirst),
    Mutant("neither fence nor inbox key", 10, "twice", is_fenced=False, has_inbox_key=False),
    Mutant("no fence", 40, "a write under epoch", is_fenced=False),
    Mutant("no inbox key", 10, "twice", has_inbox_key=False),
    Mutant("no second look at a released lane", 10, "sweep", drainer=LooksOnce),
)
