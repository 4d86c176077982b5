"""An engine as a child process: it dies with its parent, and nothing starts beside what is left of it."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from kiebot.engines import locks
from kiebot.engines.errors import EngineError
from kiebot.engines.identity import Identity
from kiebot.engines.layout import open_log

_PR_SET_PDEATHSIG = 1
_ORPHAN_LEAVES_S = 8.0
_KEPT = ("PATH", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH")
_GUARD = 'read -r _; kill -s "$1" "$2"'  # its input ends when the parent does


def environment() -> dict[str, str]:
    """What engines inherit: no PG* variable of the caller, no secret, no locale but their own."""
    return {name: os.environ[name] for name in _KEPT if name in os.environ} | {"LC_ALL": "C", "TZ": "UTC"}


def entering(identity: Identity, when_parent_dies: signal.Signals | None) -> Callable[[], None]:
    """What a child does between fork and exec: become the identity, then tie its life to the parent's, if told how."""
    parent = os.getpid()
    libc = ctypes.CDLL(None, use_errno=True)

    def enter() -> None:
        identity.enter()
        if when_parent_dies is not None and sys.platform.startswith("linux"):
            libc.prctl(_PR_SET_PDEATHSIG, int(when_parent_dies))  # after enter(): a change of user clears it
            if os.getppid() != parent:
                os._exit(1)

    return enter


class Engine:
    """One engine process, started as often as needed by the keeper.

    Args: alive, a lock file that the engine's processes hold by inheritance until the last of them is gone;
        when_parent_dies, the signal by which it then ends; guarded, use a shell process to deliver it where
        the kernel does not.
    """

    def __init__(
        self,
        argv: Sequence[str | Path],
        identity: Identity,
        *,
        log: Path,
        alive: Path,
        when_parent_dies: signal.Signals,
        guarded: bool = not sys.platform.startswith("linux"),
    ) -> None:
        self._argv, self._identity, self.log = argv, identity, log
        self._alive, self._signal, self._guarded = alive, when_parent_dies, guarded
        self._process: subprocess.Popen[bytes] | None = None
        self._guard: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        return self._process.pid if self._process else 0

    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def start(self) -> None:
        """Start it once the one before is gone. Raises: EngineError, when that one cannot be ended."""
        self._end_guard()
        alive = outlive(self._alive)
        log = open_log(self.log)
        try:
            self._process = subprocess.Popen(  # noqa: S603 - programs found by binaries.py, no shell
                self._argv,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=environment(),
                cwd="/",
                pass_fds=(alive,),
                process_group=0,
                preexec_fn=entering(self._identity, None if self._guarded else self._signal),
            )
        except (OSError, subprocess.SubprocessError) as error:
            raise EngineError(f"{self._argv[0]} cannot be started: {error}") from error
        finally:
            os.close(alive)  # the child's copy keeps the lock
            os.close(log)
        if self._guarded:
            self._start_guard()

    def signal(self, number: signal.Signals) -> None:
        if self._process is not None:
            self._process.send_signal(number)  # does nothing once it was reaped

    def wait(self, within_s: float) -> bool:
        """True when it ended in time."""
        if self._process is not None:
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(max(within_s, 0))
        if self.running():
            return False
        self._end_guard()
        return True

    def _start_guard(self) -> None:
        self._guard = subprocess.Popen(  # noqa: S603 - constant script
            ["/bin/sh", "-c", _GUARD, "guard", self._signal.name.removeprefix("SIG"), str(self.pid)],
            stdin=subprocess.PIPE,
            start_new_session=True,
        )

    def _end_guard(self) -> None:
        if self._guard is not None:
            self._guard.kill()  # before its input ends: the number may name another process by now
            self._guard.communicate()
            self._guard = None


def outlive(alive: Path, *, within_s: float = _ORPHAN_LEAVES_S) -> int:
    """The lock that processes of an engine hold, taken; those of an earlier keeper are waited for, then killed."""
    fd = locks.open_lock(alive)
    if _taken(fd, within_s):
        return fd
    for pid in _holders(alive):
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(pid, signal.SIGKILL)
    if _taken(fd, 2.0):
        return fd
    os.close(fd)
    raise EngineError(f"an engine of an earlier start still runs and holds {alive}: end that process")


def _taken(fd: int, within_s: float) -> bool:
    deadline = time.monotonic() + within_s
    while not locks.try_exclusive(fd):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.01)
    return True


def _holders(alive: Path) -> set[int]:
    """Processes that have the file open, ourselves not counted. Empty where there is no /proc."""
    found = set()
    for link in Path("/proc").glob("[0-9]*/fd/*"):
        with contextlib.suppress(OSError):
            if link.readlink() == alive:
                found.add(int(link.parts[2]))
    return found - {os.getpid()}
