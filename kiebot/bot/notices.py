"""What operators are told without having asked; pure. Implements kiebot.generation.alarm.OperatorWords."""

from __future__ import annotations

from kiebot.admin.model import EVERYTHING
from kiebot.bot.words import line
from kiebot.delivery.ports import Say
from kiebot.generation.catalog import model_by_id
from kiebot.texts import translator

_MAX_WHY = 200


class Notices:
    def stopped(self, language: str, scope: str, why: str) -> Say:
        to = translator(language)
        if scope == EVERYTHING:
            what = to.t(
                "🚨 KIE makes nothing for this account. Works wait, nothing is lost. While one waits I try again by "
                "myself; you hear of the end with the first work that KIE takes."
            )
        else:
            what = to.t(
                "⚠️ KIE does not make {title} just now. Its works wait; you hear of the end with the first one "
                "that KIE takes.",
                title=_title(scope),
            )
        return Say(f"{what}\n{line(why, _MAX_WHY)}")

    def still_stopped(self, language: str, scope: str, why: str) -> Say:
        to = translator(language)
        if scope == EVERYTHING:
            what = to.t(
                "🚨 KIE still makes nothing for this account, for a quarter of an hour by now. Works wait, "
                "nothing is lost."
            )
        else:
            what = to.t(
                "⚠️ KIE still does not make {title}, for a quarter of an hour by now. Its works wait.",
                title=_title(scope),
            )
        return Say(f"{what}\n{line(why, _MAX_WHY)}")

    def works_again(self, language: str, scope: str) -> Say:
        to = translator(language)
        if scope == EVERYTHING:
            return Say(to.t("✅ KIE makes things again for this account."))
        return Say(to.t("✅ KIE makes {title} again.", title=_title(scope)))


def _title(model_id: str) -> str:
    model = model_by_id(model_id)
    return model.title if model else model_id
