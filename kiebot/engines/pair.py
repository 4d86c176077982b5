"""Both engines of one plan: prepared and started together, tended, stopped together."""

from __future__ import annotations

import shutil
from pathlib import Path

from kiebot.engines.identity import Stage, choose
from kiebot.engines.kept import Kept
from kiebot.engines.layout import Layout, make_socket_dir, write_json
from kiebot.engines.plan import Plan, State, recorded
from kiebot.engines.postgres import Postgres
from kiebot.engines.valkey import Valkey


class Pair:
    """The engines under one keeper. `stop` may follow anything, a failed `start` above all."""

    def __init__(self, plan: Plan, layout: Layout, sockets: Path) -> None:
        self._layout, self._plan, self._sockets = layout, plan, sockets
        self._passwords = layout.passwords()
        self._kept: list[Kept] = []
        self._has_sockets = False

    def start(self) -> Stage:
        """Returns once both serve. Raises: EngineError."""
        state = State.of(self._layout)
        stage = self._stage(state)
        make_socket_dir(self._sockets, stage.identity.uid, stage.identity.gid)
        self._has_sockets = True
        parts = self._plan, self._layout, self._sockets, stage
        valkey, postgres = valkey_of(*parts), postgres_of(*parts)
        valkey.prepare(state.redis)
        self._keep(Kept(valkey))  # it starts while the other is being prepared
        postgres.prepare(self._passwords["superuser"], self._passwords["kiebot"])
        self._record(stage, state)
        self._keep(Kept(postgres))
        for kept in self._kept:
            kept.await_ready()
        return stage

    def tend(self) -> None:
        for kept in self._kept:
            kept.tend()

    def stop(self) -> None:
        for kept in self._kept:
            kept.ask_to_stop()
        for kept in self._kept:
            kept.stopped()
        if self._has_sockets:  # a directory that was not trusted is not ours to remove
            shutil.rmtree(self._sockets, ignore_errors=True)

    def _keep(self, kept: Kept) -> None:
        self._kept.append(kept)
        kept.start()

    def _stage(self, state: State) -> Stage:
        existing = state.data
        if existing is None and (self._layout.data / "postgres").exists():
            existing = self._layout.data
        plan = self._plan
        return choose(self._layout, plan.binaries, existing=existing, ways=plan.ways, system=plan.system)

    def _record(self, stage: Stage, state: State) -> None:
        elsewhere = None if stage.data == self._layout.data else stage.data  # so that a home may be moved
        now = State(recorded(stage.binaries.postgres), recorded(stage.binaries.redis), elsewhere)
        if now != state:
            write_json(self._layout.state, now.to_values())


def postgres_of(plan: Plan, layout: Layout, sockets: Path, stage: Stage) -> Postgres:
    """One home's PostgreSQL, prepared by nobody yet."""
    return Postgres(
        program=stage.binaries.postgres,
        identity=stage.identity,
        data=stage.data / "postgres",
        sockets=sockets,
        log=layout.log("postgres"),
        alive=layout.alive("postgres"),
        durable=plan.durable,
    )


def valkey_of(plan: Plan, layout: Layout, sockets: Path, stage: Stage) -> Valkey:
    """One home's Valkey, prepared by nobody yet."""
    return Valkey(
        program=stage.binaries.redis,
        identity=stage.identity,
        data=stage.data / "redis",
        sockets=sockets,
        log=layout.log("redis"),
        alive=layout.alive("redis"),
        password=layout.passwords()["redis"],
        durable=plan.durable,
        debug_commands=plan.debug_commands,
    )
