"""Envelope, keys, and trouble below the envelope."""

from collections.abc import AsyncIterator

import httpx
import pytest

from kiebot.simulators.kie import KieSimulator
from kiebot.simulators.server import SimulatorServer
from tests.simulators.kie_client import KEY, KieClient, simulated

CREDIT = "/api/v1/chat/credit"


@pytest.fixture
async def kie() -> AsyncIterator[KieClient]:
    async with simulated() as client:
        yield client


async def test_an_error_comes_as_http_200_with_its_code_in_the_body(kie: KieClient) -> None:
    response = await kie.anonymous.get(CREDIT)
    assert response.status_code == 200
    assert response.json()["code"] == 401
    assert response.json()["msg"].startswith("Unauthorized – Authentication failed.")
    assert response.json()["data"] is None


async def test_mirror_mode_puts_the_code_into_the_http_status_too(kie: KieClient) -> None:
    kie.sim.switches.http_status = "mirror"
    response = await kie.anonymous.get(CREDIT)
    assert (response.status_code, response.json()["code"]) == (401, 401)
    assert (await kie.http.get(CREDIT)).status_code == 200


async def test_the_text_can_be_named_message(kie: KieClient) -> None:
    kie.sim.switches.text_key = "message"
    answer = await kie.get("/api/v1/nowhere")
    assert "msg" not in answer
    assert (answer["code"], answer["message"]) == (404, "Not Found")


@pytest.mark.parametrize("headers", [{"apikey": KEY}, {"authorization": KEY}, {"authorization": "Bearer wrong"}, {}])
async def test_only_a_bearer_key_opens_the_api(kie: KieClient, headers: dict[str, str]) -> None:
    for path in (CREDIT, "/api/v1/models", "/api/v1/jobs/recordInfo"):
        assert (await kie.anonymous.get(path, headers=headers)).json()["code"] == 401
    upload = (await kie.anonymous.post("/api/file-base64-upload", json={}, headers=headers)).json()
    assert (upload["code"], upload["success"]) == (401, False)
    assert upload["msg"] == "Authentication failed: Invalid API Key"


async def test_a_capped_key_is_refused_after_it_has_spent_its_share(kie: KieClient) -> None:
    kie.sim.switches.key_cap_credits = 1.6
    await kie.create()
    await kie.create()
    assert (await kie.try_create())["code"] == 433
    assert kie.sim.ledger().credits_consumed == 1.6


async def test_a_wrong_method_and_a_body_that_is_no_json_are_told_apart(kie: KieClient) -> None:
    assert (await kie.get("/api/v1/jobs/createTask"))["code"] == 405
    response = await kie.http.post("/api/v1/jobs/createTask", content=b"{")
    assert response.json()["code"] == 400
    assert (await kie.post("/api/v1/jobs/createTask", [1]))["code"] == 400


async def test_the_journal_knows_every_request_and_never_the_key(kie: KieClient) -> None:
    await kie.create("a dog", callBackUrl="https://bot.example/kie/callback/attempt-7?x=1")
    await kie.http.get(CREDIT, params={"leak": KEY})
    create, credit = kie.sim.journal
    assert (create.method, create.model, create.code, create.attempt_id) == ("POST", "z-image", 200, "attempt-7")
    assert create.summary["prompt"] == "a dog"
    assert credit.carried_key
    assert KEY not in repr(list(kie.sim.journal))


@pytest.mark.parametrize(("kind", "status"), [("html_502", 502), ("html_503", 503), ("html_504", 504)])
async def test_a_gateway_page_is_html(kie: KieClient, kind: str, status: int) -> None:
    task_id = await kie.create()
    kie.sim.faults.next_query(kind)
    response = await kie.http.get("/api/v1/jobs/recordInfo", params={"taskId": task_id})
    assert (response.status_code, response.text[:6]) == (status, "<html>")
    assert (await kie.record(task_id))["code"] == 200


async def test_a_query_may_answer_with_no_json_at_all(kie: KieClient) -> None:
    task_id = await kie.create()
    kie.sim.faults.next_query("not_json")
    with pytest.raises(ValueError, match="Expecting value"):
        await kie.record(task_id)


async def test_codes_can_be_scripted_with_or_without_the_http_status(kie: KieClient) -> None:
    kie.sim.faults.next_create("code_455")
    assert (await kie.try_create())["code"] == 455
    kie.sim.faults.next_create("http_429")
    response = await kie.http.post("/api/v1/jobs/createTask", json={"model": "z-image"})
    assert (response.status_code, response.json()["code"]) == (429, 429)
    assert not kie.sim.tasks


async def test_an_unknown_fault_is_refused_by_name(kie: KieClient) -> None:
    for endpoint, kind in (("create", "explode"), ("file", "code_500"), ("nowhere", "reset")):
        with pytest.raises(ValueError, match="no such"):
            kie.sim.faults.add(endpoint, kind)  # type: ignore[arg-type]  # the point of the test


async def test_noise_at_full_rate_spares_no_call_and_creates_nothing(kie: KieClient) -> None:
    kie.sim.switches.noise_rate = 1.0
    kie.sim.switches.noise_kinds = ("html_502", "html_503")
    for _ in range(5):
        assert (await kie.http.post("/api/v1/jobs/createTask", json={"model": "z-image"})).status_code in (502, 503)
    assert not kie.sim.tasks


async def test_answers_are_gzipped_when_switched_on_and_accepted(kie: KieClient) -> None:
    kie.sim.switches.gzip = True
    response = await kie.http.get(CREDIT)
    assert response.headers["content-encoding"] == "gzip"
    assert response.json()["data"] == 100_000
    plain = await kie.http.get(CREDIT, headers={"accept-encoding": "identity"})
    assert "content-encoding" not in plain.headers


async def test_a_reset_breaks_the_connection_on_a_real_socket_and_in_process(kie: KieClient) -> None:
    kie.sim.faults.add("credit", "reset", count=2)
    with pytest.raises(httpx.RemoteProtocolError):
        await kie.get(CREDIT)
    async with (
        SimulatorServer(kie.sim.asgi) as server,
        httpx.AsyncClient(base_url=server.url, headers={"authorization": f"Bearer {KEY}"}) as http,
    ):
        with pytest.raises((httpx.RemoteProtocolError, httpx.ReadError)):
            await http.get(CREDIT)
        assert (await http.get(CREDIT)).json()["code"] == 200


async def test_slow_headers_keep_the_client_waiting_by_the_clock() -> None:
    async with simulated() as kie, SimulatorServer(kie.sim.asgi) as server:
        kie.sim.faults.add("credit", "slow_headers")
        async with httpx.AsyncClient(base_url=server.url, headers={"authorization": f"Bearer {KEY}"}) as http:
            with pytest.raises(httpx.ReadTimeout):
                await http.get(CREDIT, timeout=0.1)


async def test_the_program_answers_the_lifespan_protocol() -> None:
    sim = KieSimulator()
    incoming = [{"type": "lifespan.startup"}, {"type": "lifespan.shutdown"}]
    sent: list[str] = []

    async def receive() -> dict[str, str]:
        return incoming.pop(0)

    async def send(message: object) -> None:
        assert isinstance(message, dict)
        sent.append(message["type"])

    await sim.asgi({"type": "lifespan"}, receive, send)
    assert sent == ["lifespan.startup.complete", "lifespan.shutdown.complete"]
