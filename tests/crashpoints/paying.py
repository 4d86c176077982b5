"""Stories of payments and refunds. Each has a purchase beside it, as all stories have."""

from __future__ import annotations

import asyncio
from dataclasses import replace

from kiebot.payments.model import STARS
from kiebot.payments.refunds import request_refund
from tests.crashpoints.stage import (
    Stage,
    Story,
    account_is_filled,
    fills_in,
    is_slow,
    postgres,
    presses_create,
)
from tests.scenarios.world import World


async def _has_a_bill(stage: Stage, story: Story, prompt: str) -> None:
    await fills_in(stage, story, prompt)
    await stage.sends("/topup")
    await stage.anna.hears("How many credits?", timeout=10)
    await stage.presses("100 credits")
    await stage.anna.hears(lambda state: state.invoice is not None, timeout=10)


async def _pays(stage: Stage) -> None:
    bill = next(message for message in reversed(stage.anna.messages) if message.invoice is not None)
    paying = asyncio.create_task(stage.anna.pays(bill))
    while not paying.done():
        await stage.pump()  # the question that comes before, and a replica's answer
        await asyncio.sleep(0.01)
    await stage.pump()
    stage.payments.append(paying.result())
    assert stage.payments[-1].is_paid, stage.payments


async def _pays_and_buys(stage: Stage) -> None:
    await _pays(stage)
    await presses_create(stage)


async def _is_told_twice(stage: Stage) -> None:
    await _pays(stage)
    await stage.anna.repeats_payment(stage.payments[-1])
    await presses_create(stage)


async def _is_told_otherwise(stage: Stage) -> None:
    """The same charge with another amount, and a payment for an invoice of somebody else's."""
    await _pays(stage)
    paid = stage.payments[-1]
    await stage.anna.repeats_payment(replace(paid, amount=paid.amount + 1))
    await stage.anna.repeats_payment(replace(paid, charge_id=f"other{paid.charge_id}", payload="unknown"))
    await presses_create(stage)


async def _has_paid(stage: Stage, story: Story, prompt: str) -> None:
    await _has_a_bill(stage, story, prompt)
    await _pays(stage)
    await stage.anna.hears("paid", timeout=10, ever=True)


async def _is_to_be_refunded(stage: Stage, story: Story, prompt: str) -> None:
    """Paid, and an admin is asked whether it is to go back."""
    await _has_paid(stage, story, prompt)
    await stage.boss.sends(f"/refund {stage.payments[-1].charge_id} as asked")
    await stage.pump()
    await stage.boss.hears(lambda state: any("Yes, do it" in label for label in state.buttons), timeout=10)


async def _boss_says_yes(stage: Stage) -> None:
    await stage.boss.presses("Yes, do it")
    await stage.pump()
    await presses_create(stage)


async def _telegram_tells(stage: Stage) -> None:
    """The news of a refund comes in as an update."""
    charge = stage.world.tg.bot.till.charges[str(stage.payments[-1].charge_id)]
    await stage.world.until(lambda: charge.is_refunded, timeout=10)
    await stage.pump()


async def _refunds_elsewhere(stage: Stage) -> None:
    await stage.beside.adapters.payment_providers.named(STARS).pay_back(
        stage.anna.user_id, str(stage.payments[-1].charge_id)
    )
    await stage.pump()
    await presses_create(stage)


async def _refunds_what_nobody_knows(stage: Stage) -> None:
    await _pays(stage)
    await stage.world.execute("DELETE FROM inbox WHERE done_at IS NULL")  # the news of the payment never came
    await _refunds_elsewhere(stage)


async def _hears_of_the_payment_last(stage: Stage) -> None:
    """As when its update was given up, and revived after Telegram had paid back."""
    await _pays(stage)
    await stage.world.execute("DELETE FROM inbox WHERE done_at IS NULL")
    await stage.beside.adapters.payment_providers.named(STARS).pay_back(
        stage.anna.user_id, str(stage.payments[-1].charge_id)
    )
    await stage.pump()
    await stage.anna.repeats_payment(stage.payments[-1])
    await presses_create(stage)


