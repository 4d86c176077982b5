"""What takes minutes, and is not part of the default tests: `./dev soak NAME`.

    ledger        a random walk over the real ledger against a dictionary, all invariants after every step
    crashpoints   the process ends at every await of the engine in turn, and another replica goes on
    generations   a thousand of them under every failure of KIE's, while replicas are killed
    limiter       python-telegram-bot's own tests of a rate limiter, fetched from the package index, against ours

Each brings its own Postgres and Valkey, prints what it covered, and ends with status 1 when a promise broke.
"""
