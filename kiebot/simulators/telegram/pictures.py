"""What a file is, read from its own bytes: kind and, for pictures, width and height."""

import struct
from typing import NamedTuple

_JPEG_SIZE_MARKERS = frozenset({*range(0xC0, 0xC4), *range(0xC5, 0xC8), *range(0xC9, 0xCC), *range(0xCD, 0xD0)})


class Sniffed(NamedTuple):
    """`kind`: photo, animation, video, audio, voice, document or unknown. Sizes are pixels, 0 when not a picture."""

    kind: str
    mime: str
    width: int = 0
    height: int = 0


def sniff(data: bytes) -> Sniffed:
    """Look at the first bytes; nothing that the sender claims counts."""
    if data.startswith(b"\x89PNG\r\n\x1a\n") and data[12:16] == b"IHDR" and len(data) >= 24:
        return Sniffed("photo", "image/png", *struct.unpack(">II", data[16:24]))
    if data.startswith(b"\xff\xd8\xff"):
        return _jpeg(data)
    if data[:6] in (b"GIF87a", b"GIF89a") and len(data) >= 10:
        return Sniffed("animation", "image/gif", *struct.unpack("<HH", data[6:10]))
    if data[:4] == b"RIFF":
        return _riff(data)
    return _other(data)


def _jpeg(data: bytes) -> Sniffed:
    position = 2
    while position + 9 <= len(data) and data[position] == 0xFF:
        marker, length = data[position + 1], int.from_bytes(data[position + 2 : position + 4], "big")
        if marker in _JPEG_SIZE_MARKERS:
            height, width = struct.unpack(">HH", data[position + 5 : position + 9])
            return Sniffed("photo", "image/jpeg", width, height)
        position += 2 + length
    return Sniffed("unknown", "image/jpeg")


def _riff(data: bytes) -> Sniffed:
    if data[8:12] == b"WAVE":
        return Sniffed("audio", "audio/x-wav")
    if data[8:12] != b"WEBP" or len(data) < 30:
        return Sniffed("unknown", "application/octet-stream")
    form = data[12:16]
    if form == b"VP8X":
        width = int.from_bytes(data[24:27], "little") + 1
        return Sniffed("photo", "image/webp", width, int.from_bytes(data[27:30], "little") + 1)
    if form == b"VP8L":
        bits = int.from_bytes(data[21:25], "little")
        return Sniffed("photo", "image/webp", (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1)
    width, height = struct.unpack("<HH", data[26:30])
    return Sniffed("photo", "image/webp", width & 0x3FFF, height & 0x3FFF)


def _other(data: bytes) -> Sniffed:
    if data[4:8] == b"ftyp":
        is_sound = data[8:11] in (b"M4A", b"M4B")
        return Sniffed("audio", "audio/mp4") if is_sound else Sniffed("video", "video/mp4")
    if data[:3] == b"ID3" or (len(data) > 1 and data[0] == 0xFF and data[1] & 0xE6 == 0xE2):
        return Sniffed("audio", "audio/mpeg")
    if data[:4] == b"OggS":
        return Sniffed("voice", "audio/ogg")
    if data[:4] == b"fLaC":
        return Sniffed("audio", "audio/flac")
    if data[:4] == b"%PDF":
        return Sniffed("document", "application/pdf")
    return Sniffed("unknown", "application/octet-stream")
