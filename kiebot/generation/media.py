"""What a file is and how long or large it is, from its bytes alone; nothing here believes a name or a declared type.

Files come from strangers: every read is bounded, and bad data gives None, never an error. Pictures are measured from
their headers, MP4 and MOV from their boxes, WebM and Matroska from their elements, MP3 by its frames too, other
audio by mutagen alone.
"""

from __future__ import annotations

import io
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from kiebot.generation import matroska, mp3, mp4

HEAD_BYTES = 64  # what sniff needs at most
_MAX_SEGMENTS = 512
_MAX_SECONDS = 7 * 24 * 3600  # longer claims are damage


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


# Other names for what is accepted, as apps and browsers spell them.
_SPELLINGS = {
    "image/jpg": "image/jpeg",
    "image/pjpeg": "image/jpeg",
    "video/x-m4v": "video/mp4",
    "application/x-matroska": "video/x-matroska",
    **dict.fromkeys(("audio/x-mp3", "audio/x-mpeg", "audio/mpeg3", "audio/x-mpeg-3"), "audio/mpeg"),
    **dict.fromkeys(("audio/x-opus+ogg", "audio/x-vorbis+ogg", "audio/vorbis", "audio/x-ogg"), "audio/ogg"),
    **dict.fromkeys(("audio/x-aac", "audio/aacp", "audio/x-hx-aac-adts"), "audio/aac"),
    "audio/x-pn-wav": "audio/wav",
}
_SAYS_NOTHING = frozenset({"", "application/octet-stream", "binary/octet-stream", "application/ogg", "application/mp4"})
_BY_ENDING = {
    **{each.extension: each.mime for each in (_PNG, _JPEG, _WEBP, _MP4, _MOV, _WEBM, _MP3, _AAC, _WAV, _OGG, _M4A)},
    "jpeg": "image/jpeg",
    "m4v": "video/mp4",
    "mkv": "video/x-matroska",
    "flac": "audio/flac",
    "oga": "audio/ogg",
    "opus": "audio/ogg",
}


def declared(mime: str | None, file_name: str | None) -> tuple[str, str]:
    """Kind and type of a file by what its sender says of it: the type, or the name's ending where that says nothing."""
    known = (mime or "").lower().partition(";")[0].strip()
    known = _SPELLINGS.get(known, known)
    if known in _SAYS_NOTHING:
        known = _BY_ENDING.get((file_name or "").rpartition(".")[2].lower(), known)
    return kind_of_mime(known), known


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
        return _of_film(*mp4.measure(file), wants_picture=kind == "video")
    if found is _WEBM:
        return _of_film(*matroska.measure(file), wants_picture=kind == "video")
    if kind != "audio" or found.kind != "audio":
        return None
    return _from_mutagen(file, at_least_s=mp3.seconds_of(file) if found is _MP3 else 0.0)


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


def _of_film(seconds: float, width: int, height: int, *, wants_picture: bool) -> Measures | None:
    if wants_picture and not width:
        return None
    return Measures(_believable(seconds), width or None, height or None)


def _believable(seconds: float) -> float | None:
    return seconds if 0 < seconds <= _MAX_SECONDS else None


def _from_mutagen(file: BinaryIO, *, at_least_s: float) -> Measures | None:
    import mutagen  # here: most processes never measure audio

    file.seek(0)
    try:
        found = mutagen.File(file)
        seconds = float(found.info.length) if found is not None else 0.0
    except Exception:  # its parsers raise whatever damaged data makes them stumble over
        return None
    seconds = max(seconds, at_least_s) if seconds else 0.0
    return Measures(seconds) if _believable(seconds) else None
