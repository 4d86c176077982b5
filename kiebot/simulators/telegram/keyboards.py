"""Reply markup: parsed, checked against the limits, and split into what a message shows and what it does not."""

from dataclasses import dataclass
from typing import Any

import msgspec

from kiebot.simulators.telegram.answers import Json, refuse
from kiebot.simulators.telegram.arguments import Arguments
from kiebot.simulators.telegram.rules import Rules

MAX_CALLBACK_DATA_BYTES = 64
_ACTIONS = frozenset(
    {
        "url",
        "callback_data",
        "web_app",
        "login_url",
        "switch_inline_query",
        "switch_inline_query_current_chat",
        "switch_inline_query_chosen_chat",
        "copy_text",
        "callback_game",
        "pay",
    }
)


@dataclass(frozen=True, slots=True)
class ReplyMarkup:
    """`inline` is echoed in messages; `reply` (a keyboard of texts) only changes what the user sees."""

    inline: Json | None = None
    reply: Json | None = None
    removes_reply: bool = False


def read_markup(arguments: Arguments, rules: Rules) -> ReplyMarkup:
    """Raises: ApiError, for markup that is malformed or over a limit."""
    raw = arguments.text("reply_markup")
    if not raw:
        return ReplyMarkup()
    try:
        markup = msgspec.json.decode(raw)
    except msgspec.DecodeError:
        refuse("can't parse reply keyboard markup JSON object")
    if not isinstance(markup, dict):
        refuse("object expected as reply markup")
    if "inline_keyboard" in markup:
        rows = _rows(markup["inline_keyboard"], "inline_keyboard")
        _check_size(rows, rules)
        kept = [[_inline_button(button) for button in row] for row in rows if row]
        return ReplyMarkup(inline={"inline_keyboard": kept} if kept else None)
    if "keyboard" in markup:
        _rows(markup["keyboard"], "keyboard")
        return ReplyMarkup(reply=markup)
    return ReplyMarkup(removes_reply=markup.get("remove_keyboard") is True)


def _rows(value: object, name: str) -> list[list[Any]]:
    if not isinstance(value, list):
        refuse(f'field "{name}" must be of the type Array')
    if not all(isinstance(row, list) for row in value):
        refuse(f'field "{name}" must be an Array of Arrays')
    return value


def _check_size(rows: list[list[Any]], rules: Rules) -> None:
    too_wide = any(len(row) > rules.max_buttons_per_row for row in rows)
    if too_wide or sum(map(len, rows)) > rules.max_buttons:
        refuse("reply markup is too long")


def _inline_button(button: object) -> Json:
    if not isinstance(button, dict):
        refuse("can't parse inline keyboard button: InlineKeyboardButton must be an Object")
    text = button.get("text")
    if not isinstance(text, str) or not text:
        refuse("inline keyboard button text must be non-empty")
    if not _ACTIONS & button.keys() or button.get("callback_data") == "":
        refuse("can't parse inline keyboard button: Text buttons are unallowed in the inline keyboard")
    data = button.get("callback_data")
    if data is not None and len(str(data).encode()) > MAX_CALLBACK_DATA_BYTES:
        refuse("BUTTON_DATA_INVALID")
    return button
