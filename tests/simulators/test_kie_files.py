"""Files: results, uploads and signed links."""

import asyncio
import base64
from collections.abc import AsyncIterator

import httpx
import pytest

from kiebot.simulators.media import MediaSpec, make_media
from kiebot.simulators.probe import seconds_of, sniff
from kiebot.simulators.server import SimulatorServer
from tests.simulators.kie_client import KieClient, simulated

PICTURE = make_media(MediaSpec("png", 11))


@pytest.fixture
async def kie() -> AsyncIterator[KieClient]:
    async with simulated() as client:
        client.sim.switches.duration_s = 10.0
        yield client


async def result_url(kie: KieClient, prompt: str = "a cat", model: str = "z-image") -> str:
    task_id = await kie.create(prompt, model=model)
    await kie.clock.advance(10)
    return str(kie.task(await _seen(kie, task_id)).result_urls[0])


async def _seen(kie: KieClient, task_id: str) -> str:
    assert (await kie.data(task_id))["state"] == "success"
    return task_id


async def test_results_are_served_whole_without_a_key(kie: KieClient) -> None:
    response = await kie.anonymous.get(await result_url(kie))
    assert (response.status_code, response.headers["content-type"]) == (200, "image/png")
    assert int(response.headers["content-length"]) == len(response.content)
    assert sniff(response.content) == "image/png"
    head = await kie.anonymous.head(await result_url(kie))
    assert (head.status_code, head.content) == (200, b"")
    assert not kie.sim.journal.key_leaks()


async def test_no_two_results_are_alike(kie: KieClient) -> None:
    bodies = [(await kie.anonymous.get(await result_url(kie))).content for _ in range(5)]
    assert len(set(bodies)) == 5


async def test_a_key_sent_to_the_file_host_is_noticed(kie: KieClient) -> None:
    await kie.http.get(await result_url(kie))
    assert len(kie.sim.journal.key_leaks()) == 1


async def test_ranges_are_honoured(kie: KieClient) -> None:
    url = await result_url(kie)
    whole = (await kie.anonymous.get(url)).content
    for wanted, part in (("bytes=0-9", whole[:10]), ("bytes=10-", whole[10:]), ("bytes=-5", whole[-5:])):
        response = await kie.anonymous.get(url, headers={"range": wanted})
        assert (response.status_code, response.content) == (206, part)
        assert response.headers["content-range"].endswith(f"/{len(whole)}")
    assert (await kie.anonymous.get(url, headers={"range": "bytes=999999-"})).status_code == 416


async def test_a_clip_lasts_as_long_as_was_asked(kie: KieClient) -> None:
    task_id = await kie.create(model="bytedance/seedance-2", input={"duration": 7})
    await kie.finished(task_id)
    clip = (await kie.anonymous.get(kie.task(task_id).result_urls[0])).content
    assert seconds_of(clip) == 7


async def test_results_die_after_14_days_or_after_the_time_set(kie: KieClient) -> None:
    url = await result_url(kie)
    await kie.clock.advance(14 * 86_400 - 1)
    assert (await kie.anonymous.get(url)).status_code == 200
    await kie.clock.advance(1)
    assert (await kie.anonymous.get(url)).status_code == 404
    kie.sim.switches.result_ttl_s = 86_400
    url = await result_url(kie)
    await kie.clock.advance(86_400)
    assert (await kie.anonymous.get(url)).status_code == 404


async def test_python_urllib_is_turned_away(kie: KieClient) -> None:
    url = await result_url(kie)
    assert (await kie.anonymous.get(url, headers={"user-agent": "Python-urllib/3.11"})).status_code == 403


async def test_a_result_may_be_missing_at_first_or_for_good(kie: KieClient) -> None:
    late, dead = await result_url(kie, "[[sim:result=late]]"), await result_url(kie, "[[sim:dead_result]]")
    kie.sim.switches.late_file_s = 15.0
    assert (await kie.anonymous.get(late)).status_code == 404
    await kie.clock.advance(10)
    assert (await kie.anonymous.get(late)).status_code == 200
    assert (await kie.anonymous.get(dead)).status_code == 404


