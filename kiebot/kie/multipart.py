"""A file upload as multipart/form-data, streamed: the file is never held in memory as a whole."""

from __future__ import annotations

import re
import secrets
from collections.abc import AsyncGenerator, Mapping
from dataclasses import dataclass

from kiebot.errors import Transient
from kiebot.generation.ports import Upload

_MIME = re.compile(r"[\w.+-]+/[\w.+-]+", re.ASCII)
_SUFFIX = re.compile(r"\.[A-Za-z0-9]{1,8}")
_SUFFIXES = {
    "image/jpeg": ".jpg",
    "image/png": ".png",
    "image/webp": ".webp",
    "image/gif": ".gif",
    "video/mp4": ".mp4",
    "video/quicktime": ".mov",
    "video/webm": ".webm",
    "audio/mpeg": ".mp3",
    "audio/wav": ".wav",
    "audio/x-wav": ".wav",
    "audio/ogg": ".ogg",
    "audio/mp4": ".m4a",
    "audio/aac": ".aac",
    "audio/flac": ".flac",
}


@dataclass(frozen=True, slots=True)
class MultipartBody:
    """Headers and content of one upload request. The content can be read once."""

    headers: Mapping[str, str]
    content: AsyncGenerator[bytes, None]


def unique_name(upload: Upload) -> str:
    """A name no other upload has: KIE overwrites equal names and its caches go on serving the older file.

    Nothing of the user's own file name is passed on but a harmless ending, for KIE guesses types by it.
    """
    given = re.search(r"\.[^.]*$", upload.file_name)
    suffix = _SUFFIXES.get(upload.mime.lower()) or (given.group() if given and _SUFFIX.fullmatch(given.group()) else "")
    return secrets.token_hex(16) + suffix.lower()


def multipart_body(upload: Upload, fields: Mapping[str, str], file_name: str) -> MultipartBody:
    """The upload with its text fields before the file. A length is announced when the file's size is known."""
    boundary = secrets.token_hex(16)
    opening = b"".join(_field(boundary, name, value) for name, value in fields.items())
    opening += _file_head(boundary, file_name, upload.mime)
    closing = f"\r\n--{boundary}--\r\n".encode()
    headers = {"Content-Type": f"multipart/form-data; boundary={boundary}"}
    if upload.size_bytes is not None:
        headers["Content-Length"] = str(len(opening) + upload.size_bytes + len(closing))
    return MultipartBody(headers, _stream(opening, upload, closing))


async def _stream(opening: bytes, upload: Upload, closing: bytes) -> AsyncGenerator[bytes, None]:
    yield opening
    sent_bytes = 0
    async for chunk in upload.content:
        sent_bytes += len(chunk)
        if upload.size_bytes is not None and sent_bytes > upload.size_bytes:
            break
        yield chunk
    if upload.size_bytes is not None and sent_bytes != upload.size_bytes:
        raise Transient("upload: the file is not as long as announced")  # the source broke off; a new read may not
    yield closing


def _field(boundary: str, name: str, value: str) -> bytes:
    return f'--{boundary}\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n'.encode()


def _file_head(boundary: str, file_name: str, mime: str) -> bytes:
    safe_mime = mime if _MIME.fullmatch(mime) else "application/octet-stream"
    disposition = f'Content-Disposition: form-data; name="file"; filename="{file_name}"'
    return f"--{boundary}\r\n{disposition}\r\nContent-Type: {safe_mime}\r\n\r\n".encode()
