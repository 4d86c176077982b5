"""What the bot is told at start."""

from __future__ import annotations

from dataclasses import dataclass, field
from decimal import Decimal

from kiebot.admin.acts import Rules
from kiebot.generation.tools import Limits
from kiebot.ledger.entries import Millicredits
from kiebot.payments.credit import Terms


@dataclass(frozen=True, slots=True)
class BotSettings:
    """The operator's choices, as far as users notice them. `support_contact`: whom to ask, as shown to users.
    `admins`: who they are and what they may give away. `kie_credit_usd`: for their statistics only."""

    markup: Decimal
    bot_username: str
    payment_terms: Terms
    welcome_credits_millicredits: Millicredits = 0
    daily_credits_millicredits: Millicredits = 0
    support_contact: str | None = None
    content_filter: bool = True
    limits: Limits = field(default_factory=Limits)
    admins: Rules = field(default_factory=Rules)
    kie_credit_usd: Decimal = Decimal("0.005")
