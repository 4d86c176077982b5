"""How a task runs, ends and is told."""

import json
from collections.abc import AsyncIterator
from typing import Any

import pytest

from tests.simulators.kie_client import KieClient, simulated

APRIL = [
    "taskId",
    "model",
    "state",
    "param",
    "resultJson",
    "failCode",
    "failMsg",
    "costTime",
    "completeTime",
    "createTime",
]


@pytest.fixture
async def kie() -> AsyncIterator[KieClient]:
    async with simulated() as client:
        client.sim.switches.duration_s = 100.0
        yield client


async def test_a_task_is_not_shown_as_ended_before_its_result_is_there(kie: KieClient) -> None:
    """It may end between the arrival of a question and its answer."""
    task = kie.task(await kie.create())
    await kie.clock.advance(100)
    assert task.state != "success"
    assert (await kie.data(task.task_id))["state"] == task.state == "success"
    assert task.result_urls


async def words(kie: KieClient, task_id: str) -> list[str]:
    seen: list[str] = []
    for _ in range(12):
        state = (await kie.data(task_id))["state"]
        if not seen or seen[-1] != state:
            seen.append(state)
        await kie.clock.advance(10)
    return seen


@pytest.mark.parametrize(
    ("profile", "expected"),
    [
        ("A", ["waiting", "success"]),
        ("B", ["generating", "success"]),
        ("C", ["waiting", "queuing", "generating", "success"]),
        ("D", ["waiting", "post_processing", "generating", "success"]),
        ("E", ["waiting"]),
        ("F", ["waiting", "fail"]),
    ],
)
async def test_each_profile_shows_its_states_in_order(kie: KieClient, profile: Any, expected: list[str]) -> None:
    kie.sim.switches.profile = profile
    assert await words(kie, await kie.create()) == expected


async def test_some_models_go_straight_to_generating(kie: KieClient) -> None:
    assert await words(kie, await kie.create(model="gpt-image-2-text-to-image")) == ["generating", "success"]


async def test_a_stuck_task_stays_stuck_and_stays_billed(kie: KieClient) -> None:
    kie.sim.switches.profile = "E"
    task_id = await kie.create()
    await kie.clock.advance(30 * 86_400)
    assert (await kie.data(task_id))["state"] == "waiting"
    assert kie.sim.ledger().running == 1
    assert len(kie.sim.billed_tasks()) == 1


async def test_moderation_is_quick_and_a_time_out_takes_more_than_ten_minutes() -> None:
    async with simulated() as kie:
        quick, slow = await kie.create("[[sim:profile=F]]"), await kie.create("[[sim:profile=G]]")
        await kie.clock.advance(10)
        assert (await kie.data(quick))["state"] == "fail"
        await kie.clock.advance(590)
        assert (await kie.data(slow))["state"] == "waiting"
        await kie.clock.advance(600)
        assert (await kie.data(slow))["failMsg"] == "Internal Error - Timeout"


@pytest.mark.parametrize("form", ["", "{}", '{"resultUrls":[]}'])
async def test_a_success_may_be_empty(kie: KieClient, form: Any) -> None:
    kie.sim.switches.empty_form = form
    kie.sim.switches.profile = "H"
    done = await kie.finished(await kie.create())
    assert (done["state"], done["resultJson"]) == ("success", form)


async def test_a_success_may_have_several_urls(kie: KieClient) -> None:
    kie.sim.switches.profile = "I"
    assert len(json.loads((await kie.finished(await kie.create()))["resultJson"])["resultUrls"]) == 3


async def test_a_failed_task_may_answer_the_query_with_code_501(kie: KieClient) -> None:
    kie.sim.switches.profile = "J"
    task_id = await kie.create()
    await kie.clock.advance(101)
    answer = await kie.record(task_id)
    assert (answer["code"], answer["data"]) == (501, None)
    assert kie.sim.balance == 100_000


@pytest.mark.parametrize(("form", "code", "data"), [("record_is_null", 422, None), ("null_data", 200, None)])
async def test_a_new_task_is_invisible_for_a_while(kie: KieClient, form: Any, code: int, data: None) -> None:
    kie.sim.switches.gap_s, kie.sim.switches.gap_form = (90.0, 90.0), form
    task_id = await kie.create()
    await kie.clock.advance(89)
    answer = await kie.record(task_id)
    assert (answer["code"], answer["data"]) == (code, data)
    await kie.clock.advance(1)
    assert (await kie.record(task_id))["data"]["state"] == "waiting"


async def test_the_usual_gap_is_below_five_seconds() -> None:
    async with simulated() as kie:
        kie.sim.switches.gap_s = (0.0, 5.0)
        tasks = [await kie.create("[[sim:seconds=60]]") for _ in range(20)]
        codes = {(await kie.record(task_id))["code"] for task_id in tasks}
        assert 422 in codes
        await kie.clock.advance(5)
        assert {(await kie.record(task_id))["code"] for task_id in tasks} == {200}


