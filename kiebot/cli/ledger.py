"""`kiebot ledger`: money. Every write has a key, a reason and an actor."""

from __future__ import annotations

import getpass
import json
import sys
from collections.abc import Awaitable, Callable
from dataclasses import asdict
from decimal import Decimal, InvalidOperation
from functools import partial
from typing import TypeVar

import click
from sqlalchemy import text

from kiebot.admin.model import Act, Action, Loss, Margin
from kiebot.cli.opened import USER_ID, decided, with_database
from kiebot.cli.payments import reconcile, refund
from kiebot.errors import KeyReused, Refused
from kiebot.generation.pricing import credits_text
from kiebot.ids import GIVEN_BY_THE_BOT, wallet_of
from kiebot.settings import load_settings
from kiebot.storage.transaction import Database
from kiebot.storage.verify import INVARIANTS, verify

MOST_CREDITS = 10_000_000
_LAST = text("""
    SELECT p.posted_at, p.kind, p.key, p.reason, p.actor, e.delta_available, e.delta_held, e.available_after
    FROM entries e JOIN postings p ON p.key = e.posting_key WHERE e.account = :account
    ORDER BY e.version DESC LIMIT 10
""")


def _millicredits(value: str) -> int:
    try:
        amount = Decimal(value) * 1000
        if 0 < abs(amount) <= MOST_CREDITS * 1000 and amount == int(amount):
            return int(amount)
    except InvalidOperation:  # no number, or one that cannot be compared
        pass
    raise click.BadParameter(f"credits such as 12.5: at most three decimals, not zero, at most {MOST_CREDITS}")


@click.group()
def ledger() -> None:
    """Verify the books, look at a wallet, grant credits, give payments back, compare them with Telegram's and KIE's."""


ledger.add_command(refund)
ledger.add_command(reconcile)


@ledger.command("verify")
def verify_command() -> None:
    """Check every invariant in one snapshot. Status 1 when one is broken."""
    breaches = _opened(lambda database: verify(database.engine))
    for breach in breaches:
        click.echo(f"broken: {breach.invariant}")
        for row in breach.rows:
            click.echo(f"    {row}")
    click.echo(f"{len(INVARIANTS)} invariants, {len(breaches)} broken")
    sys.exit(1 if breaches else 0)


@ledger.command()
@click.argument("user", type=USER_ID)
def balance(user: int) -> None:
    """What a user has, and the last ten entries."""

    async def read(database: Database) -> None:
        async with database.transaction() as tx:
            wallet = await tx.ledger.balance(user)
            rows = (await tx.connection.execute(_LAST, {"account": wallet_of(user)})).all()
        click.echo(f"available {credits_text(wallet.available)}, held {credits_text(wallet.held)}")
        for row in rows:
            click.echo(
                f"{row.posted_at:%Y-%m-%d %H:%M:%S}  {row.kind:<8} {row.delta_available:>9} {row.delta_held:>9}"
                f"  {row.key}  {row.reason}  {row.actor}"
            )

    _opened(read)


def _own_key(_context: click.Context, _option: click.Parameter, key: str) -> str:
    """The bot's own gifts have keys too: whoever used up one of those would keep a user from theirs."""
    if key.startswith(GIVEN_BY_THE_BOT):
        raise click.BadParameter(f"{key!r} is a key of the bot's own gifts: take another one")
    return key


