"""Reads what a media file says of itself: its type, its length in seconds, its size in pixels."""

import struct
from collections.abc import Iterator

_BITRATES = {
    3: (0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
    2: (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
}
_RATES = {3: (44_100, 48_000, 32_000), 2: (22_050, 24_000, 16_000), 0: (11_025, 12_000, 8_000)}


def sniff(data: bytes) -> str | None:
    """The MIME type by magic bytes, or None when it is none of the known kinds."""
    if data.startswith(b"\x89PNG\r\n\x1a\n"):
        return "image/png"
    if data.startswith(b"\xff\xd8\xff"):
        return "image/jpeg"
    if data[:4] == b"RIFF" and data[8:12] in (b"WAVE", b"WEBP"):
        return "audio/wav" if data[8:12] == b"WAVE" else "image/webp"
    if data[4:8] == b"ftyp":
        return "video/mp4"
    if data.startswith(b"ID3") or (len(data) > 1 and data[0] == 0xFF and data[1] & 0xE6 == 0xE2):
        return "audio/mpeg"
    return None


def seconds_of(data: bytes) -> float | None:
    """How long the clip or sound lasts; None for pictures and for what cannot be read."""
    readers = {"video/mp4": _mp4_seconds, "audio/wav": _wav_seconds, "audio/mpeg": _mp3_seconds}
    reader = readers.get(sniff(data) or "")
    try:
        return reader(data) if reader else None
    except (struct.error, IndexError, ZeroDivisionError, ValueError):
        return None


def pixels_of(data: bytes) -> tuple[int, int] | None:
    """Width and height of a PNG or JPEG; None for anything else."""
    try:
        match sniff(data):
            case "image/png":
                return struct.unpack(">II", data[16:24])
            case "image/jpeg":
                return _jpeg_pixels(data)
    except (struct.error, IndexError):
        return None
    return None


def _boxes(data: bytes, start: int, end: int) -> Iterator[tuple[bytes, int, int]]:
    while start + 8 <= end:
        size, name = struct.unpack(">I4s", data[start : start + 8])
        if size < 8:
            return
        yield name, start + 8, min(start + size, end)
        start += size


def _mp4_seconds(data: bytes) -> float | None:
    for name, start, end in _boxes(data, 0, len(data)):
        if name != b"moov":
            continue
        for inner, body, _ in _boxes(data, start, end):
            if inner == b"mvhd":
                wide = data[body] == 1
                timescale, duration = struct.unpack_from(">IQ" if wide else ">II", data, body + (20 if wide else 12))
                return float(duration / timescale)
    return None


def _wav_seconds(data: bytes) -> float | None:
    position, rate = 12, 0
    while position + 8 <= len(data):
        name, size = struct.unpack_from("<4sI", data, position)
        if name == b"fmt ":
            (rate,) = struct.unpack_from("<I", data, position + 16)
        if name == b"data":
            return float(size / rate)
        position += 8 + size + size % 2
    return None


def _mp3_seconds(data: bytes) -> float | None:
    position, seconds = 0, 0.0
    if data.startswith(b"ID3"):
        position = 10 + sum((byte & 0x7F) << shift for byte, shift in zip(data[6:10], (21, 14, 7, 0), strict=True))
    while position + 4 <= len(data):
        head = struct.unpack_from(">I", data, position)[0]
        version, bitrate, rate = (head >> 19) & 3, (head >> 12) & 15, (head >> 10) & 3
        if head >> 21 != 0x7FF or version == 1 or bitrate in (0, 15) or rate == 3:
            break
        hertz, samples = _RATES[version][rate], 1152 if version == 3 else 576
        kbits = _BITRATES[3 if version == 3 else 2][bitrate]
        position += samples // 8 * kbits * 1000 // hertz + ((head >> 9) & 1)
        seconds += samples / hertz
    return seconds or None


def _jpeg_pixels(data: bytes) -> tuple[int, int] | None:
    position = 2
    while position + 9 <= len(data) and data[position] == 0xFF:
        marker, size = struct.unpack_from(">xBH", data, position)
        if 0xC0 <= marker <= 0xC3:
            height, width = struct.unpack_from(">HH", data, position + 5)
            return int(width), int(height)
        position += 2 + size
    return None
