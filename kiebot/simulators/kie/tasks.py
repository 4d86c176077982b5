"""Tasks: what was bought, how it stands now, what it cost."""

import asyncio
import heapq
import itertools
import math
from dataclasses import dataclass, field
from typing import Any

from kiebot.simulators.clock import SimClock
from kiebot.simulators.kie.catalogue import Model
from kiebot.simulators.kie.plans import Plan
from kiebot.simulators.kie.purse import Purse, as_credits
from kiebot.simulators.kie.results import ResultMaker
from kiebot.simulators.kie.switches import Switches
from kiebot.simulators.kie.windows import Window

FINAL = ("success", "fail")


@dataclass(frozen=True, slots=True)
class Delivery:
    """One callback request: when it went out, why, and the HTTP status it met (None: no answer, see `error`)."""

    at: float
    url: str
    kind: str
    status: int | None
    error: str | None = None


@dataclass(slots=True, eq=False)
class Task:
    """One task. `price`, `billed` and `refunded` are millicredits; `born` is monotonic, `created_at` Unix seconds."""

    task_id: str
    model: str
    input: dict[str, Any]
    callback_url: str | None
    attempt_id: str | None
    plan: Plan
    billed: int
    base_url: str
    born: float
    created_at: float
    clock: SimClock
    polls: Window
    hidden_s: float = 0.0
    refunded: int = 0
    is_settled: bool = False
    result_json: str = ""
    callbacks: list[Delivery] = field(default_factory=list)
    final_seen: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def age_s(self) -> float:
        """Seconds since the task was created."""
        return self.clock.monotonic() - self.born

    @property
    def state(self) -> str:
        """The state word recordInfo shows at this instant."""
        if self.is_settled and self.age_s >= self.plan.ends_at_s + self.hidden_s:
            return self.final_state
        return self.plan.word_at(self.age_s)

    @property
    def final_state(self) -> str:
        """The word the task ends, or will end, with."""
        return "fail" if self.plan.failure else "success"

    @property
    def credits_billed(self) -> float | int:
        """Credits taken and not given back."""
        return as_credits(self.billed - self.refunded)

    @property
    def result_urls(self) -> list[str]:
        """The result's addresses, once there are any."""
        return ResultMaker.urls_in(self.result_json)


@dataclass(frozen=True, slots=True)
class Ledger:
    """The account at a glance. Amounts are credits; `consumed` = billed less refunded."""

    tasks_created: int
    tasks_billed: int
    tasks_refunded: int
    running: int
    succeeded: int
    failed: int
    credits_billed: float
    credits_refunded: float
    credits_consumed: float
    balance: float


class TaskBook:
    """All tasks. Ends them on time: whoever looks first after a task's end makes the refund and the result appear."""

    def __init__(self, clock: SimClock, switches: Switches, purse: Purse, results: ResultMaker) -> None:
        self._clock, self._switches, self._purse, self._results = clock, switches, purse, results
        self.tasks: dict[str, Task] = {}
        self._due: list[tuple[float, int, Task, Model]] = []
        self._order = itertools.count()

    def open(self, task: Task, model: Model) -> None:
        """Enter a new task; its price has been taken already."""
        self.tasks[task.task_id] = task
        if math.isfinite(task.plan.ends_at_s):
            heapq.heappush(self._due, (task.born + task.plan.ends_at_s, next(self._order), task, model))

    def settle_due(self) -> None:
        """Bring every task whose time has come to its end."""
        now = self._clock.monotonic()
        while self._due and self._due[0][0] <= now:
            ended_at, _, task, model = heapq.heappop(self._due)
            self._settle(task, model, ended_at)

    def by_attempt(self) -> dict[str, list[Task]]:
        """Tasks under the attempt id they were created with; those without one are left out."""
        found: dict[str, list[Task]] = {}
        for task in self.tasks.values():
            if task.attempt_id:
                found.setdefault(task.attempt_id, []).append(task)
        return found

    def billed(self) -> list[Task]:
        """Tasks that were charged and not refunded."""
        self.settle_due()
        return [task for task in self.tasks.values() if task.billed > task.refunded]

    def ledger(self) -> Ledger:
        """Counts and sums over all tasks."""
        self.settle_due()
        tasks = list(self.tasks.values())
        ended = [task.final_state for task in tasks if task.is_settled]
        billed, refunded = sum(task.billed for task in tasks), sum(task.refunded for task in tasks)
        return Ledger(
            tasks_created=len(tasks),
            tasks_billed=sum(task.billed > task.refunded for task in tasks),
            tasks_refunded=sum(task.refunded > 0 for task in tasks),
            running=len(tasks) - len(ended),
            succeeded=ended.count("success"),
            failed=ended.count("fail"),
            credits_billed=as_credits(billed),
            credits_refunded=as_credits(refunded),
            credits_consumed=as_credits(billed - refunded),
            balance=self._purse.read(),
        )

    def _settle(self, task: Task, model: Model, ended_at: float) -> None:
        task.is_settled = True
        if task.plan.failure is None:
            task.result_json = self._results.make(task.task_id, model, task.input, task.plan, task.base_url, ended_at)
        elif self._switches.of(task.model).refunds:
            task.refunded = task.billed
            self._purse.give_back(task.refunded)
