"""What payments need of the world."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Protocol

from kiebot.delivery.ports import Say
from kiebot.ledger.entries import Millicredits
from kiebot.payments.model import Payment, Refund, StatementLine


class PaymentProvider(Protocol):
    """Who takes the money, and gives it back. `name` stands in payments and in the ledger.

    Raises: Transient, RateLimited (nothing happened), OutcomeUnknown (it may have), Permanent (it never will).
    """

    @property
    def name(self) -> str: ...

    async def pay_back(self, user_id: int, charge_id: str) -> None:
        """All of one charge. One that was paid back before is a success, so that asking again is harmless."""
        ...

    def statement(self) -> AsyncIterator[StatementLine]:
        """Every payment and refund in the provider's books, oldest first."""
        ...

    def payment_of(self, line: StatementLine, language: str) -> Payment:
        """What a payment in its books bought. `language`: of the receipt, when the line does not say."""
        ...


class Verdicts(Protocol):
    """Answers a pre-checkout question. Raises what PaymentProvider raises; Permanent: it was too late."""

    async def answer(self, query_id: str, refusal: str | None) -> None:
        """Yes, or no with a sentence for the payer."""
        ...


class Words(Protocol):
    """Sentences to the payer, in the payment's language. Implemented by the bot; pure."""

    def credited(self, payment: Payment, available: Millicredits) -> Say: ...
    def refunded(self, payment: Payment, refund: Refund, available: Millicredits) -> Say: ...
    def checkout_refusal(self, problem: str, language: str) -> str:
        """`problem`: unreadable, other_user, wrong_amount, expired. `language`: any code of Telegram's."""
        ...
