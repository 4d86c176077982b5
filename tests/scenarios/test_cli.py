"""The command line as operators and scripts use it: what it prints, and with which status it ends."""

from __future__ import annotations

import asyncio
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

import httpx
import pytest

from kiebot.generation.catalog import models
from kiebot.payments.refunds import request_refund
from kiebot.storage.migrate import HEAD
from kiebot.storage.transaction import Database
from kiebot.wakeups import Wakeup
from tests.scenarios.buying import CHEAP, creates, gets, gets_media, tops_up
from tests.scenarios.console import Run
from tests.scenarios.crew import Crew
from tests.scenarios.fleet import Fleet, ends
from tests.scenarios.gate import free_port
from tests.scenarios.world import World

KIEBOT = (sys.executable, "-m", "kiebot")
WEBHOOK = "http://127.0.0.1:9/telegram/webhook"  # nobody listens there


# Schema and status


async def _empty_database(world: World, name: str) -> str:
    engine = world.engine.execution_options(isolation_level="AUTOCOMMIT")
    async with engine.connect() as connection:
        await connection.exec_driver_sql(f"CREATE DATABASE {name} STRATEGY file_copy")
    base = world.engine.url.database or ""
    return world.database_url.replace(f"/{base}?", f"/{name}?")


async def test_a_command_that_needs_a_schema_names_the_one_that_makes_it(world: World, kiebot: Run) -> None:
    url = await _empty_database(world, f"bare_{world.tg.bot.bot_id}")
    for command in (
        ("ledger", "verify"),
        ("ledger", "balance", "77"),
        ("ledger", "grant", "77", "5", "--key", "k", "--reason", "r"),
        ("ledger", "margin"),
        ("ledger", "reconcile"),
        ("jobs", "list"),
    ):
        said = await kiebot(*command, DATABASE_URL=url)
        assert (said.status, said.out) == (1, ""), command
        assert (
            said.error == f"Error: the database has no schema, this version needs {HEAD}: run `kiebot migrate` first\n"
        )


async def test_a_command_names_an_older_schema(world: World, kiebot: Run) -> None:
    await world.execute("UPDATE alembic_version SET version_num = '0001'")
    said = await kiebot("ledger", "verify")
    assert (said.status, "has schema 0001, this version needs" in said.error) == (1, True)


async def test_migrate_makes_the_schema_once_and_may_be_repeated(world: World, kiebot: Run) -> None:
    url = await _empty_database(world, f"empty_{world.tg.bot.bot_id}")
    before = await kiebot("status", DATABASE_URL=url)
    assert before.status == 0
    assert "run `kiebot migrate`" in before.out
    for _ in range(2):
        done = await kiebot("migrate", DATABASE_URL=url)
        assert (done.status, done.out) == (0, f"schema version {HEAD}\n")
    assert "run `kiebot migrate`" not in (await kiebot("status", DATABASE_URL=url)).out


async def test_status_tells_who_leads_and_who_lives(cluster: Crew, kiebot: Run) -> None:
    world = cluster.world
    await world.until(lambda: bool(world.pollers()))
    await world.until_row("SELECT count(*) = 2 FROM replicas")
    (poller,) = world.pollers()
    told = (await kiebot("status", "--json")).json
    assert told["lease"] == poller
    assert told["lease_remaining_s"] > 0
    assert told["epoch"] == 1
    assert told["schema"] == told["schema_needed"] == HEAD
    assert {each["name"]: each["is_alive"] for each in told["replicas"]} == dict.fromkeys(cluster.replicas, True)
    assert f"leader     {poller}" in (await kiebot("status")).out


