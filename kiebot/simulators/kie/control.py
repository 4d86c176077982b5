"""The admin path `/_sim`: switches, faults, credits and the journal, for clients outside this process."""

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import msgspec

from kiebot.simulators.kie.exchange import Exchange, Page, Reply

if TYPE_CHECKING:
    from kiebot.simulators.kie.simulator import KieSimulator
    from kiebot.simulators.kie.tasks import Task

PREFIX = "/_sim/"


class Control:
    """Plain JSON, real HTTP statuses, no key: it is only there when the simulator was built with `control=True`.

    GET switches, ledger, tasks, attempts, faults, journal (?path=, ?limit=) · POST switches {name: value, models: {id:
    {…}}}, faults {endpoint, kind, count, model}, fail {text}, credits {balance}, forge {url, taskId}, reset.
    """

    def __init__(self, simulator: "KieSimulator") -> None:
        self._simulator = simulator

    async def answer(self, exchange: Exchange) -> Reply:
        """The state asked for, or 200 after a change; 400 with a reason for a value that does not fit."""
        name = exchange.path.removeprefix(PREFIX)
        body = await exchange.json() if exchange.method == "POST" else None
        try:
            found = (
                await self._change(name, body if isinstance(body, dict) else {})
                if exchange.method == "POST"
                else (self._shown(name, exchange.query))
            )
        except (ValueError, TypeError, KeyError) as error:
            return _json(400, {"error": str(error)})
        return _json(404, {"error": "no such thing"}) if found is None else _json(200, found)

    def _shown(self, name: str, query: dict[str, str]) -> Any:
        simulator = self._simulator
        match name:
            case "switches":
                return simulator.switches.as_dict()
            case "ledger":
                return asdict(simulator.ledger())
            case "tasks":
                simulator.settle()
                return [_task_row(task) for task in simulator.tasks.values()]
            case "attempts":
                attempts = simulator.tasks_by_attempt()
                return {attempt: [_task_row(task) for task in tasks] for attempt, tasks in attempts.items()}
            case "faults":
                return [asdict(fault) for fault in simulator.faults]
            case "journal":
                entries = [entry for entry in simulator.journal if query.get("path", "") in entry.path]
                return [asdict(entry) for entry in entries[-int(query.get("limit", "1000")) :]]
            case _:
                return None

    async def _change(self, name: str, body: dict[str, Any]) -> Any:
        simulator = self._simulator
        match name:
            case "switches":
                for model_id, values in body.pop("models", {}).items():
                    simulator.switches.set_model(model_id, **values)
                simulator.switches.set(**body)
            case "faults":
                simulator.faults.add(
                    body["endpoint"], body["kind"], count=int(body.get("count", 1)), model=body.get("model")
                )
            case "fail":
                simulator.fails_next(str(body["text"]))
            case "credits":
                simulator.set_credits(float(body["balance"]))
            case "forge":
                return {"status": await simulator.forge_callback(str(body["url"]), str(body["taskId"]))}
            case "reset":
                simulator.reset()
            case _:
                return None
        return {"done": name}


def _task_row(task: "Task") -> dict[str, Any]:
    return {
        "taskId": task.task_id,
        "model": task.model,
        "state": task.state,
        "attempt": task.attempt_id,
        "creditsBilled": task.credits_billed,
        "createTime": round(task.created_at * 1000),
        "failMsg": task.plan.failure.text if task.plan.failure else None,
        "callbacks": [asdict(delivery) for delivery in task.callbacks],
    }


def _json(status: int, value: Any) -> Page:
    return Page(status, msgspec.json.encode(value), "application/json")
