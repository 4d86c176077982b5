"""From facts to the sentences of status cards and outcomes, in the language of the order; pure.

Every text says what happened to the money. Buttons belong to who bought; those under an outcome leave its message as
it is, so the pressed one answers with a new message.
"""

from __future__ import annotations

from collections.abc import Mapping

from kiebot.bot.press import button
from kiebot.bot.reasons import reason
from kiebot.bot.screens import HISTORY, HOME, pairs
from kiebot.bot.settings import BotSettings
from kiebot.bot.words import about, ask_whom, credits
from kiebot.delivery.ports import Button, Keyboard, Say
from kiebot.delivery.results import ALBUM_MAX
from kiebot.generation.catalog import model_by_id
from kiebot.generation.model import Generation, State
from kiebot.ledger.entries import Millicredits
from kiebot.texts import Translator, translator

MAX_RESULT_TEXT = 3000
MAX_LINKS = 50  # as many as a result may have
UNTOLD_SETBACKS = 2  # so many tries may fail within seconds: a card that said so would only flicker


class BotRenderer:
    """Implements kiebot.delivery.ports.Renderer."""

    def __init__(self, settings: BotSettings) -> None:
        self._settings = settings

    def outcome(self, kind: str, generation: Generation, facts: dict[str, object]) -> Say:
        """`facts`: available and, for what was measured, charged (millicredits), reason, text, urls, resent;
        of a link, why: refused (by Telegram) or out_of_reach."""
        to = translator(generation.language)
        match kind:
            case "result":
                return _result(to, generation, facts)
            case "result_link":
                return _link(to, generation, facts)
            case "late_result":
                return _late(to, generation, facts)
        return _failed(to, generation, facts)

    def card(self, generation: Generation, facts: dict[str, object]) -> Say:
        """`facts`: ahead (waiting in front), is_off, eta_s or typical_s, elapsed_s; all may be missing."""
        to = translator(generation.language)
        reserved = to.t("{amount} reserved.", amount=credits(to, generation.quote.price_millicredits))
        text = f"{_title(to, generation)}\n{_phase(to, generation, facts)}\n\n{reserved}"
        if generation.state is not State.ACCEPTED:
            return Say(text)
        return Say(text, ((button(to.t("✖ Take back"), f"c1:{generation.number}", generation.user_id),),))

    def apology(self, language: str, error_id: str) -> Say:
        to = translator(language)
        sorry = to.t("Sorry, something of mine broke and I could not do this. Nothing was charged. Please try again.")
        quoted = to.t("If it happens again, quote {error_id}.", error_id=error_id)
        return Say(f"{sorry}\n\n{quoted}\n{ask_whom(to, self._settings.support_contact)}")

    def too_fast(self, language: str) -> Say:
        return Say(
            translator(language).t(
                "✋ That was too much at once: I have not read your last messages. Wait a little and send them again."
            )
        )

    def payment_apology(self, language: str, error_id: str) -> Say:
        """For a payment that could not be booked: the Stars were taken, so nothing else may be said."""
        to = translator(language)
        sorry = to.t("Your payment has arrived, but something of mine broke before the credits were added.")
        kept = to.t(
            "It is not lost: it is kept and will be booked. If it takes long, quote {error_id}.", error_id=error_id
        )
        return Say(f"{sorry} {kept}\n{ask_whom(to, self._settings.support_contact)}")


def _result(to: Translator, generation: Generation, facts: Mapping[str, object]) -> Say:
    links = _more_links(to, facts)
    more = to.t("Telegram takes {most} files at once; the others are behind the buttons.", most=ALBUM_MAX)
    parts = [_own_text(facts), _title(to, generation), more if links else "", _charged(to, generation, facts)]
    return Say("\n".join(filter(None, parts)), (*links, *_ways_on(to, generation)))


def _more_links(to: Translator, facts: Mapping[str, object]) -> Keyboard:
    more = facts.get("more_urls")
    urls = [str(url) for url in more][:MAX_LINKS] if isinstance(more, list) else []
    buttons = [Button(to.t("⬇️ File {number}", number=place), url=url) for place, url in enumerate(urls, ALBUM_MAX + 1)]
    return pairs(buttons)


def _link(to: Translator, generation: Generation, facts: Mapping[str, object]) -> Say:
    addresses = facts.get("urls")
    urls = [str(url) for url in addresses][:MAX_LINKS] if isinstance(addresses, list) else []
    links = tuple(
        (Button(to.t("⬇️ Open the file") if len(urls) == 1 else to.t("⬇️ File {number}", number=place), url=url),)
        for place, url in enumerate(urls, 1)
    )
    told = to.t("It is ready, but Telegram does not take the file. Download it soon: the link does not live for long.")
    if facts.get("why") == "out_of_reach":
        told = to.t(
            "It was made, but I could not fetch its file to send it here. "
            "Try this link soon: it does not live for long, and it may work when you open it yourself."
        )
    text = f"{_title(to, generation)}\n{told}\n{_charged(to, generation, facts)}"
    return Say(text, (*links, *_ways_on(to, generation)))


