"""What the speed of kiebot is measured by: each benchmark prints a ratio against a baseline run beside it.

    python -m benchmarks [NAME | all] [--rounds 5]

- `tap`: from a user's tap to the answer, at 20 and 50 taps a second over many chats.
- `updates`: a backlog of updates that waits at Telegram, until each of them is answered.
- `lanes`: the way to the handler alone: durable updates a second on a backlog, and how soon each is begun.
- `idle`: what a replica costs that has nothing to do: processor, memory, questions to the stores.
- `handovers`: two hundred changes of the leader among twenty candidates (five minutes).
- `sending`: the share of Telegram's thirty messages a second that 1, 2 and 4 senders reach together, and their 429s.
- `holds`: the one statement of a hold through the repository, against bare asyncpg.
- `engine`: the promises about generations, each with a verdict (a quarter of an hour): `creates`, how much of KIE's
  creates 1, 2 and 4 replicas reach together and in whose order; `resume`, how soon a killed replica's generations go
  on; `running`, what a generation costs that is under way at KIE; and `holds` and `sending`.
- `flood`: what others notice while one person sends a thousand updates a second.
- `queue`: the job queue alone, no-op jobs (also `python benchmarks/job_queue.py`).
- `intake`: 100,000 updates wait at Telegram: how soon they are safe, in what memory, and whether each is answered once
  (a quarter of an hour; not part of all).
- `failover`: how long nobody polls when the one who polls is struck, and what is lost (`failover.py`; not part of all).

Everything is real but Telegram and KIE, which are simulators in this process; replicas are processes of their own on
fresh embedded engines with fsync. Compared are, on the same simulator with the same people:

- **kiebot** with one and two replicas;
- **plain**: python-telegram-bot alone, one process, the very same handlers, all state in dicts (`rig/plain.py`). It
  forgets everything when it ends and cannot have a second process: its speed is what durability is paid from;
- **locked**: the plain bot in several processes, one of which polls, by the usual lock in Redis (`rig/locked.py`);
- **arq**: kiebot's replica with arq's own `Worker` in the place of ours (`rig/replica.py`);
- for `creates` a fixed share of the quota per process, for `running` a long job per generation (`rig/watchers.py`).

But for `sending` and `flood`, send limits are switched off on both sides, else at most thirty messages a second would
be measured: Telegram's number.
The simulator answers within a millisecond or two, which flatters the plain bot: it handles one update at a time, so
that against the real service each call it makes holds up everybody else's answer.

Machines are noisy: all variants stand side by side and are measured in turns, a ratio is taken within each round, and
what is printed is the median of the rounds with their range.
"""
