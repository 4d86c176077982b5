"""A user's side: take the shared hold, see that a keeper lives, get the addresses."""

from __future__ import annotations

import contextlib
import logging
import os
import subprocess
import sys
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Self
from urllib.parse import quote

from kiebot.engines import locks, postgres, valkey
from kiebot.engines.binaries import BinaryDirs, find_binaries
from kiebot.engines.errors import EngineError
from kiebot.engines.layout import SYSTEM_DIR, WAYS, Layout, check_socket_dir, open_log
from kiebot.engines.plan import Plan, State, Word, heard

_START_S = 90.0
_PAUSE_S = 0.01
_LOOK_EVERY_S = 0.5
_LOOK_AT_LEAST_EVERY_S = 10.0
_KEEPER = "import sys; sys.path.append({!r}); from kiebot.engines.keeper import main; main()"
_INHERITED = ("PATH", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH", "TMPDIR", "XDG_RUNTIME_DIR")
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Engines:
    """Both engines, running as long as this is open. A context manager; `close` may be called twice.

    Forgetting to close keeps the hold until the process ends. While open, a keeper that was killed is replaced
    within a second: connections break, the addresses stay.
    """

    database_url: str = field(repr=False)
    redis_url: str = field(repr=False)
    described: str
    _hold: _Hold | None = field(default=None, repr=False, compare=False)

    def close(self) -> None:
        if self._hold is not None:
            self._hold.release()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


@dataclass(frozen=True)
class Wish:
    """What a caller asks for; see `open_engines`. `ways` and `system` are what root may use, see identity.py."""

    home: Path
    durable: bool = True
    linger_s: float = 2.0
    binaries: BinaryDirs | None = None
    debug_commands: bool = False
    ways: tuple[str, ...] = WAYS
    system: Path = SYSTEM_DIR

    def plan(self, layout: Layout) -> Plan:
        """Raises: EngineError, when programs are missing."""
        state = State.of(layout)
        found = find_binaries(self.binaries, postgres=state.postgres, redis=state.redis)
        return Plan(layout.home, found, self.durable, self.linger_s, self.debug_commands, self.ways, self.system)

    def check_met(self, word: Word) -> None:
        """Raises: EngineError, when the running keeper was told otherwise in what matters."""
        for asked, kept, what in (
            (self.durable, word.durable, "durability"),
            (self.debug_commands, word.debug_commands, "debug commands"),
        ):
            if asked and not kept:
                raise EngineError(f"the engines of {self.home} already run, without {what}: end their users first")


def open_with(wish: Wish) -> Engines:
    """The engines as wished, serving. Blocks up to 90 s, where a recovery takes that long. Raises: EngineError."""
    layout = Layout.of(wish.home)
    layout.make()
    hold = _Hold(layout, wish)
    try:
        word = hold.living_keeper()
        wish.check_met(word)
        engines = _addresses(layout, word, hold)
    except BaseException:
        hold.release()
        raise
    hold.watch()
    return engines


def _addresses(layout: Layout, word: Word, hold: _Hold) -> Engines:
    passwords, sockets = layout.passwords(), quote(str(word.sockets))
    return Engines(
        database_url=f"postgresql://kiebot:{quote(passwords['kiebot'])}@/kiebot?host={sockets}",
        redis_url=_redis_url(layout, word),
        described=word.described,
        _hold=hold,
    )


def _redis_url(layout: Layout, word: Word) -> str:
    return f"unix://:{quote(layout.passwords()['redis'])}@{quote(str(word.sockets))}/{valkey.SOCKET}?db=0"


class _Hold:
    """The shared lock of one user, and the look after the keeper."""

    def __init__(self, layout: Layout, wish: Wish) -> None:
        self._layout, self._wish = layout, wish
        self._released = threading.Event()
        self._fd = locks.open_lock(layout.users_lock)
        try:  # waits while the last keeper stops; once we share it, no keeper leaves by itself
            locks.share(self._fd, within_s=_START_S, otherwise=f"the engines in {layout.dir} do not stop")
        except BaseException:
            os.close(self._fd)
            raise

    def living_keeper(self) -> Word:
        """The word of a living keeper whose engines answer, started if need be. Raises: EngineError."""
        deadline = time.monotonic() + _START_S
        while time.monotonic() < deadline:
            if (word := heard(self._layout)) and self._serves(word):
                return word
            if not self._start_if_missing():
                time.sleep(_PAUSE_S)
        raise EngineError(f"the engines do not start; {self._layout.log('keeper').parent} says why")

    def watch(self) -> None:
        threading.Thread(target=self._watch, name="kiebot-engines", daemon=True).start()

    def release(self) -> None:
        if not self._released.is_set():
            self._released.set()
            os.close(self._fd)

    def _watch(self) -> None:
        pause_s = _LOOK_EVERY_S
        while not self._released.wait(pause_s):
            try:
                self._start_if_missing()
                pause_s = _LOOK_EVERY_S
            except (EngineError, OSError) as error:
                pause_s = min(pause_s * 2, _LOOK_AT_LEAST_EVERY_S)
                if not self._released.is_set():  # else it ended because we left
                    _log.warning("engines.not_replaced: %s", error)

    def _serves(self, word: Word) -> bool:
        try:
            check_socket_dir(word.sockets, word.uid)
        except EngineError:
            if heard(self._layout) is None:  # that keeper has gone, and its sockets with it
                return False
            raise
        return postgres.answers(word.sockets) and valkey.answers(word.sockets, self._layout.passwords()["redis"])

    def _start_if_missing(self) -> bool:
        """True when there was no keeper and one was started, which has given its word. Raises: EngineError."""
        lock = locks.open_lock(self._layout.keeper_lock)
        try:
            if not locks.try_exclusive(lock):
                return False
            self._layout.keeper_error.unlink(missing_ok=True)
            _spawn(self._wish.plan(self._layout), self._layout.log("keeper"), lock)
        finally:
            os.close(lock)  # the keeper has inherited it, and the lock with it
        self._await_word()
        return True

    def _await_word(self) -> None:
        lock = locks.open_lock(self._layout.keeper_lock)
        try:
            while heard(self._layout) is None:
                if locks.try_exclusive(lock):  # it has ended
                    raise EngineError(self._reason())
                time.sleep(_PAUSE_S)
        finally:
            os.close(lock)

    def _reason(self) -> str:
        with contextlib.suppress(OSError):
            return self._layout.keeper_error.read_text()
        return f"the keeper ended at its start; {self._layout.log('keeper')} says why"


def _spawn(plan: Plan, log_path: Path, lock: int) -> None:
    """Start a keeper that inherits the taken lock. Returns when it is on its own, no child of ours."""
    log = open_log(log_path)
    inherited = {name: os.environ[name] for name in _INHERITED if name in os.environ}  # no secret of the caller
    try:
        subprocess.run(  # noqa: S603 - our own interpreter and code
            [sys.executable, "-I", "-S", "-c", _KEEPER.format(str(Path(__file__).parents[2]))],
            input=plan.to_json().encode(),
            stdout=log,
            stderr=log,
            cwd="/",
            env=inherited,
            pass_fds=(lock,),
            start_new_session=True,
            timeout=_START_S,
            check=True,
        )
    except (OSError, subprocess.SubprocessError) as error:
        raise EngineError(f"the keeper cannot be started; {log_path} says why") from error
    finally:
        os.close(log)


@dataclass(frozen=True)
class Status:
    """What is known of a home's engines from outside; looking changes nothing."""

    running: bool
    described: str | None
    keeper_pid: int | None
    data: Path
    redis_url: str | None = field(default=None, repr=False)


def status(home: Path) -> Status:
    """Whether the engines of this home run, what they are, and where their data lies."""
    layout = Layout.of(home)
    word, data = heard(layout), State.of(layout).data or layout.data
    if word is None:
        return Status(False, None, None, data)
    return Status(True, word.described, word.pid, data, _redis_url(layout, word))


def await_stop(home: Path, within_s: float = 10.0) -> bool:
    """True once nothing of this home's engines runs any more; for who wants to move or remove the home."""
    layout = Layout.of(home)
    deadline = time.monotonic() + within_s
    while not all(_free(path) for path in layout.held_while_running):
        if time.monotonic() > deadline:
            return False
        time.sleep(_PAUSE_S)
    return True


def _free(path: Path) -> bool:
    try:
        fd = locks.open_existing(path)
    except FileNotFoundError:
        return True
    try:
        return locks.try_shared(fd)
    finally:
        os.close(fd)
