"""What the tests of KieProvider share: one submission, and envelopes by hand."""

from __future__ import annotations

import json
import ssl
from collections.abc import AsyncIterator
from uuid import UUID

from kiebot.generation.ports import Submission
from kiebot.kie.client import Deadlines, KieProvider

from .kie_raw_server import Behaviour, RawServer

TLS = ssl.create_default_context()  # building one costs more than most tests here
CANARY = "canary-key-5f2e19"
ATTEMPT = UUID("6f1c2a64-5b1e-4a3b-9d52-0d8a1e4c7b11")
SUBMISSION = Submission(
    ATTEMPT, "z-image", {"prompt": "кот 🐈", "aspect_ratio": "1:1"}, "https://h.example/cb/secret-path"
)
CREATED = json.dumps({"code": 200, "msg": "success", "data": {"taskId": "ab" * 16, "recordId": "ab" * 16}}).encode()
HTML = b"<html><body>502 Bad Gateway</body></html>"


def provider(url: str, *, deadline_s: float = 5.0) -> KieProvider:
    deadlines = Deadlines(deadline_s, deadline_s, deadline_s)
    return KieProvider(CANARY, api_url=url, upload_url=url, deadlines=deadlines, ssl_context=TLS)


async def submit_to(behaviour: Behaviour, *, deadline_s: float = 5.0) -> str:
    async with RawServer(behaviour) as server, provider(server.url, deadline_s=deadline_s) as kie:
        return await kie.submit(SUBMISSION)


def envelope(code: object, msg: str = "", data: object = None) -> bytes:
    return json.dumps({"code": code, "msg": msg, "data": data}).encode()


async def chunks(*parts: bytes) -> AsyncIterator[bytes]:
    for part in parts:
        yield part
