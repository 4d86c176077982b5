"""The care for one engine: started and ready, started again when it dies, stopped at the end."""

from __future__ import annotations

import signal
import time
from datetime import UTC, datetime
from typing import Protocol

from kiebot.engines.errors import EngineError
from kiebot.engines.process import Engine

_START_S = 60.0  # recovery after a crash included
_BACK_OFF_S = (0.05, 5.0)
_STEADY_S = 30.0
_STOP_S = 20.0
_HARDER = ((signal.SIGQUIT, 5.0), (signal.SIGKILL, 5.0))


class Server(Protocol):
    """What is particular to one product."""

    @property
    def name(self) -> str: ...

    def engine(self) -> Engine: ...

    def ready(self, pid: int) -> bool: ...

    def ask_to_stop(self, engine: Engine) -> None: ...


class Kept:
    """One prepared server under care."""

    def __init__(self, server: Server) -> None:
        self._server, self._engine = server, server.engine()
        self._started_at = 0.0
        self._back_off_s = _BACK_OFF_S[0]

    def start(self) -> None:
        self._engine.start()
        self._started_at = time.monotonic()

    def await_ready(self) -> None:
        """Raises: EngineError, when it ends instead or takes a minute."""
        while not self._server.ready(self._engine.pid):
            if not self._engine.running() or time.monotonic() > self._started_at + _START_S:
                raise EngineError(f"{self._server.name} does not start; {self._engine.log} says why")
            time.sleep(0.005)

    def tend(self) -> None:
        """Start it again when it has died, at growing intervals while it keeps dying."""
        lived_s = time.monotonic() - self._started_at
        if self._engine.running():
            if lived_s > _STEADY_S:
                self._back_off_s = _BACK_OFF_S[0]
        elif lived_s >= self._back_off_s:
            self._back_off_s = min(self._back_off_s * 2, _BACK_OFF_S[1])
            self._again()

    def ask_to_stop(self) -> None:
        if self._engine.running():
            self._server.ask_to_stop(self._engine)

    def stopped(self) -> None:
        """Wait for the end that was asked for, then insist."""
        if self._engine.wait(_STOP_S):
            return
        for number, within_s in _HARDER:
            say(f"{self._server.name} does not stop: {number.name}")
            self._engine.signal(number)
            if self._engine.wait(within_s):
                return

    def _again(self) -> None:
        say(f"{self._server.name} died and is started again")
        try:
            self.start()
        except EngineError as error:
            self._started_at = time.monotonic()
            say(str(error))


def say(sentence: str) -> None:
    """A line in the keeper's log, which is where its output goes."""
    print(f"{datetime.now(UTC):%Y-%m-%d %H:%M:%S}Z {sentence}", flush=True)  # noqa: T201 - see above
