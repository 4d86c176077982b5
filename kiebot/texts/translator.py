"""From a message id and its facts to the sentence in one language."""

from __future__ import annotations

import gettext
from functools import cache
from importlib import resources

DOMAIN = "kiebot"
LANGUAGES = ("en", "ru")  # the first is the language of the message ids
_DECIMAL_MARKS = {"ru": ","}  # elsewhere a point


class Translator:
    """Sentences in one language. Raises: KeyError, when a sentence has a place that no fact fills: a bug."""

    def __init__(self, language: str, catalogue: gettext.NullTranslations) -> None:
        self.language = language
        self._catalogue = catalogue

    def t(self, msgid: str, /, **facts: object) -> str:
        """The sentence with its places filled. Without a translation the English one."""
        return self._catalogue.gettext(msgid).format_map(facts) if msgid else ""

    def n(self, singular: str, plural: str, count: int, /, **facts: object) -> str:
        """The form that goes with `count`, which also fills the place {count}."""
        return self._catalogue.ngettext(singular, plural, count).format_map({"count": count, **facts})


@cache
def translator(language: str) -> Translator:
    """The translator of a language; an unknown one gets English."""
    known = language if language in LANGUAGES else LANGUAGES[0]
    return Translator(known, _catalogue(known))


def language_of(code: str | None) -> str:
    """Which of our languages fits Telegram's code (IETF, such as "ru" or "pt-br")."""
    return "ru" if (code or "").lower().startswith("ru") else "en"


def decimal(language: str, number: str) -> str:
    """A number as people read it in this language: "0.8" is "0,8" in Russian. For eyes only, never for programs."""
    return number.replace(".", _DECIMAL_MARKS.get(language, "."))


def mark(msgid: str, /) -> str:
    """Names a sentence that is looked up later: in a table, for example. Extraction finds it here."""
    return msgid


def _catalogue(language: str) -> gettext.NullTranslations:
    if language == LANGUAGES[0]:
        return gettext.NullTranslations()
    path = resources.files("kiebot.texts").joinpath("locale", language, "LC_MESSAGES", f"{DOMAIN}.mo")
    with path.open("rb") as file:
        return gettext.GNUTranslations(file)
