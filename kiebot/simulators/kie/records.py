"""How a task is told: the three field sets of recordInfo, and the bodies of callbacks."""

from typing import Any

import msgspec

from kiebot.simulators.kie.purse import as_credits
from kiebot.simulators.kie.switches import Switches
from kiebot.simulators.kie.tasks import FINAL, Task

SUCCESS_TEXT = "Playground task completed successfully."
FAILURE_TEXT = "Playground task failed."
_FLAGS = {"success": 1, "fail": 3}


def record_of(task: Task, switches: Switches) -> dict[str, Any]:
    """`data` of recordInfo at this instant, in the field set the switches name."""
    state = task.state
    record = _april(task, switches, state)
    if switches.record_fields == "newest":
        record |= _newest(task, state)
    elif switches.record_fields == "docs":
        record |= _documented(task, record, state)
    if switches.extra_fields:
        record |= {"queuePosition": None, "traceId": f"trace-{task.task_id[:8]}", "meta": {"region": "us"}}
    return record


def final_record(task: Task, switches: Switches) -> dict[str, Any]:
    """`data` of a callback: the newest field set, at the task's end whatever recordInfo shows."""
    record = _april(task, switches, task.final_state) | _newest(task, task.final_state)
    del record["progress"], record["successFlag"], record["response"]
    if task.plan.failure is not None:
        record["resultJson"] = None
    if switches.callback_credits == "consumeCredits":
        record["consumeCredits"] = record.pop("creditsConsumed")
        record["remainedCredits"] = 0
    return record


def callback_bodies(task: Task, switches: Switches, balance: float) -> list[dict[str, Any]]:
    """The callbacks a task's end brings, in order: one, or three stages in the Suno shape."""
    record = final_record(task, switches)
    if "remainedCredits" in record:
        record["remainedCredits"] = balance
    failure = task.plan.failure
    if switches.callback_shape == "suno":
        return _suno(task)
    if switches.callback_shape == "veo":
        return [_veo(task)]
    if failure is None:
        return [{"code": 200, "msg": SUCCESS_TEXT, "data": record}]
    return [{"code": 501, "msg": FAILURE_TEXT, "data": record}]


def forged_body(task_id: str, model: str, url: str) -> dict[str, Any]:
    """A success nobody earned, pointing to a file elsewhere."""
    result = msgspec.json.encode({"resultUrls": [url]}).decode()
    data = {"taskId": task_id, "model": model, "state": "success", "resultJson": result, "creditsConsumed": 0}
    return {"code": 200, "msg": SUCCESS_TEXT, "data": data}


def _april(task: Task, switches: Switches, state: str) -> dict[str, Any]:
    is_final = state in FINAL
    failure = task.plan.failure if state == "fail" else None
    form = switches.of(task.model).fail_code_as
    return {
        "taskId": task.task_id,
        "model": task.model,
        "state": state,
        "param": _param(task, nested=switches.record_fields == "docs"),
        "resultJson": task.result_json if state == "success" else "",
        "failCode": failure.code_as(form) if failure else None,
        "failMsg": failure.text if failure else None,
        "costTime": round(task.plan.ends_at_s) if is_final else None,
        "completeTime": _completed_ms(task) if is_final else None,
        "createTime": round(task.created_at * 1000),
    }


def _newest(task: Task, state: str) -> dict[str, Any]:
    response = msgspec.json.decode(task.result_json.encode()) if state == "success" and task.result_json else None
    consumed = 0 if state == "fail" and task.refunded else as_credits(task.billed)
    return {
        "creditsConsumed": consumed,
        "updateTime": _completed_ms(task) if state in FINAL else round((task.created_at + task.age_s) * 1000),
        "successFlag": _FLAGS.get(state, 0),
        "response": response,
        "progress": None,
    }


def _documented(task: Task, record: dict[str, Any], state: str) -> dict[str, Any]:
    changed: dict[str, Any] = {name: "" if record[name] is None else record[name] for name in ("failCode", "failMsg")}
    changed["costTime"] = round(task.plan.ends_at_s * 1000) if state in FINAL else 0
    return changed | {"updateTime": _newest(task, state)["updateTime"]}


def _param(task: Task, *, nested: bool) -> str:
    given: Any = task.input if nested else msgspec.json.encode(task.input).decode()
    param = {"input": given} | ({"callBackUrl": task.callback_url} if task.callback_url else {})
    return msgspec.json.encode({**param, "model": task.model}).decode()


def _completed_ms(task: Task) -> int:
    return round((task.created_at + task.plan.ends_at_s) * 1000)


def _veo(task: Task) -> dict[str, Any]:
    failure = task.plan.failure
    if failure is not None:
        return {"code": 501, "msg": failure.text, "data": {"taskId": task.task_id, "fallbackFlag": False}}
    info = {"resultUrls": task.result_urls, "originUrls": task.result_urls, "resolution": "1080p"}
    data = {"taskId": task.task_id, "info": info, "fallbackFlag": False, "promptJson": _param(task, nested=True)}
    return {"code": 200, "msg": "Veo3.1 video generated successfully.", "data": data}


def _suno(task: Task) -> list[dict[str, Any]]:
    failure = task.plan.failure
    if failure is not None:
        return [{"code": 531, "msg": failure.text, "data": _stage(task, "error", None)}]
    takes = [{"id": f"{task.task_id}-{n}", "audio_url": url} for n, url in enumerate(task.result_urls)]
    stages = (("text", None), ("first", takes[:1]), ("complete", takes))
    return [{"code": 200, "msg": f"{name} stage", "data": _stage(task, name, found)} for name, found in stages]


def _stage(task: Task, name: str, takes: list[dict[str, Any]] | None) -> dict[str, Any]:
    return {"callbackType": name, "task_id": task.task_id, "data": takes}
