"""Admins on a real database. That nobody else is one is tested on a store that has nothing of theirs."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
from sqlalchemy import text
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncEngine

from kiebot.admin.acts import PERFORMERS, Doer, Rules, admin_actor, perform
from kiebot.admin.model import EVERYTHING, Act, Action
from kiebot.bot.admin.table import COMMANDS, PRESSES
from kiebot.bot.application import BotHandler
from kiebot.bot.menu import commands
from kiebot.bot.press import button
from kiebot.bot.receipts import Receipts
from kiebot.errors import Refused
from kiebot.generation.effects import apply
from kiebot.generation.machine import Begun, Broke
from kiebot.payments.credit import credit
from kiebot.payments.model import STARS, STARS_CURRENCY, Payment
from kiebot.storage.transaction import Database
from kiebot.texts import LANGUAGES, translator
from kiebot.wakeups import Repay
from tests.bot.doubles import FakeTx
from tests.bot.people import BOT_ID, SETTINGS, USERNAME, Phone
from tests.bot.stored import Queue, StoredPhone

ADMIN, DEPUTY, BORIS = 900, 901, 43
GROUP = -100500
LIMIT = 100_000
CREATE = "f1:g:"
SHOP = replace(SETTINGS, admins=Rules(frozenset({ADMIN, DEPUTY}), LIMIT))


@pytest.fixture(scope="module")
def shop() -> BotHandler:
    return BotHandler(SHOP, BOT_ID)


@pytest.fixture(scope="module")
def another_replica() -> BotHandler:
    return BotHandler(SHOP, BOT_ID)


@dataclass
class Desk:
    """Phones of several people on one database."""

    handler: BotHandler
    database: Database
    queue: Queue = field(default_factory=Queue)

    def phone(self, user_id: int, handler: BotHandler | None = None) -> StoredPhone:
        phone = StoredPhone(handler or self.handler, FakeTx(), user_id, user_id)
        phone.database = self.database
        return phone

    async def scalar(self, query: str, **facts: object) -> Any:
        async with self.database.engine.connect() as connection:
            return await connection.scalar(text(query), facts)

    async def execute(self, statement: str, **facts: object) -> None:
        async with self.database.engine.begin() as connection:
            await connection.execute(text(statement), facts)

    async def available(self, user_id: int) -> int:
        async with self.database.transaction() as tx:
            return (await tx.ledger.balance(user_id)).available

    async def audit(self) -> list[tuple[str, str, str, dict[str, object]]]:
        async with self.database.transaction() as tx:
            lines = await tx.audit.latest(most=100)
        return [(each.actor, each.action, each.subject, dict(each.facts)) for each in reversed(lines)]


@pytest.fixture
async def desk(engine: AsyncEngine, shop: BotHandler) -> Desk:
    queue = Queue()
    made = Desk(shop, Database(engine, queue), queue)
    await made.phone(BORIS).says("/start")
    return made


@pytest.fixture
def admin(desk: Desk) -> StoredPhone:
    return desk.phone(ADMIN)


# Nobody else

FORWARDED = {
    "forward_origin": {
        "type": "user",
        "date": 1_772_000_000,
        "sender_user": {"id": 5, "is_bot": False, "first_name": "X"},
    }
}
ANONYMOUS = {"sender_chat": {"id": GROUP, "type": "supergroup", "title": "A group"}}
THROUGH_A_BOT = {"via_bot": {"id": 6, "is_bot": True, "first_name": "B", "username": "b_bot"}}
STRANGERS: dict[str, tuple[int, int, dict[str, Any]]] = {
    "a user": (BORIS, BORIS, {}),
    "a user with an admin's name": (BORIS, BORIS, {"chat": {"id": BORIS, "type": "private", "username": "admin"}}),
    "an admin in a group": (ADMIN, GROUP, {}),
    "an admin whose message is forwarded": (ADMIN, ADMIN, FORWARDED),
    "an admin in the name of a chat": (ADMIN, ADMIN, ANONYMOUS),
    "an admin through another bot": (ADMIN, ADMIN, THROUGH_A_BOT),
}


@pytest.mark.parametrize("who", STRANGERS)
@pytest.mark.parametrize("command", COMMANDS)
async def test_for_everybody_else_a_command_of_admins_does_not_exist(shop: BotHandler, command: str, who: str) -> None:
    user_id, chat_id, more = STRANGERS[who]
    name = f"/{command}@{USERNAME}" if chat_id < 0 else f"/{command}"
    told = []
    for called in (name, name.replace(command, "no_such_command")):
        phone = Phone(shop, FakeTx(), user_id, chat_id)
        await phone.says(f"{called} 43 1 please", **more)  # anything of admins' raises NotKept on this store
        told.append(phone.screen.text.replace(command, "no_such_command"))
    assert told[0] == told[1]


@pytest.mark.parametrize("who", [who for who, (_, _, more) in STRANGERS.items() if not more])
@pytest.mark.parametrize("prefix", PRESSES)
async def test_for_everybody_else_a_button_of_admins_is_one_of_an_old_screen(
    shop: BotHandler, prefix: str, who: str
) -> None:
    user_id, chat_id, _ = STRANGERS[who]
    phone = Phone(shop, FakeTx(), user_id, chat_id)
    await phone.says(f"/start@{USERNAME}")
    await phone.presses(button("?", f"{prefix}:b:43", user_id, "e"))
    assert "That screen is old" in phone.screen.text


async def test_who_was_taken_off_the_list_cannot_press_what_they_were_shown_before(desk: Desk) -> None:
    former = desk.phone(ADMIN)
    await former.says(f"/grant {BORIS} 5 a gift")
    yes = former.button("y1:")
    former.handler = BotHandler(replace(SHOP, admins=Rules(frozenset({DEPUTY}), LIMIT)), BOT_ID)
    await former.presses(yes)
    assert "That screen is old" in former.screen.text
    assert await desk.available(BORIS) == 50_000
    assert await desk.audit() == []


@pytest.mark.parametrize("language", LANGUAGES)
def test_telegrams_menu_names_no_command_of_admins(language: str) -> None:
    assert {name for name, _ in commands(language)} & set(COMMANDS) == set()


# Credits


async def test_a_grant_is_asked_about_and_done_once_however_often_it_is_pressed(desk: Desk, admin: StoredPhone) -> None:
    await admin.says(f"/grant {BORIS} 12,5 sorry for the wait")
    assert "12.5 credits" in admin.screen.text
    assert await desk.available(BORIS) == 50_000
    yes = admin.button("y1:")
    await admin.presses(yes)
    assert "Granted 12.5 credits to 43" in admin.screen.text
    for _ in range(2):
        await admin.presses(yes)
        assert "answered before" in admin.screen.text
    assert await desk.available(BORIS) == 62_500
    facts = {"millicredits": 12_500, "reason": "sorry for the wait"}
    assert await desk.audit() == [("admin:900", "ledger.grant", "43", facts)]
    assert await desk.scalar("SELECT count(*) FROM outbox WHERE chat_id = 43 AND key LIKE 'granted:%'") == 1


async def test_an_admin_reads_and_types_amounts_with_the_decimal_mark_of_their_language(
    desk: Desk, admin: StoredPhone
) -> None:
    admin.code = "ru"
    for typed in ("12,5", "12.5"):
        await admin.says(f"/grant {BORIS} {typed} подарок")
        assert f"Начислить {BORIS}: 12,5 кредита?" in admin.screen.text
        await admin.presses_word("y1:")
    assert await desk.available(BORIS) == 75_000  # with the welcome, which the admin has too
    async with desk.database.transaction() as tx:
        await tx.ledger.grant("odd", BORIS, 300, reason="test", actor="test")
    await admin.says("/stats")
    assert "В кошельках: 125,3; в резерве: 0" in admin.screen.text
    assert "начислено 125,3;" in admin.screen.text


async def test_a_press_on_two_replicas_at_once_grants_once(desk: Desk, another_replica: BotHandler) -> None:
    first, second = desk.phone(ADMIN), desk.phone(ADMIN, another_replica)
    await first.says(f"/grant {BORIS} 7 a gift")
    yes, shown = first.button("y1:"), first.screen
    await asyncio.gather(first.presses(yes, on=shown), second.presses(yes, on=shown))
    assert await desk.available(BORIS) == 57_000
    assert len(await desk.audit()) == 1


async def test_a_confirmation_is_good_for_the_admin_who_asked_only(desk: Desk, admin: StoredPhone) -> None:
    await admin.says(f"/grant {BORIS} 7 a gift")
    yes = admin.button("y1:")
    nonce = (yes.data or "").split("~")[0]
    deputy = desk.phone(DEPUTY)
    await deputy.says("/admin")
    await deputy.presses(button("?", nonce, DEPUTY, "e"))
    assert "too old" in deputy.screen.text
    assert await desk.available(BORIS) == 50_000
    await admin.presses(yes)
    assert await desk.available(BORIS) == 57_000


async def test_a_confirmation_expires(desk: Desk, admin: StoredPhone) -> None:
    await admin.says(f"/grant {BORIS} 7 a gift")
    await desk.execute("UPDATE confirmations SET expires_at = now() - interval '1 second'")
    await admin.presses_word("y1:")
    assert "too old" in admin.screen.text
    assert await desk.available(BORIS) == 50_000
    assert await desk.audit() == []


async def test_an_admin_gives_away_no_more_than_the_daily_limit(desk: Desk, admin: StoredPhone) -> None:
    for amount in (60, 40.001):
        await admin.says(f"/grant {BORIS} {amount} a gift")
        await admin.presses_word("y1:")
    assert "Your limit within 24 hours: 100 credits. Left of it: 40 credits." in admin.screen.text
    await admin.says(f"/grant {BORIS} 40 a gift")
    await admin.presses_word("y1:")
    deputy = desk.phone(DEPUTY)
    await deputy.says(f"/grant {BORIS} 1 from another admin")
    await deputy.presses_word("y1:")
    assert await desk.available(BORIS) == 151_000
    assert len(await desk.audit()) == 3


async def test_two_grants_at_once_share_the_limit(desk: Desk) -> None:
    act = Act(Action.GRANT, str(BORIS), {"millicredits": 60_000, "reason": "a gift"})
    one, two = (Doer(admin_actor(ADMIN), key, SHOP.admins) for key in ("one", "two"))

    async def second() -> None:
        async with desk.database.transaction() as tx:
            await perform(tx, act, two)

    async with desk.database.transaction() as tx:
        await perform(tx, act, one)
        waiting = asyncio.create_task(second())
        while not await desk.scalar("SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'"):
            await asyncio.sleep(0.01)
    with pytest.raises(Refused, match="daily_limit"):
        await waiting
    assert await desk.available(BORIS) == 110_000


@pytest.mark.parametrize(
    "words",
    ["", "43", "43 5", "43 0 gift", "43 -5 gift", "43 1.2345 gift", "43 nan gift", "43 1e99 gift", "anna 5 gift"],
)
async def test_a_grant_without_user_amount_and_reason_is_explained_not_asked(
    desk: Desk, admin: StoredPhone, words: str
) -> None:
    await admin.says(f"/grant {words}")
    assert "Like this: /grant" in admin.screen.text
    assert await desk.scalar("SELECT count(*) FROM confirmations") == 0


async def test_nothing_is_granted_to_somebody_who_never_wrote(desk: Desk, admin: StoredPhone) -> None:
    await admin.says("/grant 4444 5 a typo")
    await admin.presses_word("y1:")
    assert "no such user" in admin.screen.text
    assert await desk.scalar("SELECT count(*) FROM accounts WHERE key = 'wallet:4444'") == 0


# Payments


async def test_a_payment_goes_back_by_a_button_of_its_payers_card_once(desk: Desk, admin: StoredPhone) -> None:
    charge = "stars-" + "c" * 90  # longer than any button
    async with desk.database.transaction() as tx:
        paid = Payment(STARS, charge, BORIS, amount=25, currency=STARS_CURRENCY, credits=25_000, language="en")
        await credit(tx, paid, Receipts())
    await admin.says(f"/user {BORIS}")
    assert charge in admin.screen.text
    desk.queue.wakeups.clear()
    deputy = desk.phone(DEPUTY)
    await deputy.says(f"/refund {charge} too")
    await admin.presses_word("z7:")
    assert "Give ⭐ 25 back to 43? Taken out of the wallet, as far as it is there: 25 credits." in admin.screen.text
    yes = admin.button("y1:")
    await admin.presses(yes)
    await admin.presses(yes)
    assert await desk.available(BORIS) == 50_000
    assert [type(each) for each in desk.queue.wakeups] == [Repay]
    assert await desk.scalar("SELECT actor FROM refunds WHERE charge_id = :charge", charge=charge) == "admin:900"
    done = [line for line in await desk.audit() if line[1] == "payment.refund"]
    facts = {"provider": STARS, "user": BORIS, "stars": 25, "millicredits": 25_000, "reason": ""}
    assert done == [("admin:900", "payment.refund", charge, facts)]
    await deputy.presses_word("y1:")  # asked about before it went back
    assert "It is so already" in deputy.screen.text
    for state, told in (("open", "is on its way back already"), ("done", "went back already")):
        await desk.execute("UPDATE refunds SET state = :state", state=state)
        await admin.says(f"/refund {charge} once more")
        assert told in admin.screen.text
        assert not admin.has_button("y1:")
    await desk.execute("UPDATE refunds SET state = 'open'")
    await admin.says(f"/user {BORIS}")
    assert "refund under way" in admin.screen.text
    assert not admin.has_button("z7:")


async def test_a_payment_whose_credits_are_held_by_a_work_waits_for_it(desk: Desk, admin: StoredPhone) -> None:
    boris = desk.phone(BORIS)
    async with desk.database.transaction() as tx:
        await tx.ledger.grant("gone", BORIS, -49_000, reason="test", actor="test")
        paid = Payment(STARS, "c1", BORIS, amount=1, currency=STARS_CURRENCY, credits=1000, language="en")
        await credit(tx, paid, Receipts())
    await boris.says("/start")
    await boris.presses_word("n1:example")
    await boris.presses_word(CREATE)
    await admin.says("/refund c1 sorry")
    await admin.presses_word("y1:")
    assert "Works under way hold" in admin.screen.text
    assert await desk.scalar("SELECT count(*) FROM refunds") == 0
    assert await desk.audit() == []


# People


async def test_the_card_of_a_user_shows_money_and_works_without_their_words(desk: Desk, admin: StoredPhone) -> None:
    boris = desk.phone(BORIS)
    await boris.presses(button("?", "n1:example", BORIS, "e"), on=await _shown(boris))
    await boris.presses_word(CREATE)
    await admin.says(f"/user {BORIS}")
    card = admin.screen.text
    assert "reserved for 1 open work" in card
    assert "Language: en" in card
    assert "cat" not in card
    await admin.presses_word("z5:v:")
    assert "User 43" in admin.screen.text
    await admin.says("/user 4444")
    assert "I know no user 4444" in admin.screen.text


async def test_a_work_that_failed_has_no_price_on_the_card_of_its_owner(desk: Desk, admin: StoredPhone) -> None:
    boris = desk.phone(BORIS)
    await boris.says("/start")
    await boris.presses_word("n1:example")
    await boris.presses_word(CREATE)
    await admin.says(f"/user {BORIS}")
    assert "waiting · 1.6 credits" in admin.screen.text
    await desk.execute("UPDATE generations SET state = 'failed', failure = 'server', finished_at = now()")
    await admin.says(f"/user {BORIS}")
    assert "failed, not charged\n" in f"{admin.screen.text}\n"


@pytest.mark.parametrize(
    ("language", "counted", "listed", "told"),
    [
        (
            "en",
            "Works: failed, not charged 1 · taken back, not charged 1",
            "Z-Image · failed, not charged · ",
            "on sale",
        ),
        ("ru", "Работы: не удалось, не списано 1 · отменено, не списано 1", "· не удалось, не списано · ", "продаётся"),
    ],
)
async def test_admins_read_of_works_what_their_owners_read_in_their_own_language(
    desk: Desk, admin: StoredPhone, language: str, counted: str, listed: str, told: str
) -> None:
    boris = desk.phone(BORIS)
    for _ in range(2):
        await boris.says("/start")
        await boris.presses_word("n1:example")
        await boris.presses_word(CREATE)
    number = await desk.scalar("SELECT max(number) FROM generations")
    await desk.execute("UPDATE generations SET state = 'failed', failure = 'cancelled', finished_at = now()")
    await desk.execute("UPDATE generations SET failure = 'unknown_model' WHERE number = :number", number=number)
    admin.code = language
    await admin.says("/stats")
    assert counted in admin.screen.text
    await admin.says("/work")
    assert listed in admin.screen.text
    assert "unknown_model" not in admin.screen.text
    await admin.says(f"/work {number}")
    assert told in admin.screen.text
    assert "\nunknown_model" in admin.screen.text


async def test_the_tries_and_messages_of_a_work_are_told_in_the_admins_language(desk: Desk, admin: StoredPhone) -> None:
    boris = desk.phone(BORIS)
    await boris.says("/start")
    await boris.presses_word("n1:example")
    await boris.presses_word(CREATE)
    number = await desk.scalar("SELECT number FROM generations")
    async with desk.database.transaction() as tx:
        found = await tx.works.id_of(number)
        assert found is not None
        await apply(tx, found, Begun())
        await apply(tx, found, Broke("server"))
    admin.code = "ru"
    await admin.says(f"/work {number}")
    assert "Попытка 1 · сервис не взял" in admin.screen.text
    assert "Сообщение о неудаче · ждёт" in admin.screen.text


async def test_a_failure_that_was_told_offers_no_delivery_and_one_that_waits_does(
    desk: Desk, admin: StoredPhone
) -> None:
    boris = desk.phone(BORIS)
    await boris.says("/start")
    await boris.presses_word("n1:example")
    await boris.presses_word(CREATE)
    number = await desk.scalar("SELECT number FROM generations")
    await boris.says("/cancel")
    await boris.presses_word(f"c1:{number}")
    for sent, offered in (("NULL", True), ("now()", False)):
        await desk.execute(f"UPDATE outbox SET sent_at = {sent} WHERE generation_id IS NOT NULL")
        await admin.says(f"/work {number}")
        assert "taken back, not charged" in admin.screen.text
        assert any((each.data or "").startswith("z5:d:") for each in admin.screen.buttons) is offered


async def test_a_blocked_user_is_answered_once_starts_nothing_and_keeps_the_money(
    desk: Desk, admin: StoredPhone
) -> None:
    boris = desk.phone(BORIS)
    await admin.says(f"/block {BORIS} spam")
    await admin.presses_word("y1:")
    assert "43 is blocked" in admin.screen.text
    for words in ("/start", "a cat", "/balance"):
        await boris.says(words)
    assert await desk.scalar("SELECT count(*) FROM outbox WHERE key LIKE 'banned:43:%'") == 1
    assert await desk.scalar("SELECT count(*) FROM drafts WHERE user_id = 43") == 0
    assert await desk.available(BORIS) == 50_000
    await admin.says(f"/user {BORIS}")
    await admin.presses_word("z2:u:")
    await admin.presses_word("y1:")
    await boris.says("/balance")
    assert "50 credits" in boris.screen.text
    assert [line[1:] for line in await desk.audit()] == [
        ("user.block", "43", {"reason": "spam"}),
        ("user.unblock", "43", {}),
    ]


async def test_admins_cannot_block_one_another(desk: Desk, admin: StoredPhone) -> None:
    await desk.phone(DEPUTY).says("/start")
    await admin.says(f"/block {DEPUTY}")
    await admin.presses_word("y1:")
    assert "Admins cannot be blocked" in admin.screen.text
    assert await desk.audit() == []


# Models and the pause


async def test_a_model_switched_off_is_gone_at_once_for_the_users_of_every_replica(
    desk: Desk, admin: StoredPhone, another_replica: BotHandler
) -> None:
    boris = desk.phone(BORIS, another_replica)
    await boris.says("/models")
    await boris.presses_word("k1:image:0")
    wanted = boris.button("m1:")
    slug = (wanted.data or "").split("~")[0].removeprefix("m1:")
    await boris.presses(wanted)
    await boris.says("a cat")
    create = boris.button(CREATE)

    await admin.says(f"/off {slug} too slow")
    await admin.presses_word("y1:")
    await boris.presses(create)
    assert "resting just now" in boris.screen.text
    assert await desk.scalar("SELECT count(*) FROM generations") == 0
    await boris.says("/models")
    await boris.presses_word("k1:image:0")
    assert not boris.has_button(f"m1:{slug}")
    await boris.says(f"/start m_{slug}")
    assert "resting just now" in boris.screen.text

    await admin.says("/on")
    assert "too slow" in admin.screen.text
    await admin.presses_word(f"z3:n:{slug}")
    await admin.presses_word("y1:")
    await boris.says("/models")
    await boris.presses_word("k1:image:0")
    assert boris.has_button(f"m1:{slug}")
    assert [line[1] for line in await desk.audit()] == ["model.off", "model.on"]


async def test_a_pause_is_told_and_outlives_the_providers_own(desk: Desk, admin: StoredPhone) -> None:
    async with desk.database.transaction() as tx:
        await tx.switches.switch_off(EVERYTHING, "no credits", "provider", for_s=60)
    await admin.says("/pause moving house")
    await admin.presses_word("y1:")
    async with desk.database.transaction() as tx:
        await tx.switches.switch_off(EVERYTHING, "no credits", "provider", for_s=-1)
        (switch,) = await tx.switches.off()
    assert (switch.reason, switch.actor, switch.is_admins) == ("moving house", "admin:900", True)
    boris = desk.phone(BORIS)
    await boris.says("/start")
    await boris.presses_word("n1:example")
    assert "Nothing new is being made just now" in boris.screen.text
    await admin.says("/admin")
    assert "moving house" in admin.screen.text
    await admin.presses_word("z3:r")
    await admin.presses_word("y1:")
    async with desk.database.transaction() as tx:
        assert await tx.switches.off() == []
    await admin.says("/resume")
    await admin.presses_word("y1:")
    assert "It is so already" in admin.screen.text


# Screens


@pytest.mark.parametrize("language", LANGUAGES)
async def test_every_command_of_admins_is_answered_and_every_button_of_its_screens_leads_on(
    desk: Desk, admin: StoredPhone, language: str
) -> None:
    admin.code = language
    old = translator(language).t("That screen is old; this is where you are:")
    seen: set[str] = set()
    for command in COMMANDS:
        await admin.says(f"/{command}")
        buttons = admin.screen.buttons
        for each in buttons:
            prefix = ":".join((each.data or "").partition("~")[0].split(":")[:2])
            if prefix in seen or (prefix.startswith("y1") and command != "pause"):
                continue
            seen.add(prefix)
            await admin.presses(each)
            assert old not in admin.screen.text
            buttons += [new for new in admin.screen.buttons if new not in buttons]
    assert {prefix[:2] for prefix in seen} >= {"y1", "z1", "z3", "z4", "z5", "z6"}


@pytest.mark.parametrize("days", ["x", "0", "-1", "1.5", "15", "7 14"])
async def test_a_number_of_days_that_is_none_is_explained_not_guessed(
    desk: Desk, admin: StoredPhone, days: str
) -> None:
    await admin.says(f"/stats {days}")
    assert "Like this: /stats 7" in admin.screen.text
    await admin.presses_word("7 days")
    assert "Users: " in admin.screen.text


def test_every_act_can_be_done_and_every_question_has_its_answer() -> None:
    from kiebot.bot.admin import confirm

    assert set(PERFORMERS) == set(Action)
    assert set(confirm._QUESTIONS) == set(confirm._ANSWERS) == set(Action)


async def test_what_admins_did_can_be_read_and_never_changed(desk: Desk, admin: StoredPhone) -> None:
    await admin.says(f"/block {BORIS} spam")
    await admin.presses_word("y1:")
    await admin.says("/admin")
    await admin.presses_word("z1:a:0")
    assert "admin:900 · user.block 43 reason spam" in admin.screen.text
    for change in ("UPDATE audit SET actor = 'nobody'", "DELETE FROM audit", "TRUNCATE audit"):
        with pytest.raises(IntegrityError, match="never changed"):
            await desk.execute(change)


async def _shown(phone: Phone) -> Any:
    await phone.says("/start")
    return phone.screen
