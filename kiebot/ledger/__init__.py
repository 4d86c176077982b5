"""Money: double entry in whole millicredits, appended and never changed.

A *posting* is one fact under one idempotency key; its entries sum to zero over `available` and `held` together. A
user's wallet has two purses: `available` (may be spent) and `held` (reserved for a generation). Contra accounts
(revenue, promotions, adjustments, a payment provider's, refunds, receivable) only ever mirror what wallets gain or lose
and may be negative.

    grant    promotions/adjustments  ->  wallet.available
    hold     wallet.available        ->  wallet.held          key hold:<generation>
    capture  wallet.held             ->  revenue (rest back)  key settle:<generation>
    void     wallet.held             ->  wallet.available     key settle:<generation>
    top_up   provider                ->  wallet.available     key topup:<provider>:<charge>

A refund takes back what a top-up gave, as far as the wallet still has it; the rest is owed to the house:

    set_aside    wallet.available      ->  refunds     key refund-hold:<refund>   before the provider is asked
    refund       refunds + receivable  ->  provider    key refund:<refund>        it paid back
    refund_void  refunds               ->  wallet      key refund:<refund>        it will not

Capture and void share one key, so a generation ends exactly once whatever races. `rules` builds postings and is pure;
the storage adapter applies one in the caller's transaction, refusing in SQL what a wallet cannot pay.
"""
