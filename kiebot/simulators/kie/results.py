"""What a finished task hands out: its files and the `resultJson` that points to them."""

import contextlib
import zlib
from typing import Any

import msgspec

from kiebot.simulators.kie.catalogue import MUSIC_MODEL, Model
from kiebot.simulators.kie.files import PREFIX, FileStore, StoredFile
from kiebot.simulators.kie.plans import Plan
from kiebot.simulators.media import EXTENSIONS, MediaKind, MediaSpec

CLIP_SECONDS = 5.0
SPEECH_SECONDS_PER_CHARACTER = 0.06
MUSIC_SECONDS = 30.0
LONGEST_SECONDS = 60.0


class ResultMaker:
    """Makes result files appear under `/files/results/…`; no two results share their bytes."""

    def __init__(self, files: FileStore, seed: int) -> None:
        self._files, self._seed = files, seed

    def make(self, task_id: str, model: Model, full: dict[str, Any], plan: Plan, base_url: str, ended_at: float) -> str:
        """Store the files of a successful task and return its `resultJson`."""
        if plan.empty_result is not None:
            return plan.empty_result
        if model.output == "text":
            return _encoded({"resultObject": {"text": "This is what was said.", "language": "en"}})
        urls = [self._store(task_id, index, model, full, plan, base_url, ended_at) for index in range(plan.urls)]
        if model.id == MUSIC_MODEL:
            cover = self._cover(task_id, plan, base_url, ended_at)
            return _encoded({"data": [_take(url, cover, index, full) for index, url in enumerate(urls)]})
        result: dict[str, Any] = {"resultUrls": urls}
        if model.id.startswith("bytedance/seedance-2"):
            result |= {"firstFrameUrl": [], "lastFrameUrl": []}
        return _encoded(result)

    @staticmethod
    def urls_in(result_json: str) -> list[str]:
        """The addresses a `resultJson` made here holds."""
        with contextlib.suppress(msgspec.DecodeError):
            result = msgspec.json.decode(result_json.encode())
            return [*result.get("resultUrls", ()), *(take["audio_url"] for take in result.get("data", ()))]
        return []

    def _store(
        self, task_id: str, index: int, model: Model, full: dict[str, Any], plan: Plan, base_url: str, ended_at: float
    ) -> str:
        seed = zlib.crc32(f"{task_id}/{index}".encode(), self._seed & 0xFFFFFFFF)
        kind = _kind(model, full)
        spec = MediaSpec(kind, seed << 8 | index, seconds=_seconds(model, full))
        return self._put(f"results/{task_id[:4]}/{task_id}_{index}.{EXTENSIONS[kind]}", spec, plan, base_url, ended_at)

    def _cover(self, task_id: str, plan: Plan, base_url: str, ended_at: float) -> str:
        spec = MediaSpec("jpeg", zlib.crc32(task_id.encode()))
        return self._put(f"results/{task_id[:4]}/{task_id}_cover.jpg", spec, plan, base_url, ended_at)

    def _put(self, path: str, spec: MediaSpec, plan: Plan, base_url: str, ended_at: float) -> str:
        self._files.put(StoredFile(path, spec, spec.content_type, ended_at, "result", plan.result_mode))
        return f"{base_url}{PREFIX}{path}"


def _kind(model: Model, full: dict[str, Any]) -> MediaKind:
    if model.output == "video":
        return "mp4"
    if model.output == "audio":
        return "mp3"
    return "jpeg" if full.get("output_format") in ("jpg", "jpeg") else "png"


def _seconds(model: Model, full: dict[str, Any]) -> float:
    asked = str(full.get("duration", ""))
    if asked.replace(".", "", 1).isdigit():
        return min(float(asked), LONGEST_SECONDS)
    if model.output == "audio":
        words = len(str(full.get("text") or full.get("dialogue") or ""))
        return MUSIC_SECONDS if model.id == MUSIC_MODEL else min(1 + words * SPEECH_SECONDS_PER_CHARACTER, 20.0)
    return CLIP_SECONDS


def _take(url: str, cover: str, index: int, full: dict[str, Any]) -> dict[str, Any]:
    return {
        "id": url.rsplit("/", 1)[-1].removesuffix(".mp3"),
        "audio_url": url,
        "stream_audio_url": url,
        "image_url": cover,
        "title": full.get("title") or f"Take {index + 1}",
        "tags": full.get("style") or "",
        "duration": _seconds_of_take(full),
    }


def _seconds_of_take(full: dict[str, Any]) -> float:
    return min(float(full.get("duration") or MUSIC_SECONDS), LONGEST_SECONDS)


def _encoded(value: dict[str, Any]) -> str:
    return msgspec.json.encode(value).decode()
