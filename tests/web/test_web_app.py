"""The routes: who is let in, what is limited, what is answered when something behind them fails."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from uuid import UUID, uuid4

import httpx
import pytest

from kiebot.observe.metrics import METRICS
from kiebot.web import app as web_app
from kiebot.web.app import MAX_CALLBACK_BYTES, MAX_UPDATE_BYTES, make_app
from tests.web.web_kit import SECRET, SECRET_HEADER, Behind, client

SHOWN = {SECRET_HEADER: SECRET}


@pytest.fixture
def behind() -> Behind:
    return Behind()


@pytest.fixture
async def http(behind: Behind) -> AsyncIterator[httpx.AsyncClient]:
    async with client(behind.app()) as opened:
        yield opened


async def test_health_is_green_while_every_store_is_away(http: httpx.AsyncClient, behind: Behind) -> None:
    behind.states = {"postgres": "unreachable", "redis": "unreachable"}
    assert (await http.get("/healthz")).status_code == 200
    assert behind.asked == 0


async def test_readiness_is_green_when_everything_is_ok(http: httpx.AsyncClient) -> None:
    answer = await http.get("/readyz")
    assert answer.status_code == 200
    assert answer.json() == {"ready": True, "checks": {"postgres": "ok", "redis": "ok"}}


async def test_readiness_names_what_is_wrong(http: httpx.AsyncClient, behind: Behind) -> None:
    behind.states["redis"] = "unreachable"
    answer = await http.get("/readyz")
    assert answer.status_code == 503
    assert answer.json() == {"ready": False, "checks": {"postgres": "ok", "redis": "unreachable"}}


async def test_readiness_is_red_when_nobody_can_tell(http: httpx.AsyncClient, behind: Behind) -> None:
    behind.failure = RuntimeError("no idea")
    answer = await http.get("/readyz")
    assert answer.status_code == 503
    assert answer.json() == {"ready": False, "checks": {"checks": "RuntimeError"}}


async def test_readiness_is_red_when_the_answer_takes_too_long(
    http: httpx.AsyncClient, behind: Behind, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(web_app, "READY_WITHIN_S", 0.02)
    behind.gate = asyncio.Event()
    assert (await http.get("/readyz")).status_code == 503


async def test_readiness_never_shows_a_password(http: httpx.AsyncClient, behind: Behind) -> None:
    behind.states["postgres"] = "cannot reach postgresql://kiebot:hunter2hunter2@db/kiebot"
    answer = await http.get("/readyz")
    assert "hunter2" not in answer.text
    assert "@db/kiebot" in answer.text


async def test_many_askers_at_once_cost_the_stores_one_question(http: httpx.AsyncClient, behind: Behind) -> None:
    behind.gate = asyncio.Event()
    asking = [asyncio.create_task(http.get("/readyz")) for _ in range(20)]
    await asyncio.sleep(0.02)
    behind.gate.set()
    assert {answer.status_code for answer in await asyncio.gather(*asking)} == {200}
    assert behind.asked == 1
    await http.get("/readyz")
    assert behind.asked == 2  # an answer is shared, never kept


async def test_metrics_are_served_as_prometheus_reads_them(http: httpx.AsyncClient) -> None:
    answer = await http.get("/metrics")
    assert answer.text == "kiebot_is_leader 1\n"
    assert answer.headers["content-type"].startswith("text/plain; version=")


async def test_an_update_with_the_secret_is_recorded_as_it_came(http: httpx.AsyncClient, behind: Behind) -> None:
    answer = await http.post("/telegram/webhook", content=b'{"update_id": 1}', headers=SHOWN)
    assert answer.status_code == 200
    assert answer.content == b""
    assert behind.received == [b'{"update_id": 1}']


@pytest.mark.parametrize("shown", [None, "", "wrong", SECRET[:-1], SECRET + "x", SECRET.upper(), "\xff\xfe"])
async def test_an_update_without_the_secret_is_refused(
    http: httpx.AsyncClient, behind: Behind, shown: str | None
) -> None:
    headers = [] if shown is None else [(SECRET_HEADER.encode(), shown.encode("latin-1"))]
    answer = await http.post("/telegram/webhook", content=b"{}", headers=headers)
    assert answer.status_code == 401
    assert behind.received == []


async def test_a_forger_gets_no_body_read(behind: Behind) -> None:
    read: list[bytes] = []

    async def offered() -> AsyncIterator[bytes]:
        read.append(b"{}")
        yield b"{}"

    async with client(behind.app()) as http:
        assert (await http.post("/telegram/webhook", content=offered())).status_code == 401
    assert read == []


async def test_an_update_that_cannot_be_recorded_is_sent_again_by_telegram(
    http: httpx.AsyncClient, behind: Behind
) -> None:
    behind.failure = OSError("no database")
    answer = await http.post("/telegram/webhook", content=b"{}", headers=SHOWN)
    assert answer.status_code == 503
    assert int(answer.headers["retry-after"]) > 0


async def test_an_update_that_takes_too_long_to_record_is_not_acknowledged(
    http: httpx.AsyncClient, behind: Behind, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(web_app, "DONE_WITHIN_S", 0.02)
    behind.gate = asyncio.Event()
    assert (await http.post("/telegram/webhook", content=b"{}", headers=SHOWN)).status_code == 503


async def test_an_update_may_be_one_mebibyte_and_not_a_byte_more(http: httpx.AsyncClient, behind: Behind) -> None:
    whole = b"x" * MAX_UPDATE_BYTES
    assert (await http.post("/telegram/webhook", content=whole, headers=SHOWN)).status_code == 200
    assert (await http.post("/telegram/webhook", content=whole + b"x", headers=SHOWN)).status_code == 413
    assert behind.received == [whole]


async def test_a_body_of_undeclared_length_is_cut_at_the_same_size(http: httpx.AsyncClient, behind: Behind) -> None:
    async def endless() -> AsyncIterator[bytes]:
        while True:
            yield b"x" * 65536

    assert (await http.post("/telegram/webhook", content=endless(), headers=SHOWN)).status_code == 413
    assert behind.received == []


async def test_a_length_that_lies_does_not_get_past_the_cap(http: httpx.AsyncClient, behind: Behind) -> None:
    headers = {**SHOWN, "content-length": "9" * 5000}
    assert (await http.post("/telegram/webhook", content=b"{}", headers=headers)).status_code == 413
    assert behind.received == []


async def test_without_a_receiver_there_is_no_webhook(behind: Behind) -> None:
    async with client(behind.app(has_webhook=False)) as http:
        assert (await http.post("/telegram/webhook", content=b"{}", headers=SHOWN)).status_code == 404


@pytest.mark.parametrize("secret", [None, ""])
def test_a_webhook_without_a_secret_is_not_built(behind: Behind, secret: str | None) -> None:
    with pytest.raises(ValueError, match="secret"):
        make_app(ready=behind.ready, metrics=bytes, receive=behind.receive, webhook_secret=secret, knock=None)


async def test_a_callback_is_handed_on_with_attempt_headers_and_body(http: httpx.AsyncClient, behind: Behind) -> None:
    attempt = uuid4()
    answer = await http.post(f"/kie/callback/{attempt}", content=b"{}", headers={"X-Webhook-Timestamp": "17"})
    assert answer.status_code == 200
    [(seen, headers, body)] = behind.knocks
    assert (seen, headers["x-webhook-timestamp"], body) == (attempt, "17", b"{}")


@pytest.mark.parametrize("status", [200, 401, 404])
async def test_the_status_of_a_knock_is_the_answer(http: httpx.AsyncClient, behind: Behind, status: int) -> None:
    behind.knock_status = status
    assert (await http.post(f"/kie/callback/{uuid4()}", content=b"{}")).status_code == status


async def test_a_knock_that_cannot_be_taken_now_is_asked_to_come_again(http: httpx.AsyncClient, behind: Behind) -> None:
    behind.knock_status = 503
    assert (await http.post(f"/kie/callback/{uuid4()}", content=b"{}")).headers["retry-after"]
    behind.failure = OSError("no database")
    answer = await http.post(f"/kie/callback/{uuid4()}", content=b"{}")
    assert answer.status_code == 503
    assert answer.headers["retry-after"]


@pytest.mark.parametrize(
    "attempt",
    [
        "1",
        "not-a-uuid",
        "{6f1c1d2e-8a54-4f1a-9d3c-0f6c2b7a1e55}",
        "urn:uuid:6f1c1d2e-8a54-4f1a-9d3c-0f6c2b7a1e55",
        "6f1c1d2e8a544f1a9d3c0f6c2b7a1e55",
        "6F1C1D2E-8A54-4F1A-9D3C-0F6C2B7A1E55",
        "6f1c1d2e-8a54-4f1a-9d3c-0f6c2b7a1e55/more",
        "",
    ],
)
async def test_an_attempt_in_any_other_spelling_is_not_found(
    http: httpx.AsyncClient, behind: Behind, attempt: str
) -> None:
    assert (await http.post(f"/kie/callback/{attempt}", content=b"{}")).status_code == 404
    assert behind.knocks == []


async def test_a_callback_above_its_size_is_refused(http: httpx.AsyncClient, behind: Behind) -> None:
    path = f"/kie/callback/{UUID(int=7)}"
    assert (await http.post(path, content=b"x" * (MAX_CALLBACK_BYTES + 1))).status_code == 413
    assert (await http.post(path, content=b"x" * MAX_CALLBACK_BYTES)).status_code == 200
    assert len(behind.knocks) == 1


async def test_without_a_knocker_there_is_no_callback(behind: Behind) -> None:
    async with client(behind.app(has_callback=False)) as http:
        assert (await http.post(f"/kie/callback/{uuid4()}", content=b"{}")).status_code == 404


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/", 404),
        ("GET", "/healthz/", 404),
        ("POST", "/healthz", 405),
        ("HEAD", "/healthz", 200),
        ("GET", "/telegram/webhook", 405),
        ("GET", f"/kie/callback/{UUID(int=1)}", 405),
        ("GET", "/docs", 404),
    ],
)
async def test_nothing_else_is_served(http: httpx.AsyncClient, method: str, path: str, status: int) -> None:
    assert (await http.request(method, path)).status_code == status


def _counted(route: str, status: str) -> float:
    return METRICS.registry.get_sample_value("kiebot_http_requests_total", {"route": route, "status": status}) or 0.0


async def test_answers_are_counted_and_foreign_paths_make_no_labels(http: httpx.AsyncClient) -> None:
    refused, strange = _counted("/telegram/webhook", "401"), _counted("other", "404")
    knocked = _counted("/kie/callback/", "404")
    await http.post("/telegram/webhook", content=b"{}")
    for number in range(5):
        await http.get(f"/wp-admin-{number}")
        await http.post(f"/kie/callback/guess-{number}")
    assert _counted("/telegram/webhook", "401") == refused + 1
    assert _counted("other", "404") == strange + 5
    assert _counted("/kie/callback/", "404") == knocked + 5
    assert b"wp-admin" not in METRICS.render()
    assert b"guess" not in METRICS.render()
