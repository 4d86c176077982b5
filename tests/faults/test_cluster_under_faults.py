"""`up` while the system itself is short of something."""

from __future__ import annotations

import asyncio
from pathlib import Path

from kiebot.cluster import Cluster, Member


async def test_a_replica_that_could_not_be_started_once_is_tried_again(tmp_path: Path) -> None:
    """Starting a process fails for a moment: no memory, no processes left, a file system away."""
    script = tmp_path / "replica.sh"
    script.write_text('#!/bin/sh\nchmod -x "$0"\nexit 1\n')
    script.chmod(0o755)
    cluster = Cluster([Member("r-0", {})], command=[str(script)])
    running = asyncio.create_task(cluster.keep_running())
    await asyncio.sleep(1.6)  # it has died, and its restart has met EACCES
    script.write_text("#!/bin/sh\nsleep 30\n")
    script.chmod(0o755)
    await asyncio.sleep(2.5)
    starts = cluster.members["r-0"].starts
    await cluster.stop_all(grace_s=1.0)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    assert starts == 2
