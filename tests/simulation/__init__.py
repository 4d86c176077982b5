"""A deterministic simulation of election, intake and lanes: one seed, one run, and what must hold in all of them.

Three replicas run in one event loop on virtual time (`loop.py`), each with a clock that is up to 2 % wrong: the real
`Candidate`, `Poller`, `Drainer`, `Heartbeat` and `Sweeper.sweep`, wired as a replica wires them (`replica.py`). Around
them stand doubles that keep state: the lease store (`lease.py`, over the memory store), Telegram's queue with its
offsets and conflicts (`telegram.py`), the tables of the inbox (`postgres.py`) with row locks and commits
(`sessions.py`), reached by `database.py`, the queue of wake-ups (`queue.py`). Every call goes over a line (`line.py`).

**Faults** (`storm.py`). A replica is killed (no step of it runs again), leaves in order, or is stopped like a process
under SIGSTOP between any two of its steps; an ambush stops it between a check and its write, or between a write and
its answer. Lines are cut, slow, lose requests and answers, or deliver a request twice. The lease store forgets
everything, loses connections, has its clock set; the queue of wake-ups is emptied; inbox and Telegram are away. The
handler fails now and then.

**Safety, always.** No two replicas may act at once, unless the store took the lease from one of them before its time:
then at most for a TTL, and the fence makes it harmless. No write under an older fence is accepted. What Telegram has
been told to forget is stored. No update takes effect twice; updates of a lane take effect in the order received; no
two drains of a lane have an update in hand at once; epochs rise.

**Liveness, after the storm.** Within 40 virtual seconds exactly one replica acts and nothing waits; then, with nothing
failing, every update is handled by its own wake-up: a sweep that finds a lane is a lost wake-up.

**Mutants** (`mutants.py`) break one rule each and must be found within a stated number of seeds.

A run is repeated exactly by its seed: `./dev simulate --seed N`. Only tokens differ, which decide nothing.
"""
