"""Both outside services as their clients see them, Telegram's Bot API and KIE.ai: strict where those are strict.

They serve the demo, compose, the tests and the chaos runs, so a fake that forgives what the real service punishes would
hide exactly the faults it is here to find. Nothing here imports the rest of kiebot: a shared misunderstanding would
never show.

- `telegram` an ASGI program: queue, long polls, webhooks, sending, Stars, flood limits, a journal of each request
- `users`    scripted people who write, press buttons, pay and block, and who see what the bot sent them
- `kie`      an ASGI program: tasks, prices, callbacks, uploads, result files
- `clock`    real, scaled or manual time: 3 s, 150 s and 24 h rules can be tested in milliseconds
- `server`   either program on a loopback port, inside a running event loop
"""
