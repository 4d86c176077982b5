"""python-telegram-bot's own tests of a rate limiter, against ours."""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
from importlib.metadata import version
from pathlib import Path

from kiebot.engines import await_stop, open_engines

LIBRARY = "python-telegram-bot"
TESTS = "tests/ext/test_ratelimiter.py"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """It takes none."""


def run(_: argparse.Namespace) -> int:
    """The status of pytest on the library's tests."""
    with tempfile.TemporaryDirectory(prefix="kb") as temporary:
        home = Path(temporary)
        source = _fetched(home)
        shutil.copy(Path(__file__).with_name("ours.py"), source / "ours.py")
        engines = open_engines(home / "engines", durable=False, linger_s=0.0)
        try:
            return _tested(source, engines.redis_url)
        finally:
            engines.close()
            await_stop(home / "engines")


def _fetched(directory: Path) -> Path:
    """The unpacked source archive of the installed version."""
    wanted = f"{LIBRARY}=={version(LIBRARY)}"
    pip = (sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--no-binary", ":all:", "--dest")
    subprocess.run([*pip, str(directory), wanted], check=True)
    (archive,) = directory.glob("*.tar.gz")
    with tarfile.open(archive) as file:
        file.extractall(directory, filter="data")
    return directory / archive.name.removesuffix(".tar.gz")


def _tested(source: Path, redis_url: str) -> int:
    pytest = (sys.executable, "-m", "pytest", "-p", "ours", "--noconftest", "-o", "addopts=", "-o", "asyncio_mode=auto")
    environment = {**os.environ, "LIMITER_REDIS_URL": redis_url, "PYTHONPATH": str(source)}
    return subprocess.run([*pytest, "-rs", "-q", TESTS], cwd=source, env=environment, check=False).returncode
