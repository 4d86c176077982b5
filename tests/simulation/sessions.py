"""Transactions as Postgres has them: row locks held to the end, nothing seen before its commit, idle ones undone."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from kiebot.errors import Fenced, Transient
from tests.simulation.line import Reply
from tests.simulation.loop import VirtualLoop

LOCK_TIMEOUT_S = 3.0
IDLE_IN_TRANSACTION_S = 6.0


@dataclass(eq=False)
class Session:
    """One connection's transaction."""

    changes: list[Callable[[], None]] = field(default_factory=list)
    locks: list[object] = field(default_factory=list)
    statements: int = 0
    is_over: bool = False
    handles: str | None = None  # the lane of which it has marked an update done


Statement = Callable[[Session], Any]


class _Locked(Exception):
    """Another transaction has changed this row: wait for its end."""


@dataclass(eq=False)
class _Parked:
    session: Session
    statement: Statement
    reply: Reply


class Sessions:
    """A statement is evaluated on what is committed, once it has its locks; others see its changes after the commit."""

    def __init__(self, loop: VirtualLoop) -> None:
        self._loop = loop
        self._owners: dict[object, Session] = {}
        self._parked: list[_Parked] = []
        self._open: set[Session] = set()
        self.is_away = False

    def run(self, session: Session, statement: Statement, reply: Reply) -> None:
        if self.is_away or session.is_over:
            reply.fails(Transient("no connection", retry_after_s=0.5))
            return
        self._open.add(session)
        try:
            value = statement(session)
        except _Locked:
            parked = _Parked(session, statement, reply)
            self._parked.append(parked)
            self._loop.outside(LOCK_TIMEOUT_S, self._give_up, parked)
            return
        except Fenced as error:
            reply.fails(error)
            return
        session.statements += 1
        if not session.is_over:
            self._loop.outside(IDLE_IN_TRANSACTION_S, self._end_idle, session, session.statements)
        reply(value)

    def run_alone(self, statement: Statement, reply: Reply) -> None:
        """Autocommit."""

        def both(session: Session) -> Any:
            value = statement(session)
            self.commit(session)
            return value

        self.run(Session(), both, reply)

    def commit(self, session: Session) -> None:
        for change in session.changes:
            change()
        self.abort(session)

    def abort(self, session: Session) -> None:
        """End it; what it changed and did not commit never was."""
        if session.is_over:
            return
        session.is_over = True
        self._open.discard(session)
        for lock in session.locks:
            self._owners.pop(lock, None)
        if session.locks:
            parked, self._parked = self._parked, []
            for one in parked:
                self.run(one.session, one.statement, one.reply)

    def go_away(self) -> None:
        self.is_away = True
        for session in list(self._open):
            self.abort(session)

    def _lock(self, session: Session, row: object) -> None:
        owner = self._owners.setdefault(row, session)
        if owner is not session:
            raise _Locked
        session.locks.append(row)

    def _give_up(self, parked: _Parked) -> None:
        if parked in self._parked:
            self._parked.remove(parked)
            self.abort(parked.session)
            parked.reply.fails(Transient("lock timeout"))

    def _end_idle(self, session: Session, statements: int) -> None:
        if not session.is_over and session.statements == statements:
            self.abort(session)
