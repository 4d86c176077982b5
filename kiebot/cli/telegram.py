"""`kiebot telegram`: the bot's state at Telegram, and the deliberate act of resetting it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from dataclasses import asdict
from typing import TypeVar

import click

from kiebot.botapi.connection import close_bot, make_bot
from kiebot.botapi.setup import TelegramSetup
from kiebot.errors import KiebotError
from kiebot.settings import load_settings

T = TypeVar("T")


@click.group()
def telegram() -> None:
    """Telegram's side of the bot."""


@telegram.command()
def info() -> None:
    """getMe and getWebhookInfo. Disturbs no poll."""

    async def read(setup: TelegramSetup) -> dict[str, object]:
        return asdict(await setup.token_state())

    click.echo(json.dumps(_with_setup(read), indent=2, default=str))


@telegram.command()
@click.option("--drop-pending", is_flag=True, help="also throw away every update that waits: users' messages are lost")
def reset(drop_pending: bool) -> None:
    """Remove the webhook, once."""
    if drop_pending:
        click.confirm("Updates that wait at Telegram will be lost, payments among them. Go on?", abort=True)

    async def write(setup: TelegramSetup) -> int:
        return await setup.reset(drop_pending=drop_pending)

    waiting = _with_setup(write)
    click.echo(f"webhook removed; {waiting} updates wait")


def _with_setup(action: Callable[[TelegramSetup], Awaitable[T]]) -> T:
    settings = load_settings()

    async def run() -> T:
        token = settings.telegram_bot_token.get_secret_value()
        bot = make_bot(token, api_url=settings.telegram_api_url, replica="cli")
        try:
            return await action(TelegramSetup(bot))
        finally:
            await close_bot(bot)

    try:
        return asyncio.run(run())
    except KiebotError as error:
        raise click.ClickException(str(error)) from None
