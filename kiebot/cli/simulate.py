"""`kiebot simulate`: a simulator as a server, for compose, for demos, for one's own experiments."""

from __future__ import annotations

import asyncio
from typing import Any

import click


@click.group()
def simulate() -> None:
    """Telegram or KIE, as their clients see them. The control side is served under /_sim."""


@simulate.command("telegram")
@click.option("--host", default="127.0.0.1", show_default=True)
@click.option("--port", default=8081, show_default=True)
@click.option("--token", required=True, envvar="TELEGRAM_BOT_TOKEN", help="the bot token to accept")
@click.option("--username", default="kiebot_bot", show_default=True)
def telegram_command(host: str, port: int, token: str, username: str) -> None:
    """A Bot API server for one token."""
    from kiebot.simulators.telegram import TelegramSimulator

    asyncio.run(_serve(TelegramSimulator(tokens={token: username}, control=True).asgi, host, port, "TELEGRAM_API_URL"))


@simulate.command("kie")
@click.option("--host", default="127.0.0.1", show_default=True)
@click.option("--port", default=8082, show_default=True)
@click.option("--key", required=True, envvar="KIE_API_KEY", help="the API key to accept")
@click.option("--duration-scale", default=0.05, show_default=True, help="how long tasks take, against KIE's own times")
def kie_command(host: str, port: int, key: str, duration_scale: float) -> None:
    """KIE's API, upload and file hosts at one address."""
    from kiebot.simulators.kie import KieSimulator

    simulator = KieSimulator(api_key=key, duration_scale=duration_scale, control=True)
    asyncio.run(_serve(simulator.asgi, host, port, "KIE_API_URL and KIE_UPLOAD_URL"))


async def _serve(app: Any, host: str, port: int, variable: str) -> None:
    from kiebot.simulators.server import SimulatorServer

    async with SimulatorServer(app, host=host, port=port) as server:
        click.echo(f"{server.url}  (set {variable}; stop with Ctrl-C)")
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            click.echo("stopped")
