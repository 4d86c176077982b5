"""A bare client of the simulated KIE.ai, in process, for the tests of the simulator."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx

from kiebot.simulators.clock import ManualClock
from kiebot.simulators.kie import KieSimulator, Task

KEY = "sim-kie-key"
BASE = "http://kie.test"


class KieClient:
    """Speaks the API by hand; `clock` is the simulator's own."""

    def __init__(self, sim: KieSimulator, clock: ManualClock, base_url: str = BASE) -> None:
        self.sim, self.clock = sim, clock
        transport = httpx.ASGITransport(sim.asgi)
        self.http = httpx.AsyncClient(
            transport=transport, base_url=base_url, headers={"authorization": f"Bearer {KEY}"}, timeout=None
        )
        self.anonymous = httpx.AsyncClient(transport=transport, base_url=base_url, timeout=None)

    async def post(self, path: str, body: Any, **options: Any) -> dict[str, Any]:
        return _decoded(await self.http.post(path, json=body, **options))

    async def get(self, path: str, **options: Any) -> dict[str, Any]:
        return _decoded(await self.http.get(path, **options))

    async def try_create(self, prompt: str = "a cat", *, model: str = "z-image", **more: Any) -> dict[str, Any]:
        """One createTask; the envelope, whatever it says."""
        body = {"model": model, "input": {"prompt": prompt, "aspect_ratio": "1:1"} | more.pop("input", {}), **more}
        return await self.post("/api/v1/jobs/createTask", body)

    async def create(self, prompt: str = "a cat", **more: Any) -> str:
        """The id of a new task."""
        answer = await self.try_create(prompt, **more)
        assert answer["code"] == 200, answer
        return str(answer["data"]["taskId"])

    async def record(self, task_id: str) -> dict[str, Any]:
        """The envelope of one recordInfo."""
        return await self.get("/api/v1/jobs/recordInfo", params={"taskId": task_id})

    async def data(self, task_id: str) -> dict[str, Any]:
        """`data` of one recordInfo."""
        answer = await self.record(task_id)
        assert answer["code"] == 200, answer
        return dict(answer["data"])

    async def finished(self, task_id: str) -> dict[str, Any]:
        """`data` after enough time for any task to end."""
        await self.clock.advance(4_000)
        return await self.data(task_id)

    async def upload(self, data: bytes, name: str = "in.png", folder: str = "images") -> str:
        """The download URL of a new upload."""
        answer = await self.post(
            "/api/file-stream-upload", None, files={"file": (name, data)}, data={"uploadPath": folder, "fileName": name}
        )
        assert answer["code"] == 200, answer
        return str(answer["data"]["downloadUrl"])

    def task(self, task_id: str) -> Task:
        return self.sim.tasks[task_id]

    async def aclose(self) -> None:
        await self.http.aclose()
        await self.anonymous.aclose()
        await self.sim.aclose()


def _decoded(response: httpx.Response) -> dict[str, Any]:
    found: dict[str, Any] = response.json()
    return found


@asynccontextmanager
async def simulated(**options: Any) -> AsyncIterator[KieClient]:
    """A simulator on a manual clock that shows tasks at once, and a client of it. `options` go to KieSimulator."""
    clock = ManualClock()
    sim = KieSimulator(clock=clock, **options)
    sim.switches.gap_s = (0.0, 0.0)
    client = KieClient(sim, clock)
    try:
        yield client
    finally:
        await client.aclose()
