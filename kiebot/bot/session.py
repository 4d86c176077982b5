"""What a user is choosing in a chat: the content of one row of drafts.

A screen belongs to exactly one version of the row; the stamp (version and the head of a random nonce) stands in its
buttons. The row is emptied but never deleted here: versions that began again would make an old button current.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from typing import Any

import msgspec

from kiebot.bot.form_state import FormState
from kiebot.store import Tx

_NONCE_BYTES = 8
_SHOWN_OF_NONCE = 4


class Session(msgspec.Struct, frozen=True, omit_defaults=True):
    """A user's desk. `prompt` and `files` wait for a model; `album` is the media group the last file came with.

    `shown`: the price on the button that buys, in millicredits; None while there is none. `is_done`: the form was
    bought as it is, and serves as the last settings; `bought` is the stamp of the screen whose button did it, `number`
    what it started.
    """

    form: FormState | None = None
    nonce: str = ""
    shown: int | None = None
    is_done: bool = False
    bought: str = ""
    number: int = 0
    prompt: str = ""
    files: list[dict[str, Any]] = []
    album: str = ""


@dataclass(frozen=True, slots=True)
class Kept:
    """A session as its row holds it. `message_id`: the message that shows it, once that is known."""

    session: Session
    version: int
    message_id: int | None

    @property
    def stamp(self) -> str:
        return f"{self.version}.{self.session.nonce[:_SHOWN_OF_NONCE]}"

    def confirm_key(self, user_id: int, chat_id: int) -> str:
        """Names the one purchase this screen can lead to."""
        return f"{user_id}:{chat_id}:{self.version}:{self.session.nonce}"


async def load(tx: Tx, user_id: int, chat_id: int) -> Kept:
    """The user's session; an empty one when there is none, or none that this version can read."""
    row = await tx.drafts.load(user_id, chat_id)
    if row is None:
        return Kept(Session(), 0, None)
    try:
        session = msgspec.convert(dict(row.state), Session)
    except msgspec.ValidationError:
        session = Session()
    return Kept(session, row.version, row.message_id)


async def save(tx: Tx, user_id: int, chat_id: int, session: Session, message_id: int | None) -> Kept:
    """Write it under a new version and a new nonce: every screen drawn before is stale from now on."""
    fresh = msgspec.structs.replace(session, nonce=secrets.token_hex(_NONCE_BYTES))
    version = await tx.drafts.save(user_id, chat_id, msgspec.to_builtins(fresh), message_id)
    return Kept(fresh, version, message_id)
