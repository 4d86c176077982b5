"""What operators see of a replica: log lines and metrics. Imports nothing else of kiebot.

Every line, of whatever library, goes one way: logger -> root -> one handler -> redaction -> outlet. Redaction works on
the finished text (redaction.py), so that it makes no difference whether a secret came in a message, an argument, an
exception or a traceback. The outlet (outlet.py) writes from a thread of its own: a reader that stops reading costs log
lines, never the event loop, on which a lease may depend.

Every metric has its name, unit and meaning in metrics.py; docs/metrics.md is made from there. Labels take only words of
fixed sets: never a user, a chat, a generation or a task.
"""
