"""WebM and Matroska: a length is told by the head and by the blocks, and the later end counts."""

from __future__ import annotations

import math
import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kiebot.generation.media import Measures, measure

UNKNOWN = b"\x01" + b"\xff" * 7


def element(name: int, *bodies: bytes, size: bytes | None = None) -> bytes:
    body = b"".join(bodies)
    own = name.to_bytes((name.bit_length() + 7) // 8, "big")
    return own + (size if size is not None else struct.pack(">Q", 1 << 56 | len(body))) + body


def whole(name: int, value: int) -> bytes:
    return element(name, value.to_bytes(max(1, (value.bit_length() + 7) // 8), "big"))


def block(ms: int, *, name: int = 0xA3, laced: int = 0) -> bytes:
    lace = bytes([laced - 1]) if laced else b""
    return element(name, b"\x81", struct.pack(">hB", ms, 0x06 if laced else 0), lace, bytes(50))


def info(ms: float | None = 5000.0, *, scale: int | None = 1_000_000, form: str = ">d") -> bytes:
    length = element(0x4489, struct.pack(form, ms)) if ms is not None else b""
    return element(0x1549A966, whole(0x2AD7B1, scale) if scale is not None else b"", length)


def cluster(ms: int, *blocks: bytes, size: bytes | None = None) -> bytes:
    return element(0x1F43B675, whole(0xE7, ms), *blocks, size=size)


EBML = element(0x1A45DFA3, element(0x4282, b"webm"))
TRACKS = element(
    0x1654AE6B, element(0xAE, whole(0xD7, 1), element(0xE0, whole(0xB0, 640), whole(0xBA, 360))), element(0xAE)
)
BLOCKS = cluster(0, block(0), block(40)) + cluster(4000, block(0), element(0xA0, block(900, name=0xA1)))


def film(*parts: bytes, size: bytes | None = None) -> bytes:
    return EBML + element(0x18538067, element(0xEC, bytes(100)), *parts, size=size)


WHOLE = film(info(), TRACKS, BLOCKS)


@pytest.mark.parametrize(
    ("data", "seconds"),
    [
        (WHOLE, 5.0),
        (film(info(form=">f"), TRACKS, BLOCKS), 5.0),
        (film(info(scale=None), TRACKS, BLOCKS), 5.0),
        (film(info(2500.0, scale=2_000_000), TRACKS), 5.0),
        (film(TRACKS, BLOCKS, info()), 5.0),
        (film(info(), TRACKS, BLOCKS, size=UNKNOWN), 5.0),
        (film(info(), TRACKS, cluster(0, block(0), size=UNKNOWN), cluster(100, block(0), size=b"\xff")), 5.0),
        (WHOLE[:-30], 5.0),
        (film(info(60_000.0), TRACKS, BLOCKS), 60.0),
    ],
)
def test_a_film_is_measured_from_its_head(data: bytes, seconds: float) -> None:
    assert measure(data, "video") == Measures(seconds, 640, 360)


def test_sound_alone_is_measured_as_sound_and_is_no_video() -> None:
    sound = film(info(), element(0x1654AE6B, element(0xAE, whole(0x83, 2))), BLOCKS)
    assert measure(sound, "audio") == Measures(5.0)
    assert measure(sound, "video") is None


@pytest.mark.parametrize(
    "late",
    [
        cluster(60_000, block(0)),
        cluster(50_000, block(10_000)),
        cluster(50_000, element(0xA0, block(10_000, name=0xA1))),
        cluster(60_010, block(-10)),
        cluster(60_000, block(0, laced=8)),
        cluster(60_000, block(0), size=UNKNOWN) + cluster(0, block(0)),
    ],
)
def test_a_head_that_tells_less_than_the_blocks_is_not_believed(late: bytes) -> None:
    assert measure(film(info(), TRACKS, BLOCKS, late), "video") == Measures(60.0, 640, 360)


def test_a_recording_that_was_never_finished_has_no_length() -> None:
    for head in (info(None), info(0.0), b""):
        assert measure(film(head, TRACKS, BLOCKS, size=UNKNOWN), "video") == Measures(None, 640, 360)


@pytest.mark.parametrize(
    "data",
    [
        film(info(), info(1.0, scale=1), TRACKS),
        film(info(), TRACKS, cluster(0, block(0, laced=200))),
        film(info(), TRACKS, element(0xAE, element(0x23314F, struct.pack(">d", 12.0)))),
        film(info(), TRACKS, element(0xEC, size=UNKNOWN), cluster(60_000, block(0))),
        film(info(), TRACKS, b"\x00" * 20, cluster(60_000, block(0))),
        film(info(), TRACKS, element(0x4489, b"12345")),
        film(info(), TRACKS, element(0xEC) * 300_000, cluster(60_000, block(0))),
        EBML,
        b"\x1aE\xdf\xa3",
    ],
)
def test_what_could_be_read_in_two_ways_or_not_at_all_has_no_measures(data: bytes) -> None:
    assert measure(data, "video") is None


@pytest.mark.parametrize("ms", [math.nan, math.inf, -5000.0, 1e300])
def test_a_length_that_cannot_be_is_none(ms: float) -> None:
    found = measure(film(info(ms), TRACKS), "video")
    assert found == Measures(None, 640, 360)


def test_masters_within_masters_cost_no_depth() -> None:
    nested = element(0x18538067, size=UNKNOWN) * 150_000
    assert measure(EBML + nested + info() + TRACKS, "video") == Measures(5.0, 640, 360)
    assert measure(EBML + nested * 2, "video") is None


@settings(max_examples=300, deadline=None)
@given(
    data=st.binary(max_size=300),
    sample=st.sampled_from([WHOLE, film(info(), TRACKS, BLOCKS, size=UNKNOWN)]),
    cut=st.integers(0, 900),
    at=st.integers(0, 700),
)
def test_damage_never_raises(data: bytes, sample: bytes, cut: int, at: int) -> None:
    damaged = sample[:at] + data + sample[at + len(data) :]
    for broken in (EBML + data, sample[:cut], damaged, damaged[:cut]):
        for kind in ("video", "audio"):
            found = measure(broken, kind)
            assert found is None or found.seconds is None or found.seconds > 0
