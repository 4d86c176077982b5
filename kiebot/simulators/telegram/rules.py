"""Numbers that the hosted service does not promise, and switches, with the documented defaults."""

from dataclasses import dataclass, field

MESSAGE_METHODS = frozenset(
    {
        "sendmessage",
        "sendphoto",
        "sendvideo",
        "sendaudio",
        "senddocument",
        "sendanimation",
        "sendvoice",
        "sendmediagroup",
        "sendinvoice",
        "copymessage",
        "forwardmessage",
    }
)
"""Methods that put messages into a chat, in lower case."""


@dataclass(slots=True)
class FloodRules:
    """Flood limits, counted over all connections of a bot. Seconds and messages; a rate of 0 switches that limit off.

    `max_hold_s`: a request whose waits stay within it is answered late; one that would need more gets 429.
    `counted`: lower-case methods that use up the limits; edits, drafts and chat actions may count on the real service.
    """

    is_on: bool = True
    per_second: float = 30.0
    burst: int = 30
    chat_per_second: float = 1.0
    chat_burst: int = 3
    group_per_minute: float = 20.0
    paid_per_second: float = 1000.0
    max_hold_s: float = 8.0
    max_unsent_per_chat: int = 310
    counted: frozenset[str] = MESSAGE_METHODS
    spaces_same_size_uploads: bool = False


@dataclass(slots=True)
class Rules:
    """What is configurable beside the flood limits. Times are seconds, sizes bytes."""

    flood: FloodRules = field(default_factory=FloodRules)
    callback_deadline_s: float = 15.0
    callback_answers_once: bool = False
    pre_checkout_deadline_s: float = 10.0
    wake_quiet_s: float = 0.001
    wake_max_s: float = 0.002
    max_upload_bytes: int = 50 * 1024 * 1024
    max_photo_bytes: int = 10 * 1024 * 1024
    max_download_bytes: int = 20 * 1024 * 1024
    max_buttons: int = 100
    max_buttons_per_row: int = 8
    edit_without_markup_removes_keyboard: bool = True
    demotes_unknown_media: bool = True
    """A file that is not what its method says arrives as a document; a photo that is none is refused."""
    malformed_token_is_404: bool = False
    """As reported of the hosted front end; the server itself answers 401."""
    local_server: bool = False
    """As with --local: webhooks over plain HTTP, on any port and address; no download limit."""
    unresolvable_hosts: frozenset[str] = frozenset()
    login_s: float = 0.0
    """How long requests wait after a restart until the bot is logged in again."""
    keep_messages_per_chat: int | None = None
    max_stored_file_bytes: int = 512 * 1024 * 1024
