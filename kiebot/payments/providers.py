"""Every way to pay that this replica knows, by the name that stands in payments, refunds and the ledger."""

from __future__ import annotations

from collections.abc import Iterator

from kiebot.errors import Transient
from kiebot.payments.ports import PaymentProvider

UNKNOWN_RETRY_S = 60.0


class Providers:
    def __init__(self, *providers: PaymentProvider) -> None:
        self._by_name = {provider.name: provider for provider in providers}

    def __iter__(self) -> Iterator[PaymentProvider]:
        return iter(self._by_name.values())

    def named(self, name: str) -> PaymentProvider:
        """Raises: Transient, for one that is not set up here: nobody else may be asked in its place, and the row waits
        for a replica that knows it."""
        provider = self._by_name.get(name)
        if provider is None:
            raise Transient(f"no payment provider {name} here", retry_after_s=UNKNOWN_RETRY_S)
        return provider
