"""arq's face of a replica: `arq workers.settings` starts the same process as `kiebot run`.

arq's command always builds its own stock worker from these names. Its `on_startup` hosts the replica and is awaited
until that has stopped, so the stock worker never looks at the queue; the pool it is given touches nothing.
Importing this connects to nothing; `redis_settings` is for `arq --check` only.
"""

from __future__ import annotations

from typing import Any

from kiebot.jobs.pool import deserialize, serialize
from workers.host import IdlePool, check_address, host_replica, queue


async def never_run(_: dict[Any, Any]) -> None:
    """arq wants at least one function. Jobs are run by the replica inside `on_startup`."""
    raise RuntimeError("the stock worker must not run jobs")


async def on_startup(_: dict[Any, Any]) -> None:
    """Run the replica until SIGTERM; a second one leaves at once. Status 78 when the configuration is wrong."""
    await host_replica()


functions = [never_run]
queue_name = queue()
health_check_key = f"{queue_name}:health-check"
redis_settings = check_address()
redis_pool = IdlePool()
job_serializer = serialize
job_deserializer = deserialize


class WorkerSettings:
    """The same, for `arq workers.settings.WorkerSettings`."""

    functions = functions
    queue_name = queue_name
    health_check_key = health_check_key
    redis_settings = redis_settings
    redis_pool = redis_pool
    job_serializer = staticmethod(serialize)
    job_deserializer = staticmethod(deserialize)
    on_startup = staticmethod(on_startup)
