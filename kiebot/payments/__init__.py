"""Paying: what can be bought, what an invoice says, and what becomes of a payment and of a refund.

    /topup -> package -> invoice (its payload signed) -> the courier sends it
    pre-checkout -> checked by the replica that received it, without Postgres -> yes, or no in words
    successful payment -> credit(): row, posting and receipt in the transaction of its update, once per charge id
    refund -> row + credits set aside -> the provider is asked, with no transaction open -> booked | credits returned

Money that was taken is never turned away: a payment whose invoice cannot be read is credited to whoever paid, by the
amount paid, with an alarm; only a charge id that comes back with other facts is put aside. What a refund finds spent is
owed (account `receivable`); wallets never go below zero.

A refund may be cut off anywhere: its row is open until the provider's answer is written, a sweeper finds it, and asking
again is harmless, because a charge that was refunded before says so. A refund made elsewhere arrives as a message and
is booked in the same way.

packages.py and invoice.py are pure. PaymentProvider (ports.py) is what another way to pay would implement: it refunds,
and lists what it has; ledger, rows and texts know it by its name only.
"""
