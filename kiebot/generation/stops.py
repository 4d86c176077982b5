"""What holds creates back, cluster-wide: switches that an answer of the provider, or its silence, throws.

A switch of the provider's ends by itself, but not for all at once: whoever comes first after its end takes it again
for a moment and sends one create, the probe. Its success removes the switch; its failure begins another pause.

Three things throw one. The provider says that account or model are stopped. Several works, of one model or of several,
met faults with no success in between: the breaker. A probe failed.
"""

from __future__ import annotations

from collections.abc import Sequence

import structlog

from kiebot.admin.model import EVERYTHING
from kiebot.errors import AccountStopped, ModelPaused
from kiebot.generation.model import Generation
from kiebot.generation.tools import Tools
from kiebot.insist import insist
from kiebot.store import Tx

log = structlog.get_logger()

ACTOR = "provider"
MODEL_PAUSE_S = 300.0
BREAKER_WORKS = 5  # so many different works met trouble
BREAKER_WINDOW_S = 300.0  # within so long
BREAKER_PAUSE_S = 30.0
UNKNOWN_PAUSE_S = 120.0  # a probe without an answer may cost a work: less often
PROBE_S = 90.0  # longer than any create takes; then the worker of a probe counts as dead


async def switch_off(tools: Tools, model_id: str, error: AccountStopped | ModelPaused) -> None:
    """Account-wide or for one model, as the provider said. Insisted on: the others are to hear of it."""
    is_account = isinstance(error, AccountStopped)
    scope = EVERYTHING if is_account else model_id
    pause_s = error.retry_after_s if is_account else MODEL_PAUSE_S

    async def write() -> None:
        async with tools.store.transaction() as tx:
            await throw(tx, tools, scope, str(error), pause_s)

    await insist(write, tools.clock, what="provider.stopped")


async def throw(tx: Tx, tools: Tools, scope: str, reason: str, pause_s: float) -> None:
    """One switch, and a word to the operators when it is a new one. An operator's own stays as it is."""
    log.error("provider.stopped", scope=scope, reason=reason, for_s=pause_s)
    since = await tx.switches.switch_off(scope, reason, ACTOR, for_s=pause_s * tools.pace.scale)
    if since is not None and tools.operators is not None:
        await tools.operators.stopped(tx, scope, since, reason, now=tools.clock.now())


async def lift(tx: Tx, tools: Tools, probes: Sequence[str]) -> None:
    """The probe of these switches was a success."""
    for scope, since in await tx.switches.switch_on(probes):
        if tools.operators is not None:
            await tools.operators.works(tx, scope, since, now=tools.clock.now())


async def note_trouble(
    tx: Tx, tools: Tools, begun: Generation, probes: Sequence[str], reason: str, pause_s: float
) -> None:
    """A create met a fault of the provider's. One is enough for a probe; of others it takes several."""
    if begun.attempt_id is None:
        return
    trouble = await tx.switches.trouble(begun.attempt_id, window_s=BREAKER_WINDOW_S * tools.pace.scale)
    scopes = list(probes)
    if not scopes and trouble.works >= BREAKER_WORKS:
        scopes = [trouble.models[0] if len(trouble.models) == 1 else EVERYTHING]
    for scope in scopes:
        await throw(tx, tools, scope, f"breaker: {reason}", pause_s)
