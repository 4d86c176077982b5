"""Fault tests with real processes: `./dev chaos`, and the same rig under `./dev bench failover`.

    rig.py      replicas, stores, simulators, and doors between them · door.py, stores.py, crowd.py its parts
    opening.py  sets it up
    network.py  where replicas live: on loopback, or each in a namespace (namespaces.py) · entering.py finds out whether
                that is permitted, and enters · packets.py shows what a cut line drops
    blows.py    what strikes a holder, and how long until another one polls
    history.py  what must be true of every stretch of a run: nothing lost or doubled, no stale write, terms in order
    matrix.py   the table of rows, and how one is run · rows_*.py a row each: a function that produces a fault and says
                what it saw
    refusals.py ways in which a Redis that runs refuses · wrong_clock.c a wall clock that is wrong
    mutants.py  deliberate bugs, and the row that must find each · __main__.py the command

Nothing here believes a replica: the simulators saw every request, a trigger in the inbox saw every writer, and the rows
are what is left. In namespaces the kernel drops the packets of a replica that is cut off. Doors are user-space proxies,
one set per replica. They aim at one statement, and stand in where namespaces are not permitted: a silent one keeps its
connections and passes nothing, which is what a partition looks like from both ends.
"""
