"""createTask and recordInfo: the calls that sell and tell."""

import random
from collections import deque
from dataclasses import replace
from typing import Any, get_args
from urllib.parse import urlsplit

import msgspec

from kiebot.simulators.clock import SimClock
from kiebot.simulators.kie.callbacks import CallbackSender
from kiebot.simulators.kie.catalogue import Model, ModelBook
from kiebot.simulators.kie.exchange import Answer, Cut, Exchange, Late, Page, Reply
from kiebot.simulators.kie.failures import CODE_TEXTS, Failure
from kiebot.simulators.kie.files import FileStore
from kiebot.simulators.kie.inputs import InputCheck
from kiebot.simulators.kie.marks import Marks, read_marks, texts_of
from kiebot.simulators.kie.noise import Noise, answer_of, gateway_page
from kiebot.simulators.kie.plans import Planner
from kiebot.simulators.kie.prices import price_of
from kiebot.simulators.kie.purse import Purse
from kiebot.simulators.kie.records import record_of
from kiebot.simulators.kie.schema import problem_of, with_defaults
from kiebot.simulators.kie.switches import LoseVariant, Switches
from kiebot.simulators.kie.tasks import FINAL, Task, TaskBook
from kiebot.simulators.kie.windows import Window

PAUSED_TEXT = "This interface is temporarily paused."
NO_RECORD = Answer(422, "recordInfo is null")


