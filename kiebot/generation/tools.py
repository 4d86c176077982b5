"""What the engine works with, given to it once by the composition root."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from uuid import UUID

from kiebot.clock import Clock
from kiebot.generation.alarm import Operators
from kiebot.generation.pace import Pace
from kiebot.generation.ports import Budget, Provider, Results, UserFiles
from kiebot.ledger.entries import Millicredits
from kiebot.store import Store


@dataclass(frozen=True, slots=True)
class Limits:
    """What one user may have at once. At `running` a generation waits in accepted, at `open` it is refused.

    spend_per_user, spend_per_day: what one user and all together may hold and pay in a day (UTC); 0 is no limit.
    """

    running: int = 3
    open: int = 20
    spend_per_user: Millicredits = 0
    spend_per_day: Millicredits = 0


@dataclass(frozen=True, slots=True)
class Tools:
    """What the engine works with. `callback_url`: attempt id -> address, None without a public URL."""

    store: Store
    provider: Provider
    results: Results
    files: UserFiles
    create_budget: Budget
    poll_budget: Budget
    clock: Clock
    owner: UUID  # this incarnation, for claims
    callback_url: Callable[[UUID], str] | None = None
    limits: Limits = field(default_factory=Limits)
    pace: Pace = field(default_factory=Pace)
    content_filter: bool = True
    operators: Operators | None = None
