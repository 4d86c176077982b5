"""Telegram's Bot API as adapters of intake, delivery and generation, on python-telegram-bot's HTTP machinery.

    connection     the one way to a bot: time-outs, the replica's name, the token kept out of logs
    request        HTTP answers -> exceptions that say whether the request can have had an effect
    errors         those exceptions -> what the caller does next (kiebot.errors and the ports' own)
    source         getUpdates, each update's JSON untouched        updates: which lane, urgent or not
    messenger      sending, editing, albums                        files: what users sent, as a stream
    ratelimit      one send budget for all replicas, in Redis      buckets: its arithmetic, and the share without Redis
    setup          webhook or polling, verified; the command menu
    stars          pre-checkout answers, refunds, transactions

Telegram has no idempotency key, acts on requests whose sender has left, and waits up to eight seconds inside a request
before it admits to a flood limit. So time-outs are long, and a lost answer is never reported as "nothing happened".

`Bot.initialize()` is never called: it costs a getMe, and names the token in its exception. The bot works without it.
"""
