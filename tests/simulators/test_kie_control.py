"""Scenarios from outside the process: marks in a prompt, the admin path."""

import json
from collections.abc import AsyncIterator

import pytest

from tests.simulators.kie_client import KieClient, simulated


@pytest.fixture
async def kie() -> AsyncIterator[KieClient]:
    async with simulated(control=True) as client:
        client.sim.switches.duration_s = 10.0
        yield client


async def test_marks_decide_how_a_task_ends(kie: KieClient) -> None:
    failing = await kie.create("a cat [[sim:fail=content policy]]")
    stuck = await kie.create("a cat [[sim:profile=e]]")
    many = await kie.create("[[sim:urls=3]] a cat")
    empty = await kie.create("[[sim:empty]]")
    await kie.clock.advance(10)
    assert (await kie.data(failing))["failMsg"] == "content policy"
    assert (await kie.data(stuck))["state"] == "waiting"
    assert len(kie.task(many).result_urls) == 3
    assert json.loads((await kie.data(empty))["resultJson"]) == {"resultUrls": []}


async def test_marks_decide_how_a_task_runs(kie: KieClient) -> None:
    kie.sim.switches.duration_s = None
    slow = await kie.create("[[sim:slow=50]]")
    assert kie.task(slow).plan.ends_at_s > 100
    exact = await kie.create("[[sim:seconds=3.5]][[sim:gap=2]]")
    assert kie.task(exact).plan.ends_at_s == 3.5
    assert (await kie.record(exact))["code"] == 422
    assert (await kie.try_create("[[sim:code=402]]"))["code"] == 402
    response = await kie.http.post(
        "/api/v1/jobs/createTask",
        json={"model": "z-image", "input": {"prompt": "[[sim:lose=d]]", "aspect_ratio": "1:1"}},
    )
    assert (response.status_code, len(kie.sim.tasks)) == (502, 3)


async def test_marks_work_in_spoken_texts_and_senseless_ones_do_nothing(kie: KieClient) -> None:
    spoken = {"text": "Hello [[sim:fail=capacity]]"}
    body = {"model": "elevenlabs/text-to-speech-turbo-2-5", "input": spoken}
    task_id = (await kie.post("/api/v1/jobs/createTask", body))["data"]["taskId"]
    assert kie.task(task_id).final_state == "fail"
    plain = await kie.create("[[sim:urls=many]][[sim:profile=Z]][[sim:nothing]][[sim:slow=x]]")
    await kie.clock.advance(10)
    assert len(kie.task(plain).result_urls) == 1


async def test_switches_are_set_and_read_over_the_admin_path(kie: KieClient) -> None:
    change = {"duration_s": 3, "gap_s": [1, 2], "models": {"z-image": {"profile": "B"}}}
    assert (await kie.anonymous.post("/_sim/switches", json=change)).status_code == 200
    shown = (await kie.anonymous.get("/_sim/switches")).json()
    assert (shown["duration_s"], shown["gap_s"], shown["models"]["z-image"]) == (3, [1, 2], {"profile": "B"})
    assert "webhook_key" not in shown


@pytest.mark.parametrize("change", [{"no_such": 1}, {"failure_rate": "high"}, {"profile": "Z"}, {"_models": {}}])
async def test_a_senseless_switch_is_refused_with_its_name(kie: KieClient, change: dict[str, object]) -> None:
    response = await kie.anonymous.post("/_sim/switches", json=change)
    assert response.status_code == 400
    assert next(iter(change)) in response.json()["error"]


async def test_faults_failures_and_credits_can_be_scripted_from_outside(kie: KieClient) -> None:
    fault = {"endpoint": "create", "kind": "code_455", "count": 2}
    assert (await kie.anonymous.post("/_sim/faults", json=fault)).status_code == 200
    assert len((await kie.anonymous.get("/_sim/faults")).json()) == 2
    assert (await kie.try_create())["code"] == 455
    await kie.anonymous.post("/_sim/reset", json={})
    await kie.anonymous.post("/_sim/fail", json={"text": "rights"})
    await kie.anonymous.post("/_sim/credits", json={"balance": 1})
    assert kie.task(await kie.create()).final_state == "fail"
    assert (await kie.try_create())["code"] == 402


async def test_what_happened_can_be_read_from_outside(kie: KieClient) -> None:
    await kie.create(callBackUrl="http://bot.invalid/kie/callback/a1")
    ledger = (await kie.anonymous.get("/_sim/ledger")).json()
    assert (ledger["tasks_created"], ledger["credits_consumed"]) == (1, 0.8)
    attempts = (await kie.anonymous.get("/_sim/attempts")).json()
    assert [task["creditsBilled"] for task in attempts["a1"]] == [0.8]
    assert len((await kie.anonymous.get("/_sim/tasks")).json()) == 1
    journal = (await kie.anonymous.get("/_sim/journal", params={"path": "createTask"})).json()
    assert [entry["attempt_id"] for entry in journal] == ["a1"]
    assert (await kie.anonymous.get("/_sim/nothing")).status_code == 404


async def test_the_admin_path_is_closed_unless_asked_for() -> None:
    async with simulated() as kie:
        assert (await kie.get("/_sim/ledger"))["code"] == 404
