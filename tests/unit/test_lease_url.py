"""LEASE_URL as the settings take it."""

from __future__ import annotations

import pytest

from kiebot.settings_checks import lease_url


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ("redis://cache:6379/0", "redis://cache:6379/0"),
        ("rediss://cache", "rediss://cache"),
        ("unix:///run/valkey.sock", "unix:///run/valkey.sock"),
        ("postgres://user:p%40ss@db/kiebot", "postgresql://user:p%40ss@db/kiebot"),
        ("postgresql+asyncpg://db/kiebot", "postgresql://db/kiebot"),
        ("file:///var/lib/kiebot/lease", "file:///var/lib/kiebot/lease"),
    ],
)
def test_every_kind_of_store_is_taken_in_its_one_spelling(given: str, kept: str) -> None:
    assert lease_url(given) == kept


@pytest.mark.parametrize(
    "text",
    ["http://canary", "canary", "file://canary/x", "file:canary", "postgresql://u:can#ary@db", "sqlite:///canary"],
)
def test_anything_else_is_refused_and_never_repeated(text: str) -> None:
    with pytest.raises(ValueError) as refused:
        lease_url(text)
    assert "canary" not in str(refused.value)
