"""`kiebot jobs`: generations and dead letters. A generation is named by its number, a dead letter by L and its own.

Users' words are not shown unless asked for. Every write is an act of kiebot.admin, with its audit row.
"""

from __future__ import annotations

import getpass
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import click

from kiebot.admin.acts import Doer, perform
from kiebot.admin.model import Act, Action, Letter, WorkLine
from kiebot.cli.opened import USER_ID, decided, with_database
from kiebot.errors import Refused
from kiebot.generation.model import Generation, State
from kiebot.generation.pricing import credits_text
from kiebot.ids import new_token
from kiebot.storage.transaction import Database, Transaction

APPLICATION = "kiebot jobs"
MOST_DIGITS = 18
_REFUSALS = {
    "no_such_letter": "no such open dead letter",
    "no_such_work": "no such generation",
    "letter_gone": "its update is forgotten by now: it can only be buried",
    "already": "it has ended",
    "not_ready": "there is nothing to deliver",
    "busy": "it is just being submitted; try again in a minute",
}


@dataclass(frozen=True, slots=True)
class Name:
    """What a command is about."""

    is_letter: bool
    number: int


def _named(value: str) -> Name:
    digits = value.upper().removeprefix("L")
    if not (digits.isascii() and digits.isdigit() and len(digits) <= MOST_DIGITS):
        raise click.BadParameter("the number of a generation, such as 17, or of a dead letter, such as L5")
    return Name(value.upper().startswith("L"), int(digits))


@click.group()
def jobs() -> None:
    """Generations and dead letters: list, show, retry, bury."""


@jobs.command("list")
@click.option("--user", type=USER_ID, help="of this user only")
@click.option("--state", type=click.Choice([state.value for state in State]), help="in this state only")
@click.option("--all", "with_ended", is_flag=True, help="generations that have ended, too")
@click.option("--most", type=click.IntRange(1, 1000), default=20, show_default=True, help="of each, the newest")
@click.option("--json", "as_json", is_flag=True, help="for programs")
def list_jobs(user: int | None, state: str | None, with_ended: bool, most: int, as_json: bool) -> None:
    """Generations under way, and the dead letters that nobody has dealt with."""

    async def read(database: Database) -> tuple[list[WorkLine], list[Letter]]:
        async with database.transaction() as tx:
            only_open = not with_ended and state is None
            works = await tx.works.page(most=most, user_id=user, state=state, only_open=only_open)
            return works, await tx.letters.open(most=most)

    works, letters = with_database(read, application=APPLICATION)
    if as_json:
        _print_json(
            {"generations": [asdict(each) for each in works], "dead_letters": [asdict(each) for each in letters]}
        )
        return
    for work in works:
        state_word = work.failure or work.state
        price = credits_text(work.price_millicredits)
        click.echo(f"{work.number:<8} {state_word:<12} {work.user_id:<12} {work.model_id:<40} {price}")
    for letter in letters:
        click.echo(f"L{letter.id:<7} {letter.kind:<12} {letter.buried_at:%Y-%m-%d %H:%M:%S}  {letter.reason}")
    click.echo(f"{len(works)} generations, {len(letters)} dead letters")


@jobs.command()
@click.argument("name", metavar="17|L5", type=_named)
@click.option("--payload", "with_payload", is_flag=True, help="a user's own words and files, too")
@click.option("--json", "as_json", is_flag=True, help="for programs")
def show(name: Name, with_payload: bool, as_json: bool) -> None:
    """One of them, with what became of its tries and messages."""

    async def read(database: Database) -> dict[str, Any] | None:
        async with database.transaction() as tx:
            return await (_letter if name.is_letter else _work)(tx, name.number, with_payload=with_payload)

    found = with_database(read, application=APPLICATION)
    if found is None:
        raise click.ClickException(_REFUSALS["no_such_letter" if name.is_letter else "no_such_work"])
    if as_json:
        _print_json(found)
        return
    _print(found)