async def test_status_tells_why_the_lease_changed_hands_also_while_nobody_has_it(cluster: Crew, kiebot: Run) -> None:
    world = cluster.world
    await world.until(lambda: bool(world.pollers()))
    await world.until_row("SELECT count(*) = 2 FROM replicas")
    await asyncio.sleep(0.5)  # the standby has looked
    (first,) = world.pollers()
    await cluster.stop(first)
    await world.until(lambda: bool(world.pollers()) and world.pollers() != {first})
    (second,) = cluster.replicas
    await world.until_row("SELECT count(*) = 2 FROM terms")
    change = (await kiebot("status", "--json")).json["last_change"]
    assert (change["kind"], change["by"], change["previous"], change["why"]) == ("acquired", second, first, "stopped")
    free = await kiebot("status", LEASE_URL=world.redis_url, REDIS_PREFIX="another")
    assert "leader     free (last epoch 2)" in free.out
    assert f"{second} acquired, previous holder {first}, stopped" in free.out
    await cluster.stop(second)
    gone = (await kiebot("status", "--json")).json
    assert (gone["lease"], gone["leader_since"], gone["is_fenced"]) == ("free", None, False)
    assert (gone["last_change"]["kind"], gone["last_change"]["by"]) == ("ended", second)


@pytest.mark.slow
async def test_status_tells_why_a_leader_went_that_was_asked_to_and_one_that_was_killed(
    fleet: Fleet, kiebot: Run
) -> None:
    for name in ("one", "two", "three"):
        await fleet.start(name)
    await fleet.are_ready()
    world, first = fleet.world, await fleet.poller()
    fleet.ships[first].send(signal.SIGTERM)
    second = await fleet.poller(other_than=first)
    await fleet.ships[first].ends()
    await world.until_row("SELECT count(*) = 2 FROM terms")
    told = (await kiebot("status", "--json")).json
    change = told["last_change"]
    assert (change["by"], change["kind"], change["previous"], change["why"]) == (second, "acquired", first, "stopped")
    assert (told["lease"], told["is_fenced"], told["epoch"]) == (second, True, 2)
    assert told["leader_since"] is not None

    fleet.ships[second].send(signal.SIGKILL)
    third = await fleet.poller(other_than=second)
    await world.until_row("SELECT count(*) = 3 FROM terms")
    said = (await kiebot("status")).out
    assert f"{third} seized, previous holder {second}, died: disconnected" in said
    assert f"leader     {third} (epoch 3, since 2" in said


async def test_with_a_webhook_status_tells_since_when_it_is_kept_and_no_epoch(
    world: World, crew: Crew, kiebot: Run
) -> None:
    await world.execute(
        "INSERT INTO fence (bot_id, epoch, token, replica) VALUES (:bot, 7, 'old', 'r')", bot=world.tg.bot.bot_id
    )
    name = crew.start(BOT_MODE="webhook", WEBHOOK_URL=WEBHOOK, PORT=str(free_port()))
    await world.until_row("SELECT count(*) = 1 FROM terms")
    told = (await kiebot("status", "--json")).json
    assert (told["lease"], told["is_fenced"], told["last_change"]["why"]) == (name, False, "")
    assert told["leader_since"] is not None
    assert f"leader     {name} (last epoch 7, since 2" in (await kiebot("status")).out


async def test_status_without_a_database_ends_with_1_and_says_why(kiebot: Run) -> None:
    said = await kiebot("status", DATABASE_URL="postgresql://kiebot:pw@127.0.0.1:1/kiebot")
    assert said.status == 1
    assert "out of reach" in said.error