async def test_a_private_result_is_served_under_a_signed_link_only(kie: KieClient) -> None:
    url = await result_url(kie, "[[sim:result=private]]")
    assert (await kie.anonymous.get(url)).status_code == 403
    link = (await kie.post("/api/v1/common/download-url", {"url": url}))["data"]
    assert (await kie.anonymous.get(link)).status_code == 200


async def test_wrong_type_zero_bytes_html_and_reset(kie: KieClient) -> None:
    url = await result_url(kie)
    for mode in ("wrong_type", "zero", "html", "reset"):
        kie.sim.faults.next_file(mode)
    assert (await kie.anonymous.get(url)).headers["content-type"] == "application/octet-stream"
    assert (await kie.anonymous.get(url)).content == b""
    assert (await kie.anonymous.get(url)).status_code == 502
    with pytest.raises(httpx.RemoteProtocolError):
        await kie.anonymous.get(url)
    assert (await kie.anonymous.get(url)).status_code == 200


async def test_a_slow_file_comes_in_pieces_by_the_clock(kie: KieClient) -> None:
    url = await result_url(kie, "[[sim:result=slow]]")
    kie.sim.switches.slow_bytes_per_s = 100
    loading = asyncio.ensure_future(kie.anonymous.get(url))
    await kie.clock.advance(2)
    assert not loading.done()
    await kie.clock.advance(10)
    assert sniff((await loading).content) == "image/png"


async def test_on_a_real_socket_files_are_cut_short_or_never_end(kie: KieClient) -> None:
    path = (await result_url(kie)).removeprefix("http://kie.test")
    async with SimulatorServer(kie.sim.asgi) as server, httpx.AsyncClient(base_url=server.url) as http:
        kie.sim.faults.next_file("truncated")
        with pytest.raises((httpx.RemoteProtocolError, httpx.ReadError)):
            await http.get(path)
        for mode in ("endless", "oversized"):
            kie.sim.faults.next_file(mode)
            read = 0
            async with http.stream("GET", path) as response:
                assert ("content-length" in response.headers) == (mode == "oversized")
                async for chunk in response.aiter_raw():
                    read += len(chunk)
                    if read > 1_000_000:
                        break
        assert (await http.get(path)).status_code == 200


async def test_a_stream_upload_answers_with_the_real_fields(kie: KieClient) -> None:
    files = {"file": ("local.png", PICTURE, "image/png")}
    response = await kie.http.post(
        "/api/file-stream-upload", files=files, data={"uploadPath": "a/b", "fileName": "x.png"}
    )
    answer = response.json()
    assert (answer["success"], answer["code"], answer["msg"]) == (True, 200, "File uploaded successfully")
    data = answer["data"]
    assert (data["fileName"], data["filePath"]) == ("x.png", "kieai/108642/a/b/x.png")
    assert (data["fileSize"], data["mimeType"]) == (len(PICTURE), "image/png")
    assert data["uploadedAt"].endswith("Z")
    assert (await kie.anonymous.get(data["downloadUrl"])).content == PICTURE


@pytest.mark.parametrize("prefix", ["", "data:image/png;base64,"])
async def test_base64_comes_raw_or_as_a_data_url(kie: KieClient, prefix: str) -> None:
    body = {"base64Data": prefix + base64.b64encode(PICTURE).decode(), "uploadPath": "a"}
    data = (await kie.post("/api/file-base64-upload", body))["data"]
    assert data["fileName"].endswith(".png")
    assert (await kie.anonymous.get(data["downloadUrl"])).content == PICTURE


