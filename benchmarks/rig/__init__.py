"""What the benchmarks stand on.

`stage.py` simulators, stores and the processes under test · `replica.py`, `plain.py` and `locked.py` those processes ·
`memory.py` a store made of dicts · `crowd.py` the people · `lineup.py` turns · `report.py` tables, medians, the
machine.
"""
