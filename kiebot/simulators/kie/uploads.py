"""The three upload calls. Uploaded files are served from `/files/kieai/<account>/<uploadPath>/<fileName>`."""

import base64
import binascii
import mimetypes
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import httpx
from starlette.datastructures import UploadFile
from starlette.formparsers import MultiPartException
from starlette.requests import Request

from kiebot.simulators.clock import SimClock
from kiebot.simulators.kie.callbacks import within
from kiebot.simulators.kie.exchange import Answer, Exchange, Reply
from kiebot.simulators.kie.files import PREFIX, FileStore, StoredFile
from kiebot.simulators.kie.noise import Noise
from kiebot.simulators.kie.outbound import Outbound
from kiebot.simulators.kie.switches import Switches
from kiebot.simulators.probe import sniff

FETCH_TIMEOUT_S = 30.0
ENDINGS = {"audio/mpeg": ".mp3", "image/jpeg": ".jpg"}


class Uploads:
    """Takes files as multipart, base64 or by URL; the same name in the same path replaces the older file."""

    def __init__(
        self,
        files: FileStore,
        switches: Switches,
        noise: Noise,
        clock: SimClock,
        outbound: Outbound,
        *,
        account: str,
    ) -> None:
        self._files, self._switches, self._noise, self._clock, self._outbound = files, switches, noise, clock, outbound
        self._account = account

    async def stream(self, exchange: Exchange) -> Reply:
        """POST /api/file-stream-upload: multipart with file, uploadPath, fileName."""
        if reply := self._struck():
            return reply
        try:
            async with Request(exchange.scope, exchange.receive).form() as form:
                file, path, name = form.get("file"), form.get("uploadPath"), form.get("fileName")
                if not isinstance(file, UploadFile):
                    return _missing("file")
                data = await file.read()
                name = name or file.filename
        except MultiPartException:
            return refused(400, "Malformed multipart body")
        return self._stored(exchange, data, {"uploadPath": path, "fileName": name}, self._switches.max_stream_bytes)

    async def base64(self, exchange: Exchange) -> Reply:
        """POST /api/file-base64-upload: JSON with base64Data (raw or data URL), uploadPath, fileName."""
        if reply := self._struck():
            return reply
        body = await _members(exchange)
        text = body.get("base64Data")
        if not isinstance(text, str) or not text:
            return _missing("base64Data")
        try:
            data = base64.b64decode(text.split(",", 1)[-1] if text.startswith("data:") else text, validate=True)
        except (binascii.Error, ValueError):
            return refused(400, "Invalid base64 data")
        return self._stored(exchange, data, body, self._switches.max_base64_bytes)

    async def url(self, exchange: Exchange) -> Reply:
        """POST /api/file-url-upload: JSON with fileUrl, uploadPath, fileName; fetched within 30 s."""
        if reply := self._struck():
            return reply
        body = await _members(exchange)
        address = body.get("fileUrl")
        if not isinstance(address, str) or not address:
            return _missing("fileUrl")
        if not body.get("uploadPath"):
            return _missing("uploadPath")
        data = await self._fetched(address)
        if data is None:
            return refused(500, "Failed to download the file from the given URL")
        return self._stored(exchange, data, body, self._switches.max_url_bytes)

    def _struck(self) -> Reply | None:
        return self._noise.reply_to(self._noise.draw("upload"))

    async def _fetched(self, address: str) -> bytes | None:
        own = self._files.at_url(address)
        if own is not None:
            return own.data
        if self._files.path_of(address) is not None:
            return None
        try:
            response = await within(self._clock, FETCH_TIMEOUT_S, self._get(address))
        except (httpx.HTTPError, httpx.InvalidURL, TimeoutError):
            return None
        return response.content if response.status_code == 200 else None

    async def _get(self, address: str) -> httpx.Response:
        return await self._outbound.client.get(address, follow_redirects=True)

    def _stored(self, exchange: Exchange, data: bytes, facts: dict[str, Any], limit: int) -> Answer:
        folder = str(facts.get("uploadPath") or "").strip("/")
        if not folder:
            return _missing("uploadPath")
        if not data:
            return refused(400, "File is empty")
        if len(data) > limit:
            return refused(413, "File size exceeds the limit")
        content_type = sniff(data) or mimetypes.guess_type(str(facts.get("fileName") or ""))[0]
        content_type = content_type or "application/octet-stream"
        name = str(facts.get("fileName") or "").rsplit("/", 1)[-1] or _generated_name(
            self._files.new_token(), content_type
        )
        path = f"kieai/{self._account}/{folder}/{name}"
        self._files.put(StoredFile(path, data, content_type, self._clock.monotonic(), "upload"))
        exchange.note(summary={"path": path, "bytes": len(data)})
        return self._accepted(exchange.base_url, path, name, len(data), content_type)

    def _accepted(self, base_url: str, path: str, name: str, size: int, content_type: str) -> Answer:
        at = datetime.fromtimestamp(self._clock.now(), UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        data = {
            "success": True,
            "fileName": name,
            "filePath": path,
            "downloadUrl": f"{base_url}{PREFIX}{path}",
            "fileSize": size,
            "mimeType": content_type,
            "uploadedAt": at,
        }
        return Answer(200, "File uploaded successfully", data, {"success": True})


class Links:
    """POST /api/v1/common/download-url: a short-lived link to a result."""

    def __init__(self, files: FileStore, noise: Noise) -> None:
        self._files, self._noise = files, noise

    async def create(self, exchange: Exchange) -> Reply:
        """A bare URL string, good for twenty minutes; code 422 for anything that is no living result."""
        if reply := self._noise.reply_to(self._noise.draw("link")):
            return reply
        body = await _members(exchange)
        file = self._files.at_url(str(body.get("url") or ""))
        if file is None or file.kind != "result":
            return Answer(422, "url is wrong")
        return Answer(data=f"{exchange.base_url}{PREFIX}{self._files.link(file.path)}")


def refused(code: int, msg: str) -> Answer:
    """An envelope as the upload host refuses."""
    return Answer(code, msg, None, {"success": False})


def token_maker(draw: Callable[[int], int]) -> Callable[[], str]:
    """Tokens from a seeded source."""
    return lambda: f"{draw(96):024x}"


async def _members(exchange: Exchange) -> dict[str, Any]:
    body = await exchange.json()
    return body if isinstance(body, dict) else {}


def _missing(name: str) -> Answer:
    return refused(400, f"Missing required parameter: {name}")


def _generated_name(token: str, content_type: str) -> str:
    ending = ENDINGS.get(content_type) or mimetypes.guess_extension(content_type) or ""
    return f"{token}{ending}"
