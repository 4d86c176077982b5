"""How Telegram's updates come in: fetched by one poller, recorded behind a fence, drained by everyone.

A replica that holds the lease runs `Poller.run(term)` (poller.py). It takes the **fence** first: the row in Postgres
that names the present term. From then on the inbox refuses whatever an earlier term still tries to write, so two
pollers, however they came about, cannot harm each other: one writes, the other is told `Fenced` and stops.

Then, again and again: fetch, record, queue, and only then move the offset. The order is the promise. Telegram forgets
an update when it is asked for a later one, so it is asked only after the batch is committed; a crash at any point means
a batch is seen twice, and the inbox's key (bot, update id) makes the second time nothing. Redis takes part only in the
queueing, which a sweeper repeats from Postgres; it may be emptied at any instant.

The offset lives in memory only and starts at 0, "whatever you still hold". A stored one would be a trap: Telegram's ids
restart at random after a quiet week, and an offset above the new ids deletes updates nobody has seen.

The long poll's slot belongs to the newest request, and the *older* one is ended with a 409. So a 409 while we hold the
lease means that somebody else polls: the lease is asked; still ours means go on, counted, and loudly when it happens
often, because then a stranger uses the token. It never ends the process.

Pre-checkout queries cannot wait for a queue: Telegram cancels the purchase after ten seconds. They are answered beside
the loop (checkout.py) the moment they are fetched, and recorded like any other update.

A long queue at Telegram is a rush (rush.py): the replica that polls takes few jobs until it is taken in.

ports.py says what intake needs of the world; the adapters are in botapi, storage and jobs.
"""