class Jobs:
    """The unified jobs API over one account."""

    def __init__(
        self,
        *,
        models: ModelBook,
        switches: Switches,
        noise: Noise,
        clock: SimClock,
        rng: random.Random,
        planner: Planner,
        purse: Purse,
        book: TaskBook,
        files: FileStore,
        callbacks: CallbackSender,
    ) -> None:
        self._models, self._switches, self._noise, self._clock, self._rng = models, switches, noise, clock, rng
        self._planner, self._purse, self._book, self._files = planner, purse, book, files
        self._callbacks = callbacks
        self._inputs = InputCheck(files, switches)
        self._creates = Window(clock, 10.0)
        self._all_polls = Window(clock, 1.0)
        self.failing: deque[str] = deque()
        """Texts with which the next tasks fail, first come first failed."""

    async def create(self, exchange: Exchange) -> Reply:
        """POST /api/v1/jobs/createTask."""
        body = await exchange.json()
        request = body if isinstance(body, dict) else {}
        _note_request(exchange, request)
        await self._pause(0.3, 0.9)
        fault = self._noise.draw("create", request.get("model"))
        if reply := self._noise.reply_to(fault) or self._refusal_by_account():
            return reply
        if not request:
            return answer_of(400, "Malformed request body")
        return self._create(exchange, request, fault)

    async def query(self, exchange: Exchange) -> Reply:
        """GET /api/v1/jobs/recordInfo?taskId=…"""
        task_id = exchange.query.get("taskId", "")
        exchange.note(task_id=task_id)
        await self._pause(0.2, 0.76)
        fault = self._noise.draw("query")
        if reply := self._noise.reply_to(fault):
            return reply
        task = self._book.tasks.get(task_id)
        if not self._admits_poll(task):
            return self._too_often()
        if not task_id:
            return answer_of(400)
        if fault == "null_data":
            return Answer()
        if task is None or fault == "record_is_null":
            return NO_RECORD
        return self._told(task)

    def price(self, model: Model, given: dict[str, Any]) -> int:
        """Millicredits the account would be charged for this input."""
        full, rounds_up = with_defaults(model, given), self._switches.rounds_units_up
        return price_of(model, full, self._files.facts(), rounds_up=rounds_up)

    def _told(self, task: Task) -> Reply:
        own = self._switches.of(task.model)
        if task.age_s < task.plan.gap_s:
            return Answer() if own.gap_form == "null_data" else NO_RECORD
        if task.state in FINAL:
            task.final_seen.set()
            if task.plan.query_code and task.plan.failure:
                return answer_of(task.plan.query_code, task.plan.failure.text)
        return Answer(data=record_of(task, self._switches))

    def _admits_poll(self, task: Task | None) -> bool:
        switches = self._switches
        if not switches.rate_limits:
            return True
        if switches.polls_per_s is not None and not self._all_polls.admits(switches.polls_per_s):
            return False
        return task is None or task.polls.admits(switches.polls_per_task_per_s)

    def _refusal_by_account(self) -> Answer | None:
        cap = self._switches.key_cap_credits
        if cap is not None and self._purse.spent >= round(cap * 1000):
            return answer_of(433)
        self._creates.shape = self._switches.create_window
        if self._switches.rate_limits and not self._creates.admits(self._switches.creates_per_10s):
            return self._too_often()
        return None

    def _too_often(self) -> Answer:
        after = self._switches.retry_after_s
        headers = (("retry-after", f"{after:g}"),) if after is not None else ()
        return replace(answer_of(429), headers=headers)

    def _create(self, exchange: Exchange, request: dict[str, Any], fault: str | None) -> Reply:
        model = self._models.get(request.get("model"))
        if request.get("model") is None:
            return answer_of(500, "model is required")
        if model is None:
            return answer_of(422)
        given = request.get("input")
        marks = read_marks("\n".join(texts_of(given)))
        if refusal := self._refusal_by_model(model, given, marks, fault):
            return refusal
        full = with_defaults(model, given if isinstance(given, dict) else {})
        refusal, bound_to_fail = self._inputs.check(model, full)
        if refusal:
            return refusal
        return self._sell(exchange, request, model, full, marks, bound_to_fail, fault)

    def _refusal_by_model(self, model: Model, given: Any, marks: Marks, fault: str | None) -> Answer | None:
        own = self._switches.of(model.id)
        if own.maintenance:
            return answer_of(455)
        if own.paused or model.status == "retired":
            return answer_of(500, PAUSED_TEXT)
        if marks.code is not None:
            return answer_of(marks.code)
        if fault == "transient" or (own.transient_rate and self._rng.random() < own.transient_rate):
            return answer_of(500, CODE_TEXTS[500])
        if own.accepts_empty_input and not given:
            return None
        if not isinstance(given, dict):
            return answer_of(500, "input is required")
        problem = problem_of(model, given)
        return answer_of(500, problem) if problem else None

    def _sell(
        self,
        exchange: Exchange,
        request: dict[str, Any],
        model: Model,
        full: dict[str, Any],
        marks: Marks,
        bound_to_fail: Failure | None,
        fault: str | None,
    ) -> Reply:
        variant = self._lost(model, marks, fault)
        if variant in ("c", "d0"):
            exchange.note(outcome=f"lost {variant}, not created")
            return Cut() if variant == "c" else gateway_page(502)
        price = self.price(model, full)
        if not self._purse.take(price):
            return answer_of(402)
        task = self._open(exchange, request, model, full, marks, bound_to_fail, price)
        exchange.note(task_id=task.task_id)
        answer = Answer(data={"taskId": task.task_id, "recordId": task.task_id})
        if variant is None:
            return answer
        exchange.note(outcome=f"lost {variant}, created")
        return self._lose(variant, answer)

    def _open(
        self,
        exchange: Exchange,
        request: dict[str, Any],
        model: Model,
        full: dict[str, Any],
        marks: Marks,
        bound_to_fail: Failure | None,
        price: int,
    ) -> Task:
        if self.failing:
            marks.fail = self.failing.popleft()
        plan = self._planner.plan(model, full, marks, self._switches.of(model.id), bound_to_fail)
        task = Task(
            task_id=f"{self._rng.getrandbits(128):032x}",
            model=model.id,
            input=full,
            callback_url=exchange.notes.get("callback_url"),
            attempt_id=exchange.notes.get("attempt_id"),
            plan=plan,
            billed=price,
            base_url=exchange.base_url,
            born=self._clock.monotonic(),
            created_at=self._clock.now(),
            clock=self._clock,
            polls=Window(self._clock, 1.0),
            hidden_s=self._switches.callback_early_s if "early" in plan.callback_modes else 0.0,
        )
        self._book.open(task, model)
        self._callbacks.watch(task)
        return task

    def _lost(self, model: Model, marks: Marks, fault: str | None) -> LoseVariant | None:
        own = self._switches.of(model.id)
        if fault and fault.startswith("lose_"):
            return next(each for each in get_args(LoseVariant) if fault == f"lose_{each}")
        if own.lose_rate and self._rng.random() < own.lose_rate:
            return self._rng.choice(own.lose_variants)
        return marks.lose

    def _lose(self, variant: LoseVariant, answer: Answer) -> Reply:
        match variant:
            case "b":
                return Late(self._switches.late_answer_s, answer)
            case "d":
                return gateway_page(502)
            case "e":
                whole = msgspec.json.encode({"code": 200, "msg": "success", "data": answer.data})
                return Page(200, whole[: len(whole) // 2], "application/json;charset=UTF-8")
            case _:
                return Cut()

    async def _pause(self, low_s: float, high_s: float) -> None:
        if self._switches.latency_scale:
            await self._clock.sleep(self._rng.uniform(low_s, high_s) * self._switches.latency_scale)


def _note_request(exchange: Exchange, request: dict[str, Any]) -> None:
    url = request.get("callBackUrl")
    callback_url = url if isinstance(url, str) and url else None
    last_segment = urlsplit(callback_url).path.rstrip("/").rsplit("/", 1)[-1] if callback_url else None
    given = request.get("input")
    model = request.get("model")
    exchange.note(
        model=model if isinstance(model, str) else None,
        callback_url=callback_url,
        attempt_id=last_segment or exchange.headers.get("x-attempt-id"),
        summary={"keys": sorted(given)[:40], "prompt": str(given.get("prompt", ""))[:80]}
        if isinstance(given, dict)
        else {},
    )
