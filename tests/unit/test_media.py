"""Files are told by their bytes, measured within bounds, and garbage is None."""

from __future__ import annotations

import io
import struct
import wave
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kiebot.generation.media import Measures, declared, is_accepted, kind_of_mime, measure, sniff

PNG = b"\x89PNG\r\n\x1a\n" + struct.pack(">I4sII", 13, b"IHDR", 640, 480) + bytes(9)
GIF = b"GIF89a" + struct.pack("<HH", 320, 200) + bytes(3)
JPEG = (
    b"\xff\xd8\xff\xe0"
    + struct.pack(">H", 16)
    + bytes(14)
    + b"\xff\xff\xc2"
    + struct.pack(">HBHH", 11, 8, 768, 1024)
    + bytes(4)
)
WEBP_X = (
    b"RIFF\0\0\0\0WEBPVP8X"
    + struct.pack("<I", 10)
    + bytes(4)
    + (1279).to_bytes(3, "little")
    + (719).to_bytes(3, "little")
)
WEBP_L = b"RIFF\0\0\0\0WEBPVP8L" + struct.pack("<IB", 5, 0x2F) + struct.pack("<I", 99 | 49 << 14)
WEBP_Y = b"RIFF\0\0\0\0WEBPVP8 " + struct.pack("<I", 10) + bytes(3) + b"\x9d\x01\x2a" + struct.pack("<HH", 300, 150)
MP3 = (b"\xff\xfb\x90\x00" + bytes(413)) * 77  # 128 kbit/s at 44.1 kHz: 26.12 ms a frame
FLAC = (
    b"fLaC\x80\0\0\x22"
    + struct.pack(">HH", 4096, 4096)
    + bytes(6)
    + struct.pack(">Q", 44_100 << 44 | 1 << 41 | 15 << 36 | 88_200)
)
FLAC += bytes(16)


def box(name: bytes, *bodies: bytes) -> bytes:
    body = b"".join(bodies)
    return struct.pack(">I4s", 8 + len(body), name) + body


def track(width: int, height: int, *, turned: bool = False, number: int = 1) -> bytes:
    matrix = (0, 1 << 16, 0, -1 << 16, 0, 0, 0, 0, 1 << 30) if turned else (1 << 16, 0, 0, 0, 1 << 16, 0, 0, 0, 1 << 30)
    return box(
        b"trak",
        box(
            b"tkhd",
            struct.pack(">12xI24x", number),
            struct.pack(">9i", *matrix),
            struct.pack(">II", width << 16, height << 16),
        ),
    )


def movie(duration: int, *parts: bytes, scale: int = 1000, brand: bytes = b"isom") -> bytes:
    head = box(b"mvhd", bytes(12), struct.pack(">II", scale, duration), bytes(80))
    return box(b"ftyp", brand, bytes(4)) + box(b"mdat", bytes(5000)) + box(b"moov", head, *parts)


def spoken(seconds: float) -> bytes:
    file = io.BytesIO()
    with wave.open(file, "wb") as out:
        out.setnchannels(1)
        out.setsampwidth(2)
        out.setframerate(8000)
        out.writeframes(bytes(int(16_000 * seconds)))
    return file.getvalue()


SAMPLES = [PNG, GIF, JPEG, WEBP_X, WEBP_L, WEBP_Y, MP3, FLAC, movie(6040, track(640, 360)), spoken(0.1)]


@pytest.mark.parametrize(
    ("head", "mime"),
    [
        (PNG, "image/png"),
        (JPEG, "image/jpeg"),
        (GIF, "image/gif"),
        (WEBP_X, "image/webp"),
        (movie(1), "video/mp4"),
        (movie(1, brand=b"qt  "), "video/quicktime"),
        (movie(1, brand=b"M4A "), "audio/mp4"),
        (movie(1, brand=b"heic"), "image/heic"),
        (box(b"moov", bytes(9)), "video/quicktime"),
        (b"\x1aE\xdf\xa3rest", "video/webm"),
        (b"ID3\x04rest", "audio/mpeg"),
        (MP3, "audio/mpeg"),
        (b"\xff\xf1\x50\x80", "audio/aac"),
        (b"OggS\0rest", "audio/ogg"),
        (spoken(0.1), "audio/wav"),
        (FLAC, "audio/flac"),
        (b"%PDF-1.7", "application/pdf"),
    ],
)
def test_a_file_is_told_by_its_first_bytes(head: bytes, mime: str) -> None:
    found = sniff(head[:64])
    assert found is not None
    assert found.mime == mime


@pytest.mark.parametrize(
    "head", [b"", b"\xff", b"hello world", b"<html>", b"RIFF\0\0\0\0ABCD", b"\xff\xff\xff\xff", bytes(64)]
)
def test_what_is_none_of_ours_is_none(head: bytes) -> None:
    assert sniff(head) is None


