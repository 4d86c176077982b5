from __future__ import annotations

import ast
import io
import re
import string
from collections.abc import Iterator
from pathlib import Path

import pytest
from babel.messages.catalog import Catalog
from babel.messages.extract import extract_from_dir
from babel.messages.mofile import write_mo
from babel.messages.pofile import read_po

import kiebot
from kiebot.bot.form_texts import ONE_CREDIT, message_ids
from kiebot.texts import LANGUAGES, decimal, language_of, translator

PACKAGE = Path(kiebot.__file__).parent
KEYWORDS = {"t": None, "n": (1, 2), "mark": None}
OTHERS = LANGUAGES[1:]
Msgid = str | tuple[str, str]


def po_of(language: str) -> Path:
    return PACKAGE / "texts" / "locale" / language / "LC_MESSAGES" / "kiebot.po"


def catalogue(language: str) -> Catalog:
    with po_of(language).open("rb") as file:
        return read_po(file, locale=language, domain="kiebot")


def used() -> set[Msgid]:
    found = extract_from_dir(PACKAGE / "bot", method_map=[("**.py", "python")], keywords=KEYWORDS)
    return {message if isinstance(message, str) else (message[0], message[1]) for _, _, message, _, _ in found}


def wanted() -> set[Msgid]:
    return used() | message_ids()


def places(text: str) -> set[str]:
    return {name for _, name, _, _ in string.Formatter().parse(text) if name is not None}


def literals() -> Iterator[str]:
    """The first argument of every call by one of the names, also where Babel does not look."""
    for path in sorted((PACKAGE / "bot").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and node.args and _name(node.func) in KEYWORDS:
                first = node.args[0]
                if isinstance(first, ast.Constant) and isinstance(first.value, str):
                    yield first.value


def _name(func: ast.expr) -> str:
    return func.attr if isinstance(func, ast.Attribute) else getattr(func, "id", "")


def test_every_sentence_of_the_bot_is_found_by_extraction() -> None:
    known = {message if isinstance(message, str) else message[0] for message in used()}
    assert set(literals()) - known == set()


@pytest.mark.parametrize("language", OTHERS)
def test_every_sentence_is_translated_and_nothing_else_is(language: str) -> None:
    there = {m.id if isinstance(m.id, str) else (m.id[0], m.id[1]) for m in catalogue(language) if m.id}
    assert wanted() - there == set(), "sentences without an entry"
    assert there - wanted() == set(), "entries nobody uses"


@pytest.mark.parametrize("language", OTHERS)
def test_every_translation_is_final_and_has_the_places_of_its_original(language: str) -> None:
    for message in catalogue(language):
        if not message.id:
            continue
        ids = [message.id] if isinstance(message.id, str) else list(message.id)
        strings = [message.string] if isinstance(message.string, str) else list(message.string or ())
        assert not message.fuzzy, ids
        assert all(strings), f"not translated: {ids}"
        assert all(places(text) == places(ids[-1]) for text in strings), ids
        assert len(ids) == 1 or len(strings) == catalogue(language).num_plurals, ids


@pytest.mark.parametrize("language", OTHERS)
def test_the_compiled_catalogue_is_that_of_its_source(language: str) -> None:
    fresh = io.BytesIO()
    write_mo(fresh, catalogue(language))
    assert po_of(language).with_suffix(".mo").read_bytes() == fresh.getvalue()


@pytest.mark.parametrize(
    ("count", "russian", "english"),
    [
        (0, "0 кредитов", "0 credits"),
        (1, "1 кредит", "1 credit"),
        (2, "2 кредита", "2 credits"),
        (5, "5 кредитов", "5 credits"),
        (11, "11 кредитов", "11 credits"),
        (21, "21 кредит", "21 credits"),
        (112, "112 кредитов", "112 credits"),
    ],
)
def test_numbers_take_the_plural_of_their_language(count: int, russian: str, english: str) -> None:
    assert translator("ru").n("{count} credit", "{count} credits", count) == russian
    assert translator("en").n("{count} credit", "{count} credits", count) == english


@pytest.mark.parametrize(("language", "said"), [("en", "-12.5"), ("ru", "-12,5"), ("de", "-12.5")])
def test_a_number_takes_the_decimal_mark_of_its_language(language: str, said: str) -> None:
    assert decimal(language, "-12.5") == said


def test_no_sentence_has_a_verb_or_a_noun_that_would_have_to_agree_with_an_amount() -> None:
    amount = r"\{(?:amount|available|cost|credits|held|left|limit|margin|missing|price|spent|stars)\}"
    agrees = re.compile(amount + r"(?: more)?(?: of [^.:;{]*?)? (?:is|are|was|were|has|have|leaves?|credits?)\b")
    single = {message for message in wanted() if isinstance(message, str)} - {"{amount} credits"}
    spoken = single - {each for pair in ONE_CREDIT.items() for each in pair}
    assert [each for each in spoken if agrees.search(each)] == []


def test_braces_in_a_users_own_words_stay_braces() -> None:
    said = translator("ru").t("{field}: {value}", field="Промпт", value="{count} {0} 100%s")
    assert said == "Промпт: {count} {0} 100%s"


def test_a_place_without_a_fact_is_an_error_not_a_hole() -> None:
    with pytest.raises(KeyError):
        translator("ru").t("You have {amount}.")


@pytest.mark.parametrize(
    ("code", "language"), [("ru", "ru"), ("ru-RU", "ru"), ("RU", "ru"), ("en", "en"), ("de", "en"), (None, "en")]
)
def test_telegrams_language_code_becomes_one_of_ours(code: str | None, language: str) -> None:
    assert language_of(code) == language
    assert translator(code or "").language in LANGUAGES
