"""What a form shows: text parts and rows of buttons, for the state as it stands; pure.

The main screen holds what is worth choosing, one tap each where two or three values take turns; long lists open a
screen of their own with pages; advanced fields wait behind "more options". The price stands on the button that buys.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from kiebot.bot import form_texts as texts
from kiebot.bot.form import asked, missing
from kiebot.bot.form_answers import as_text
from kiebot.bot.form_state import OFF, ON, Action, FormState, Verb, View, opened
from kiebot.bot.form_texts import Text, ask_text, problem_text
from kiebot.bot.words import plain
from kiebot.generation.checks import Problem, validate
from kiebot.generation.fields import Choice, FieldKind, InputField
from kiebot.generation.pricing import Quote
from kiebot.generation.product import Model, is_active, value_of

CHOICES_PER_PAGE = 24
FIELDS_PER_PAGE = 12
TAKE_TURNS = 3  # so many values change places with every tap instead of opening a screen
SHOWN_CHARS = 700
_EMPTY = "—"
_LISTS_OF_PARTS = (FieldKind.DIALOGUE, FieldKind.SHOTS, FieldKind.SUBJECTS)


@dataclass(frozen=True, slots=True)
class Button:
    """`label` is a Text to translate, or a plain string to show as it is."""

    label: Text | str
    action: Action


@dataclass(frozen=True, slots=True)
class Screen:
    """One message: parts joined by empty lines, and its keyboard. `asks` names the field the next message answers."""

    parts: tuple[Text | str, ...]
    rows: tuple[tuple[Button, ...], ...]
    asks: str | None = None


def screen(
    model: Model,
    state: FormState,
    language: str,
    price: Quote | Problem | None = None,
    *,
    problems: Sequence[Problem] = (),
    content_filter: bool = True,
) -> Screen:
    """The screen of a draft. `price` as price_of gives it; `problems` of the last step are shown first."""
    wanted = asked(model, state)
    view = _View(model, state, language, content_filter)
    field = opened(model, state)
    parts = view.field_parts(field) if field else view.main_parts(price)
    rows = view.field_rows(field) if field else view.main_rows(price)
    said: list[Text | str] = []
    for part in (*(problem_text(model, problem, language) for problem in problems), *parts):
        if part not in said:
            said.append(part)
    return Screen(tuple(said), tuple(rows), wanted.name if wanted else None)


@dataclass(frozen=True, slots=True)
class _View:
    model: Model
    state: FormState
    language: str
    content_filter: bool

    def main_parts(self, price: Quote | Problem | None) -> list[Text | str]:
        parts: list[Text | str] = [f"{self.model.title}\n{self.model.summary_in(self.language)}"]
        parts += [self._detail(each) for each in self._fields() if self._is_told(each)]
        parts += self._open_ends(price)
        return parts

    def main_rows(self, price: Quote | Problem | None) -> Iterator[tuple[Button, ...]]:
        advanced = self.state.view is View.MORE
        shown = [each for each in self._fields() if each.advanced is advanced and each.kind is not FieldKind.PROMPT]
        if advanced:
            yield from self._more_rows(shown)
            return
        yield from _pairs([self._field_button(each) for each in shown])
        if any(each.advanced for each in self._fields()):
            yield (Button(Text(texts.MORE), self._do(Verb.MORE)),)
        if isinstance(price, Quote) and not self._problems():
            yield (self._create(price),)
        yield Button(Text(texts.BACK), self._do(Verb.LEAVE)), Button(Text(texts.CANCEL), self._do(Verb.CANCEL))

    def _more_rows(self, shown: Sequence[InputField]) -> Iterator[tuple[Button, ...]]:
        page, pages = _page(self.state.page, len(shown), FIELDS_PER_PAGE)
        yield from _pairs([self._field_button(each) for each in _slice(shown, page, FIELDS_PER_PAGE)])
        yield from self._pager(page, pages, lambda number: self._do(Verb.MORE, number=number))
        yield (Button(Text(texts.BACK), self._do(Verb.HOME)),)

    def field_parts(self, field: InputField) -> list[Text | str]:
        parts: list[Text | str] = [self._detail(field)] if self._is_set(field) else []
        parts.append(ask_text(field, self.language))
        if field.hint and self.language == "en":
            parts.append(field.hint)
        if field.kind is FieldKind.DIALOGUE:
            parts.append(Text(texts.VOICES, {"names": ", ".join(choice.label for choice in field.choices)}))
        if field.kind in (FieldKind.INTEGER, FieldKind.NUMBER) and field.minimum is not None:
            parts.append(Text(texts.RANGE, {"minimum": str(field.minimum), "maximum": str(field.maximum)}))
        return parts + [problem_text(self.model, p, self.language) for p in self._problems() if field.name in p.fields]

    def field_rows(self, field: InputField) -> Iterator[tuple[Button, ...]]:
        if field.kind is FieldKind.CHOICE:
            yield from self._choice_rows(field)
        if field.kind is FieldKind.FLAG:
            yield (self._flag(field),)
        if field.kind is FieldKind.MEDIA_LIST or field.kind in _LISTS_OF_PARTS:
            yield from self._remove_rows(field)
        if field.name in self.state.inputs:
            yield (Button(Text(texts.CLEAR), self._on(Verb.CLEAR, field)),)
        yield (Button(Text(texts.BACK), self._do(Verb.MORE if field.advanced else Verb.HOME)),)

    def _fields(self) -> list[InputField]:
        """What a user may see: hidden fields, inactive ones and a filter the operator has on are not among them."""
        return [
            each
            for each in self.model.inputs
            if not each.hidden
            and is_active(self.model, each, self.state.inputs)
            and not (self.content_filter and each.filtered is not None)
        ]

    def _problems(self) -> list[Problem]:
        return validate(self.model, self.state.inputs, content_filter=self.content_filter)

    def _open_ends(self, price: Quote | Problem | None) -> list[Text | str]:
        """What is wrong, then what to send next; when nothing is, how to go on."""
        wrong = [problem for problem in self._problems() if problem.code != "missing"]
        wrong += [price] if isinstance(price, Problem) else []
        said: list[Text | str] = [problem_text(self.model, problem, self.language) for problem in wrong]
        wanted = missing(self.model, self.state)
        if wanted:
            known = [_price_text(price, self.language)] if isinstance(price, Quote) else []
            return [*said, *known, ask_text(wanted[0], self.language)]
        if isinstance(price, Quote) and price.is_maximum:
            said.append(_priced(texts.AT_MOST, price, self.language))
        return said if wrong else [*said, Text(texts.READY)]

    def _is_set(self, field: InputField) -> bool:
        return bool(self.state.inputs.get(field.name))

    def _is_told(self, field: InputField) -> bool:
        """Texts stand in the message; everything else is on its button."""
        return self._is_set(field) and field.kind not in (FieldKind.FLAG, FieldKind.CHOICE) and not field.kind.is_media

    def _detail(self, field: InputField) -> Text:
        return Text(texts.DETAIL, {"field": field.title_in(self.language), "value": self._shown(field)})

    def _shown(self, field: InputField) -> str:
        value = value_of(self.model, self.state.inputs, field.name)
        if value is None:
            return _EMPTY
        if field.kind is FieldKind.CHOICE:
            choice = field.choice_of(value)
            return choice.label_in(self.language) if choice else str(value)
        if field.kind.is_media:
            return str(len(value) if isinstance(value, list) else 1)
        text = as_text(field, value)
        return text if len(text) <= SHOWN_CHARS else f"{text[:SHOWN_CHARS]}…"

    def _field_button(self, field: InputField) -> Button:
        if field.kind is FieldKind.FLAG:
            return self._flag(field)
        if field.kind.is_media or field.kind in _LISTS_OF_PARTS:
            return Button(self._counted(field), self._on(Verb.EDIT, field))
        label = Text(texts.OPTION, {"field": field.title_in(self.language), "value": _short(self._shown(field))})
        return Button(label, self._turn(field) or self._on(Verb.EDIT, field))

    def _counted(self, field: InputField) -> Text:
        held = self.state.inputs.get(field.name)
        count = len(held) if isinstance(held, list) else int(held is not None)
        if field.max_items == 1:
            return Text(texts.OPTION, {"field": field.title_in(self.language), "value": "✓" if count else _EMPTY})
        params: dict[str, Any] = {"field": field.title_in(self.language), "count": count}
        if field.max_items is None:
            return Text(texts.FILES_OPEN, params)
        return Text(texts.FILES, params | {"limit": field.max_items})

    def _turn(self, field: InputField) -> Action | None:
        """The next of two or three values, so that one tap is enough; None for longer lists and for fields of text."""
        choices = self._choices(field)
        if field.kind is not FieldKind.CHOICE or len(choices) > TAKE_TURNS or len(choices) < 2:
            return None
        value = value_of(self.model, self.state.inputs, field.name)
        current = next((i for i, choice in enumerate(choices) if choice.value == value), -1)
        following = choices[(current + 1) % len(choices)]
        if current == len(choices) - 1 and field.default is None:
            return self._on(Verb.CLEAR, field)
        return self._on(Verb.SET, field, following.key)

    def _choices(self, field: InputField) -> list[Choice]:
        return [choice for choice in field.choices if not (choice.explicit and self.content_filter)]

    def _flag(self, field: InputField) -> Button:
        is_on = bool(value_of(self.model, self.state.inputs, field.name))
        label = Text(texts.OPTION_ON if is_on else texts.OPTION_OFF, {"field": field.title_in(self.language)})
        return Button(label, self._on(Verb.SET, field, OFF if is_on else ON))

    def _choice_rows(self, field: InputField) -> Iterator[tuple[Button, ...]]:
        choices = self._choices(field)
        page, pages = _page(self.state.page, len(choices), CHOICES_PER_PAGE)
        value = value_of(self.model, self.state.inputs, field.name)
        buttons = [self._choice(field, choice, value) for choice in _slice(choices, page, CHOICES_PER_PAGE)]
        widest = max((len(str(button.label)) for button in buttons), default=1)
        yield from _grid(buttons, 4 if widest <= 8 else 3 if widest <= 12 else 2)
        yield from self._pager(page, pages, lambda number: self._on(Verb.EDIT, field, number=number))

    def _choice(self, field: InputField, choice: Choice, value: Any) -> Button:
        label = choice.label_in(self.language)
        is_current = choice.value == value and type(choice.value) is type(value)
        return Button(f"✓ {label}" if is_current else label, self._on(Verb.SET, field, choice.key))

    def _remove_rows(self, field: InputField) -> Iterator[tuple[Button, ...]]:
        count = len(self.state.inputs.get(field.name) or ())
        buttons = [
            Button(Text(texts.REMOVE, {"number": place + 1}), self._on(Verb.REMOVE, field, number=place))
            for place in range(count)
        ]
        yield from _grid(buttons[:40], 5)

    def _pager(self, page: int, pages: int, to: Any) -> Iterator[tuple[Button, ...]]:
        row = []
        if page > 0:
            row.append(Button(Text(texts.PREVIOUS_PAGE), to(page - 1)))
        if page < pages - 1:
            row.append(Button(Text(texts.NEXT_PAGE), to(page + 1)))
        if row:
            yield tuple(row)

    def _create(self, price: Quote) -> Button:
        msgid = texts.CREATE_AT_MOST if price.is_maximum else texts.CREATE
        return Button(_priced(msgid, price, self.language), self._do(Verb.CONFIRM))

    def _do(self, verb: Verb, number: int = 0) -> Action:
        return Action(verb, self.model.slug, number=number)

    def _on(self, verb: Verb, field: InputField, choice: str = "", number: int = 0) -> Action:
        return Action(verb, self.model.slug, field.key, choice, number)


def _price_text(price: Quote, language: str) -> Text:
    msgid = texts.PRICE_AT_MOST if price.is_maximum else texts.PRICE
    return _priced(msgid, price, language)


def _priced(msgid: str, price: Quote, language: str) -> Text:
    """Prices are rarely whole, so a plural form cannot count them: exactly one credit has a sentence of its own."""
    said = texts.ONE_CREDIT[msgid] if price.price_millicredits == 1000 else msgid
    return Text(said, {"credits": plain(language, price.price_millicredits)})


def _short(text: str, limit: int = 24) -> str:
    line = " ".join(text.split())
    return line if len(line) <= limit else f"{line[:limit]}…"


def _page(page: int, count: int, per_page: int) -> tuple[int, int]:
    pages = max(1, -(-count // per_page))
    return min(page, pages - 1), pages


def _slice(items: Sequence[Any], page: int, per_page: int) -> Sequence[Any]:
    return items[page * per_page : (page + 1) * per_page]


def _grid(buttons: Sequence[Button], width: int) -> Iterator[tuple[Button, ...]]:
    yield from (tuple(buttons[i : i + width]) for i in range(0, len(buttons), width))


def _pairs(buttons: Sequence[Button]) -> Iterator[tuple[Button, ...]]:
    yield from _grid(buttons, 2)
