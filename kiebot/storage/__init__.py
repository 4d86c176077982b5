"""Postgres, the truth. Tables, one transaction over all repositories, migrations.

`models` declares the tables; `engine` makes the pool; `transaction` opens one transaction and hands out the
repositories that write in it, then queues its wake-ups after the commit. Repositories speak the core's types; rows stay
in here.

A *claim* (on a lane, a generation, an outbox row, a card) names the incarnation of the replica that works on it. It
holds while that incarnation's heartbeat in `replicas` is fresh, so a dead replica's work is free again within seconds,
and no claim has to be renewed one by one. Whoever lost a claim is refused when it writes.
"""