@jobs.command()
@click.argument("name", metavar="17|L5", type=_named)
@click.option("--actor", default=getpass.getuser, help="who does it; default: the system's user")
@click.option("--dry-run", is_flag=True, help="say what would happen, write nothing")
def retry(name: Name, actor: str, dry_run: bool) -> None:
    """Work it off once more: a dead letter, a generation under way, or the delivery of one that has ended."""

    async def write(database: Database) -> Act:
        return await _perform(database, name, "", actor, dry_run=dry_run, letter=Action.LETTER_RETRY, work=None)

    _do(write, dry_run=dry_run)


@jobs.command()
@click.argument("name", metavar="17|L5", type=_named)
@click.option("--reason", required=True, help="kept in the audit")
@click.option("--actor", default=getpass.getuser, help="who does it; default: the system's user")
@click.option("--dry-run", is_flag=True, help="say what would happen, write nothing")
def bury(name: Name, reason: str, actor: str, dry_run: bool) -> None:
    """Give it up for good: close a dead letter, or end a generation with the money back; its user is told."""

    async def write(database: Database) -> Act:
        return await _perform(
            database, name, reason, actor, dry_run=dry_run, letter=Action.LETTER_BURY, work=Action.GIVE_UP
        )

    _do(write, dry_run=dry_run)


_DONE = {
    Action.LETTER_RETRY: "dead letter {subject} is worked off again",
    Action.LETTER_BURY: "dead letter {subject} is closed",
    Action.HURRY: "generation {subject} is looked at again",
    Action.REDELIVER: "the outcome of generation {subject} is delivered again",
    Action.GIVE_UP: "generation {subject} has ended, its credits are back",
}


def _do(write: Any, *, dry_run: bool) -> None:
    try:
        act = with_database(write, application=APPLICATION)
    except Refused as error:
        raise click.ClickException(_REFUSALS.get(error.code, error.code)) from None
    click.echo(f"{'dry run: ' if dry_run else ''}{_DONE[act.action].format(subject=act.subject)}")


async def _perform(
    database: Database, name: Name, reason: str, actor: str, *, dry_run: bool, letter: Action, work: Action | None
) -> Act:
    """work: None for whatever pushes a generation in its present state."""
    async with decided(database, dry_run=dry_run) as tx:
        action = letter if name.is_letter else work or await _push(tx, name.number)
        act = Act(action, str(name.number), {"reason": reason} if reason else {})
        await perform(tx, act, Doer(actor, new_token()))
    return act


async def _push(tx: Transaction, number: int) -> Action:
    generation = await _generation(tx, number)
    return Action.REDELIVER if generation is not None and generation.state.is_final else Action.HURRY


async def _generation(tx: Transaction, number: int) -> Generation | None:
    generation_id = await tx.works.id_of(number)
    return None if generation_id is None else await tx.generations.get(generation_id)


async def _letter(tx: Transaction, number: int, *, with_payload: bool) -> dict[str, Any] | None:
    letter = await tx.letters.get(number)
    if letter is None:
        return None
    payload = await tx.letters.payload(number) if with_payload else None
    return asdict(letter) | ({"payload": payload.decode(errors="replace")} if payload is not None else {})


async def _work(tx: Transaction, number: int, *, with_payload: bool) -> dict[str, Any] | None:
    generation = await _generation(tx, number)
    if generation is None:
        return None
    facts = asdict(generation)
    quote = facts.pop("quote")
    theirs = {name: facts.pop(name) for name in ("inputs", "uploads", "result_urls", "result_text")}
    return {
        **facts,
        "cost_millicredits": quote["cost_millicredits"],
        "price_millicredits": quote["price_millicredits"],
        "captured_millicredits": await tx.ledger.settled(generation.id),
        **(theirs if with_payload else {}),
        "attempts": [asdict(each) for each in await tx.works.attempts(generation.id)],
        "messages": [asdict(each) for each in await tx.works.messages(generation.id)],
    }


def _print(found: Mapping[str, Any]) -> None:
    for name, value in found.items():
        if isinstance(value, list) and value and isinstance(value[0], dict):
            for each in value:
                parts = [f"{key} {part}" for key, part in each.items() if part not in (None, False)]
                click.echo(f"{name:<22} {', '.join(parts)}")
        elif value not in (None, [], ()):
            click.echo(f"{name:<22} {value}")


def _print_json(found: Mapping[str, Any] | Sequence[Any]) -> None:
    click.echo(json.dumps(found, indent=2, default=str))
