"""The keeper: a process of its own that runs both engines as long as anybody uses them.

Its plan comes on standard input, its lock by inheritance (hold.py starts it). It belongs to no user of the engines: it
has its own session, and whoever started it may die. The inherited `keeper.lock` is taken already, so there is never a
moment in which two could be started. Users hold `users.lock` shared; when it can be taken exclusively, and has been
free for the linger, nobody is left: the keeper keeps it taken, so that newcomers wait, stops both engines and ends.
An engine that dies is started again; a keeper that is killed takes both along.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import sys
import time
from dataclasses import asdict
from types import FrameType

from kiebot.engines import locks
from kiebot.engines.errors import EngineError
from kiebot.engines.identity import Stage
from kiebot.engines.kept import say
from kiebot.engines.layout import Layout, bound_log, socket_dir, write_json
from kiebot.engines.pair import Pair
from kiebot.engines.plan import Plan, Word

_TICK_S = 0.2
_LOGS_EVERY_S = 60.0


class Keeper:
    """Runs one home's engines until nobody uses them, or until a signal ends it."""

    def __init__(self, plan: Plan) -> None:
        self._plan, self._layout = plan, Layout(plan.home)
        self._sockets = socket_dir(self._layout)
        self._pair = Pair(plan, self._layout, self._sockets)
        self._users = locks.open_lock(self._layout.users_lock)
        self._told_to_end = False
        self._logs_bounded_at = time.monotonic()
        self._wake = self._wake_on_signals()

    def run(self) -> int:
        """Returns the exit code; what went wrong is left in keeper.error for whoever started us."""
        try:
            self._give_word(self._pair.start())
            self._tend_while_used()
        except (EngineError, OSError) as error:
            say(str(error))
            self._layout.keeper_error.write_text(str(error))
            return 1
        finally:
            self._layout.keeper_word.unlink(missing_ok=True)  # first: nobody may be sent to engines that stop
            self._pair.stop()
        return 0

    def _give_word(self, stage: Stage) -> None:
        word = Word(
            pid=os.getpid(),
            described=stage.binaries.described,
            sockets=self._sockets,
            uid=stage.identity.uid,
            durable=self._plan.durable,
            debug_commands=self._plan.debug_commands,
        )
        draft = self._layout.keeper_word.with_suffix(".draft")
        write_json(draft, asdict(word) | {"sockets": str(word.sockets)})
        locks.try_exclusive(locks.open_existing(draft))  # as long as we live; before anybody can see it
        draft.rename(self._layout.keeper_word)
        locks.try_shared(os.open(self._sockets, os.O_RDONLY))  # tells systemd-tmpfiles that it is in use
        say(f"serving: {word.described}")

    def _tend_while_used(self) -> None:
        unused_since: float | None = None
        while not self._told_to_end:
            self._pair.tend()
            self._bound_logs()
            if not locks.try_exclusive(self._users):
                unused_since = None
            else:
                now = time.monotonic()
                unused_since = now if unused_since is None else unused_since
                if now - unused_since >= self._plan.linger_s:
                    return  # with the lock: a newcomer waits until we are gone, then starts a keeper of its own
                locks.unlock(self._users)
            self._sleep()

    def _sleep(self) -> None:
        if select.select([self._wake], [], [], _TICK_S)[0]:
            os.read(self._wake, 512)

    def _bound_logs(self) -> None:
        if time.monotonic() - self._logs_bounded_at > _LOGS_EVERY_S:
            self._logs_bounded_at = time.monotonic()
            for log in self._layout.log("keeper").parent.glob("*.log"):
                with contextlib.suppress(OSError), log.open("a") as file:
                    bound_log(file.fileno())

    def _wake_on_signals(self) -> int:
        wake, write = os.pipe()
        os.set_blocking(write, False)
        signal.set_wakeup_fd(write, warn_on_full_buffer=False)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._end)
        signal.signal(signal.SIGCHLD, lambda _number, _frame: None)  # wakes us only
        return wake

    def _end(self, _number: int, _frame: FrameType | None) -> None:
        self._told_to_end = True


def main() -> None:
    plan = Plan.from_json(sys.stdin.read())
    if os.fork():
        os._exit(0)  # whoever started us has no child to wait for
    os.umask(0o077)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    sys.exit(Keeper(plan).run())
