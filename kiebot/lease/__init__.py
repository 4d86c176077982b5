"""Who may poll: one lease, one holder, and a way to know when to stop.

Every replica runs a `Candidate` (candidate.py). It bids at a `LeaseStore` (protocol.py; one contract suite over all
adapters) until it is granted a **term**: a random token that stands in the store for a limited time. While it holds the
term it runs its work, which is the poller, and renews.

What keeps two holders apart, from the strongest to the weakest:

1. The fence, outside this package: the inbox in Postgres accepts a write only under the token of the present term. The
   lease saves work and quarrels; the fence and the inbox's key keep the data right, whatever happens here.
2. The local deadline (term.py): trust is counted from the moment a request was *sent*, ends before the store's own
   expiry does, and is measured on a clock that also counts time asleep. A watchdog that waits for nothing else cancels
   the work at that instant; the work asks `term.check()` around every act, so a process that was frozen notices first.
3. The store's answer: "not yours" ends the term at once and is never argued with.

How the next holder is found (candidate.py, watch.py):

- the doorbell: a holder that leaves gives the term back and rings; one standby wakes within milliseconds;
- the connection probe: a holder keeps a subscription open which the kernel closes when the process dies. It counts only
  when that subscription had been seen, or when a renewal is overdue as well;
- the standby's own clock: a term whose remaining time has not risen for 1.05 TTL is dead although the store may still
  show it (its host's clock may have been set back).

The last two *seize*: they replace a token judged dead, and only that token.

"Held by another" and "the store gave no answer" are different things. The first means wait; the second means nobody can
be sure, so nobody starts, and a holder goes on only until its deadline. There is no second store to fall back to.

A holder that cannot do its work *yields*: the work raises `StepDown`, or someone calls `Candidate.yield_lease`. It
gives the term back with the doorbell and rests before it bids again, so that a replica with a better view can lead.
"""
