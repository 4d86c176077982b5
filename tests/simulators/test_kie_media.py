"""The media files the simulators hand out are what they claim to be."""

import io
import wave
import zlib
from itertools import pairwise
from struct import unpack_from
from typing import Any, get_args

import mutagen.mp3
import mutagen.mp4
import pytest

from kiebot.simulators.media import CONTENT_TYPES, MediaKind, MediaSpec, make_media
from kiebot.simulators.probe import pixels_of, seconds_of, sniff

KINDS: tuple[MediaKind, ...] = get_args(MediaKind)


def length_by_mutagen(reader: Any, data: bytes) -> float:
    return float(reader(io.BytesIO(data)).info.length)


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_has_its_own_magic_bytes(kind: MediaKind) -> None:
    assert sniff(make_media(MediaSpec(kind, seed=1))) == CONTENT_TYPES[kind]


@pytest.mark.parametrize("kind", KINDS)
def test_the_bytes_follow_from_the_seed_alone(kind: MediaKind) -> None:
    files = [make_media(MediaSpec(kind, seed=seed, seconds=2)) for seed in range(60)]
    assert len(set(files)) == len(files)
    make_media.cache_clear()
    assert make_media(MediaSpec(kind, seed=7, seconds=2)) == files[7]


@pytest.mark.parametrize("seconds", [0.04, 1, 4.25, 15, 60])
def test_a_clip_says_how_long_it_lasts(seconds: float) -> None:
    clip = make_media(MediaSpec("mp4", seed=3, seconds=seconds))
    assert seconds_of(clip) == pytest.approx(seconds)
    assert length_by_mutagen(mutagen.mp4.MP4, clip) == pytest.approx(seconds)


def test_a_clip_s_sample_table_points_at_whole_h264_units() -> None:
    clip = make_media(MediaSpec("mp4", seed=3, seconds=3.5))
    (first,) = unpack_from(">I", clip, clip.index(b"stco") + 12)
    count, *sizes = unpack_from(">5I", clip, clip.index(b"stsz") + 12)
    assert count == 4
    for size in sizes:
        length, head = unpack_from(">IB", clip, first)
        assert (length + 4, head) == (size, 0x65)
        first += size
    assert first == len(clip)


def test_an_mp3_is_a_chain_of_frames_of_the_length_asked_for() -> None:
    sound = make_media(MediaSpec("mp3", seed=5, seconds=30))
    assert seconds_of(sound) == pytest.approx(30, abs=0.04)
    assert length_by_mutagen(mutagen.mp3.MP3, sound) == pytest.approx(30, abs=0.1)


def test_a_wav_opens_with_the_standard_library() -> None:
    sound = make_media(MediaSpec("wav", seed=5, seconds=2.5))
    with wave.open(io.BytesIO(sound)) as opened:
        assert opened.getnframes() / opened.getframerate() == 2.5
    assert seconds_of(sound) == 2.5


def test_a_png_unpacks_to_its_full_number_of_rows() -> None:
    picture = make_media(MediaSpec("png", seed=5, side=40))
    start = picture.index(b"IDAT")
    (size,) = unpack_from(">I", picture, start - 4)
    assert len(zlib.decompress(picture[start + 4 : start + 4 + size])) == 40 * (1 + 40 * 3)
    assert pixels_of(picture) == (40, 40)


def test_a_jpeg_s_scan_holds_no_stray_marker() -> None:
    for seed in range(40):
        picture = make_media(MediaSpec("jpeg", seed=seed, side=128))
        scan = picture[picture.index(b"\xff\xda") + 10 : -2]
        assert all(after == 0 for before, after in pairwise(scan) if before == 0xFF)
        assert pixels_of(picture) == (128, 128)


@pytest.mark.parametrize(
    "junk", [b"", b"\xff", b"ID3", b"\x00\x00\x00\x08ftyp", b"RIFF\x00\x00\x00\x00WAVE", b"<html>"]
)
def test_junk_has_no_length_and_no_size(junk: bytes) -> None:
    assert seconds_of(junk) is None
    assert pixels_of(junk) is None
