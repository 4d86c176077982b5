"""What can be bought, and the way between Stars and credits; pure. Rounding favours the house, by less than a Star."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import ROUND_CEILING, ROUND_FLOOR, Decimal

from kiebot.ledger.entries import Millicredits

SIZES = (50, 100, 250, 500, 1000, 2500)  # credits
MOST_STARS = 10_000  # of one invoice


@dataclass(frozen=True, slots=True)
class Package:
    """Whole credits for whole Stars."""

    credits: int
    stars: int

    @property
    def millicredits(self) -> Millicredits:
        return self.credits * 1000


def packages(stars_per_credit: Decimal) -> tuple[Package, ...]:
    """Everything on sale, smallest first; never nothing."""
    every = tuple(Package(size, _stars(size, stars_per_credit)) for size in SIZES)
    return tuple(each for each in every if each.stars <= MOST_STARS) or every[:1]


def package_of(credits: int, stars_per_credit: Decimal) -> Package | None:
    """The package of that many credits; None when there is none any more."""
    return next((each for each in packages(stars_per_credit) if each.credits == credits), None)


def credits_for(stars: int, stars_per_credit: Decimal) -> Millicredits:
    """What Stars buy without a package: at least the smallest amount there is, for money was taken."""
    exact = Decimal(stars) * 1000 / stars_per_credit
    return max(1, int(exact.to_integral_value(ROUND_FLOOR)))


def _stars(credits: int, stars_per_credit: Decimal) -> int:
    return max(1, int((credits * stars_per_credit).to_integral_value(ROUND_CEILING)))
