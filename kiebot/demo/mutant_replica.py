"""A replica with one deliberate bug: `python -m kiebot.demo.mutant_replica --mutant NAME`.

Each mutant replaces exactly one mechanism at start; everything else is the product as it is.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Mapping
from dataclasses import replace

import click
from sqlalchemy import text

from kiebot.cli.run import run
from kiebot.generation import effects, submit
from kiebot.generation.machine import Effect, MarkAttempt, NotCreated
from kiebot.generation.model import AttemptState, Claim, Generation
from kiebot.intake.poller import Poller
from kiebot.lease.term import Term
from kiebot.storage import inbox
from kiebot.store import Tx
from kiebot.wakeups import Drain

_KEY = "ON CONFLICT (bot_id, update_id) DO NOTHING"
_FENCE = "SELECT 1 FROM fence WHERE bot_id = :bot AND token = :token FOR SHARE"
_NO_FENCE = "SELECT 1 WHERE CAST(:token AS text) IS NOT NULL"


def confirm_before_store() -> None:
    """The loop is pipelined: while a batch is recorded, the next poll, which confirms it, is already on its way."""

    async def run_pipelined(self: Poller, term: Term) -> None:
        self._is_prepared = False
        await self._take_fence(term)
        updates = await self._fetch(term, 0)
        offset = 0
        while True:
            offset = max((update.update_id + 1 for update in updates), default=offset)
            following = asyncio.create_task(self._fetch(term, offset))
            try:
                if updates:
                    await self._record(term, updates)
                updates = await following
            finally:
                following.cancel()

    Poller.run = run_pipelined  # type: ignore[method-assign]  # the very purpose of this module


def inbox_key_off() -> None:
    _record_with(fence=_FENCE)


def fence_off() -> None:
    _record_with(fence=_NO_FENCE)


def _record_with(*, fence: str) -> None:
    """The statement that records, without the key that makes it repeatable."""
    if _KEY not in inbox._RECORD:
        raise RuntimeError("the statement that records has changed: this mutant does not know it")
    keyless = inbox._RECORD.replace(_KEY, "")
    inbox._FENCED_RECORD = text(keyless.format(allowed=fence)).bindparams(*inbox._ARRAYS)


def capture_before_success() -> None:
    """The money is taken as soon as KIE has answered with a task."""
    take_effect = effects._take_effect

    async def take_at_once(tx: Tx, generation: Generation, effect: Effect, error: str | None) -> Generation:
        after = await take_effect(tx, generation, effect, error)
        if isinstance(effect, MarkAttempt) and effect.state is AttemptState.CREATED:
            await tx.ledger.capture(generation.id, generation.user_id, None, slot=generation.holds_slot)
            return replace(after, holds_slot=False)
        return after

    effects._take_effect = take_at_once


def resubmit_on_lost_answer() -> None:
    """The generation is accepted again, and a new createTask follows."""

    async def answer_lost(self: submit.Submitter, generation: Generation, claim: Claim, why: str, **_: object) -> None:
        await self._apply(generation, claim, NotCreated(), due_in_s=0.1, error=why)

    submit.Submitter.answer_lost = answer_lost  # type: ignore[method-assign]  # the very purpose of this module


def lane_without_recheck() -> None:
    async def look_again(self: inbox.LaneRepository, lane: str) -> Drain | None:
        return None

    inbox.LaneRepository.look_again = look_again  # type: ignore[method-assign]  # the very purpose of this module


PATCHES: Mapping[str, Callable[[], None]] = {
    "confirm-before-store": confirm_before_store,
    "inbox-key-off": inbox_key_off,
    "fence-off": fence_off,
    "capture-before-success": capture_before_success,
    "resubmit-on-lost-answer": resubmit_on_lost_answer,
    "lane-without-recheck": lane_without_recheck,
}


@click.command()
@click.option("--mutant", required=True, type=click.Choice(sorted(PATCHES)))
def main(mutant: str) -> None:
    """Run one replica with that bug."""
    PATCHES[mutant]()
    run.main(args=[], standalone_mode=False)


if __name__ == "__main__":
    sys.exit(main())