async def test_an_unknown_task_gets_422_and_no_id_gets_400(kie: KieClient) -> None:
    answer = await kie.record("0" * 32)
    assert (answer["code"], answer["msg"], answer["data"]) == (422, "recordInfo is null", None)
    assert (await kie.get("/api/v1/jobs/recordInfo"))["msg"] == "taskId parameter is required"


async def test_the_april_set_has_exactly_its_ten_fields(kie: KieClient) -> None:
    kie.sim.switches.record_fields = "april"
    task_id = await kie.create()
    running = await kie.data(task_id)
    assert list(running) == APRIL
    assert running["resultJson"] == ""
    assert [running[name] for name in ("failCode", "failMsg", "costTime", "completeTime")] == [None] * 4
    done = await kie.finished(task_id)
    assert list(done) == APRIL
    assert done["costTime"] == 100
    assert done["completeTime"] - done["createTime"] == 100_000


async def test_the_newest_set_adds_credits_flag_and_the_parsed_response(kie: KieClient) -> None:
    task_id = await kie.create()
    running = await kie.data(task_id)
    assert (running["creditsConsumed"], running["successFlag"], running["response"]) == (0.8, 0, None)
    assert running["progress"] is None
    done = await kie.finished(task_id)
    assert done["response"] == json.loads(done["resultJson"])
    assert (done["successFlag"], done["updateTime"]) == (1, done["completeTime"])
    kie.sim.fails_next("server")
    assert (await kie.finished(await kie.create()))["successFlag"] == 3


async def test_the_documented_set_nests_param_and_counts_milliseconds(kie: KieClient) -> None:
    kie.sim.switches.record_fields = "docs"
    task_id = await kie.create()
    running = await kie.data(task_id)
    assert (running["failCode"], running["failMsg"]) == ("", "")
    assert json.loads(running["param"])["input"]["prompt"] == "a cat"
    assert (await kie.finished(task_id))["costTime"] == 100_000


@pytest.mark.parametrize(("form", "code"), [("string", "400"), ("int", 400), ("word", "SENSITIVE_WORD_ERROR")])
async def test_a_fail_code_is_a_string_a_number_or_a_word(kie: KieClient, form: Any, code: object) -> None:
    kie.sim.switches.fail_code_as = form
    kie.sim.fails_next("moderation_prompt")
    assert (await kie.finished(await kie.create()))["failCode"] == code


async def test_extra_fields_come_by_switch(kie: KieClient) -> None:
    kie.sim.switches.extra_fields = True
    assert "traceId" in await kie.data(await kie.create())


async def test_the_same_prompt_always_meets_the_same_moderation(kie: KieClient) -> None:
    kie.sim.switches.rate_limits = False
    kie.sim.switches.moderation_rate = 0.5
    verdicts: dict[str, set[str | None]] = {}
    for prompt in [f"prompt {n}" for n in range(12)] * 3:
        verdicts.setdefault(prompt, set()).add((await kie.finished(await kie.create(prompt)))["failMsg"])
    assert all(len(seen) == 1 for seen in verdicts.values())
    assert len({None in seen for seen in verdicts.values()}) == 2


async def test_server_faults_strike_one_model_at_its_own_rate(kie: KieClient) -> None:
    kie.sim.switches.rate_limits = False
    kie.sim.switches.set_model("z-image", failure_rate=0.5)
    states = [kie.task(await kie.create("same")).final_state for _ in range(60)]
    assert 15 <= states.count("fail") <= 45
    others = [kie.task(await kie.create(model="nano-banana-2-lite")).final_state for _ in range(20)]
    assert set(others) == {"success"}


async def test_fails_next_takes_a_class_or_any_text(kie: KieClient) -> None:
    kie.sim.fails_next("content policy")
    kie.sim.fails_next("capacity")
    first, second = await kie.create(), await kie.create()
    assert (await kie.finished(first))["failMsg"] == "content policy"
    assert (await kie.data(second))["failMsg"] == "Reached the limit for concurrent generations."


async def test_durations_follow_their_class_and_the_scale() -> None:
    async with simulated(rate_limits=False) as kie:
        fast = sorted([kie.task(await kie.create()).plan.ends_at_s for _ in range(200)])
        assert 8 < fast[100] < 12
        assert fast[-1] > 20  # the tail
        kie.sim.switches.duration_scale = 0.01
        assert kie.task(await kie.create()).plan.ends_at_s < 1


async def test_two_simulators_with_one_seed_meet_the_same_fates() -> None:
    seen = []
    for seed in (5, 5, 6):
        async with simulated(seed=seed) as kie:
            tasks = [kie.task(await kie.create()) for _ in range(5)]
            seen.append([(task.task_id, task.plan) for task in tasks])
    assert seen[0] == seen[1] != seen[2]
