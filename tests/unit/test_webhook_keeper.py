"""The holder in webhook mode: it keeps the webhook set, patient as a poller, and steps down when it cannot."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from types import SimpleNamespace
from typing import Any, cast

import pytest
from structlog.testing import capture_logs

from kiebot.clock import ManualClock
from kiebot.errors import Permanent, RateLimited, Transient
from kiebot.intake.ports import Conflict
from kiebot.leading import Leading
from kiebot.lease.protocol import Lease, StoreUnreachable
from kiebot.lease.term import StepDown, Term, TermOver, Timing, TrustClocks

URL = "https://bot.example/telegram/webhook"


class Telegram:
    """Remembers the webhook and the menu. `error` is what it answers until it is taken away, `errors` are one each."""

    def __init__(self, clock: ManualClock) -> None:
        self.clock = clock
        self.url = ""
        self.menus = 0
        self.tries: list[float] = []
        self.error: Exception | None = None
        self.errors: list[Exception] = []
        self.menu_error: Exception | None = None

    async def ensure_webhook(self, url: str, secret: str) -> None:
        self.tries.append(self.clock.monotonic())
        if self.errors:
            raise self.errors.pop(0)
        if self.error is not None:
            raise self.error
        self.url = url

    async def sync_commands(self, commands: Mapping[str, object]) -> int:
        if self.menu_error is not None:
            raise self.menu_error
        self.menus += 1
        return len(commands)


class World:
    def __init__(self) -> None:
        self.clock = ManualClock()
        self.telegram = Telegram(self.clock)
        self.answers: list[bool | Exception] = []  # of the lease's store, which else says that the term is ours
        self.confirms = 0
        clocks = TrustClocks(self.clock)
        lease = Lease("poller", "one", "t1", self.clock.monotonic())
        self.term = Term(lease, Timing(ttl_s=100_000.0), clocks, clocks.read(), self.confirm)
        settings = SimpleNamespace(bot_mode="webhook", webhook_address=URL, webhook_secret_value="s" * 32)
        adapters = SimpleNamespace(settings=settings, clock=self.clock, setup=self.telegram)
        self.leading = Leading(cast("Any", adapters), lambda _: None)
        self.runs: list[asyncio.Task[None]] = []

    async def confirm(self, _: Term) -> bool:
        self.confirms += 1
        answer = self.answers.pop(0) if self.answers else True
        if isinstance(answer, Exception):
            raise answer
        return answer

    def leads(self) -> asyncio.Task[None]:
        self.runs.append(asyncio.create_task(self.leading.lead(self.term)))
        return self.runs[-1]


@pytest.fixture
async def world() -> AsyncIterator[World]:
    made = World()
    yield made
    for task in made.runs:
        task.cancel()
    await asyncio.gather(*made.runs, return_exceptions=True)


async def test_the_webhook_is_set_at_once_and_looked_at_every_minute(world: World) -> None:
    leads = world.leads()
    await world.clock.advance(0.01)
    assert (world.telegram.url, world.telegram.menus) == (URL, 1)
    world.telegram.url = ""  # somebody removed it
    await world.clock.advance(60.0)
    assert world.telegram.url == URL
    assert len(world.telegram.tries) == 2
    assert not leads.done()


async def test_a_holder_that_cannot_reach_telegram_steps_down_after_five_seconds(world: World) -> None:
    world.telegram.error = Transient("setWebhook: no route")
    leads = world.leads()
    with capture_logs() as logged:
        await world.clock.advance(4.9)
        assert not leads.done()
        await world.clock.advance(0.2)
    assert leads.done()
    assert isinstance(leads.exception(), StepDown)
    assert "telegram" in str(leads.exception())
    assert len(logged) == 1, "one line for the outage, not one for each try"


async def test_an_outage_found_by_a_later_look_counts_from_that_look(world: World) -> None:
    leads = world.leads()
    await world.clock.advance(59.0)
    world.telegram.error = Transient("setWebhook: no route")
    await world.clock.advance(4.0)
    world.telegram.error = None
    await world.clock.advance(5.0)
    assert world.telegram.tries[-1] < 66.0, "tried again soon"
    world.telegram.error = Transient("setWebhook: no route")
    await world.clock.advance(59.0)
    assert not leads.done(), "the first outage does not count for the second"
    await world.clock.advance(7.0)
    assert isinstance(leads.exception(), StepDown)


async def test_a_rate_limit_is_waited_out_and_costs_no_term(world: World) -> None:
    world.telegram.errors = [RateLimited("setWebhook: slower", retry_after_s=37.0)]
    leads = world.leads()
    await world.clock.advance(36.9)
    assert len(world.telegram.tries) == 1
    await world.clock.advance(0.2)
    assert world.telegram.url == URL
    assert not leads.done()


async def test_time_spent_waiting_as_told_is_no_outage(world: World) -> None:
    away = Transient("setWebhook: reset")
    world.telegram.errors = [away, RateLimited("setWebhook: slower", retry_after_s=30.0), away]
    leads = world.leads()
    await world.clock.advance(33.0)
    assert world.telegram.url == URL
    assert not leads.done()


@pytest.mark.parametrize("code", ["token_refused", "telegram_refused"])
async def test_a_permanent_refusal_is_said_once_and_tried_again_rarely(world: World, code: str) -> None:
    world.telegram.error = Permanent("setWebhook: bad webhook", code=code)
    leads = world.leads()
    with capture_logs() as logged:
        await world.clock.advance(300.0)
    (said,) = logged
    assert (said["event"], said["log_level"], said["error"]) == ("webhook.refused", "error", "setWebhook: bad webhook")
    assert ("TELEGRAM_BOT_TOKEN" if code == "token_refused" else "PUBLIC_URL") in said["advice"]
    assert 9 <= len(world.telegram.tries) <= 12
    assert not leads.done(), "another replica would be refused as well"
    world.telegram.error = None
    await world.clock.advance(35.0)
    assert world.telegram.url == URL


async def test_another_refusal_after_a_success_is_said_again(world: World) -> None:
    world.leads()
    with capture_logs() as logged:
        for _ in range(2):
            world.telegram.error = Permanent("setWebhook: bad webhook")
            await world.clock.advance(100.0)
            world.telegram.error = None
            await world.clock.advance(100.0)
    assert [entry["event"] for entry in logged].count("webhook.refused") == 2


async def test_a_conflict_makes_the_holder_ask_for_its_lease_and_try_again(world: World) -> None:
    world.telegram.errors = [Conflict("terminated by other getUpdates request")]
    world.answers = [StoreUnreachable("redis"), True]
    leads = world.leads()
    await world.clock.advance(5.0)
    assert world.confirms == 2
    assert world.telegram.url == URL
    assert not leads.done()


async def test_a_conflict_ends_the_term_when_the_lease_is_not_ours_any_more(world: World) -> None:
    world.telegram.errors = [Conflict("terminated by other getUpdates request")]
    world.answers = [False]
    leads = world.leads()
    await world.clock.advance(0.01)
    assert leads.done()
    assert isinstance(leads.exception(), TermOver)


async def test_conflicts_that_do_not_end_are_said_once_and_not_hammered(world: World) -> None:
    world.telegram.error = Conflict("another")
    leads = world.leads()
    with capture_logs() as logged:
        await world.clock.advance(60.0)
    assert [entry["event"] for entry in logged] == ["webhook.conflict"]
    assert len(world.telegram.tries) < 50
    assert not leads.done()


async def test_nothing_is_set_once_the_term_is_over(world: World) -> None:
    leads = world.leads()
    await world.clock.advance(1.0)
    world.term.end()
    await world.clock.advance(61.0)
    assert len(world.telegram.tries) == 1
    assert isinstance(leads.exception(), TermOver)


async def test_a_menu_that_is_refused_is_no_reason_to_stop_listening(world: World) -> None:
    world.telegram.menu_error = Conflict("another")
    leads = world.leads()
    await world.clock.advance(1.0)
    assert world.telegram.url == URL
    assert not leads.done()
    world.telegram.menu_error = None
    await world.clock.advance(60.0)
    assert world.telegram.menus == 1
