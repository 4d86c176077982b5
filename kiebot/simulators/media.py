"""Small real media files, made without any codec library.

Every file opens in an ordinary viewer and is fully determined by its kind, seed and length, so a simulator may throw
the bytes away and make the same ones again. Two seeds never give the same bytes.
"""

import random
import struct
import zlib
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

from kiebot.simulators.mp4 import mp4_clip

MediaKind = Literal["png", "jpeg", "mp4", "mp3", "wav"]

CONTENT_TYPES: dict[MediaKind, str] = {
    "png": "image/png",
    "jpeg": "image/jpeg",
    "mp4": "video/mp4",
    "mp3": "audio/mpeg",
    "wav": "audio/wav",
}
EXTENSIONS: dict[MediaKind, str] = {"png": "png", "jpeg": "jpg", "mp4": "mp4", "mp3": "mp3", "wav": "wav"}

MP3_FRAME_BYTES = 36
MP3_FRAME_SAMPLES = 576
MP3_SAMPLE_RATE = 16_000
WAV_SAMPLE_RATE = 8_000


@dataclass(frozen=True, slots=True)
class MediaSpec:
    """What file to make. `seconds` is ignored for pictures; `side` is the edge of a square picture, in pixels."""

    kind: MediaKind
    seed: int
    seconds: float = 5.0
    side: int = 64

    @property
    def content_type(self) -> str:
        """The honest MIME type of the file."""
        return CONTENT_TYPES[self.kind]


@lru_cache(maxsize=128)
def make_media(spec: MediaSpec) -> bytes:
    """The bytes of the file; the same spec gives the same bytes."""
    match spec.kind:
        case "png":
            return make_png(spec.seed, spec.side)
        case "jpeg":
            return make_jpeg(spec.seed, spec.side)
        case "mp4":
            return mp4_clip(spec.seed, spec.seconds)
        case "mp3":
            return make_mp3(spec.seed, spec.seconds)
        case "wav":
            return make_wav(spec.seed, spec.seconds)


def make_png(seed: int, side: int = 64) -> bytes:
    """A square RGB picture: two colours drawn from the seed, blended from left to right."""
    rng = random.Random(seed)
    left, right = rng.randbytes(3), rng.randbytes(3)
    row = b"".join(
        bytes((a * (side - x) + b * x) // side for a, b in zip(left, right, strict=True)) for x in range(side)
    )
    pixels = zlib.compress((b"\x00" + row) * side, 6)
    header = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    chunks = (
        (b"IHDR", header),
        (b"tEXt", b"Comment\x00seed %d" % seed),
        (b"IDAT", pixels),
        (b"IEND", b""),
    )
    return b"\x89PNG\r\n\x1a\n" + b"".join(_png_chunk(name, body) for name, body in chunks)


def _png_chunk(name: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))


def make_jpeg(seed: int, side: int = 64) -> bytes:
    """A grey baseline JPEG of flat 8x8 blocks; `side` is rounded up to whole blocks."""
    rng = random.Random(seed)
    blocks = -(-side // 8)
    quantiser = b"\xff\xdb" + struct.pack(">HB", 67, 0) + b"\x10" * 64
    frame = b"\xff\xc0" + struct.pack(">HBHHBBBB", 11, 8, blocks * 8, blocks * 8, 1, 1, 0x11, 0)
    # Four-bit codes for the twelve DC sizes; the only AC symbol is "end of block", one bit long.
    dc_codes = b"\xff\xc4" + struct.pack(">HB", 31, 0x00) + bytes([0, 0, 0, 12] + [0] * 12) + bytes(range(12))
    ac_codes = b"\xff\xc4" + struct.pack(">HB", 20, 0x10) + bytes([1] + [0] * 15) + b"\x00"
    scan = b"\xff\xda" + struct.pack(">HBBBBBB", 8, 1, 1, 0x00, 0, 63, 0)
    comment = b"seed %d" % seed
    return b"".join(
        (
            b"\xff\xd8\xff\xe0" + struct.pack(">H5sBBBHHBB", 16, b"JFIF\x00", 1, 1, 0, 1, 1, 0, 0),
            b"\xff\xfe" + struct.pack(">H", len(comment) + 2) + comment,
            quantiser + frame + dc_codes + ac_codes + scan,
            _jpeg_blocks([rng.randrange(-48, 48) for _ in range(blocks * blocks)]),
            b"\xff\xd9",
        )
    )


def _jpeg_blocks(levels: list[int]) -> bytes:
    bits, previous = [], 0
    for level in levels:
        change, previous = level - previous, level
        size = abs(change).bit_length()
        bits.append(f"{size:04b}")
        if size:
            bits.append(f"{change if change > 0 else change + (1 << size) - 1:0{size}b}")
        bits.append("0")
    text = "".join(bits)
    text += "1" * (-len(text) % 8)
    raw = int(text, 2).to_bytes(len(text) // 8, "big")
    return raw.replace(b"\xff", b"\xff\x00")  # inside a scan a bare FF would start a marker


def make_mp3(seed: int, seconds: float) -> bytes:
    """Silence as MPEG-2 layer III frames of 36 ms at 8 kbit/s; the length is rounded to whole frames."""
    rng = random.Random(seed)
    label = b"\x03seed %d" % seed
    frame = b"TIT2" + struct.pack(">IH", len(label), 0) + label
    tag = b"ID3\x03\x00\x00" + bytes([0, 0, len(frame) >> 7, len(frame) & 0x7F]) + frame
    count = max(1, round(seconds * MP3_SAMPLE_RATE / MP3_FRAME_SAMPLES))
    header = b"\xff\xf3\x18\xc0" + bytes(9)  # zero side information: no granule data, which decodes as silence
    room = MP3_FRAME_BYTES - len(header)
    filling = bytes(rng.randrange(0x01, 0x7F) for _ in range(room))  # never FF: no false frame start
    return tag + (header + filling) * count


def make_wav(seed: int, seconds: float) -> bytes:
    """A tone as 8-bit mono PCM at 8 kHz; the length is exact to one sample."""
    rng = random.Random(seed)
    period = bytes(rng.randrange(96, 160) for _ in range(40))
    count = max(1, round(seconds * WAV_SAMPLE_RATE))
    samples = (period * (count // len(period) + 1))[:count]
    padding = b"\x00" * (count % 2)
    shape = struct.pack("<HHIIHH", 1, 1, WAV_SAMPLE_RATE, WAV_SAMPLE_RATE, 1, 8)
    chunks = b"fmt " + struct.pack("<I", len(shape)) + shape + b"data" + struct.pack("<I", count) + samples + padding
    return b"RIFF" + struct.pack("<I", 4 + len(chunks)) + b"WAVE" + chunks
