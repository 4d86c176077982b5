"""Creates whose answer is lost: what happened and what was billed can be told afterwards."""

import asyncio
from collections.abc import AsyncIterator

import httpx
import pytest

from kiebot.simulators.kie import KieSimulator
from kiebot.simulators.server import SimulatorServer
from tests.simulators.kie_client import KEY, KieClient, simulated


@pytest.fixture
async def kie() -> AsyncIterator[KieClient]:
    async with simulated() as client:
        yield client


def body(attempt: str, prompt: str = "a cat") -> dict[str, object]:
    given = {"prompt": prompt, "aspect_ratio": "1:1"}
    return {"model": "z-image", "input": given, "callBackUrl": f"http://bot.invalid/kie/callback/{attempt}"}


@pytest.mark.parametrize(("variant", "billed"), [("a", 1), ("c", 0)])
async def test_a_broken_connection_hides_whether_a_task_was_made(kie: KieClient, variant: str, billed: int) -> None:
    kie.sim.loses_next_answer(variant)
    with pytest.raises(httpx.RemoteProtocolError):
        await kie.http.post("/api/v1/jobs/createTask", json=body("a1"))
    assert len(kie.sim.billed_tasks()) == billed
    assert len(kie.sim.tasks_by_attempt().get("a1", [])) == billed
    assert kie.sim.journal.creates_by_callback() == {"a1": 1}


@pytest.mark.parametrize(("variant", "billed"), [("d", 1), ("d0", 0)])
async def test_a_502_page_hides_it_too(kie: KieClient, variant: str, billed: int) -> None:
    kie.sim.loses_next_answer(variant)
    response = await kie.http.post("/api/v1/jobs/createTask", json=body("a1"))
    assert (response.status_code, len(kie.sim.billed_tasks())) == (502, billed)


async def test_a_cut_json_body_means_a_task_was_made(kie: KieClient) -> None:
    kie.sim.loses_next_answer("e")
    response = await kie.http.post("/api/v1/jobs/createTask", json=body("a1"))
    with pytest.raises(ValueError, match=r"Unterminated|Expecting"):
        response.json()
    assert len(kie.sim.billed_tasks()) == 1


async def test_a_late_answer_still_names_the_task(kie: KieClient) -> None:
    kie.sim.loses_next_answer("b")
    waiting = asyncio.ensure_future(kie.create())
    await kie.clock.advance(119)
    assert not waiting.done()
    assert len(kie.sim.tasks) == 1
    await kie.clock.advance(1)
    assert await waiting in kie.sim.tasks


async def test_repeating_a_lost_create_is_seen_as_two_billed_tasks_of_one_attempt(kie: KieClient) -> None:
    kie.sim.faults.next_create("lose_answer")
    with pytest.raises(httpx.RemoteProtocolError):
        await kie.http.post("/api/v1/jobs/createTask", json=body("a1"))
    await kie.http.post("/api/v1/jobs/createTask", json=body("a1"))
    assert len(kie.sim.tasks_by_attempt()["a1"]) == 2
    assert kie.sim.journal.creates_by_callback()["a1"] == 2
    assert kie.sim.ledger().credits_consumed == 1.6


async def test_an_attempt_without_a_callback_is_known_by_its_header(kie: KieClient) -> None:
    given = {"model": "z-image", "input": {"prompt": "x", "aspect_ratio": "1:1"}}
    await kie.http.post("/api/v1/jobs/createTask", json=given, headers={"X-Attempt-Id": "h1"})
    assert list(kie.sim.tasks_by_attempt()) == ["h1"]
    assert kie.sim.journal.creates_by_attempt() == {"h1": 1}
    assert not kie.sim.journal.creates_by_callback()


async def test_a_share_of_all_creates_can_be_lost(kie: KieClient) -> None:
    kie.sim.switches.rate_limits = False
    kie.sim.switches.lose_rate, kie.sim.switches.lose_variants = 0.5, ("d", "d0")
    statuses = [(await kie.http.post("/api/v1/jobs/createTask", json=body(f"a{n}"))).status_code for n in range(60)]
    assert 15 <= statuses.count(502) <= 45
    answered = statuses.count(200)
    assert answered < len(kie.sim.tasks) < 60


async def test_on_a_real_socket_the_connection_really_breaks() -> None:
    async with KieSimulator() as sim, SimulatorServer(sim.asgi) as server:
        async with httpx.AsyncClient(base_url=server.url, headers={"authorization": f"Bearer {KEY}"}) as http:
            for variant in ("a", "c"):
                sim.loses_next_answer(variant)
                with pytest.raises((httpx.RemoteProtocolError, httpx.ReadError)):
                    await http.post("/api/v1/jobs/createTask", json=body(variant))
            sim.loses_next_answer("b")
            with pytest.raises(httpx.ReadTimeout):
                await http.post("/api/v1/jobs/createTask", json=body("b"), timeout=0.2)
        assert sorted(sim.tasks_by_attempt()) == ["a", "b"]
