"""The engine ends at any of its awaits, as by a power cut, and another replica goes on from the rows.

`points` lists the awaits and makes them checkpoints, in a process of its own; `stories` are what happens to a purchase;
`run` plays a story with a death in it and says which promises broke. All points: `./dev soak crashpoints`.
"""
