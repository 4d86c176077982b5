"""What an invoice's payload says, signed: whoever holds the bot's token can check it without asking anybody; pure.

Telegram hands the payload back with the pre-checkout question and with the payment, and never shows it to the payer. An
invoice can be forwarded, kept for weeks, or made up: so it names its payer and its end, and is signed.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
from dataclasses import dataclass

from kiebot.payments.model import STARS_CURRENCY

VALID_S = 24 * 3600.0
MAX_BYTES = 128  # Telegram's limit of a payload
_VERSION = "k1"
_SHAPE = re.compile(
    rf"({_VERSION}\.([a-z]{{2}})\.(\d{{1,9}})\.(\d{{1,9}})\.(\d{{1,16}})\.(\d{{1,12}}))\.([A-Za-z0-9_-]{{22}})",
    re.ASCII,
)


@dataclass(frozen=True, slots=True)
class Invoice:
    """What was offered to whom: whole credits for whole Stars, until Unix second `until`."""

    credits: int
    stars: int
    user_id: int
    until: int
    language: str


def key_of(token: str) -> bytes:
    """The key of all replicas of a bot. Another token makes every invoice in the chats invalid: no Stars are lost."""
    return hmac.new(token.encode(), b"kiebot invoice", hashlib.sha256).digest()


def sign(invoice: Invoice, key: bytes) -> str:
    """The payload. Raises: ValueError, when it would not fit or not be read again: a bug."""
    facts = (_VERSION, invoice.language, invoice.credits, invoice.stars, invoice.user_id, invoice.until)
    text = ".".join(str(fact) for fact in facts)
    payload = f"{text}.{_mac(text, key)}"
    if len(payload) > MAX_BYTES or not _SHAPE.fullmatch(payload):
        raise ValueError(f"not an invoice: {invoice}")
    return payload


def read(payload: str, key: bytes) -> Invoice | None:
    """What we signed, expired or not; None for anything else."""
    found = _SHAPE.fullmatch(payload)
    if found is None:
        return None
    text, language, credits, stars, user_id, until, mac = found.groups()
    if not hmac.compare_digest(mac, _mac(text, key)):
        return None
    return Invoice(int(credits), int(stars), int(user_id), int(until), language)


def problem_of(invoice: Invoice | None, *, user_id: int, amount: int, currency: str) -> str:
    """What is wrong with paying this invoice so, in a fixed word; empty when nothing is. Its end is not looked at."""
    if invoice is None:
        return "unreadable"
    if invoice.user_id != user_id:
        return "other_user"
    if currency != STARS_CURRENCY or amount != invoice.stars:
        return "wrong_amount"
    return ""


def _mac(text: str, key: bytes) -> str:
    digest = hmac.new(key, text.encode(), hashlib.sha256).digest()[:16]
    return base64.urlsafe_b64encode(digest).rstrip(b"=").decode()
