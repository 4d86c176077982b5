"""Sentences about payments and refunds; pure."""

from __future__ import annotations

from kiebot.bot.press import button
from kiebot.bot.screens import FORM, HOME
from kiebot.bot.words import credits
from kiebot.delivery.ports import Keyboard, Say
from kiebot.ledger.entries import Millicredits
from kiebot.payments.model import Payment, Refund
from kiebot.texts import Translator, language_of, mark, translator

_REFUSALS = {
    "other_user": mark("This invoice was made for somebody else. No Stars were taken. Send /topup for your own."),
    "wrong_amount": mark("This invoice and its price do not fit. No Stars were taken. Send /topup for a new one."),
}
_OUT_OF_DATE = mark("This invoice is out of date. No Stars were taken. Send /topup for a new one.")


class Receipts:
    """Implements kiebot.payments.ports.Words."""

    def credited(self, payment: Payment, available: Millicredits) -> Say:
        to = translator(payment.language)
        thanks = to.t(
            "Thank you! ⭐ {stars} paid, {amount} added. You have {available}.",
            stars=payment.amount,
            amount=credits(to, payment.credits),
            available=credits(to, available),
        )
        why = to.t("Its invoice could not be used, so I counted by the Stars you paid.") if payment.problem else ""
        go_on = (button(to.t("▶️ Go on"), FORM, payment.user_id),)  # to what the credits were bought for
        return Say("\n\n".join(filter(None, (thanks, why))), (go_on, *_menu(to, payment.user_id)))

    def refunded(self, payment: Payment, refund: Refund, available: Millicredits) -> Say:
        to = translator(payment.language)
        owed = refund.amount - refund.taken
        parts = [
            to.t("⭐ {stars} went back to you.", stars=payment.amount),
            to.t("Taken out of your credits: {amount}.", amount=credits(to, refund.taken)),
            to.t("Spent already of what they had bought: {amount}.", amount=credits(to, owed)) if owed else "",
            to.t("You have {amount}.", amount=credits(to, available)),
        ]
        return Say(" ".join(filter(None, parts)), _menu(to, payment.user_id))

    def checkout_refusal(self, problem: str, language: str) -> str:
        return translator(language_of(language)).t(_REFUSALS.get(problem, _OUT_OF_DATE))


def _menu(to: Translator, user_id: int) -> Keyboard:
    return ((button(to.t("‹ Menu"), HOME, user_id),),)
