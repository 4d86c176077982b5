"""Which kinds of updates a bot is given: sticky, one setting for all its clients."""

from kiebot.simulators.telegram.arguments import Arguments

UPDATE_KINDS = (
    "message",
    "edited_message",
    "channel_post",
    "edited_channel_post",
    "inline_query",
    "chosen_inline_result",
    "callback_query",
    "shipping_query",
    "pre_checkout_query",
    "poll",
    "poll_answer",
    "my_chat_member",
    "chat_member",
    "chat_join_request",
    "chat_boost",
    "removed_chat_boost",
    "message_reaction",
    "message_reaction_count",
    "business_connection",
    "business_message",
    "edited_business_message",
    "deleted_business_messages",
    "purchased_paid_media",
    "managed_bot",
    "guest_message",
)
_NOT_BY_DEFAULT = frozenset({"chat_member", "message_reaction", "message_reaction_count"})
_BY_NAME = {name.lower(): name for name in UPDATE_KINDS}


class Subscription:
    """The bot's `allowed_updates`. Takes effect for updates created from now on; survives a restart."""

    def __init__(self) -> None:
        self.names: list[str] | None = None
        """The list in force; None is the default, which getWebhookInfo does not report."""

    def allows(self, kind: str) -> bool:
        """Kinds unknown here always pass: a client must cope with them."""
        if self.names is None:
            return kind not in _NOT_BY_DEFAULT
        return kind in self.names or kind not in UPDATE_KINDS

    def take(self, arguments: Arguments) -> None:
        """Adopt a request's list. Anything but an array of strings leaves the setting as it is."""
        given = arguments.json("allowed_updates")
        if not isinstance(given, list) or not all(isinstance(name, str) for name in given):
            return
        names = {_BY_NAME[name.lower()] for name in given if name.lower() in _BY_NAME}
        self.names = [name for name in UPDATE_KINDS if name in names] or None
