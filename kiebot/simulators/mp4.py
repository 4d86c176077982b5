"""An MP4 file with real H.264 pictures, small enough to be made on the fly.

Each second is one IDR picture of raw samples (I_PCM macroblocks), the one H.264 coding that needs no transform.
"""

import random
import struct

TIMESCALE = 1000
SIDE_IN_BLOCKS = 2
SIDE = 16 * SIDE_IN_BLOCKS
MATRIX = struct.pack(">9I", 0x10000, 0, 0, 0, 0x10000, 0, 0, 0, 0x40000000)


def mp4_clip(seed: int, seconds: float) -> bytes:
    """A silent clip of exactly `seconds` (to the millisecond), 32 by 32 pixels, one picture per second."""
    duration = max(1, round(seconds * TIMESCALE))
    lengths = [TIMESCALE] * (duration // TIMESCALE)
    if duration % TIMESCALE:
        lengths.append(duration % TIMESCALE)
    rng = random.Random(seed)
    samples = [_sample(index, rng) for index in range(len(lengths))]
    head = _box(b"ftyp", b"isom" + struct.pack(">I", 0x200) + b"isomiso2avc1mp41") + _box(b"free", b"seed %d" % seed)
    moov_bytes = len(_moov(duration, lengths, samples, first_offset=0))
    moov = _moov(duration, lengths, samples, first_offset=len(head) + moov_bytes + 8)
    return head + moov + _box(b"mdat", b"".join(samples))


def _moov(duration: int, lengths: list[int], samples: list[bytes], *, first_offset: int) -> bytes:
    movie = struct.pack(">IIIIIHHQ", 0, 0, TIMESCALE, duration, 0x10000, 0x100, 0, 0) + MATRIX + bytes(24)
    track = struct.pack(">IIIIIQHHHH", 0, 0, 1, 0, duration, 0, 0, 0, 0, 0) + MATRIX
    track += struct.pack(">II", SIDE << 16, SIDE << 16)
    media = _full(b"mdhd", 0, struct.pack(">IIIIHH", 0, 0, TIMESCALE, duration, 0x55C4, 0))
    media += _full(b"hdlr", 0, bytes(4) + b"vide" + bytes(12) + b"VideoHandler\x00")
    media += _box(b"minf", _media_information(lengths, samples, first_offset))
    return _box(
        b"moov",
        _full(b"mvhd", 0, movie + struct.pack(">I", 2))
        + _box(b"trak", _full(b"tkhd", 3, track) + _box(b"mdia", media)),
    )


def _media_information(lengths: list[int], samples: list[bytes], first_offset: int) -> bytes:
    sizes = b"".join(struct.pack(">I", len(sample)) for sample in samples)
    times = b"".join(struct.pack(">II", 1, length) for length in lengths)
    table = (
        _full(b"stsd", 0, struct.pack(">I", 1) + _sample_entry())
        + _full(b"stts", 0, struct.pack(">I", len(lengths)) + times)
        + _full(b"stsc", 0, struct.pack(">IIII", 1, 1, len(samples), 1))
        + _full(b"stsz", 0, struct.pack(">II", 0, len(samples)) + sizes)
        + _full(b"stco", 0, struct.pack(">II", 1, first_offset))
    )
    reference = _full(b"dref", 0, struct.pack(">I", 1) + _full(b"url ", 1, b""))
    return _full(b"vmhd", 1, bytes(8)) + _box(b"dinf", reference) + _box(b"stbl", table)


def _sample_entry() -> bytes:
    sequence, picture = _sequence_set(), _picture_set()
    config = b"\x01" + sequence[1:4] + b"\xff\xe1" + struct.pack(">H", len(sequence)) + sequence
    config += b"\x01" + struct.pack(">H", len(picture)) + picture
    entry = bytes(6) + struct.pack(">H", 1) + bytes(16) + struct.pack(">HHIII", SIDE, SIDE, 0x480000, 0x480000, 0)
    entry += struct.pack(">H", 1) + bytes(32) + struct.pack(">Hh", 24, -1)
    return _box(b"avc1", entry + _box(b"avcC", config))


def _sequence_set() -> bytes:
    # Baseline, level 1; picture order follows decoding order (type 2), so slices carry no order field.
    side = _ue(SIDE_IN_BLOCKS - 1)
    bits = _ue(0) + _ue(0) + _ue(2) + _ue(1) + "0" + side + side + "1" + "1" + "0" + "0"
    return _unit(0x67, b"\x42\xc0\x0a", bits)


def _picture_set() -> bytes:
    bits = _ue(0) + _ue(0) + "0" + "0" + _ue(0) + _ue(0) + _ue(0) + "0" + "00" + _ue(0) + _ue(0) + _ue(0) + "000"
    return _unit(0x68, b"", bits)


def _sample(index: int, rng: random.Random) -> bytes:
    # first block, slice type I, picture set, frame number, IDR id (neighbours must differ), two flags, no QP change
    header = _ue(0) + _ue(7) + _ue(0) + "0000" + _ue(index % 2) + "00" + _ue(0)
    pcm = _ue(25)
    start = header + pcm
    start += "0" * (-len(start) % 8)
    parts = [_to_bytes(start), _block(rng)]
    following = _to_bytes(pcm + "0" * (-len(pcm) % 8))
    for _ in range(SIDE_IN_BLOCKS**2 - 1):
        parts += [following, _block(rng)]
    unit = b"\x65" + _escape(b"".join(parts) + b"\x80")
    return struct.pack(">I", len(unit)) + unit


def _block(rng: random.Random) -> bytes:
    luma, blue, red = (rng.randrange(32, 224) for _ in range(3))
    return bytes([luma]) * 256 + bytes([blue]) * 64 + bytes([red]) * 64


def _unit(kind: int, fixed: bytes, bits: str) -> bytes:
    bits += "1"
    return bytes([kind]) + _escape(fixed + _to_bytes(bits + "0" * (-len(bits) % 8)))


def _ue(value: int) -> str:
    code = f"{value + 1:b}"
    return "0" * (len(code) - 1) + code


def _to_bytes(bits: str) -> bytes:
    return int(bits, 2).to_bytes(len(bits) // 8, "big")


def _escape(payload: bytes) -> bytes:
    out, zeros = bytearray(), 0
    for byte in payload:
        if zeros >= 2 and byte <= 3:  # three such bytes in a row would read as a start code
            out.append(3)
            zeros = 0
        out.append(byte)
        zeros = zeros + 1 if byte == 0 else 0
    return bytes(out)


def _box(name: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body) + 8) + name + body


def _full(name: bytes, flags: int, body: bytes) -> bytes:
    return _box(name, struct.pack(">I", flags) + body)
