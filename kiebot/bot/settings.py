"""What the bot is told at start."""

from __future__ import annotations

from dataclasses import dataclass, field
from decimal import Decimal

from kiebot.generation.tools import Limits
from kiebot.ledger.entries import Millicredits
from kiebot.payments.credit import Terms


@dataclass(frozen=True, slots=True)
class BotSettings:
    """The operator's choices, as far as users notice them. `support_contact`: whom to ask, as shown to users."""

    markup: Decimal
    bot_username: str
    payment_terms: Terms
    welcome_credits_millicredits: Millicredits = 0
    daily_credits_millicredits: Millicredits = 0
    support_contact: str | None = None
    content_filter: bool = True
    limits: Limits = field(default_factory=Limits)
