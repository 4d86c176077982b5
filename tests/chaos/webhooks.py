"""Rolling restarts: as a deploy does them, and from polling to the webhook and back."""

from __future__ import annotations

import signal
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from tests.chaos.rig import Rig
from tests.scenarios.gate import Balancer


async def roll(rig: Rig, **environment: str) -> float:
    """Each replica in turn: SIGTERM, drained, started with more of an environment, ready. Returns the seconds."""
    began = time.monotonic()
    for name in rig.names:
        rig.send(name, signal.SIGTERM)
        status = await rig.cluster.wait(name, 30.0)
        if status != 0:
            raise TimeoutError(f"{name} ended with status {status}")
        await rig.revive(name, **environment)
    return time.monotonic() - began


@asynccontextmanager
async def to_webhook(rig: Rig) -> AsyncIterator[None]:
    """Rolled into BOT_MODE=webhook, behind one address for all; the address stays while the block runs."""
    balancer = Balancer(rig.address(name) for name in rig.names)
    await balancer.open()
    try:
        await roll(rig, BOT_MODE="webhook", PUBLIC_URL=f"http://127.0.0.1:{balancer.port}")
        await rig.until(lambda: bool(rig.world.tg.bot.webhook.settings.url), 10.0, "the webhook is set")
        yield
    finally:
        await balancer.close()


async def to_polling(rig: Rig) -> None:
    """Rolled back; returns when somebody polls."""
    await roll(rig, BOT_MODE="polling")
    await rig.holder()
