"""Money: double entry in whole millicredits, appended and never changed.

A *posting* is one fact under one idempotency key; its entries sum to zero over `available` and `held` together. A
user's wallet has two purses: `available` (may be spent) and `held` (reserved for a generation). Contra accounts
(revenue, promotions, adjustments) only ever mirror what wallets gain or lose and may be negative.

    grant    promotions/adjustments  ->  wallet.available
    hold     wallet.available        ->  wallet.held          key hold:<generation>
    capture  wallet.held             ->  revenue (rest back)  key settle:<generation>
    void     wallet.held             ->  wallet.available     key settle:<generation>

Capture and void share one key, so a generation ends exactly once whatever races. `rules` builds postings and is pure;
the storage adapter applies one in the caller's transaction, refusing in SQL what a wallet cannot pay.
"""
