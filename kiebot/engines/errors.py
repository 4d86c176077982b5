"""The one error of this package: a sentence for people that says what is wrong and what fixes it."""


class EngineError(RuntimeError):
    """The embedded engines cannot serve. The message names the fix and holds no secret."""
