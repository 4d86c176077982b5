"""A work's files on their way from the user to the provider: streamed, measured where the length is billed, once."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta

from kiebot.generation.checks import media_refs
from kiebot.generation.lengths import check, kinds_to_measure, metered
from kiebot.generation.model import Generation
from kiebot.generation.ports import Upload, UserFile
from kiebot.generation.product import Model
from kiebot.generation.tools import Tools

UPLOAD_LIVES = timedelta(hours=20)  # the provider keeps uploads for 24 hours; a job must still read them


async def uploaded(tools: Tools, generation: Generation, model: Model) -> dict[str, str]:
    """file_id -> URL for every file of the user's. Repeatable: what is fresh is not uploaded again.

    Raises: what the upload raises; Permanent, when one is not as long as it was sold as.
    """
    uploads, kinds = dict(generation.uploads), kinds_to_measure(model, generation.inputs)
    now = generation.read_at or tools.clock.now()
    for ref in media_refs(model, generation.inputs):
        file_id = str(ref["file_id"])
        if _is_fresh(uploads.get(file_id), now):
            continue
        uploads[file_id] = await _upload(tools, ref, kinds.get(file_id)) | {"at": now.isoformat()}
        async with tools.store.transaction() as tx:
            await tx.generations.set_uploads(generation.id, uploads)
    known = {file_id: facts for file_id, facts in uploads.items() if isinstance(facts, Mapping)}
    real_s = {file_id: facts["seconds"] for file_id, facts in known.items() if "seconds" in facts}
    check(model, generation.inputs, real_s)
    return {file_id: str(facts["url"]) for file_id, facts in known.items()}


async def _upload(tools: Tools, ref: Mapping[str, object], kind: str | None) -> dict[str, object]:
    """Its URL; of a file whose length is billed (`kind` is given) its real seconds too."""
    file = _user_file(ref)
    async with tools.files.open(file) as content, metered(content, kind) as meter:
        upload = Upload(meter.content(), file.file_name, file.mime, file.size_bytes)
        return {"url": await tools.provider.upload(upload), **await meter.facts()}


def _is_fresh(facts: object, now: datetime) -> bool:
    if not isinstance(facts, Mapping):
        return False
    return now - datetime.fromisoformat(str(facts["at"])) < UPLOAD_LIVES


def _user_file(ref: Mapping[str, object]) -> UserFile:
    size = ref.get("size")
    return UserFile(
        file_id=str(ref["file_id"]),
        mime=str(ref.get("mime") or "application/octet-stream"),
        file_name=str(ref.get("file_name") or "file"),
        size_bytes=size if isinstance(size, int) else None,
    )
