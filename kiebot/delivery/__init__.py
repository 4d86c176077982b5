"""From a decision to a message: handlers and the engine write outbox rows, the courier sends them in order.

    outbox row (decided, committed) -> claim -> render -> Telegram -> sent | later | buried

A row is claimed by the job that wrote it, or by a `deliver` job, or after its owner's death by a sweeper; within a chat
only the oldest may be claimed. Sending happens at least once: a crash in the instant after a send may repeat a message,
never money. A generation's status card is one message with a wanted and a sent version, so that edits coalesce; it is
removed once the outcome stands in the chat.
"""
