"""The screens of the menu: home, the shelves and their models. Texts and buttons only."""

from __future__ import annotations

from collections.abc import Sequence

from kiebot.bot.form_media import media_fields
from kiebot.bot.press import IN_PLACE
from kiebot.bot.session import Session
from kiebot.bot.unit import Unit
from kiebot.bot.words import credits, priced_title
from kiebot.delivery.ports import Button, Keyboard
from kiebot.generation.catalog import ModelKind, kinds, models_of
from kiebot.generation.product import Model

MODELS_PER_PAGE = 8
TOP_UP = "t1"
HOME, BALANCE, HISTORY, HELP, LANGUAGE, EXAMPLE = (
    "n1:home",
    "n1:balance",
    "h1:p:0",
    "n1:help",
    "n1:language",
    "n1:example",
)
SETTINGS = "n1:settings"
FORM = "n1:form"


async def show_home(unit: Unit, *, note: str = "", edit: int | None = None, is_first: bool = False) -> None:
    """The main menu. `note` stands before it."""
    balance = await unit.tx.ledger.balance(unit.user.id)
    welcome = unit.t("Hello, {name}! I make pictures, video and sound with the best models.", name=unit.user.first_name)
    parts = [
        note,
        welcome if is_first else "",
        unit.t("What shall we make? Choose below, or just send a text or a picture."),
        unit.t("You have {amount}.", amount=credits(unit.translator, balance.available)),
    ]
    unit.say("\n\n".join(filter(None, parts)), home_keyboard(unit, with_example=is_first), edit=edit)


def home_keyboard(unit: Unit, *, with_example: bool = False) -> Keyboard:
    example = ((unit.button(unit.t("✨ Show me an example"), EXAMPLE, IN_PLACE),),) if with_example else ()
    shelves = [kind_button(unit, kind, "k1") for kind in kinds()]
    return (
        *example,
        *pairs(shelves),
        (
            unit.button(unit.t("💳 Balance"), BALANCE, IN_PLACE),
            unit.button(unit.t("🗂 My works"), HISTORY, IN_PLACE),
        ),
        (
            unit.button(unit.t("❔ Help"), HELP, IN_PLACE),
            unit.button(unit.t("🌐 Language"), LANGUAGE, IN_PLACE),
        ),
        (unit.button(unit.t("⚙️ Settings"), SETTINGS, IN_PLACE),),
    )


def show_kinds(unit: Unit, *, edit: int | None = None) -> None:
    """Every shelf."""
    rows = pairs([kind_button(unit, kind, "k1") for kind in kinds()])
    unit.say(unit.t("What shall we make?"), (*rows, (home_button(unit),)), edit=edit)


def show_offer(unit: Unit, session: Session, *, edit: int | None = None, note: str = "", screen: int = 0) -> None:
    """The shelves that have a model for what the user sent before choosing one."""
    fitting = [kind for kind in kinds() if any(accepts(model, session) for model in models_of(kind.id))]
    rows = pairs([kind_button(unit, kind, "o1") for kind in fitting])
    said = unit.t("Got it. What shall I make of it?") if fitting else unit.t("None of my models takes this together.")
    keyboard: Keyboard = (*rows, (home_button(unit),))
    unit.say("\n\n".join(filter(None, (note, said))), keyboard, edit=edit, screen=screen or None)


async def show_models(
    unit: Unit, kind_id: str, page: int, *, only_for: Session | None = None, edit: int | None
) -> bool:
    """One page of a shelf, prices on the buttons; models that are off are left out. False: there is no such shelf."""
    kind = next((each for each in kinds() if each.id == kind_id), None)
    if kind is None:
        return False
    off = {each.model_id for each in await unit.tx.switches.off()}
    on_sale = [model for model in models_of(kind_id) if model.id not in off]
    found = [model for model in on_sale if only_for is None or accepts(model, only_for)]
    pages = max(1, -(-len(found) // MODELS_PER_PAGE))
    page = min(max(page, 0), pages - 1)
    shown = found[page * MODELS_PER_PAGE : (page + 1) * MODELS_PER_PAGE]
    prefix = "k1" if only_for is None else "o1"
    rows = [(_model_button(unit, model),) for model in shown]
    said = unit.t("{shelf}\nPrices in credits, for the cheapest choice.", shelf=_shelf_title(unit, kind))
    unit.say(said, (*rows, *_pager(unit, prefix, kind_id, page, pages), (_back_button(unit, prefix),)), edit=edit)
    return True


def accepts(model: Model, session: Session) -> bool:
    """Whether a model can use what was sent before it was chosen."""
    takes = {field.media for field in media_fields(model, {})}
    if session.files:
        return all(each.get("kind") in takes for each in session.files)
    return not session.prompt or model.prompt_field is not None


def kind_button(unit: Unit, kind: ModelKind, prefix: str) -> Button:
    return unit.button(_shelf_title(unit, kind), f"{prefix}:{kind.id}:0", IN_PLACE)


def home_button(unit: Unit) -> Button:
    return unit.button(unit.t("‹ Menu"), HOME, IN_PLACE)


def pairs(buttons: Sequence[Button]) -> Keyboard:
    return tuple(tuple(buttons[start : start + 2]) for start in range(0, len(buttons), 2))


def _model_button(unit: Unit, model: Model) -> Button:
    return unit.button(priced_title(unit.translator, model, unit.settings.markup), f"m1:{model.slug}", IN_PLACE)


def _back_button(unit: Unit, prefix: str) -> Button:
    return home_button(unit) if prefix == "k1" else unit.button(unit.t("‹ Back"), "o1", IN_PLACE)


def _pager(unit: Unit, prefix: str, kind_id: str, page: int, pages: int) -> Keyboard:
    row = []
    if page > 0:
        row.append(unit.button(unit.t("‹ Previous"), f"{prefix}:{kind_id}:{page - 1}", IN_PLACE))
    if page < pages - 1:
        row.append(unit.button(unit.t("More ›"), f"{prefix}:{kind_id}:{page + 1}", IN_PLACE))
    return (tuple(row),) if row else ()


def _shelf_title(unit: Unit, kind: ModelKind) -> str:
    return f"{kind.emoji} {kind.title_in(unit.language)}"
