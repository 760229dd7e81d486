"""The content of a .gz or .zst file, in bounded pieces. Owns formats, damage and bombs; refuses to know lines.

Memory: a piece, and a window of at most 8 MiB (what `zstd -19` needs). Formats: RFC 1952, with several members; RFC
8878, with several frames. Neither decoder says by itself that its input was cut off.
"""

import os
import zlib
from collections.abc import Iterator

from thaud.config import Queue

INPUT_BYTES = 64 << 10
PIECE_BYTES = 1 << 20
ZSTD_STEP = 128  # a block of 4 bytes may hold 128 KiB, and the decoder gives all that its input holds
MAX_WINDOW_BYTES = 8 << 20
UNJUDGED_BYTES = 1 << 20  # small files may be as dense as they like
ARCHIVES = (b"\x1f\x8b", b"\x28\xb5\x2f\xfd", b"PK\x03\x04", b"BZh", b"\xfd7zXZ\x00", b"7z\xbc\xaf")
UTF16_MARKS = (b"\xff\xfe", b"\xfe\xff")
TAR_MARK_AT, TAR_MARK = 257, b"ustar"


class DamagedError(ValueError):
    """The file cannot be taken. Its message is the reason and the way out; it never leaves `thaud.dropbox`."""


def content(descriptor: int, name: str, size: int, limits: Queue) -> Iterator[bytes]:
    """All of a file's content, in pieces of about a MiB. Raises DamagedError, perhaps after some of it."""
    unpack = unzipped if name.lower().endswith(".gz") else unzstandard
    total = 0
    for piece in gathered(unpack(stored(descriptor, size))):
        if not total:
            refuse_foreign(piece)
        total += len(piece)
        if total > limits.max_file_bytes:
            raise DamagedError(f"it unpacks to more than the limit of {limits.max_file_bytes} bytes: split it")
        if total > max(UNJUDGED_BYTES, limits.max_ratio * size):
            raise DamagedError(f"it unpacks to more than {limits.max_ratio} times its size: unpack it yourself")
        yield piece


def stored(descriptor: int, size: int) -> Iterator[bytes]:
    """The bytes of the file itself."""
    for offset in range(0, size, INPUT_BYTES):
        yield os.pread(descriptor, min(INPUT_BYTES, size - offset), offset)


def gathered(pieces: Iterator[bytes]) -> Iterator[bytes]:
    """Small pieces as larger ones."""
    some: list[bytes] = []
    length = 0
    for piece in pieces:
        some.append(piece)
        length += len(piece)
        if length >= PIECE_BYTES:
            yield b"".join(some)
            some, length = [], 0
    if length:
        yield b"".join(some)


def refuse_foreign(beginning: bytes) -> None:
    """Raise DamagedError for what is packed twice, and for UTF-16."""
    if beginning.startswith(UTF16_MARKS):
        raise DamagedError("the file in it is UTF-16: save it as UTF-8")
    if beginning.startswith(ARCHIVES) or beginning[TAR_MARK_AT:].startswith(TAR_MARK):
        raise DamagedError("it holds another archive: unpack that, and put the JSONL in")


def unzipped(chunks: Iterator[bytes]) -> Iterator[bytes]:
    """Members of a gzip file one after the other, each with its checksum and length; zeros may follow (tapes)."""
    member, members, begun = zlib.decompressobj(zlib.MAX_WBITS | 16), 0, False
    try:
        for chunk in chunks:
            data = chunk
            while data := data if begun or not members else data.lstrip(b"\0"):
                yield member.decompress(data, PIECE_BYTES)
                begun, data = not member.eof, member.unused_data if member.eof else member.unconsumed_tail
                if member.eof:
                    member, members = zlib.decompressobj(zlib.MAX_WBITS | 16), members + 1
        if begun:
            yield member.flush()  # what the last input holds and no output had room for
            begun = not member.eof
    except zlib.error as error:
        raise DamagedError(after_the_end("gzip") if members and not begun else damaged(error)) from error
    if begun:
        raise DamagedError(cut_off())


def unzstandard(chunks: Iterator[bytes]) -> Iterator[bytes]:
    """Frames of a zstd file one after the other."""
    import zstandard  # noqa: PLC0415 - native code, only where such a file is read

    decoder = zstandard.ZstdDecompressor(max_window_size=MAX_WINDOW_BYTES)
    frame, frames, begun = decoder.decompressobj(), 0, False
    try:
        for chunk in chunks:
            for start in range(0, len(chunk), ZSTD_STEP):
                data = chunk[start : start + ZSTD_STEP]
                while data:
                    yield frame.decompress(data)
                    begun, data = not frame.eof, frame.unused_data if frame.eof else b""
                    if frame.eof:
                        frame, frames = decoder.decompressobj(), frames + 1
    except zstandard.ZstdError as error:
        if "memory" in str(error).lower():
            raise DamagedError("it needs a window of more than 8 MiB: compress it with zstd -19 or less") from error
        raise DamagedError(after_the_end("zstd") if frames and not begun else damaged(error)) from error
    if begun:
        raise DamagedError(cut_off())


def damaged(error: Exception) -> str:
    """Why, and the way out."""
    return f"the compressed file is damaged ({error}): make it again"


def cut_off() -> str:
    """As a copy that broke off leaves it."""
    return "the compressed file is cut off before its end: copy it again"


def after_the_end(kind: str) -> str:
    """Something was appended that belongs to no compressed file."""
    return f"something that is not {kind} follows the end of the compressed file: make it again"