async def test_config_shows_what_is_set_and_masks_every_secret(world: World, kiebot: Run) -> None:
    shown = await kiebot("config", ADMIN_IDS="7,8")
    told = (await kiebot("config", "--json", ADMIN_IDS="7,8")).json
    assert told["ADMIN_IDS"] == "7,8"
    assert told["TELEGRAM_BOT_TOKEN"] == told["KIE_API_KEY"] == told["DATABASE_URL"] == "(set)"
    for secret in (world.tg.token.partition(":")[2], world.kie.api_key, world.redis_url, world.database_url):
        assert secret not in shown.out


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "status", "words"),
    [
        (("status",), 78, "configuration: TELEGRAM_BOT_TOKEN: is not set"),
        (("config",), 78, "configuration: KIE_API_KEY: is not set"),
        (("ledger", "grant", "1"), 2, "Missing argument"),
        (("fly",), 2, "No such command"),
    ],
)
async def test_exit_statuses(tmp_path: Path, arguments: tuple[str, ...], status: int, words: str) -> None:
    ended, said = await ends((*KIEBOT, *arguments), {"KIEBOT_HOME": str(tmp_path)}, tmp_path)
    assert ended == status
    assert words in said


# Telegram


async def test_telegram_info_and_reset(world: World, kiebot: Run) -> None:
    assert world.tg.inject("message", {"chat": {"id": 5}, "date": 4_000_000_000}) is not None
    async with httpx.AsyncClient(base_url=world.tg_url) as browser:
        answer = await browser.post(f"/bot{world.tg.token}/setWebhook", json={"url": WEBHOOK})
    assert answer.status_code == 200, answer.text
    info = (await kiebot("telegram", "info")).json
    assert info["username"] == "kiebot_bot"
    assert info["webhook_url"] == WEBHOOK
    assert info["pending_update_count"] == 1

    done = await kiebot("telegram", "reset")
    assert (done.status, done.out) == (0, "webhook removed; 1 updates wait\n")
    assert (await kiebot("telegram", "info")).json["webhook_url"] == ""


async def test_dropping_updates_is_asked_twice(world: World, kiebot: Run) -> None:
    assert world.tg.inject("message", {"chat": {"id": 5}, "date": 4_000_000_000}) is not None
    refused = await kiebot("telegram", "reset", "--drop-pending", answers="n\n")
    assert refused.status == 1
    assert len(world.tg.bot.queue) == 1
    done = await kiebot("telegram", "reset", "--drop-pending", answers="y\n")
    assert done.status == 0
    assert len(world.tg.bot.queue) == 0


async def test_a_refused_token_ends_with_1(world: World, kiebot: Run) -> None:
    world.tg.revoke()
    said = await kiebot("telegram", "info")
    assert said.status == 1
    assert world.tg.token not in said.error + said.out


# The catalogue


async def test_models_list_show_and_check(kiebot: Run) -> None:
    listed = await kiebot("models", "list")
    assert all(model.slug in listed.out for model in models())
    assert len((await kiebot("models", "list", "--json")).json) == len(models())
    shown = await kiebot("models", "show", "z-image")
    assert "prompt" in shown.out
    unknown = await kiebot("models", "show", "no/such")
    assert (unknown.status, "no such model" in unknown.error) == (1, True)
    checked = await kiebot("models", "check")
    assert (checked.status, checked.out) == (0, f"{len(models())} models, 0 problems\n")


# Money


async def test_a_grant_counts_once_per_key_and_is_kept_with_reason_and_actor(world: World, kiebot: Run) -> None:
    grant = ("ledger", "grant", "77", "12.5", "--new", "--key", "gift-1", "--reason", "sorry", "--actor", "ann")
    tried = await kiebot(*grant, "--dry-run")
    assert tried.out == "would be granted; 77 would have 12.5\n"
    assert await world.available(77) == 0

    assert (await kiebot(*grant)).out == "granted; 77 has 12.5\n"
    again = await kiebot(*grant)
    assert (again.status, again.out) == (0, "already granted under this key; 77 has 12.5\n")

    reused = await kiebot("ledger", "grant", "77", "99", "--key", "gift-1", "--reason", "sorry", "--actor", "ann")
    assert (reused.status, reused.out) == (1, "")
    assert "used with other facts" in reused.error
    assert await world.available(77) == 12_500

    told = await kiebot("ledger", "balance", "77")
    assert "available 12.5, held 0" in told.out
    assert "sorry  ann" in told.out
    assert (await kiebot("ledger", "verify")).status == 0