@pytest.mark.parametrize(
    ("data", "size"),
    [
        (PNG, (640, 480)),
        (GIF, (320, 200)),
        (JPEG, (1024, 768)),
        (WEBP_X, (1280, 720)),
        (WEBP_L, (100, 50)),
        (WEBP_Y, (300, 150)),
    ],
)
def test_a_picture_is_measured_from_its_header(data: bytes, size: tuple[int, int]) -> None:
    assert measure(data, "image") == Measures(None, *size)


def test_a_video_is_measured_although_its_index_stands_at_the_end(tmp_path: Path) -> None:
    path = tmp_path / "clip.mp4"
    path.write_bytes(movie(6040, track(0, 0), track(640, 360, number=2)))
    assert measure(path, "video") == Measures(6.04, 640, 360)
    assert measure(str(path), "video") == measure(path.read_bytes(), "video")


def test_a_video_turned_on_its_side_gives_the_shown_size() -> None:
    assert measure(movie(1000, track(1920, 1080, turned=True)), "video") == Measures(1.0, 1080, 1920)


def test_a_fragmented_video_takes_its_length_from_the_extension_header() -> None:
    whole = box(b"mvex", box(b"mehd", bytes(4), struct.pack(">I", 2500)))
    assert measure(movie(0, track(64, 64), whole), "video") == Measures(2.5, 64, 64)
    assert measure(movie(2**32 - 1, track(64, 64)), "video") == Measures(None, 64, 64)


def test_a_long_form_header_and_a_long_box_are_read() -> None:
    head = box(b"mvhd", b"\x01", bytes(19), struct.pack(">IQ", 90_000, 450_000), bytes(80))
    long_box = struct.pack(">I4sQ", 1, b"free", 24) + bytes(8)
    data = box(b"ftyp", b"isom", bytes(4)) + long_box + box(b"moov", head, track(8, 8))
    assert measure(data, "video") == Measures(5.0, 8, 8)


def media(*samples: tuple[int, int], duration: int = 0, scale: int = 1000, shown: int = 0, number: int = 1) -> bytes:
    """A track of 64 by 64: ticks by its media's header, in the movie's ticks, and (count, ticks) of its samples."""
    head = box(
        b"tkhd", bytes(12), struct.pack(">I4xI", number, shown), bytes(16 + 36), struct.pack(">II", 64 << 16, 64 << 16)
    )
    table = box(b"stts", bytes(4), struct.pack(">I", len(samples)), *(struct.pack(">II", *each) for each in samples))
    own = box(b"mdhd", bytes(12), struct.pack(">II", scale, duration), bytes(4))
    return box(b"trak", head, box(b"mdia", own, box(b"minf", box(b"stbl", table))))


def moof(*runs: bytes, flags: int = 0x20000, number: int = 1, more: bytes = b"") -> bytes:
    head = box(b"tfhd", struct.pack(">II", flags, number), more)
    return box(b"moof", box(b"mfhd", bytes(8)), box(b"traf", head, *runs)) + box(b"mdat", bytes(9))


USUAL = box(b"mvex", box(b"trex", bytes(4), struct.pack(">III", 1, 1, 40), bytes(8)))
COUNTED = box(b"trun", struct.pack(">III", 0x1, 100, 0))
TIMED = box(b"trun", struct.pack(">IIII", 0x305, 2, 0, 0), struct.pack(">IIII", 1500, 9, 2500, 9))


@pytest.mark.parametrize(
    ("film", "seconds"),
    [
        (movie(1000, media(duration=60_000)), 60.0),
        (movie(1000, media(duration=900_000, scale=15_000)), 60.0),
        (movie(1000, media(shown=60_000, duration=1000)), 60.0),
        (movie(1000, media(shown=1000, duration=1000), media(duration=60_000, number=2)), 60.0),
        (movie(1000, media((600, 100), shown=1000, duration=1000)), 60.0),
        (movie(1000, media((10, 100), (590, 100), duration=1000)), 60.0),
        (movie(1000, media(duration=2**32 - 1)), 1.0),
        (movie(1000, USUAL, media(duration=1000)) + moof(COUNTED) * 3, 12.0),
        (movie(1000, media(duration=1000), USUAL) + moof(COUNTED, flags=0x2000A, more=struct.pack(">II", 1, 50)), 5.0),
        (movie(1000, media(duration=1000), USUAL) + moof(TIMED, TIMED), 8.0),
        (movie(0, media(), box(b"mvex", box(b"mehd", bytes(4), struct.pack(">I", 1000)))) + moof(TIMED), 4.0),
        (movie(60_000, media((10, 100), duration=1000)), 60.0),
        (movie(1000, media((600, 100), scale=0)), 60.0),  # players take another scale
        (movie(1000, box(b"udta", media(duration=60_000))), 60.0),  # and look for tracks in there
    ],
)
def test_of_all_lengths_that_a_film_tells_the_longest_counts(film: bytes, seconds: float) -> None:
    assert measure(film, "video") == Measures(seconds, 64, 64)


@pytest.mark.parametrize(
    "film",
    [
        movie(1000, box(b"trak", media(duration=1000)[8:], b"\0\0\0\4nope"), media(duration=60_000, number=2)),
        movie(1000, media(duration=1000), media(duration=1000, scale=10**9)) + moof(TIMED),
        movie(1000, media(duration=1000), box(b"cmov", bytes(20))),
    ],
)
def test_a_film_that_players_and_we_may_read_in_different_ways_is_unmeasured_and_not_short(film: bytes) -> None:
    assert measure(film, "video") is None


