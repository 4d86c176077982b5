"""Is what was sent as long as it was said to be? Files are measured on their way to the provider.

A price by length is quoted by what the sender's client told Telegram, which may be anything. The hold ends there, so
whatever the provider takes beyond it would be given away: a file that is longer is refused before anything is made.
"""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from kiebot.errors import Permanent
from kiebot.generation.checks import is_media_ref
from kiebot.generation.media import measure
from kiebot.generation.product import Model

ROUNDING_S = 1.0  # Telegram tells whole seconds
NOT_AS_SOLD = ("longer", "unmeasured")
_WRITE_BYTES = 1024 * 1024


class Meter:
    """Passes a file through and keeps it on disk until it is measured; with no kind it only passes it through."""

    def __init__(self, content: AsyncIterator[bytes], kind: str | None, path: Path) -> None:
        self._content = content
        self._kind = kind
        self._path = path

    def content(self) -> AsyncIterator[bytes]:
        return self._content if self._kind is None else self._copied()

    async def facts(self) -> dict[str, object]:
        """The seconds of all that went through, None when they cannot be told; nothing for what was not measured."""
        if self._kind is None:
            return {}
        measures = await asyncio.to_thread(measure, self._path, self._kind)
        return {"seconds": measures.seconds if measures is not None else None}

    async def _copied(self) -> AsyncIterator[bytes]:
        waiting = bytearray()
        async for chunk in self._content:
            waiting += chunk
            if len(waiting) >= _WRITE_BYTES:
                await asyncio.to_thread(_append, self._path, bytes(waiting))
                waiting.clear()
            yield chunk
        await asyncio.to_thread(_append, self._path, bytes(waiting))


@asynccontextmanager
async def metered(content: AsyncIterator[bytes], kind: str | None) -> AsyncIterator[Meter]:
    """`kind`: video or audio, None for what is not to be measured. The copy is gone when the context ends."""
    with tempfile.TemporaryDirectory(prefix="kiebot-", ignore_cleanup_errors=True) as folder:
        yield Meter(content, kind, Path(folder, "file"))


def kinds_to_measure(model: Model, inputs: Mapping[str, Any]) -> dict[str, str]:
    """file_id -> video or audio, of every file whose length counts in the price."""
    return {str(ref["file_id"]): kind for kind, ref in _priced_by_length(model, inputs)}


def check(model: Model, inputs: Mapping[str, Any], real_s: Mapping[str, float | None]) -> None:
    """Raises: Permanent (longer, unmeasured), when a file is longer than it was sold as, or nobody can say.

    real_s: by file_id; a file that is not there was not measured, and is believed.
    """
    for _, ref in _priced_by_length(model, inputs):
        real = real_s.get(str(ref["file_id"]), 0.0)
        if real is None:
            raise Permanent("a file's length cannot be told", code="unmeasured")
        if real > float(ref.get("seconds") or 0.0) + ROUNDING_S:
            raise Permanent(f"a file of {real:.1f} s was said to have {ref.get('seconds')}", code="longer")


def _priced_by_length(model: Model, inputs: Mapping[str, Any]) -> list[tuple[str, Mapping[str, Any]]]:
    found: list[tuple[str, Mapping[str, Any]]] = []
    for name in model.price.measured_fields:
        held, kind = inputs.get(name), model.field(name).media or ""
        refs: list[Any] = held if isinstance(held, list) else [held]
        found += [(kind, ref) for ref in refs if is_media_ref(ref)]
    return found


def _append(path: Path, chunk: bytes) -> None:
    with path.open("ab") as file:
        file.write(chunk)
