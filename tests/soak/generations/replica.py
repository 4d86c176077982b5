"""`kiebot run` as it is, or with one deliberate bug: `python -m tests.soak.generations.replica --mutant NAME`."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping
from uuid import UUID

from kiebot.cli import cli
from kiebot.demo import mutant_replica
from kiebot.generation.service import Generations
from kiebot.ids import settlement_key, wallet_of
from kiebot.kie.results import KieResults
from kiebot.ledger.entries import Entry, Kind, Millicredits, Posting, revenue_of
from kiebot.storage.ledger import LedgerRepository


def capture_twice() -> None:
    """A capture is written a second time, under another key."""
    capture = LedgerRepository.capture

    async def twice(
        self: LedgerRepository, generation_id: UUID, user_id: int, amount: Millicredits | None, *, slot: bool
    ) -> Millicredits | None:
        taken = await capture(self, generation_id, user_id, amount, slot=slot)
        if taken:
            entries = (Entry(revenue_of(generation_id), taken), Entry(wallet_of(user_id), -taken))
            await self._post(Posting(f"{settlement_key(generation_id)}:again", Kind.CAPTURE, entries, generation_id))
        return taken

    LedgerRepository.capture = twice  # type: ignore[method-assign]  # the very purpose of this module


def result_unseen() -> None:
    """The money is taken without a look at the result."""

    async def read_through(self: KieResults, url: str, *, max_bytes: int) -> None:
        return

    KieResults.read_through = read_through  # type: ignore[method-assign]  # the very purpose of this module


def orphans_refused() -> None:
    """A callback for what was voided is thanked for and forgotten."""

    async def receive(self: Generations, *_: object) -> bool:
        return True

    Generations._receive_gift = receive  # type: ignore[method-assign,assignment]  # the very purpose of this module


MUTANTS: Mapping[str, Callable[[], None]] = {
    "resubmit-on-lost-answer": mutant_replica.PATCHES["resubmit-on-lost-answer"],
    "capture-before-success": mutant_replica.PATCHES["capture-before-success"],
    "capture-twice": capture_twice,
    "result-unseen": result_unseen,
    "orphans-refused": orphans_refused,
}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--mutant", choices=sorted(MUTANTS))
    options = parser.parse_args()
    if options.mutant:
        MUTANTS[options.mutant]()
    cli(["run"])


if __name__ == "__main__":
    main()