async def test_nobody_is_brought_below_zero_and_a_dry_run_says_so_too(world: World, kiebot: Run) -> None:
    take = ("ledger", "grant", "77", "--key", "take-1", "--reason", "error")
    for dry in ((), ("--dry-run",)):
        said = await kiebot(*take, *dry, "--", "-5")
        assert (said.status, said.error) == (1, "Error: the wallet has less than that\n")
    assert await world.available(77) == 0
    assert (await kiebot("ledger", "grant", "77", "0.0001", "--key", "k", "--reason", "r")).status == 2
    assert (await kiebot("ledger", "verify")).status == 0


@pytest.mark.parametrize("amount", ["ten", "10,5", "NaN", "sNaN", "Infinity", "1e30", "0", "0.0001"])
async def test_what_is_no_amount_of_credits_is_named_and_grants_nothing(world: World, kiebot: Run, amount: str) -> None:
    said = await kiebot("ledger", "grant", "77", amount, "--key", "k", "--reason", "r")
    assert (said.status, said.out, "credits such as 12.5" in said.error) == (2, "", True)
    assert await world.available(77) == 0


@pytest.mark.parametrize("key", ["welcome:77", "daily:77:2030-01-01", "admin:x"])
async def test_a_key_of_the_bots_own_gifts_is_refused(world: World, kiebot: Run, key: str) -> None:
    """Used up by an operator, with another amount, it would keep that user's gift, and the user, out for ever."""
    said = await kiebot("ledger", "grant", "77", "5", "--key", key, "--reason", "r")
    assert (said.status, said.out, "take another one" in said.error) == (2, "", True)
    assert await world.available(77) == 0


async def test_a_user_that_nobody_can_be_is_refused(kiebot: Run) -> None:
    nobody = str(10**23)
    for command in (
        ("ledger", "grant", nobody, "5", "--key", "k", "--reason", "r"),
        ("ledger", "balance", nobody),
        ("jobs", "list", "--user", nobody),
    ):
        said = await kiebot(*command)
        assert (said.status, "is not in the range" in said.error) == (2, True), command


async def test_credits_go_to_nobody_who_never_wrote_unless_that_is_meant(world: World, kiebot: Run) -> None:
    grant = ("ledger", "grant", "77", "5", "--key", "k", "--reason", "r")
    for dry in ((), ("--dry-run",)):
        said = await kiebot(*grant, *dry)
        assert (said.status, said.out) == (1, "")
        assert said.error == "Error: 77 has never written to the bot; if this is meant: --new\n"
    assert await world.scalar("SELECT count(*) FROM accounts WHERE key = 'wallet:77'") == 0
    assert (await kiebot(*grant, "--new")).out == "granted; 77 has 5\n"
    assert (await kiebot(*grant)).out == "already granted under this key; 77 has 5\n"
    await world.execute("INSERT INTO users (id, first_name, language) VALUES (78, 'Olga', 'ru')")
    known = ("ledger", "grant", "78", "5", "--key", "k2", "--reason", "r")
    assert (await kiebot(*known)).out == "granted; 78 has 5\n"


class NoQueue:
    async def enqueue(self, wakeups: Sequence[Wakeup]) -> None:
        return


