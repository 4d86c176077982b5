"""What operators are told without having asked; pure. Implements kiebot.generation.alarm.OperatorWords."""

from __future__ import annotations

from kiebot.admin.model import EVERYTHING
from kiebot.bot.words import line
from kiebot.delivery.ports import Say
from kiebot.generation.catalog import model_by_id
from kiebot.texts import Translator, translator

_MAX_WHY = 200


class Notices:
    def stopped(self, language: str, scope: str, why: str, *, is_long: bool = False) -> Say:
        to = translator(language)
        what = _of_all(to, is_long=is_long) if scope == EVERYTHING else _of_one(to, _title(scope), is_long=is_long)
        return Say(f"{what}\n{line(why, _MAX_WHY)}")

    def works_again(self, language: str, scope: str) -> Say:
        to = translator(language)
        if scope == EVERYTHING:
            return Say(to.t("✅ KIE makes things again for this account."))
        return Say(to.t("✅ KIE makes {title} again.", title=_title(scope)))


def _of_all(to: Translator, *, is_long: bool) -> str:
    if is_long:
        return to.t(
            "🚨 KIE still makes nothing for this account, for a quarter of an hour by now. Works wait, nothing is lost."
        )
    return to.t(
        "🚨 KIE makes nothing for this account. Works wait, nothing is lost. While one waits I try again by "
        "myself; you hear of the end with the first work that KIE takes."
    )


def _of_one(to: Translator, title: str, *, is_long: bool) -> str:
    if is_long:
        return to.t("⚠️ KIE still does not make {title}, for a quarter of an hour by now. Its works wait.", title=title)
    return to.t(
        "⚠️ KIE does not make {title} just now. Its works wait; you hear of the end with the first one that KIE takes.",
        title=title,
    )


def _title(model_id: str) -> str:
    model = model_by_id(model_id)
    return model.title if model else model_id