async def _another_program_sold(stage: Stage) -> None:
    await _pays(stage)
    paid = stage.payments[-1]
    await stage.anna.repeats_payment(replace(paid, charge_id=f"uzs{paid.charge_id}"))
    await stage.pump()
    await stage.world.execute(_IN_ANOTHER_CURRENCY)
    await presses_create(stage)


async def _has_a_work_that_waits(stage: Stage, story: Story, prompt: str) -> None:
    """It holds credits that the refund needs, and waits for the account."""
    await _is_to_be_refunded(stage, story, prompt)
    stage.world.kie.set_credits(0)
    await presses_create(stage)
    await stage.of_mine("SELECT true FROM model_switches WHERE model_id = '*'")
    user_id = stage.anna.user_id
    async with stage.beside.database.transaction() as tx:
        left = (await tx.ledger.balance(user_id)).available - 99_000
        await tx.ledger.grant(f"spent elsewhere {user_id}", user_id, -left, reason="story", actor="story")


async def _yes_is_refused(stage: Stage) -> None:
    await stage.boss.hears("Works under way hold", timeout=10)
    await account_is_filled(stage.world)


async def _boss_says_yes_only(stage: Stage) -> None:
    await stage.boss.presses("Yes, do it")
    await stage.pump()


async def _another_is_quicker(stage: Stage) -> None:
    """The same refund is decided by a command while the admin's press is being handled."""
    await stage.waits_in_a_statement()
    async with stage.beside.database.transaction() as tx:
        await request_refund(tx, str(stage.payments[-1].charge_id), actor="command", reason="as asked")


async def _answer_is_lost(world: World) -> None:
    world.tg.faults.cuts_after("refundStarPayment")


async def _charge_is_gone(world: World) -> None:
    world.tg.bot.till.charges.clear()


_IN_ANOTHER_CURRENCY = """
    UPDATE inbox SET payload = convert_to(replace(convert_from(payload, 'UTF8'), '"XTR"', '"UZS"'), 'UTF8')
    WHERE done_at IS NULL AND position('uzs' IN convert_from(payload, 'UTF8')) > 0
"""

PAYING = (
    Story("pays", earlier=_has_a_bill, moves=_pays_and_buys),
    Story("pays, and is told twice", earlier=_has_a_bill, moves=_is_told_twice),
    Story("pays, and is told otherwise", earlier=_has_a_bill, moves=_is_told_otherwise),
    Story("a refund", earlier=_is_to_be_refunded, moves=_boss_says_yes, act=_telegram_tells),
    Story("a refund whose answer is lost", earlier=_is_to_be_refunded, moves=_boss_says_yes, before=_answer_is_lost),
    Story(
        "a refund that Telegram refuses",
        earlier=_is_to_be_refunded,
        moves=_boss_says_yes,
        before=_charge_is_gone,
    ),
    Story(
        "a refund that is decided twice",
        earlier=_is_to_be_refunded,
        moves=_boss_says_yes,
        before=postgres("refunds", "INSERT", is_slow(1)),
        act=_another_is_quicker,
    ),
    Story(
        "a refund while a work is under way",
        earlier=_has_a_work_that_waits,
        moves=_boss_says_yes_only,
        act=_yes_is_refused,
    ),
    Story("a payment that is heard of after its refund", earlier=_has_a_bill, moves=_hears_of_the_payment_last),
    Story("a payment in another currency", earlier=_has_a_bill, moves=_another_program_sold),
    Story("a refund made elsewhere", earlier=_has_paid, moves=_refunds_elsewhere),
    Story("a refund of a payment nobody knows", earlier=_has_a_bill, moves=_refunds_what_nobody_knows),
)
