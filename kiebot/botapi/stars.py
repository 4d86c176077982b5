"""Telegram Stars: the answer to a pre-checkout question, refunds, and the bot's list of transactions."""

from __future__ import annotations

from collections.abc import AsyncIterator

from telegram import Bot, StarTransaction, TransactionPartnerUser
from telegram.error import BadRequest

from kiebot.botapi.errors import asking, description, sending
from kiebot.payments.credit import Terms, stars_payment
from kiebot.payments.model import STARS, STARS_CURRENCY, Payment, StatementLine

_REFUNDED_BEFORE = "charge_already_refunded"
_PAGE = 100  # Telegram's most
_ANSWER_S = 2.0  # then it is asked again: the payer has ten seconds in all


class TelegramStars:
    """Implements kiebot.payments.ports: PaymentProvider and Verdicts."""

    def __init__(self, bot: Bot, terms: Terms) -> None:
        self._bot = bot
        self._terms = terms

    @property
    def name(self) -> str:
        return STARS

    async def answer(self, query_id: str, refusal: str | None) -> None:
        with sending("answerPreCheckoutQuery"):
            await self._bot.answer_pre_checkout_query(
                query_id,
                ok=refusal is None,
                error_message=refusal,
                read_timeout=_ANSWER_S,
                connect_timeout=_ANSWER_S,
                pool_timeout=_ANSWER_S,
            )

    async def pay_back(self, user_id: int, charge_id: str) -> None:
        with sending("refundStarPayment"):
            try:
                await self._bot.refund_star_payment(user_id, charge_id)
            except BadRequest as error:
                if _REFUNDED_BEFORE not in description(error):
                    raise

    async def statement(self) -> AsyncIterator[StatementLine]:
        """Payments of invoices and their refunds; gifts, withdrawals and the like are passed over."""
        offset = 0
        while True:
            page = await self._page(offset)
            for transaction in page:
                line = _line(transaction)
                if line is not None:
                    yield line
            if len(page) < _PAGE:
                return
            offset += len(page)

    def payment_of(self, line: StatementLine, language: str) -> Payment:
        return stars_payment(
            self._terms,
            charge_id=line.charge_id,
            user_id=line.user_id,
            amount=line.amount,
            currency=STARS_CURRENCY,
            payload=line.payload,
            language=language,
        )

    async def _page(self, offset: int) -> tuple[StarTransaction, ...]:
        with asking("getStarTransactions"):
            return tuple((await self._bot.get_star_transactions(offset=offset, limit=_PAGE)).transactions)


def _line(transaction: StarTransaction) -> StatementLine | None:
    partner = transaction.source or transaction.receiver
    if not isinstance(partner, TransactionPartnerUser) or partner.transaction_type != "invoice_payment":
        return None
    return StatementLine(
        charge_id=transaction.id,
        user_id=partner.user.id,
        amount=transaction.amount,
        payload=partner.invoice_payload or "",
        at=transaction.date,
        is_refund=transaction.source is None,
    )
