"""A home that is ready (made once), fresh ones, and users in other processes."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from kiebot.engines import await_stop, open_engines
from tests.engines.engines_help import USER, Running, UserProcess, end_engines


@pytest.fixture
def start_user() -> Iterator[Callable[..., UserProcess]]:
    users: list[UserProcess] = []

    def start(home: Path, linger_s: float = 0.2) -> UserProcess:
        process = subprocess.Popen(
            [sys.executable, "-c", USER, str(home), str(linger_s)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])},
        )
        users.append(UserProcess(process))
        return users[-1]

    yield start
    for user in users:
        if user.process.poll() is None:
            user.kill()


@pytest.fixture(scope="session")
def made_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("engines") / "home"
    open_engines(home, durable=False, linger_s=0).close()
    assert await_stop(home)
    return home


@pytest.fixture
def home(made_home: Path) -> Iterator[Path]:
    """A home whose data was made before, nothing running; whatever a test leaves running there is ended."""
    yield made_home
    end_engines(made_home)


@pytest.fixture
def running(home: Path) -> Iterator[Running]:
    """Engines for tests that only look at them or use them."""
    with open_engines(home, durable=False, linger_s=0) as engines:
        yield Running(home, engines)


@pytest.fixture
def fresh_home(tmp_path: Path) -> Iterator[Path]:
    """A home that is not there yet."""
    home = tmp_path / "fresh"
    yield home
    end_engines(home)
    shutil.rmtree(home, ignore_errors=True)
