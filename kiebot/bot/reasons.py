"""Why a work failed, in words a user can act on; pure.

The provider's own sentence is never shown: it may be a stack trace, and it is not in the user's language.
"""

from __future__ import annotations

from kiebot.texts import Translator, mark

_UNKNOWN = mark("❌ It did not work, and the maker did not say why. Trying again often helps.")
_SERVER = mark("❌ The maker's servers had a fault. Please try again a little later.")
_RESULT_LOST = mark("❌ It was made, but its file could not be fetched. Please try again.")
_INPUT = mark("❌ The maker did not accept these inputs. Change the text, the file or the settings, and try again.")

_REASONS = {
    "moderation": mark(
        "❌ The maker's content rules refused this text or picture. Change it; the same would be refused again."
    ),
    "input_fetch": mark("❌ One of your files could not be read any more. Send it again and start once more."),
    "longer": mark(
        "❌ Your file is longer than it said when I named the price, so nothing was made of it. "
        "Send it again as a video or audio message, or cut it."
    ),
    "unmeasured": mark(
        "❌ The price depends on how long your file is, and I could not measure it. Send it as MP4, MOV, MP3 or WAV."
    ),
    "input": _INPUT,
    "provider_refused": _INPUT,
    "server": _SERVER,
    "timeout": mark("❌ The maker took too long and gave up. Please try again."),
    "capacity": mark("❌ The maker has too much to do just now. Please try again a little later."),
    "empty_result": mark("❌ The maker returned nothing. Another wording may help."),
    "answer_lost": mark(
        "❌ The connection to the maker broke just as I handed your work over. "
        "I do not send it twice on my own; start it again if you like. If it still turns up, it is yours for free."
    ),
    "task_lost": mark("❌ The maker lost this work. Please try again."),
    "result_lost": _RESULT_LOST,
    "result_gone": _RESULT_LOST,
    "foreign_host": _RESULT_LOST,
    "not_media": _RESULT_LOST,
    "model_gone": mark("❌ This model is not on sale any more. Please take another."),
    "unknown_model": mark("❌ This model is not on sale any more. Please take another."),
    "expired": mark("❌ It could not be started in time. Please try again."),
    "given_up": mark("❌ It was stopped by the people who run this bot."),
    "cancelled": mark("Taken back."),
    "unknown": _UNKNOWN,
}


def reason(to: Translator, code: str) -> str:
    """The sentence for a fixed word of failure; unknown words get the honest general one."""
    return to.t(_REASONS.get(code, _UNKNOWN))
