"""The demo: a whole cluster on simulators, struck by every misfortune it promises to survive, and an audit at the end.

    run.py        engines, simulators, replicas as real processes; the order of a run
    scenario.py   a dozen people: what they write, which buttons they press, what they wait for
    faults.py     the schedule of blows: kills, a roll, a frozen leader, an emptied Redis, lost answers
    aim.py        how a blow is aimed at a write that is under way
    evidence.py   what is known afterwards, as plain values · collect.py gathers it from journals and rows
    audit.py      the promises, each a pure question to the evidence
    show.py       the live view and the final table · feed.py reads the replicas' logs
    mutants.py    six deliberate bugs, and a table of who notices them · mutant_replica.py runs a replica with one

Nothing here is believed because the replicas say so: the simulators saw every request, and the rows are what is left.
"""
