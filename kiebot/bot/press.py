"""What stands in a button's data: `body~stamp~owner`, 64 bytes at most; pure.

body: what to do, beginning with a versioned prefix that one handler owns ("f1:...", "k1:..."). stamp: which screen the
button belongs to: a draft's version and the head of its nonce, IN_PLACE for a page that may be replaced by the next
one, empty for a button whose message stays (a result, a receipt). owner: the only user who may press it, in base 36.
Anyone can send any data: nothing in it is believed except that the sender is who Telegram says.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from kiebot.delivery.ports import Button

MAX_BYTES = 64
IN_PLACE = "e"
_DIGITS = "0123456789abcdefghijklmnopqrstuvwxyz"
_SHAPE = re.compile(r"([a-z]\d[a-zA-Z0-9_:.-]*)~([a-z0-9.]*)~([0-9a-z]{1,11})", re.ASCII)


@dataclass(frozen=True, slots=True)
class Press:
    """A button's data, taken apart."""

    body: str
    stamp: str
    owner: int

    @property
    def arguments(self) -> list[str]:
        """What follows the prefix."""
        return self.body.split(":")[1:]


def button(label: str, body: str, owner: int, stamp: str = "") -> Button:
    """A button that only `owner` may press. Raises: ValueError, for data Telegram would refuse: a bug."""
    data = f"{body}~{stamp}~{_base36(owner)}"
    if len(data.encode()) > MAX_BYTES or not _SHAPE.fullmatch(data):
        raise ValueError(f"not a button's data: {data!r}")
    return Button(label, data)


def press_of(data: str | None) -> Press | None:
    """The press in callback data; None for what no button of ours holds."""
    found = _SHAPE.fullmatch(data or "")
    if found is None or len(data or "") > MAX_BYTES:
        return None
    body, stamp, owner = found.groups()
    return Press(body, stamp, int(owner, 36))


def _base36(number: int) -> str:
    digits = ""
    while number:
        number, rest = divmod(number, 36)
        digits = _DIGITS[rest] + digits
    return digits or "0"
