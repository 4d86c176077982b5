"""Every sentence a user reads, in their language. Pure: no user, no database, no Telegram in here.

The sentences stand in the code in English, as message ids; `t("You have {amount}.", amount=...)` looks one up and
fills its places, `n("{count} file", "{count} files", count)` picks the plural form of the language. English needs no
catalogue of its own. Values are put in as they are: messages go out as plain text, so nothing is escaped, and braces
in a user's own words stay braces.

locale/<language>/LC_MESSAGES/kiebot.po is the source a translator edits; kiebot.mo beside it is what is loaded, made
by `pybabel compile -d kiebot/texts/locale -D kiebot`. The tests name every sentence without a translation, every place
that differs between the two, and a .mo that is behind its .po.
"""

from kiebot.texts.translator import LANGUAGES, Translator, decimal, language_of, mark, translator

__all__ = ["LANGUAGES", "Translator", "decimal", "language_of", "mark", "translator"]
