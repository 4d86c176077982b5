"""What a file is and how long or large it is, from its bytes alone; nothing here believes a name or a declared type.

Files come from strangers: every read is bounded, and bad data gives None, never an error. Pictures are measured from
their headers, MP4 and MOV from their boxes (moov may stand at the end), other audio by mutagen.
"""

from __future__ import annotations

import io
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

HEAD_BYTES = 64  # what sniff needs at most
_MAX_BOXES = 4096
_MAX_SEGMENTS = 512
_MAX_SECONDS = 7 * 24 * 3600  # longer claims are damage
_BOXES_WITH_BOXES = (b"moov", b"trak", b"mdia", b"mvex")


@dataclass(frozen=True, slots=True)
class MediaType:
    """What the bytes are. `kind`: image, video, audio or document."""

    kind: str
    mime: str
    extension: str


@dataclass(frozen=True, slots=True)
class Measures:
    """Length in seconds and size in pixels, as far as they can be told."""

    seconds: float | None = None
    width: int | None = None
    height: int | None = None


_PNG = MediaType("image", "image/png", "png")
_JPEG = MediaType("image", "image/jpeg", "jpg")
_GIF = MediaType("image", "image/gif", "gif")
_WEBP = MediaType("image", "image/webp", "webp")
_HEIC = MediaType("image", "image/heic", "heic")
_AVIF = MediaType("image", "image/avif", "avif")
_MP4 = MediaType("video", "video/mp4", "mp4")
_MOV = MediaType("video", "video/quicktime", "mov")
_WEBM = MediaType("video", "video/webm", "webm")
_AVI = MediaType("video", "video/x-msvideo", "avi")
_MP3 = MediaType("audio", "audio/mpeg", "mp3")
_AAC = MediaType("audio", "audio/aac", "aac")
_WAV = MediaType("audio", "audio/wav", "wav")
_OGG = MediaType("audio", "audio/ogg", "ogg")
_M4A = MediaType("audio", "audio/mp4", "m4a")
_FLAC = MediaType("audio", "audio/flac", "flac")
_PDF = MediaType("document", "application/pdf", "pdf")

_PREFIXES = (
    (b"\x89PNG\r\n\x1a\n", _PNG),
    (b"\xff\xd8\xff", _JPEG),
    (b"GIF87a", _GIF),
    (b"GIF89a", _GIF),
    (b"\x1aE\xdf\xa3", _WEBM),
    (b"OggS", _OGG),
    (b"fLaC", _FLAC),
    (b"ID3", _MP3),
    (b"%PDF-", _PDF),
)
_RIFF = {b"WEBP": _WEBP, b"WAVE": _WAV, b"AVI ": _AVI}
_BRANDS = {b"qt  ": _MOV, b"M4A ": _M4A, b"M4B ": _M4A, b"avif": _AVIF, b"avis": _AVIF}
_BRANDS |= dict.fromkeys((b"heic", b"heix", b"hevc", b"mif1", b"msf1"), _HEIC)

# What the provider's models take; other formats are refused before anything is uploaded.
_ACCEPTED = {
    "image": frozenset({"image/png", "image/jpeg", "image/webp"}),
    "video": frozenset({"video/mp4", "video/quicktime", "video/x-matroska", "video/webm"}),
    "audio": frozenset(
        {
            *("audio/mpeg", "audio/mp3", "audio/wav", "audio/x-wav", "audio/wave", "audio/vnd.wave", "audio/ogg"),
            *("audio/opus", "audio/mp4", "audio/m4a", "audio/x-m4a", "audio/aac", "audio/flac", "audio/x-flac"),
        }
    ),
}


def is_accepted(kind: str, mime: str) -> bool:
    """Whether files of this declared type can be given to a model input of this kind."""
    return mime.lower() in _ACCEPTED.get(kind, ())


def kind_of_mime(mime: str) -> str:
    """image, video or audio by the declared type; document for all else."""
    family = mime.lower().partition("/")[0]
    return family if family in _ACCEPTED else "document"


def sniff(head: bytes) -> MediaType | None:
    """The type by the first bytes (HEAD_BYTES suffice); None when it is none of ours."""
    for prefix, found in _PREFIXES:
        if head.startswith(prefix):
            return found
    if head[:4] == b"RIFF":
        return _RIFF.get(head[8:12])
    if head[4:8] == b"ftyp" and len(head) >= 12:
        return _BRANDS.get(head[8:12], _MP4)
    if head[4:8] in (b"moov", b"mdat", b"wide", b"free"):  # QuickTime from before ftyp
        return _MOV
    return _mpeg_audio(head)


def _mpeg_audio(head: bytes) -> MediaType | None:
    if len(head) < 4 or head[0] != 0xFF or head[1] & 0xE0 != 0xE0:
        return None
    if head[1] & 0xF6 == 0xF0:
        return _AAC
    version, layer, rate = head[1] >> 3 & 3, head[1] >> 1 & 3, head[2] >> 4
    return _MP3 if version != 1 and layer == 1 and rate not in (0, 15) else None


def measure(source: Path | str | bytes, kind: str) -> Measures | None:
    """Measure a file as `kind` (image, video, audio). None when it cannot be read as one.

    A value that is not None may still lack a length or a size: ask for what you need.
    """
    try:
        with io.BytesIO(source) if isinstance(source, bytes) else Path(source).open("rb") as file:
            return _measured(file, kind)
    except (OSError, ValueError, struct.error, IndexError, OverflowError):
        return None


