"""The account's credits. Kept as whole thousandths, so that adding and taking never drifts."""

from collections import deque

from kiebot.simulators.clock import SimClock


class Purse:
    """A balance with a memory, because reads of it may lag behind.

    Amounts are millicredits (thousandths of a credit). `spent` counts debits less refunds, for the key's own cap.
    """

    def __init__(self, clock: SimClock, credits: float) -> None:
        self._clock = clock
        self.balance = round(credits * 1000)
        self.spent = 0
        self._history: deque[tuple[float, int]] = deque(maxlen=10_000)
        self._history.append((clock.monotonic(), self.balance))

    def take(self, amount: int) -> bool:
        """Debit; False and no change when the balance does not cover it."""
        if amount > self.balance:
            return False
        self._change(-amount)
        return True

    def give_back(self, amount: int) -> None:
        """Refund."""
        self._change(amount)

    def set_credits(self, credits: float) -> None:
        """Top up or empty the account to exactly that many credits."""
        self.balance = round(credits * 1000)
        self._history.append((self._clock.monotonic(), self.balance))

    def read(self, lag_s: float = 0.0) -> float:
        """The balance in credits as it stood `lag_s` seconds ago."""
        if lag_s <= 0:
            return as_credits(self.balance)
        then = self._clock.monotonic() - lag_s
        return as_credits(next((seen for at, seen in reversed(self._history) if at <= then), self._history[0][1]))

    def _change(self, amount: int) -> None:
        self.balance += amount
        self.spent -= amount
        self._history.append((self._clock.monotonic(), self.balance))


def as_credits(millicredits: int) -> float | int:
    """Credits as the service prints them: a whole number without a fraction."""
    credits, rest = divmod(millicredits, 1000)
    return millicredits / 1000 if rest else credits
