"""The queue: wake-ups for rows, on arq's keys and job format, with a worker that survives what stock arq does not.

**A job is a knock, never the work.** It names a row and the row's revision; what is to be done, how often it failed
and whether it is done already stand in Postgres. So a job may be lost (a sweeper knocks again), may come late, may
run twice: time is all it costs. Nothing here is ever the only copy of anything.

How a job goes::

    Enqueuer ── one script: payload, queue entry, tokens on the bell ──> Redis
    Worker   <─ the bell wakes one idle worker; one script claims up to its free slots, each under a short lease
             ── renews all its leases in one call, three times per lease
             ── settles each job in one script: done, again later, or handed back

Files: `names.py` which jobs there are · `keys.py` their places in Redis · `pool.py` connections with deadlines and
the wire format · `enqueue.py` putting jobs in · `bell.py` waking an idle worker · `claims.py` the scripts by
which a worker takes, renews and settles jobs · `leases.py` the jobs it holds · `worker.py` running them · `outage.py`
Redis away, told once. `tasks.py` says what each job calls.

Rules that hold between them:

- *Ids.* `<prefix>:<job>:<row>:<revision>`. An id that waits or runs is not queued twice, so whoever changes a row and
  wants it looked at again raises its revision: then no wake-up is ever swallowed. arq's own key names are fixed, so
  it is the prefix in the id that lets several kiebots share one Redis.
- *Leases.* Seconds long. A replica that dies stops renewing and its jobs are free again when the lease ends. A lease
  names the worker that holds it and belongs to one queue entry (its score): a worker that slept through its lease can
  neither renew nor settle what another has taken over, and cancels its own run when it notices. Two runs of one job
  can overlap only between the end of a lease and that moment; the rows' own fences cover it.
- *Unknown jobs.* During a rolling deploy old and new versions share the queue. A worker claims only names it knows
  and leaves the rest untouched for newer replicas; what nobody knows expires after a day.
- *Failures.* `Transient` runs again later, at most `max_tries` times; any other exception is logged and the job
  dropped. The row still says it is open, so a sweeper brings it back, and the row counts the tries that bury it.
- *Redis away.* Enqueueing raises `Transient`. The worker logs one outage, backs off and goes on; jobs that end
  meanwhile are noted and settled when Redis is back.

arq's clients read and write the same queue: `ArqRedis.enqueue_job`, `Job.status`, `Job.info`, `Job.abort` and
`arq --check` work. Results are never kept, so `Job.result` has nothing to return.
"""
