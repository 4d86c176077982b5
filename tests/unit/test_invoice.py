"""Packages and the signed payload: pure."""

from __future__ import annotations

import dataclasses
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kiebot.payments import invoice
from kiebot.payments.invoice import MAX_BYTES, Invoice
from kiebot.payments.packages import MOST_STARS, SIZES, credits_for, package_of, packages

KEY = invoice.key_of("123:fake")
OFFER = Invoice(credits=100, stars=200, user_id=501, until=1_800_000_000, language="en")
invoices = st.builds(
    Invoice,
    credits=st.integers(1, 10**9 - 1),
    stars=st.integers(1, 10**9 - 1),
    user_id=st.integers(1, 10**16 - 1),
    until=st.integers(0, 10**12 - 1),
    language=st.sampled_from(["en", "ru"]),
)


@given(invoices)
def test_what_was_signed_is_read_again_and_fits_into_telegrams_limit(offer: Invoice) -> None:
    payload = invoice.sign(offer, KEY)
    assert len(payload.encode()) <= MAX_BYTES
    assert invoice.read(payload, KEY) == offer


@given(st.integers(0, 200), st.characters(codec="ascii"))
def test_no_change_of_one_character_is_read(place: int, other: str) -> None:
    payload = invoice.sign(OFFER, KEY)
    place %= len(payload)
    forged = payload[:place] + other + payload[place + 1 :]
    assert invoice.read(forged, KEY) == (OFFER if forged == payload else None)


@pytest.mark.parametrize("payload", ["", "k1", "k1.en.1.1.1.1.", "\n", invoice.sign(OFFER, KEY) + "\n"])
def test_anything_else_is_nothing(payload: str) -> None:
    assert invoice.read(payload, KEY) is None


def test_another_token_reads_nothing() -> None:
    assert invoice.read(invoice.sign(OFFER, KEY), invoice.key_of("124:fake")) is None


def test_what_would_not_be_read_again_is_not_signed() -> None:
    with pytest.raises(ValueError, match="not an invoice"):
        invoice.sign(dataclasses.replace(OFFER, credits=-1), KEY)


@pytest.mark.parametrize(
    ("user_id", "amount", "currency", "problem"),
    [
        (501, 200, "XTR", ""),
        (502, 200, "XTR", "other_user"),
        (501, 199, "XTR", "wrong_amount"),
        (501, 200, "USD", "wrong_amount"),
    ],
)
def test_every_fact_of_a_purchase_has_to_fit(user_id: int, amount: int, currency: str, problem: str) -> None:
    assert invoice.problem_of(OFFER, user_id=user_id, amount=amount, currency=currency) == problem
    assert invoice.problem_of(None, user_id=user_id, amount=amount, currency=currency) == "unreadable"


@given(st.decimals("0.0001", "100000", places=4))
def test_there_is_always_something_to_buy_and_nobody_pays_less_than_the_price(rate: Decimal) -> None:
    on_sale = packages(rate)
    assert on_sale
    assert all(each.stars >= 1 and each.stars >= each.credits * rate for each in on_sale)
    assert all(each.stars == 1 or each.stars - 1 < each.credits * rate for each in on_sale)
    assert all(each.stars <= MOST_STARS for each in on_sale[1:])
    assert [each.credits for each in on_sale] == list(SIZES)[: len(on_sale)]
    assert package_of(on_sale[0].credits, rate) == on_sale[0]
    assert package_of(51, rate) is None


@given(st.integers(1, 100_000), st.decimals("0.0001", "100000", places=4))
def test_stars_without_a_package_buy_no_more_than_they_are_worth_and_never_nothing(stars: int, rate: Decimal) -> None:
    bought = credits_for(stars, rate)
    assert bought >= 1
    assert bought == 1 or bought * rate <= stars * 1000
