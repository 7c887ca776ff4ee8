"""What the header of a sound file promises, compared with what is there; libsndfile itself takes cut files as whole."""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator

from flaxtl.errors import DataError

# Programs that write to a pipe cannot know the size beforehand; these and larger sizes mean "until the end".
_STREAMED = 0x7FFFF000


def whole(name: str, data: bytes) -> bytes:
    """Returns a sound file's bytes, those of a stream with the size that its header leaves open filled in.

    Args:
        name: of the clip, for the message.
        data: of a wav, RF64, W64, aiff, au, caf, ogg, mp3 or NIST file; others are returned as they are.

    Raises:
        DataError: the header promises more than there is.

    Example:
        >>> whole('clip', b'RIFF' + bytes(4) + b'WAVEdata' + bytes([4, 0, 0, 0]) + bytes(4))[-8:]
        b'\\x04\\x00\\x00\\x00\\x00\\x00\\x00\\x00'
    """
    data = _without_tag(data)
    head = data[:4]
    if head in (b"RIFF", b"RIFX", b"RF64") and data[8:12] == b"WAVE":
        return _wave(name, data)
    if head == b"FORM" and data[8:12] in (b"AIFF", b"AIFC"):
        for kind, size, start in _chunks(data, 12, ">"):
            if kind == b"SSND" and size < _STREAMED:
                _require(name, size, len(data) - start)
    elif head == b".snd" and len(data) >= 12:
        start, size = struct.unpack(">II", data[4:12])
        if size < _STREAMED:
            _require(name, size, len(data) - start)
    elif head == b"caff":
        for kind, size, start in _chunks(data, 8, ">", wide=True):
            if kind == b"data" and size >= 0:  # -1 lets the size open
                _require(name, size, len(data) - start)
    elif head == b"riff":
        _require_w64(name, data)
    elif head == b"OggS":
        _require_ogg(name, data)
    elif data[:3] == b"ID3" or (data[:1] == b"\xff" and data[1:2] >= b"\xe0"):
        _require_mp3(name, data)
    return data


def _without_tag(data: bytes) -> bytes:
    """Takes an ID3 tag off that some programs put before other formats than mp3, whose places it would move."""
    size = _tag_size(data)
    return data[size:] if data[size : size + 4] in (b"RIFF", b"fLaC", b"OggS", b"FORM") else data


def _tag_size(data: bytes) -> int:
    """Returns the size of an ID3 tag at the beginning; 0 where there is none."""
    if data[:3] != b"ID3" or len(data) < 10:
        return 0
    return 10 + sum((byte & 0x7F) << (7 * (3 - i)) for i, byte in enumerate(data[6:10]))


def nist_samples(data: bytes) -> int | None:
    """Returns how many samples a channel the header of a NIST (SPHERE) file promises; None of other files.

    Example:
        >>> nist_samples(b'NIST_1A\\n   1024\\nsample_count -i 16000\\nend_head')
        16000
    """
    found = re.search(rb"sample_count -i (\d+)", data[:1024]) if data[:7] == b"NIST_1A" else None
    return int(found[1]) if found else None


def _require(name: str, promised: int, there: int) -> None:
    if promised > there:
        raise DataError(f"{name} is cut short: {max(there, 0):,} of {promised:,} bytes of sound are there.")


def _chunks(data: bytes, start: int, order: str, *, wide: bool = False) -> Iterator[tuple[bytes, int, int]]:
    """Yields (name, size, place of the contents) of each chunk of an IFF file; all but CAF pad to even sizes."""
    form = f"{order}4s{'q' if wide else 'I'}"
    header = struct.calcsize(form)
    while start + header <= len(data):
        kind, size = struct.unpack_from(form, data, start)
        yield kind, size, start + header
        if size < 0:
            return
        start += header + size + (0 if wide else size % 2)


def _wave(name: str, data: bytes) -> bytes:
    order, real = (">" if data[:4] == b"RIFX" else "<"), None
    for kind, size, start in _chunks(data, 12, order):
        if kind == b"ds64" and len(data) >= start + 16:  # where RF64 keeps sizes beyond 32 bits
            real = struct.unpack_from("<Q", data, start + 8)[0]
        if kind != b"data":
            continue
        there = len(data) - start
        if size == 0xFFFFFFFF and real:
            size = real
        if size == 0 and there and not _is_chunks(data, start, order):
            return data[: start - 4] + struct.pack(f"{order}I", there) + data[start:]
        if size < _STREAMED or (real and size == real):
            _require(name, size, there)
        return data
    return data


def _is_chunks(data: bytes, start: int, order: str) -> bool:
    """Whether what follows is further chunks to the end, so that a size of 0 is meant."""
    end = start
    for kind, size, place in _chunks(data, start, order):
        if not kind.strip().isalnum() or place + size > len(data):
            return False
        end = place + size + size % 2
    return end >= len(data)


def _require_w64(name: str, data: bytes) -> None:
    start = 40  # behind the file's own header
    while start + 24 <= len(data):
        size = struct.unpack_from("<Q", data, start + 16)[0]  # with the header of 24 bytes
        if data[start : start + 4] == b"data":
            _require(name, size - 24, len(data) - start - 24)
        if size < 24:
            return
        start += -(-size // 8) * 8


def _require_ogg(name: str, data: bytes) -> None:
    start = 0
    while data[start : start + 4] == b"OggS":
        lacing = data[start + 27 : start + 27 + data[start + 26]] if start + 27 <= len(data) else b""
        end = start + 27 + len(lacing) + sum(lacing)
        if start + 27 > len(data) or len(lacing) < data[start + 26] or end > len(data):
            raise DataError(f"{name} is cut short: it ends within a page.")
        start = end


def _require_mp3(name: str, data: bytes) -> None:
    """Compares an mp3 file's bytes with what its Xing or Info header says, which variable rates have."""
    start = _tag_size(data)
    header = data[start : start + 4]
    if len(header) < 4 or header[0] != 0xFF or header[1] < 0xE0:
        return
    newest, mono = (header[1] >> 3) & 3 == 3, header[3] >> 6 == 3
    side = (17 if mono else 32) if newest else (9 if mono else 17)
    place = start + 4 + side + (0 if header[1] & 1 else 2)
    if data[place : place + 4] not in (b"Xing", b"Info") or len(data) < place + 16:
        return
    flags = struct.unpack_from(">I", data, place + 4)[0]
    if flags & 2:
        size = struct.unpack_from(">I", data, place + (12 if flags & 1 else 8))[0]
        _require(name, size, len(data) - start)