def _measured(file: BinaryIO, kind: str) -> Measures | None:
    found = sniff(file.read(HEAD_BYTES))
    if found is None:
        return None
    if kind == "image":
        size = _picture_size(file, found)
        return Measures(None, *size) if size else None
    if found in (_MP4, _MOV, _M4A):
        return _from_boxes(file, wants_picture=kind == "video")
    return _from_mutagen(file) if kind == "audio" and found.kind == "audio" else None


def _picture_size(file: BinaryIO, found: MediaType) -> tuple[int, int] | None:
    file.seek(0)
    head = file.read(HEAD_BYTES)
    size = None
    if found is _PNG and head[12:16] == b"IHDR":
        size = struct.unpack(">II", head[16:24])
    elif found is _GIF:
        size = struct.unpack("<HH", head[6:10])
    elif found is _WEBP:
        size = _webp_size(head)
    elif found is _JPEG:
        size = _jpeg_size(file)
    return (size[0], size[1]) if size and size[0] > 0 and size[1] > 0 else None


def _webp_size(head: bytes) -> tuple[int, int] | None:
    match head[12:16]:
        case b"VP8X":
            return int.from_bytes(head[24:27], "little") + 1, int.from_bytes(head[27:30], "little") + 1
        case b"VP8L" if head[20] == 0x2F:
            bits = int.from_bytes(head[21:25], "little")
            return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
        case b"VP8 " if head[23:26] == b"\x9d\x01\x2a":
            width, height = struct.unpack("<HH", head[26:30])
            return width & 0x3FFF, height & 0x3FFF
    return None


def _jpeg_size(file: BinaryIO) -> tuple[int, int] | None:
    """Walk the segments to the frame header. Pictures with a rotation tag give the stored, not the shown, size."""
    file.seek(2)
    for _ in range(_MAX_SEGMENTS):
        mark, code = struct.unpack(">BB", file.read(2))
        if code == 0xFF:  # padding: one step on, and the loop's bound holds for it too
            file.seek(-1, io.SEEK_CUR)
            continue
        if mark != 0xFF:
            return None
        if code == 0x01 or 0xD0 <= code <= 0xD8:
            continue
        (length,) = struct.unpack(">H", file.read(2))
        if 0xC0 <= code <= 0xCF and code not in (0xC4, 0xC8, 0xCC):
            _, height, width = struct.unpack(">BHH", file.read(5))
            return width, height
        file.seek(max(length, 2) - 2, io.SEEK_CUR)
    return None


@dataclass(slots=True)
class _Movie:
    scale: int = 0
    duration: int = 0
    fragments: int = 0
    width: int = 0
    height: int = 0


def _from_boxes(file: BinaryIO, *, wants_picture: bool) -> Measures | None:
    end = file.seek(0, io.SEEK_END)
    movie = _Movie()
    for name, start, size in _boxes(file, end):
        file.seek(start)
        body = file.read(min(size, 128))
        if name == b"mvhd":
            movie.scale, movie.duration = _scale_and_duration(body)
        elif name == b"mehd":
            movie.fragments = struct.unpack_from(">Q" if body[0] else ">I", body, 4)[0]
        elif name == b"tkhd":
            _keep_larger(movie, body)
    seconds = (movie.duration or movie.fragments) / movie.scale if movie.scale else 0.0
    if wants_picture and not movie.width:
        return None
    known = seconds if 0 < seconds <= _MAX_SECONDS else None
    return Measures(known, movie.width or None, movie.height or None)


def _boxes(file: BinaryIO, end: int) -> Iterator[tuple[bytes, int, int]]:
    """Every box with where its body starts and how long it is, into containers; at most _MAX_BOXES of them."""
    pending = [(0, end)]
    seen = 0
    while pending:
        position, limit = pending.pop()
        while position + 8 <= limit and seen < _MAX_BOXES:
            seen += 1
            file.seek(position)
            head = file.read(16)
            size, name, skip = int.from_bytes(head[:4], "big"), head[4:8], 8
            if size == 1:
                size, skip = int.from_bytes(head[8:16], "big"), 16
            size = limit - position if size == 0 else size
            if size < skip:
                return
            body_end = min(position + size, limit)
            yield name, position + skip, max(body_end - position - skip, 0)
            if name in _BOXES_WITH_BOXES:
                pending.append((position + skip, body_end))
            position += size


def _scale_and_duration(body: bytes) -> tuple[int, int]:
    if body[0] == 1:
        scale, duration = struct.unpack_from(">IQ", body, 20)
        return scale, 0 if duration == 2**64 - 1 else duration
    scale, duration = struct.unpack_from(">II", body, 12)
    return scale, 0 if duration == 2**32 - 1 else duration


def _keep_larger(movie: _Movie, body: bytes) -> None:
    """Take a track's picture size, if it is larger than what is known; turned on its side when its matrix says so."""
    offset = 88 if body[0] == 1 else 76
    width, height = (value >> 16 for value in struct.unpack_from(">II", body, offset))
    upright = struct.unpack_from(">i", body, offset - 36)[0]
    if width * height > movie.width * movie.height:
        movie.width, movie.height = (width, height) if upright else (height, width)


def _from_mutagen(file: BinaryIO) -> Measures | None:
    import mutagen  # here: most processes never measure audio

    file.seek(0)
    try:
        found = mutagen.File(file)
        seconds = float(found.info.length) if found is not None else 0.0
    except Exception:  # its parsers raise whatever damaged data makes them stumble over
        return None
    return Measures(seconds) if 0 < seconds <= _MAX_SECONDS else None
