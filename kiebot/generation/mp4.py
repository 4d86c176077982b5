"""How long an MP4 or MOV lasts and how large its picture is: from its boxes, wherever they stand.

Several boxes tell a length, and any of them may be untrue, while films are billed by it. So all of them are read, and
the longest counts: the movie's, a track's, that of a track's media, and what its samples add up to, in fragments too.
Source: ISO/IEC 14496-12.
"""

from __future__ import annotations

import io
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import BinaryIO

MAX_BOXES = 20_000
MAX_BODY_BYTES = 16 * 1024 * 1024
_WITH_BOXES = frozenset({b"moov", b"trak", b"mdia", b"minf", b"stbl", b"mvex", b"moof", b"traf", b"udta"})
_PACKED = b"cmov"  # boxes that are compressed: what they tell is not seen here
_READ = frozenset({b"mvhd", b"mehd", b"tkhd", b"mdhd", b"stts", b"trex", b"tfhd", b"trun"})
_HAS_OFFSET, _HAS_FIRST_FLAGS, _HAS_DURATIONS = 0x1, 0x4, 0x100
_SAMPLE_FIELDS = (0x100, 0x200, 0x400, 0x800)  # duration, size, flags and time offset, four bytes each


@dataclass(slots=True)
class _Track:
    scale: int = 0  # ticks of its media in a second
    media: int = 0  # ticks
    samples: int = 0  # ticks
    shown: int = 0  # in the movie's ticks


@dataclass(slots=True)
class _Movie:
    scale: int = 0
    duration: int = 0
    fragments: int = 0
    width: int = 0
    height: int = 0
    tracks: list[_Track] = field(default_factory=list)
    by_id: dict[int, _Track] = field(default_factory=dict)
    usual_ticks: dict[int, int] = field(default_factory=dict)  # of one sample within fragments, by track
    fragment: tuple[_Track, int] = field(default_factory=lambda: (_Track(), 0))  # whose it is; ticks of a sample

    def seconds(self) -> float:
        own = [(each, self.scale) for each in (self.duration, self.fragments, *(track.shown for track in self.tracks))]
        # A track without a scale is played with another one, so it may not count for nothing.
        media = [(t, track.scale or self.scale or 1) for track in self.tracks for t in (track.media, track.samples)]
        return max((ticks / scale for ticks, scale in (*own, *media) if scale), default=0.0)


def measure(file: BinaryIO) -> tuple[float, int, int]:
    """Seconds, width and height; 0 for what it does not tell.

    Raises: ValueError, IndexError or struct.error, for damage and for what is beyond the bounds.
    """
    movie = _Movie()
    for name, start, size in _boxes(file, file.seek(0, io.SEEK_END)):
        if name == _PACKED:
            raise ValueError("compressed boxes")
        if name == b"trak":
            movie.tracks.append(_Track())
        elif name in _READ:
            if size > MAX_BODY_BYTES:
                raise ValueError("a box that is too long")
            file.seek(start)
            _take(movie, name, file.read(size))
    return movie.seconds(), movie.width, movie.height


def _boxes(file: BinaryIO, end: int) -> Iterator[tuple[bytes, int, int]]:
    """Every box in its order, with where its body starts and how long it is, into containers."""
    limits, position = [end], 0
    for _ in range(MAX_BOXES):
        while limits and position + 8 > limits[-1]:
            position = limits.pop()
        if not limits:
            return
        file.seek(position)
        head = file.read(16)
        size, name, skip = int.from_bytes(head[:4], "big"), head[4:8], 8
        if size == 1:
            size, skip = int.from_bytes(head[8:16], "big"), 16
        size = limits[-1] - position if size == 0 else size
        if size < skip:
            if len(limits) > 1:  # players go on behind the container; who stops here misses its other tracks
                raise ValueError("a box that is shorter than its head")
            return
        start, body_end = position + skip, min(position + size, limits[-1])
        yield name, start, max(body_end - start, 0)
        position = body_end
        if name in _WITH_BOXES and start < body_end:
            limits.append(body_end)
            position = start
    raise ValueError("too many boxes")


def _take(movie: _Movie, name: bytes, body: bytes) -> None:
    track = movie.tracks[-1] if movie.tracks else _Track()
    match name:
        case b"mvhd":
            movie.scale, movie.duration = _scale_and_duration(body)
        case b"mehd":
            movie.fragments = _known(body, *((">Q", 4) if body[0] == 1 else (">I", 4)))
        case b"tkhd":
            track_id = struct.unpack_from(">I", body, 20 if body[0] == 1 else 12)[0]
            if movie.by_id.setdefault(track_id, track) is not track:
                raise ValueError("two tracks of one number")
            track.shown = _known(body, *((">Q", 28) if body[0] == 1 else (">I", 20)))
            _keep_larger(movie, body)
        case b"mdhd":
            track.scale, track.media = _scale_and_duration(body)
        case b"stts":
            entries = memoryview(body)[8 : 8 + 8 * struct.unpack_from(">I", body, 4)[0]]
            track.samples += sum(count * ticks for count, ticks in struct.iter_unpack(">II", entries))
        case b"trex":
            track_id, _, ticks = struct.unpack_from(">III", body, 4)
            movie.usual_ticks[track_id] = ticks
        case b"tfhd":
            movie.fragment = _fragment(movie, body)
        case b"trun":
            owner, usual = movie.fragment
            owner.samples += _ticks_of_run(body, usual)


def _scale_and_duration(body: bytes) -> tuple[int, int]:
    if body[0] == 1:
        return struct.unpack_from(">I", body, 20)[0], _known(body, ">Q", 24)
    return struct.unpack_from(">I", body, 12)[0], _known(body, ">I", 16)


def _known(body: bytes, form: str, offset: int) -> int:
    """A number whose bits are all set means that nobody knows."""
    value: int = struct.unpack_from(form, body, offset)[0]
    return 0 if value == 256 ** struct.calcsize(form) - 1 else value


def _keep_larger(movie: _Movie, body: bytes) -> None:
    """Take a track's picture size, if it is larger than what is known; turned on its side when its matrix says so."""
    offset = 88 if body[0] == 1 else 76
    width, height = (value >> 16 for value in struct.unpack_from(">II", body, offset))
    upright = struct.unpack_from(">i", body, offset - 36)[0]
    if width * height > movie.width * movie.height:
        movie.width, movie.height = (width, height) if upright else (height, width)


def _fragment(movie: _Movie, body: bytes) -> tuple[_Track, int]:
    flags, track_id = struct.unpack_from(">II", body)
    offset = 8 + 8 * bool(flags & 0x1) + 4 * bool(flags & 0x2)  # past what says where its bytes are, and of which form
    ticks = struct.unpack_from(">I", body, offset)[0] if flags & 0x8 else movie.usual_ticks.get(track_id, 0)
    return movie.by_id.get(track_id, _Track()), ticks


def _ticks_of_run(body: bytes, usual: int) -> int:
    flags: int
    count: int
    flags, count = struct.unpack_from(">II", body)
    if not flags & _HAS_DURATIONS:
        return count * usual
    start = 8 + 4 * bool(flags & _HAS_OFFSET) + 4 * bool(flags & _HAS_FIRST_FLAGS)
    step = 4 * sum(bool(flags & each) for each in _SAMPLE_FIELDS)
    samples = memoryview(body)[start : start + step * count]
    return sum(ticks for (ticks,) in struct.iter_unpack(f">I{step - 4}x", samples))
