"""How long an MP3 lasts when all its frames are counted: what the first one says of their number may be untrue.

Source: ISO/IEC 11172-3 and 13818-3; id3.org, ID3v2.4.0.
"""

from __future__ import annotations

import io
import mmap
from typing import BinaryIO

MAX_BYTES = 64 * 1024 * 1024
MAX_FRAMES = 1_000_000  # and what looks like the beginning of one
_KBITS = {
    3: (0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
    2: (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
}
_HERTZ = {3: (44_100, 48_000, 32_000), 2: (22_050, 24_000, 16_000), 0: (11_025, 12_000, 8_000)}


def seconds_of(file: BinaryIO) -> float:
    """Raises: ValueError, when it is too long to be counted."""
    data = _mapped(file)
    if len(data) > MAX_BYTES:
        raise ValueError("an MP3 that is too long")
    position, seconds = _tag_bytes(data), 0.0
    for _ in range(MAX_FRAMES):
        position = data.find(b"\xff", position)
        if position < 0:
            return seconds
        size, lasts_s = _frame(data, position)
        seconds += lasts_s
        position += size or 1
    raise ValueError("too many frames")


def _mapped(file: BinaryIO) -> bytes | mmap.mmap:
    """All of it; of a file on disk only what is looked at comes into memory. Raises: ValueError, when it is empty."""
    try:
        return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    except io.UnsupportedOperation:  # it is in memory
        file.seek(0)
        return file.read()


def _tag_bytes(data: bytes | mmap.mmap) -> int:
    """Of the tag in front, in whose pictures much looks like a frame. Every decoder leaves it out."""
    if data[:3] != b"ID3" or len(data) < 10:
        return 0
    size = sum((byte & 0x7F) << shift for byte, shift in zip(data[6:10], (21, 14, 7, 0), strict=True))
    return 10 + size + 10 * bool(data[5] & 0x10)


def _frame(data: bytes | mmap.mmap, position: int) -> tuple[int, float]:
    """Bytes and seconds of the frame of layer III that begins here; 0 when none does."""
    head = int.from_bytes(data[position : position + 4], "big")
    version, layer, kbits, rate = head >> 19 & 3, head >> 17 & 3, head >> 12 & 15, head >> 10 & 3
    if head >> 21 != 0x7FF or version == 1 or layer != 1 or kbits in (0, 15) or rate == 3:
        return 0, 0.0
    hertz, samples = _HERTZ[version][rate], 1152 if version == 3 else 576
    size = samples // 8 * _KBITS[3 if version == 3 else 2][kbits] * 1000 // hertz + (head >> 9 & 1)
    return size, samples / hertz
