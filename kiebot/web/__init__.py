"""The only HTTP server of a replica. It answers the platform (health), Prometheus, Telegram and KIE.

app.py is the ASGI program; what lies behind it is injected, so it knows no store and no adapter. server.py runs it
inside the replica's event loop: no signals captured, a bounded stop, and limits against clients that hold on without
sending (guard.py).

Anyone on the internet may knock here. A webhook shows its secret before its body is read; bodies have a size and a time
limit; a KIE callback is only a hint, whose sender is judged by whoever is called.
"""
