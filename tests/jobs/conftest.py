from __future__ import annotations

import shutil
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from .rig import Rig, Server


def _servers() -> Iterator[Server]:
    directory = Path(tempfile.mkdtemp(prefix="kq", dir="/tmp"))  # a socket's path is limited to some 100 bytes
    server = Server(directory)
    server.start()
    try:
        yield server
    finally:
        server.kill()
        shutil.rmtree(directory)


@pytest.fixture(scope="session")
def shared_server() -> Iterator[Server]:
    yield from _servers()


@pytest.fixture
def own_server() -> Iterator[Server]:
    """A server that the test may stop and kill."""
    yield from _servers()


@pytest.fixture
async def rig(shared_server: Server) -> AsyncIterator[Rig]:
    rig = Rig(shared_server.url)
    await rig.pool.flushall()
    yield rig
    await rig.aclose()


@pytest.fixture
async def fragile(own_server: Server) -> AsyncIterator[Rig]:
    """A queue on a server of its own."""
    rig = Rig(own_server.url)
    yield rig
    await rig.aclose()
