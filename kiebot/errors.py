"""What went wrong, told as what the caller does next.

KiebotError
├─ Transient         nothing happened: again, no sooner than `retry_after_s`
│  ├─ RateLimited    the other side asked to wait; never counts as a try
│  ├─ AccountStopped every call of this kind will fail until an operator acts: pause the queue, alert, probe slowly
│  └─ ModelPaused    every call for this one model will fail for now: pause the model, probe slowly
├─ OutcomeUnknown    it may have happened: ask before repeating
├─ Permanent         it will never work as it is: void and tell, or bury
│  └─ Moderated      the provider refused the content: say so kindly, never send it again unchanged
├─ Refused           the user may not, or not now: `code` and `facts` become a sentence in their language
├─ Fenced            another term has taken over: stop acting at once, write nothing more
├─ IllegalTransition an event that the present state cannot answer: a bug
└─ KeyReused         the same idempotency key with other facts: a bug, never a retry
"""

from __future__ import annotations


class KiebotError(Exception):
    """Base of every error kiebot raises on purpose. Texts never hold a token, a key or a URL that does."""


class Transient(KiebotError):
    """Nothing happened. Try again, no sooner than `retry_after_s` seconds from now."""

    def __init__(self, message: str, *, retry_after_s: float = 0.0) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class RateLimited(Transient):
    """The other side asked us to slow down. Waiting is free: it never counts as a try."""


class AccountStopped(Transient):
    """The whole provider account cannot work (key refused, credits gone, cap reached). Pause, tell operators."""

    def __init__(self, message: str, *, reason: str, retry_after_s: float = 60.0) -> None:
        super().__init__(message, retry_after_s=retry_after_s)
        self.reason = reason


class ModelPaused(Transient):
    """One model cannot work for now (maintenance, switched off). Pause that model only."""


class OutcomeUnknown(KiebotError):
    """The request may have taken effect. Ask, wait or adopt; never repeat it blindly."""


class Permanent(KiebotError):
    """It will never work as it is. Void and tell the user, or bury. `code` names the reason in a fixed word."""

    def __init__(self, message: str, *, code: str = "provider_refused") -> None:
        super().__init__(message)
        self.code = code


class Moderated(Permanent):
    """The provider's content rules refused prompt or media. Never send the same content again."""

    def __init__(self, message: str) -> None:
        super().__init__(message, code="moderation")


class Refused(KiebotError):
    """The user may not do this, or not now. `code` is a fixed word, `facts` fill its sentence for them."""

    def __init__(self, code: str, **facts: object) -> None:
        super().__init__(code)
        self.code = code
        self.facts = facts


class Fenced(KiebotError):
    """Another term has taken the fence. The caller stops acting under its own term at once."""


class IllegalTransition(KiebotError):
    """An event reached a state that has no answer to it: a bug in the caller."""


class KeyReused(KiebotError):
    """One idempotency key, two different facts: a bug, never a retry."""
