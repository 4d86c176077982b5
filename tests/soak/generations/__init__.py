"""Generations under every failure KIE is known for, while replicas are killed: `./dev soak generations`.

    profiles.py   how a task may go, one line each: a mark in the prompt tells the simulator
    crowd.py      people who buy through Telegram: a prompt, the form, Create
    weather.py    what strikes everybody: kills, 429 storms, 402, 455, gateway trouble, KIE's other dialects
    aim.py        a kill aimed at the instant in which KIE answers
    evidence.py   what is known afterwards, as plain values · collect.py gathers it from simulators and rows
    promises.py   what must be true of it · table.py prints it
    run.py        one run from the first process to the verdicts · command.py the command
    replica.py    `kiebot run`, with a deliberate bug if asked: the promises must notice each

The arbiter is the KIE simulator: it knows which tasks it made and billed, for which attempt, and which answers nobody
received. What users saw is read from the simulated Telegram. The replicas are never asked.
"""
