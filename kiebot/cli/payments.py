"""`kiebot ledger refund` and `reconcile`: payments, against the provider that took them."""

from __future__ import annotations

import asyncio
import getpass
import sys
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TypeVar

import click
import structlog

from kiebot.bootstrap import open_stores
from kiebot.bot.receipts import Receipts
from kiebot.botapi.connection import close_bot, make_bot
from kiebot.botapi.stars import TelegramStars
from kiebot.cli.opened import decided, opened
from kiebot.clock import SystemClock
from kiebot.errors import KiebotError, Refused
from kiebot.generation.pricing import credits_text
from kiebot.payments.model import Refund, RefundState
from kiebot.payments.providers import Providers
from kiebot.payments.reconcile import TOO_FRESH_S, Reconciliation, Report
from kiebot.payments.refunds import Refunds, request_refund
from kiebot.settings import load_settings
from kiebot.storage.transaction import Database

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class _Shop:
    database: Database
    stars: TelegramStars


@click.command()
@click.argument("charge_id", metavar="CHARGE_ID")
@click.option("--reason", required=True, help="kept in the books")
@click.option("--actor", default=getpass.getuser, help="who does it; default: the system's user")
@click.option("--dry-run", is_flag=True, help="say what would happen, write nothing, ask nobody")
def refund(charge_id: str, reason: str, actor: str, dry_run: bool) -> None:
    """Give a payment back as a whole. Asked for twice, it happens once. Status 1: not done yet, or refused."""

    async def write(shop: _Shop) -> Refund:
        refunds = Refunds(shop.database, Providers(shop.stars), Receipts(), SystemClock())
        return await refunds.refund(charge_id, actor, reason)

    async def pretend(shop: _Shop) -> Refund:
        async with decided(shop.database, dry_run=True) as tx:
            return await request_refund(tx, charge_id, actor=actor, reason=reason)

    told = _with_shop(pretend if dry_run else write)
    owed = f", {credits_text(told.amount - told.taken)} owed" if told.amount > told.taken else ""
    moved = f"{credits_text(told.taken)} credits of user {told.user_id} taken{owed}"
    if dry_run:
        state = "would be refunded" if told.state is RefundState.OPEN else "refunded before"
        click.echo(f"{state}; {moved}")
        return
    if told.state is RefundState.DONE:
        click.echo(f"refunded; {moved}")
    elif told.state is RefundState.OPEN:
        raise click.ClickException(f"not yet, the replicas go on with it; {moved}; {told.last_error}")
    else:
        raise click.ClickException(f"refused, the credits are back: {told.last_error}")


@click.command()
@click.option("--apply", "is_meant", is_flag=True, help="book what was paid, or paid back, and never seen here")
@click.option(
    "--since",
    type=click.DateTime(["%Y-%m-%d"]),
    help="leave alone what is older (a day, UTC); default: before the first user came",
)
@click.option(
    "--fresh", type=float, default=TOO_FRESH_S, show_default=True, help="seconds in which an update may be on its way"
)
def reconcile(is_meant: bool, since: datetime | None, fresh: float) -> None:
    """Compare payments with Telegram's own list, both ways. Status 1 while there is a difference."""

    async def compare(shop: _Shop) -> Report:
        books = Reconciliation(shop.database, shop.stars, Receipts(), SystemClock())
        return await books.run(apply=is_meant, fresh_s=fresh, since=since.replace(tzinfo=UTC) if since else None)

    report = _with_shop(compare)
    for each in report.differences:
        mended = "  booked now" if each.is_mended else ""
        click.echo(f"{each.finding}: {each.charge_id}  user {each.user_id}  {each.amount} Stars{mended}")
    told = f"{report.payments} payments, {report.refunds} refunds, {len(report.differences)} differences"
    click.echo(f"{told}, {report.fresh} too fresh to judge")
    sys.exit(0 if report.is_clean else 1)


def _with_shop(action: Callable[[_Shop], Awaitable[T]]) -> T:
    settings = load_settings()
    stores = open_stores(settings)

    async def run() -> T:
        token = settings.telegram_bot_token.get_secret_value()
        bot = make_bot(token, api_url=settings.telegram_api_url, replica="cli")
        try:
            async with opened(stores, application="kiebot ledger") as database:
                return await action(_Shop(database, TelegramStars(bot, settings.payment_terms())))
        finally:
            await close_bot(bot)

    try:
        with _logs_on_stderr():
            return asyncio.run(run())
    except Refused as error:
        raise click.ClickException(_REFUSALS[error.code]) from None
    except KiebotError as error:
        raise click.ClickException(str(error)) from None
    finally:
        stores.close()


@contextmanager
def _logs_on_stderr() -> Iterator[None]:
    """What services log is no part of a command's answer."""
    before = structlog.get_config()
    structlog.configure(logger_factory=lambda *_: structlog.PrintLogger(sys.stderr))
    try:
        yield
    finally:
        structlog.configure(**before)


_REFUSALS = {
    "no_payment": "no such payment; `kiebot ledger reconcile` finds those that were never seen",
    "under_way": "works under way hold credits of this payment: try again when they have ended",
}
