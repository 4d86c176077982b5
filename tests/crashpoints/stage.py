"""What a story is made of: a person, the world around the dying replica, and how that world misbehaves."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from kiebot.simulators.media import make_png
from kiebot.simulators.telegram.faults import Fault
from kiebot.simulators.users import Payment, SimUser
from tests.crashpoints.small_replica import KNOCKS, SmallReplica
from tests.scenarios.buying import CREATE, can_create, model
from tests.scenarios.world import World

QUIET = "SELECT true"
EDIT = "google/nano-banana-edit"
BOSS = 900_000
DOOMED_SESSIONS = "FROM pg_stat_activity WHERE datname = current_database() AND application_name = 'kiebot doomed'"
_MISFORTUNE = """
    CREATE FUNCTION misfortune() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
        IF current_setting('application_name') = 'kiebot doomed' THEN {does}; END IF;
        RETURN NEW;
    END $$
"""


@dataclass
class Stage:
    """What an act may touch. `pump` brings what people sent into the inbox; `cuts_job` cancels the job that the dying
    replica has in its hands; `beside`: another replica, whose work an act may order."""

    anna: SimUser
    boss: SimUser  # an admin
    world: World
    beside: SmallReplica
    pump: Callable[[], Awaitable[None]]
    cuts_job: Callable[[], None] = lambda: None
    payments: list[Payment] = field(default_factory=list)

    async def sends(self, text: str) -> None:
        await self.anna.sends(text)
        await self.pump()

    async def presses(self, label: str) -> None:
        await self.anna.presses(label)
        await self.pump()

    async def knocks(self, attempt_id: str, task_id: str | None) -> None:
        """Somebody calls an attempt's callback address."""
        redis, key = self.beside.adapters.redis, f"{self.world.redis_prefix}:{KNOCKS}"
        await redis.rpush(key, json.dumps([attempt_id, task_id]))  # type: ignore[misc]  # as it is typed

    async def waits_in_a_statement(self) -> None:
        """Until the dying replica does, with `is_slow`."""
        await self.world.until_row(f"SELECT true {DOOMED_SESSIONS} AND wait_event = 'PgSleep'")

    async def of_mine(self, query: str) -> Any:
        """The first value of a query about this person's own rows (`:user`), once there is one."""
        return await self.world.until_row(query, user=self.anna.user_id)


Act = Callable[[Stage], Awaitable[None]]
Before = Callable[[World], Awaitable[None]]


async def all_is_well(world: World) -> None:
    """No misfortune."""


async def presses_create(stage: Stage) -> None:
    await stage.presses(CREATE)


async def fills_in(stage: Stage, story: Story, prompt: str) -> None:
    """Up to a form that only waits for the press of Create."""
    wanted = model(story.model_id)
    await stage.sends(f"/start m_{wanted.slug}")
    await stage.anna.hears(wanted.title, timeout=10)
    if story.model_id == EDIT:
        await stage.anna.sends_photo(make_png(seed=stage.anna.user_id))
        await stage.pump()
        await stage.anna.hears(
            lambda state: "Create" in str(state.buttons) or "Describe" in str(state.text), timeout=10
        )
    await stage.sends(f"{prompt} {story.marks}")
    await stage.anna.hears(can_create, timeout=10)


@dataclass(frozen=True)
class Story:
    """One purchase, or more. `marks` go into the prompt and decide the task's fate.

    earlier: what a replica that does not die does for the person before, the form included. moves: what they do
    before the dying replica begins. before: sets faults, when all else is prepared. act: what happens while it works.
    done: true when the story is over. environment: settings of the dying replica and of the one that goes on.
    ends: the states in which its generations may end when nobody dies. buries: kinds of dead letters that may remain.
    billed: so many tasks of one generation may have been charged by the provider, never more than one for each attempt.
    """

    name: str
    marks: str = ""
    model_id: str = "z-image"
    callbacks: bool = False
    environment: Mapping[str, str] = field(default_factory=dict)
    earlier: Callable[[Stage, Story, str], Awaitable[None]] = fills_in
    moves: Act = presses_create
    before: Before = all_is_well
    act: Act | None = None
    done: str = QUIET
    ends: tuple[str, ...] = ("succeeded",)
    buries: tuple[str, ...] = ()
    billed: int = 1


def kie(endpoint: str, *kinds: str) -> Before:
    """Faults of the next calls, one each."""

    async def before(world: World) -> None:
        for kind in kinds:
            world.kie.faults.add(endpoint, kind)  # type: ignore[arg-type]  # one of its names

    return before


def telegram(*faults: tuple[str, dict[str, Any]]) -> Before:
    """Scripted answers to the next calls of a method, one each."""

    async def before(world: World) -> None:
        for method, facts in faults:
            world.tg.faults.answers(method, **facts)

    return before


def postgres(table: str, event: str, does: str, *, at_commit: bool = False) -> Before:
    """A trigger that strikes the dying replica alone: `does` is PL/pgSQL before each `event` on the table's rows, or at
    the commit that follows."""
    kind, moment = ("CONSTRAINT TRIGGER", "AFTER") if at_commit else ("TRIGGER", "BEFORE")
    waits = "DEFERRABLE INITIALLY DEFERRED" if at_commit else ""

    async def before(world: World) -> None:
        await clear_misfortune(world)
        await world.execute("CREATE SEQUENCE misfortunes")  # what it counts stays counted after a rollback
        await world.execute(_MISFORTUNE.format(does=does))
        await world.execute(
            f"CREATE {kind} misfortune {moment} {event} ON {table} {waits} FOR EACH ROW EXECUTE FUNCTION misfortune()"
        )

    return before


def fails(times: int, *, sqlstate: str = "P0001") -> str:
    """For `postgres`: the first `times` rows are refused. P0001 looks like a bug of ours, 40001 like an outage."""
    return (
        f"IF nextval('misfortunes') <= {times} THEN RAISE EXCEPTION 'misfortune' USING ERRCODE = '{sqlstate}'; END IF"
    )


def claim_fails(table: str) -> Before:
    """The first commit of a claim on such a row."""
    claims = "NEW.claimed_by IS NOT NULL AND OLD.claimed_by IS NULL"
    does = f"IF {claims} THEN {fails(1, sqlstate='40001')}; END IF"
    return postgres(table, "UPDATE", does, at_commit=True)


def is_slow(times: int) -> str:
    """For `postgres`: the first `times` rows take half a second."""
    return f"IF nextval('misfortunes') <= {times} THEN PERFORM pg_sleep(0.5); END IF"


async def cut_off_in_a_statement(stage: Stage) -> None:
    """With `is_slow`: the dying replica's job is cut off while it waits for the answer."""
    await stage.waits_in_a_statement()
    stage.cuts_job()


async def account_is_filled(world: World) -> None:
    world.kie.set_credits(100_000)
    await world.execute("DELETE FROM model_switches")
    await world.execute("UPDATE generations SET due_at = now() WHERE state = 'accepted'")


async def clear_misfortune(world: World) -> None:
    await world.execute("DROP FUNCTION IF EXISTS misfortune() CASCADE")
    await world.execute("DROP SEQUENCE IF EXISTS misfortunes")


def never_answers(world: World, method: str, *, times: int) -> Fault:
    """Calls of that method hang, and come to nothing."""
    fault = world.tg.faults.delays(method, 60.0, times=times)
    fault.cut = "before"
    return fault
