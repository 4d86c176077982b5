"""How long a WebM or Matroska file lasts and how large its picture is: from its EBML elements.

The head tells a length, which may be untrue, while films are billed by it: so every block is looked at too, and the
later end counts. Elements are read one after another, whether they stand within each other or not: that needs no depth,
and a length that is not known, as in recordings that were never finished, means no more than that its children follow.
Source: RFC 8794 (EBML), RFC 9559 (Matroska).
"""

from __future__ import annotations

import io
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO

MAX_ELEMENTS = 200_000
MAX_LACED = 8  # frames in a block of their own; their length is told nowhere, and of an audible packet 0.12 s at most
_SEGMENT, _INFO, _TRACKS, _CLUSTER = 0x18538067, 0x1549A966, 0x1654AE6B, 0x1F43B675
_WITH_ELEMENTS = frozenset({_SEGMENT, _INFO, _TRACKS, _CLUSTER, 0xAE, 0xE0, 0xA0})  # and TrackEntry, Video, BlockGroup
_SCALE, _DURATION, _STRETCH, _WIDTH, _HEIGHT, _TIME = 0x2AD7B1, 0x4489, 0x23314F, 0xB0, 0xBA, 0xE7
_BLOCKS = (0xA3, 0xA1)  # SimpleBlock, Block
_READ = frozenset({_SCALE, _DURATION, _STRETCH, _WIDTH, _HEIGHT, _TIME, *_BLOCKS})
_USUAL_SCALE = 1_000_000  # nanoseconds in a tick
_MOST_BYTES = 12  # of a header, and of what is read of a body: track, time, flags and frames of a block, or a number


@dataclass(slots=True)
class _Film:
    scale: int = 0
    ticks: float = 0.0  # by its head
    heads: int = 0
    cluster: int = 0  # where it begins, in ticks
    last: int = 0  # tick at which the last block begins
    width: int = 0
    height: int = 0


def measure(file: BinaryIO) -> tuple[float, int, int]:
    """Seconds, width and height; 0 for what it does not tell: a recording that was cut off has no length.

    Raises: ValueError, IndexError or struct.error, for damage and for what is beyond the bounds.
    """
    film = _Film()
    for name, body in _elements(file, file.seek(0, io.SEEK_END)):
        _take(film, name, body)
    ticks = max(film.ticks, film.last) if film.ticks > 0 else 0.0
    return ticks * (film.scale or _USUAL_SCALE) / 1e9, film.width, film.height


def _elements(file: BinaryIO, end: int) -> Iterator[tuple[int, bytes]]:
    """Every element that counts, with the first bytes of its body."""
    position = 0
    for _ in range(MAX_ELEMENTS):
        if position >= end:
            return
        file.seek(position)
        head = file.read(_MOST_BYTES)
        name, id_bytes = _number(head, 4)
        size, size_bytes = _number(head[id_bytes:], 8)
        marker = 1 << 7 * size_bytes
        position += id_bytes + size_bytes
        if name in _WITH_ELEMENTS:
            yield name, b""
            continue
        if size == 2 * marker - 1:
            raise ValueError("an element without an end")
        if name in _READ:
            file.seek(position)
            yield name, file.read(min(size - marker, _MOST_BYTES))
        position += size - marker
    raise ValueError("too many elements")


def _number(data: bytes, most: int) -> tuple[int, int]:
    """A number whose zeros in front tell its length, with the mark that ends them; and how many bytes it has."""
    length = 9 - data[0].bit_length()
    if length > most or length > len(data):
        raise ValueError("no EBML")
    return int.from_bytes(data[:length], "big"), length


def _take(film: _Film, name: int, body: bytes) -> None:
    value = int.from_bytes(body, "big")
    if name == _INFO:
        film.heads += 1
        if film.heads > 1:
            raise ValueError("two heads, and nobody knows which one counts")
    elif name == _SCALE:
        film.scale = max(film.scale, value)
    elif name == _DURATION:
        film.ticks = max(film.ticks, _float(body))
    elif name == _STRETCH and _float(body) != 1.0:
        raise ValueError("a track with a time of its own")
    elif name == _WIDTH:
        film.width = max(film.width, value)
    elif name == _HEIGHT:
        film.height = max(film.height, value)
    elif name == _TIME:
        film.cluster = value
    elif name in _BLOCKS:
        film.last = max(film.last, film.cluster + _time_of(body))


def _float(body: bytes) -> float:
    value: float = struct.unpack(">f" if len(body) == 4 else ">d", body)[0]
    return value


def _time_of(block: bytes) -> int:
    """When it begins, in ticks of its cluster."""
    _, offset = _number(block, 8)
    ticks, flags = struct.unpack_from(">hB", block, offset)
    if flags & 0x06 and block[offset + 3] >= MAX_LACED:  # one less than there are
        raise ValueError("more frames in a block than any recorder writes")
    return int(ticks)