@ledger.command()
@click.argument("user", type=USER_ID)
@click.argument("millicredits", metavar="CREDITS", type=_millicredits)
@click.option("--key", required=True, callback=_own_key, help="names this grant: the same key never counts twice")
@click.option("--reason", required=True, help="kept in the books")
@click.option("--actor", default=getpass.getuser, help="who does it; default: the system's user")
@click.option("--new", "may_be_new", is_flag=True, help="also to an id that has never written to the bot")
@click.option("--dry-run", is_flag=True, help="say what would happen, write nothing")
def grant(user: int, millicredits: int, key: str, reason: str, actor: str, may_be_new: bool, dry_run: bool) -> None:
    """Put credits into a user's wallet; a negative number takes them out, and stands last: -- -5

    An id that has never written to the bot may be a typo: it is refused, unless --new says that it is meant."""

    async def write(database: Database) -> None:
        async with decided(database, dry_run=dry_run) as tx:
            is_new = await tx.ledger.grant(key, user, millicredits, reason=reason, actor=actor)
            if is_new and not may_be_new and await tx.users.find(user) is None:
                raise click.ClickException(f"{user} has never written to the bot; if this is meant: --new")
            if is_new:
                facts: dict[str, int | str] = {"millicredits": millicredits, "reason": reason, "key": key}
                await tx.audit.add(actor, Act(Action.GRANT, str(user), facts))
            wallet = await tx.ledger.balance(user)
        done = ("would be granted" if dry_run else "granted") if is_new else "already granted under this key"
        click.echo(f"{done}; {user} {'would have' if dry_run else 'has'} {credits_text(wallet.available)}")

    try:
        _opened(write)
    except KeyReused as error:
        raise click.ClickException(f"this key was used with other facts: {error}") from None
    except Refused:
        raise click.ClickException("the wallet has less than that") from None


_days = click.option("--days", type=click.IntRange(1, 3650), default=7, show_default=True, help="how far back")
_as_json = click.option("--json", "as_json", is_flag=True, help="for scripts; amounts in millicredits")


@ledger.command("margin")
@_days
@_as_json
def margin_command(days: int, as_json: bool) -> None:
    """What users paid beside what KIE took, per day and model; dollars at KIE_CREDIT_USD."""
    rows = _opened(partial(_margins, days=days))
    if as_json:
        click.echo(json.dumps([{**asdict(row), "margin": row.margin} for row in rows], default=str, indent=2))
        return
    usd = load_settings().kie_credit_usd
    click.echo(_MARGIN_LINE.format("day", "model", "sold", "failed", "paid", "KIE took", "lost", "margin", "margin $"))
    for row in rows:
        click.echo(_margin_line(row, usd))
    dollars = sum(row.margin for row in rows) * usd / 1000
    unreported = sum(row.unreported for row in rows)
    click.echo(
        f"together {dollars:.2f} $" + (f"; {unreported} without KIE's figure, taken at cost" if unreported else "")
    )


_MARGIN_LINE = "{:<10}  {:<40} {:>6} {:>6} {:>10} {:>10} {:>9} {:>10} {:>9}"


def _margin_line(row: Margin, usd: Decimal) -> str:
    amounts = (credits_text(amount) for amount in (row.captured, row.consumed, row.lost))
    dollars = f"{row.margin * usd / 1000:.2f}"
    return _MARGIN_LINE.format(
        str(row.day), row.model_id, row.sold, row.failed, *amounts, credits_text(row.margin), dollars
    )


@ledger.command("losses")
@_days
@_as_json
def losses_command(days: int, as_json: bool) -> None:
    """Tasks that KIE billed, or may have billed, and no user paid for."""
    rows = _opened(partial(_losses, days=days))
    if as_json:
        click.echo(json.dumps([asdict(row) for row in rows], default=str, indent=2))
        return
    for row in rows:
        click.echo(_loss_line(row))
    certain = sum(row.amount for row in rows if row.is_certain)
    suspected = sum(row.amount for row in rows if not row.is_certain)
    click.echo(f"{len(rows)} tasks: {credits_text(certain)} credits lost, {credits_text(suspected)} more suspected")


def _loss_line(row: Loss) -> str:
    how = "lost" if row.is_certain else "suspected"
    return (
        f"{row.opened_at:%Y-%m-%d %H:%M:%S}  #{row.number}  {row.model_id}  {credits_text(row.amount)} {how}"
        f"  {row.why}  task {row.task_id or 'unknown'}  attempt {row.attempt_id}"
    )


T = TypeVar("T")


def _opened(action: Callable[[Database], Awaitable[T]]) -> T:
    return with_database(action, application="kiebot ledger")


async def _margins(database: Database, *, days: int) -> list[Margin]:
    async with database.transaction() as tx:
        return await tx.reckoning.margins(days=days)


async def _losses(database: Database, *, days: int) -> list[Loss]:
    async with database.transaction() as tx:
        return await tx.reckoning.losses(days=days)
