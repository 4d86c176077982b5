"""An event loop on virtual time, in which a whole process can be stopped between any two of its steps.

Time jumps to the next timer as soon as nothing is ready, so that a run costs what its steps cost and no more. What
decides the order of steps is a number of this loop, never an address: the same seed makes the same run.
"""

from __future__ import annotations

import asyncio
import heapq
import itertools
import random
from collections import deque
from collections.abc import Callable, Coroutine, Generator
from contextvars import Context, ContextVar
from typing import Any, TypeVar, TypeVarTuple, Unpack

from kiebot.errors import Transient

T = TypeVar("T")
Ts = TypeVarTuple("Ts")

_PROCESS: ContextVar[Process | None] = ContextVar("process", default=None)


class _Turn(asyncio.TimerHandle):
    """One callback to come, and the process it belongs to: the one whose context it was scheduled in."""

    __slots__ = ("process",)

    def __init__(
        self,
        when: float,
        callback: Callable[..., object],
        args: tuple[Any, ...],
        loop: VirtualLoop,
        context: Context | None,
    ) -> None:
        super().__init__(when, callback, args, loop, context)
        self.process = _PROCESS.get() if context is None else context.get(_PROCESS)


class _Task(asyncio.Task[T]):
    """Hashed by its number, not its address: sets of tasks are then walked in the same order in every run."""

    def __init__(
        self, number: int, coroutine: Generator[Any, None, T] | Coroutine[Any, Any, T], **options: Any
    ) -> None:
        self._number = number
        super().__init__(coroutine, **options)

    def __hash__(self) -> int:
        return self._number


class _Future(asyncio.Future[Any]):
    def __init__(self, number: int, loop: VirtualLoop) -> None:
        self._number = number
        super().__init__(loop=loop)

    def __hash__(self) -> int:
        return self._number


class VirtualLoop(asyncio.BaseEventLoop):
    """`time()` is virtual seconds since the start. Complaints are what nobody caught."""

    _stopping: bool  # BaseEventLoop's own mark, set by stop()

    def __init__(self) -> None:
        super().__init__()
        self._now = 0.0
        self._soon: deque[_Turn] = deque()
        self._timers: list[tuple[float, int, _Turn]] = []
        self._numbers = itertools.count(1)
        self.turns = 0
        self.complaints: list[str] = []
        self.set_exception_handler(self._complain)

    def time(self) -> float:
        return self._now

    def call_soon(self, callback: Callable[[Unpack[Ts]], object], *args: *Ts, context: Context | None = None) -> _Turn:
        turn = _Turn(self._now, callback, args, self, context)
        self._soon.append(turn)
        return turn

    def call_later(
        self, delay: float, callback: Callable[[Unpack[Ts]], object], *args: *Ts, context: Context | None = None
    ) -> _Turn:
        return self.call_at(self._now + max(delay, 0.0), callback, *args, context=context)

    def call_at(
        self, when: float, callback: Callable[[Unpack[Ts]], object], *args: *Ts, context: Context | None = None
    ) -> _Turn:
        turn = _Turn(when, callback, args, self, context)
        heapq.heappush(self._timers, (when, next(self._numbers), turn))
        return turn

    def create_future(self) -> asyncio.Future[Any]:
        return _Future(next(self._numbers), self)

    def create_task(
        self,
        coro: Generator[Any, None, T] | Coroutine[Any, Any, T],
        *,
        name: object = None,
        context: Context | None = None,
    ) -> asyncio.Task[T]:
        return _Task(next(self._numbers), coro, loop=self, name=name, context=context)

    def outside(self, delay_s: float, callback: Callable[..., object], *args: Any) -> None:
        """Call it later, in no process: a server, the network, the weather."""
        self.call_later(delay_s, callback, *args, context=Context())

    def again(self, turns: list[_Turn]) -> None:
        """What a stopped process did not do, at the head of what is to be done now."""
        self._soon.extendleft(reversed(turns))

    def drown(self) -> None:
        """Cancel whatever is left and let it end."""
        while tasks := asyncio.all_tasks(self):
            for task in tasks:
                task.cancel()
            self.run_until_complete(asyncio.wait(tasks, timeout=60.0))
        self.close()

    def _run_once(self) -> None:
        soon, timers = self._soon, self._timers
        while not self._stopping:
            if soon:
                turn = soon.popleft()
            else:
                when, _, turn = heapq.heappop(timers)
                if not turn.cancelled():
                    self._now = max(self._now, when)
            if turn.cancelled():
                continue
            process = turn.process
            if process is not None and process.is_stopped:
                process.hold(turn, is_late=turn.when() < self._now)
                continue
            self.turns += 1
            turn._run()

    def _complain(self, _: asyncio.AbstractEventLoop, facts: dict[str, Any]) -> None:
        error = facts.get("exception")
        if not isinstance(error, Transient):  # a shielded release may fail after its drain was cancelled: nobody asks
            self.complaints.append(f"{facts.get('message')}: {error!r}")


class Process:
    """The callbacks of one replica. Stopped (SIGSTOP), none of them runs; killed, none ever runs again."""

    def __init__(self, loop: VirtualLoop, rng: random.Random) -> None:
        self._loop = loop
        self._rng = rng
        self._context = Context()
        self._context.run(_PROCESS.set, self)
        self._steps: list[_Turn] = []
        self._timers: list[_Turn] = []
        self._stops = 0
        self.is_stopped = False
        self.is_dead = False

    def spawn(self, coroutine: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        """Start a task of this process."""
        return self._loop.create_task(coroutine, context=self._context)

    def stop(self, seconds: float, then: Callable[[], None]) -> None:
        """Stand still for so long. `then` is called the moment before the process goes on."""
        if self.is_dead:
            return
        self.is_stopped = True
        self._stops += 1
        self._loop.outside(seconds, self._end_stop, self._stops, then)

    def go(self, then: Callable[[], None]) -> None:
        """Now, if it stands still and is not dead."""
        if self.is_stopped and not self.is_dead:
            self.is_stopped = False
            then()
            self._release()

    def kill(self) -> None:
        self.is_dead = self.is_stopped = True

    def hold(self, turn: _Turn, *, is_late: bool) -> None:
        (self._timers if is_late else self._steps).append(turn)

    def revive(self) -> None:
        """At the end of a run: let the dead be cleared away too."""
        self.is_dead = self.is_stopped = False
        self._release()

    def _end_stop(self, stop: int, then: Callable[[], None]) -> None:
        if stop == self._stops:
            self.go(then)

    def _release(self) -> None:
        """asyncio's own loop reads its sockets first when it wakes, others look at their timers first: one of both."""
        steps, timers, self._steps, self._timers = self._steps, self._timers, [], []
        self._loop.again(steps + timers if self._rng.random() < 0.5 else timers + steps)