async def test_stars_become_credits_and_a_work_and_go_back_once(world: World, crew: Crew, kiebot: Run) -> None:
    for _ in range(2):
        crew.start(WELCOME_CREDITS="0")
    anna = world.tg.user(510)
    first, second = await tops_up(anna, 50), await tops_up(anna, 100)
    await creates(anna)
    await gets_media(anna)
    await world.settles()
    spent = 150_000 - await world.available(510)
    assert spent > 0
    assert (await kiebot("ledger", "reconcile", "--fresh", "0")).out.startswith("2 payments, 0 refunds, 0 differences")

    refund = ("ledger", "refund", str(first.charge_id), "--reason", "sorry", "--actor", "ann")
    tried = await kiebot(*refund, "--dry-run")
    assert tried.out == "would be refunded; 50 credits of user 510 taken\n"
    assert world.tg.journal.calls("refundStarPayment") == []
    for _ in range(2):
        done = await kiebot(*refund)
        assert (done.status, done.out) == (0, "refunded; 50 credits of user 510 taken\n")
    await gets(anna, "⭐ 50 went back to you.")
    assert len(world.tg.journal.calls("refundStarPayment")) == 1

    async with Database(world.engine, NoQueue()).transaction() as tx:  # decided, and nobody told: a sweeper finds it
        await request_refund(tx, str(second.charge_id), actor="tg:7", reason="asked for it")
    await gets(anna, "⭐ 100 went back to you.")
    await world.settles()
    assert await world.available(510) == 0
    assert await world.scalar("SELECT available FROM accounts WHERE key = 'receivable'") == -spent
    assert (await kiebot("ledger", "reconcile", "--fresh", "0")).out.startswith("2 payments, 2 refunds, 0 differences")
    assert (await kiebot("ledger", "verify")).status == 0
    unknown = await kiebot("ledger", "refund", "stx0", "--reason", "typo")
    assert (unknown.status, "no such payment" in unknown.error) == (1, True)


async def test_reconcile_tells_what_was_never_seen_and_books_it_when_told_to(world: World, kiebot: Run) -> None:
    anna = world.tg.user(511)
    source = {"type": "user", "transaction_type": "invoice_payment", "user": anna.user, "invoice_payload": "?"}
    world.tg.bot.till.transactions.append({"id": "stx1", "date": 1_700_000_000, "amount": 70, "source": source})
    told = await kiebot("ledger", "reconcile")
    assert told.status == 1
    assert "paid, never seen here: stx1  user 511  70 Stars\n" in told.out
    assert (await kiebot("ledger", "reconcile", "--since", "2024-01-01")).status == 0
    assert (await kiebot("ledger", "reconcile", "--apply")).status == 0
    assert await world.available(511) == 70_000
    assert (await kiebot("ledger", "reconcile")).status == 0
    assert (await kiebot("ledger", "verify")).status == 0


async def test_verify_finds_money_from_nowhere(world: World, kiebot: Run) -> None:
    await kiebot("ledger", "grant", "77", "5", "--new", "--key", "k", "--reason", "r")
    await world.execute("UPDATE accounts SET available = available + 1000 WHERE key = 'wallet:77'")
    said = await kiebot("ledger", "verify")
    assert said.status == 1
    assert "broken: " in said.out


async def test_margin_and_losses_tell_what_was_paid_beside_what_kie_took(cluster: Crew, kiebot: Run) -> None:
    world = cluster.world
    anna = world.tg.user(501)
    await creates(anna)
    await gets_media(anna)
    world.kie.faults.next_create("lose_answer")
    await creates(anna, prompt="a dog on a boat")
    await gets(anna, "Back to you")
    await world.settles()
    (sold,) = (await kiebot("ledger", "margin", "--json")).json
    assert (sold["model_id"], sold["sold"], sold["failed"], sold["unreported"]) == (CHEAP, 1, 1, 0)
    assert (sold["captured"], sold["consumed"], sold["lost"]) == (1600, 800, 800)
    assert sold["margin"] == 0
    told = await kiebot("ledger", "margin", "--days", "1")
    assert CHEAP in told.out
    assert "together 0.00 $" in told.out
    (lost,) = (await kiebot("ledger", "losses", "--json")).json
    assert (lost["why"], lost["is_certain"], lost["amount"]) == ("answer_lost", False, 800)
    said = await kiebot("ledger", "losses")
    assert "1 tasks: 0 credits lost, 0.8 more suspected" in said.out
    assert lost["attempt_id"] in said.out