def _late(to: Translator, generation: Generation, facts: Mapping[str, object]) -> Say:
    told = to.t("This arrived late, after your credits had gone back. It is a gift and costs nothing.")
    parts = [_own_text(facts), _title(to, generation), told, _balance(to, facts)]
    return Say("\n".join(filter(None, parts)), (*_more_links(to, facts), *_ways_on(to, generation)))


def _failed(to: Translator, generation: Generation, facts: Mapping[str, object]) -> Say:
    back = to.t("Back to you: {amount}.", amount=credits(to, generation.quote.price_millicredits))
    why = reason(to, str(facts.get("reason") or generation.failure or "unknown"))
    text = f"{_title(to, generation)}\n{why}\n\n{back} {_balance(to, facts)}"
    return Say(text, _ways_on(to, generation))


def _phase(to: Translator, generation: Generation, facts: Mapping[str, object]) -> str:
    usual = _seconds(facts, "eta_s") or _seconds(facts, "typical_s") or _expected(generation)
    match generation.state:
        case State.ACCEPTED:
            return _waiting(to, generation, facts, usual)
        case State.SUBMITTING:
            return to.t("⏳ Handing it to the maker…")
        case State.UNKNOWN:
            return to.t("🤔 The maker's answer was lost. I am waiting a little; without it your credits come back.")
    return _running(to, facts, usual)


def _waiting(to: Translator, generation: Generation, facts: Mapping[str, object], usual_s: float) -> str:
    if facts.get("is_off"):
        return to.t(
            "⏸ It waits: this is not being made just now. You can take it back; nothing is charged for waiting."
        )
    if generation.setbacks > UNTOLD_SETBACKS or generation.busies:  # no promise of a time: it may take hours
        return to.t(
            "⏳ The maker has trouble and has not taken it yet. I keep trying; you can take it back, "
            "nothing is charged for waiting."
        )
    ahead = facts.get("ahead")
    time = to.t("Usually done in about {time}.", time=about(to, usual_s))
    if isinstance(ahead, int) and ahead > 0:
        queue = to.n(
            "⏳ In the queue, {count} work before yours.", "⏳ In the queue, {count} works before yours.", ahead
        )
        return f"{queue} {time}"
    first = to.t("⏳ Next in the queue.")
    return f"{first} {time}"


def _running(to: Translator, facts: Mapping[str, object], usual_s: float) -> str:
    elapsed_s = _seconds(facts, "elapsed_s")
    if elapsed_s > 2 * usual_s:
        return to.t("🎨 Being made. It takes longer than usual; it is still on its way.")
    return to.t("🎨 Being made. Usually about {time}.", time=about(to, usual_s))


def _charged(to: Translator, generation: Generation, facts: Mapping[str, object]) -> str:
    if facts.get("resent"):
        return to.t("Sent once more, without a charge.")
    charged = facts.get("charged")
    if isinstance(charged, int):
        paid = to.t("Charged: {amount}.", amount=credits(to, charged))
    elif generation.quote.is_maximum:
        paid = to.t("Charged: {amount} at most.", amount=credits(to, generation.quote.price_millicredits))
    else:
        paid = to.t("Charged: {amount}.", amount=credits(to, generation.quote.price_millicredits))
    return f"{paid} {_balance(to, facts)}"


def _balance(to: Translator, facts: Mapping[str, object]) -> str:
    available = facts.get("available")
    if not isinstance(available, int):
        return ""
    amount: Millicredits = available
    return to.t("You have {amount}.", amount=credits(to, amount))


def _own_text(facts: Mapping[str, object]) -> str:
    """A result that is itself a text."""
    text = str(facts.get("text") or "")
    return text if len(text) <= MAX_RESULT_TEXT else f"{text[:MAX_RESULT_TEXT]}…"


def _title(to: Translator, generation: Generation) -> str:
    model = model_by_id(generation.model_id)
    title = model.title if model else generation.model_id
    return to.t("{title} · No. {number}", title=title, number=generation.number)


def _ways_on(to: Translator, generation: Generation) -> Keyboard:
    owner = generation.user_id
    again = button(to.t("🔁 Make another"), f"a1:{generation.number}", owner)
    works, menu = button(to.t("🗂 My works"), HISTORY, owner), button(to.t("‹ Menu"), HOME, owner)
    return ((again,), (works, menu))


def _seconds(facts: Mapping[str, object], name: str) -> float:
    value = facts.get(name)
    return float(value) if isinstance(value, int | float) else 0.0


def _expected(generation: Generation) -> float:
    model = model_by_id(generation.model_id)
    return float(model.expected_seconds) if model else 60.0