async def test_a_url_upload_fetches_the_file_from_wherever_it_is() -> None:
    def outside(request: httpx.Request) -> httpx.Response:
        return httpx.Response(200, content=PICTURE) if request.url.path == "/a.png" else httpx.Response(404)

    async with simulated(transport=httpx.MockTransport(outside)) as kie:
        body = {"fileUrl": "https://elsewhere.example/a.png", "uploadPath": "a", "fileName": "b.png"}
        url = (await kie.post("/api/file-url-upload", body))["data"]["downloadUrl"]
        assert (await kie.anonymous.get(url)).content == PICTURE
        again = await kie.post("/api/file-url-upload", {"fileUrl": url, "uploadPath": "c"})
        assert again["code"] == 200
        lost = await kie.post("/api/file-url-upload", {**body, "fileUrl": "https://elsewhere.example/none"})
        assert (lost["code"], lost["success"]) == (500, False)


async def test_the_same_name_in_the_same_path_replaces_the_file(kie: KieClient) -> None:
    first = await kie.upload(PICTURE, "same.png")
    second = await kie.upload(make_media(MediaSpec("png", 12)), "same.png")
    assert first == second
    assert (await kie.anonymous.get(first)).content != PICTURE
    assert len(kie.sim.files.uploads()) == 1


async def test_uploads_live_for_a_day(kie: KieClient) -> None:
    url = await kie.upload(PICTURE)
    await kie.clock.advance(86_399)
    assert (await kie.anonymous.get(url)).status_code == 200
    await kie.clock.advance(1)
    assert (await kie.anonymous.get(url)).status_code == 404


@pytest.mark.parametrize(
    ("path", "body", "text"),
    [
        ("base64", {"base64Data": "AAAA"}, "Missing required parameter: uploadPath"),
        ("base64", {"uploadPath": "a"}, "Missing required parameter: base64Data"),
        ("base64", {"base64Data": "not base64!", "uploadPath": "a"}, "Invalid base64 data"),
        ("url", {"uploadPath": "a"}, "Missing required parameter: fileUrl"),
        ("stream", {}, "Missing required parameter: file"),
    ],
)
async def test_a_bad_upload_is_refused_with_400(kie: KieClient, path: str, body: dict[str, str], text: str) -> None:
    answer = await kie.post(f"/api/file-{path}-upload", body)
    assert (answer["success"], answer["code"], answer["msg"]) == (False, 400, text)


async def test_uploads_have_limits_and_a_method(kie: KieClient) -> None:
    kie.sim.switches.max_base64_bytes = len(PICTURE) - 1
    body = {"base64Data": base64.b64encode(PICTURE).decode(), "uploadPath": "a"}
    assert (await kie.post("/api/file-base64-upload", body))["code"] == 413
    assert (await kie.get("/api/file-base64-upload"))["code"] == 405
    kie.sim.faults.next_upload("html_503")
    assert (await kie.http.post("/api/file-base64-upload", json=body)).status_code == 503


async def test_a_result_and_an_upload_both_serve_as_inputs(kie: KieClient) -> None:
    made = await result_url(kie)
    for url in (made, await kie.upload(PICTURE)):
        await kie.create(model="google/nano-banana-edit", input={"image_urls": [url]})


async def test_a_signed_link_lasts_20_minutes_and_not_longer_than_its_file(kie: KieClient) -> None:
    url = await result_url(kie)
    link = (await kie.post("/api/v1/common/download-url", {"url": url}))["data"]
    assert (await kie.anonymous.get(link)).content == (await kie.anonymous.get(url)).content
    await kie.clock.advance(1_200)
    assert (await kie.anonymous.get(link)).status_code == 404
    await kie.clock.advance(14 * 86_400 - 1_260)
    link = (await kie.post("/api/v1/common/download-url", {"url": url}))["data"]
    await kie.clock.advance(60)
    assert (await kie.anonymous.get(link)).status_code == 404


@pytest.mark.parametrize("url", ["https://elsewhere.example/a.png", "http://kie.test/files/results/none.png", ""])
async def test_a_foreign_link_is_wrong(kie: KieClient, url: str) -> None:
    answer = await kie.post("/api/v1/common/download-url", {"url": url})
    assert (answer["code"], answer["msg"]) == (422, "url is wrong")