def test_what_stands_behind_more_boxes_than_are_read_makes_a_film_unmeasured_and_not_short() -> None:
    assert measure(movie(1000, media(duration=1000), USUAL) + box(b"free") * 30_000 + moof(TIMED), "video") is None


def test_audio_is_measured_in_seconds() -> None:
    assert measure(spoken(1.5), "audio") == Measures(1.5)
    assert measure(movie(3200, brand=b"M4A "), "audio") == Measures(3.2)
    for data, seconds in ((MP3, 2.01), (FLAC, 2.0)):
        found = measure(data, "audio")
        assert found is not None
        assert found.seconds == pytest.approx(seconds, abs=0.05)


def test_a_song_on_disk_is_as_long_as_the_same_in_memory(tmp_path: Path) -> None:
    path = tmp_path / "song.mp3"
    path.write_bytes(MP3)
    assert measure(path, "audio") == measure(MP3, "audio")
    path.write_bytes(b"")
    assert measure(path, "audio") is None


def test_a_song_whose_first_frame_tells_fewer_frames_than_follow_is_as_long_as_its_frames() -> None:
    told = b"\xff\xfb\x90\x00" + bytes(32) + b"Xing" + struct.pack(">II", 1, 7)
    found = measure(told.ljust(417, b"\0") + MP3 * 10, "audio")
    assert found is not None
    assert found.seconds == pytest.approx(20.1, abs=0.1)


def test_a_picture_in_front_of_a_song_is_no_part_of_its_length() -> None:
    picture = (b"\xff\xfb\x90\x00" + bytes(20)) * 600
    size = bytes(len(picture) >> shift & 0x7F for shift in (21, 14, 7, 0))
    found = measure(b"ID3\x04\0\0" + size + picture + MP3, "audio")
    assert found is not None
    assert found.seconds == pytest.approx(2.01, abs=0.05)


def test_a_song_of_endless_beginnings_is_read_only_so_far() -> None:
    assert measure(MP3 + b"\xff" * 3_000_000, "audio") is None


def test_a_file_that_is_not_of_the_wanted_kind_is_not_measured() -> None:
    assert measure(PNG, "video") is None
    assert measure(MP3, "image") is None
    assert measure(movie(1000), "video") is None  # sound without a picture
    assert measure(Path("/no/such/file"), "image") is None


def test_only_formats_the_models_take_are_accepted() -> None:
    assert is_accepted("image", "image/JPEG")
    assert not is_accepted("image", "image/heic")
    assert not is_accepted("video", "image/png")
    assert kind_of_mime("audio/ogg") == "audio"
    assert kind_of_mime("application/zip") == "document"


@pytest.mark.parametrize(
    ("mime", "name", "kind", "known"),
    [
        ("video/mp4", "a.bin", "video", "video/mp4"),
        ("Video/MP4; codecs=avc1", None, "video", "video/mp4"),
        ("application/octet-stream", "A.MKV", "video", "video/x-matroska"),
        (None, "song.final.m4a", "audio", "audio/mp4"),
        ("", "voice.opus", "audio", "audio/ogg"),
        ("application/ogg", "a.ogg", "audio", "audio/ogg"),
        ("audio/x-opus+ogg", "a.opus", "audio", "audio/ogg"),
        ("video/x-m4v", "a.m4v", "video", "video/mp4"),
        (None, "photo.jpeg", "image", "image/jpeg"),
        ("application/pdf", "film.mp4", "document", "application/pdf"),
        ("application/octet-stream", "setup.exe", "document", "application/octet-stream"),
        (None, "mp4", "video", "video/mp4"),
        (None, None, "document", ""),
    ],
)
def test_a_file_is_of_the_type_it_is_said_to_be_or_else_of_that_its_name_ends_with(
    mime: str | None, name: str | None, kind: str, known: str
) -> None:
    assert declared(mime, name) == (kind, known)


@settings(max_examples=150, deadline=None)
@given(data=st.binary(max_size=600), sample=st.sampled_from(SAMPLES), cut=st.integers(0, 6000), at=st.integers(0, 400))
def test_damage_never_raises(data: bytes, sample: bytes, cut: int, at: int) -> None:
    damaged = sample[:at] + data + sample[at + len(data) :]
    for broken in (data, sample[:cut], damaged, damaged[:cut]):
        for kind in ("image", "video", "audio"):
            found = measure(broken, kind)
            assert found is None or found.seconds is None or found.seconds > 0


def test_a_file_of_endless_boxes_is_read_only_so_far() -> None:
    assert measure(box(b"ftyp", b"isom", bytes(4)) + box(b"free") * 100_000, "video") is None
    nested = b""
    for _ in range(5000):
        nested = box(b"moov", nested)
    assert measure(box(b"ftyp", b"isom", bytes(4)) + nested, "video") is None
