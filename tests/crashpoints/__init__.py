"""The engine ends at any of its awaits, as by a power cut, and another replica goes on from the rows.

`points` lists the awaits and makes them checkpoints, in a process of its own (`doomed`). `stories` are what people do
and what happens to them, made of what `stage` offers; `run` plays one with a death in it, and `judge` says which
promises broke. `troupe` plays several at once. All points: `./dev soak crashpoints`.
"""
