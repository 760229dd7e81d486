"""The one part of tokenizer.model that an export needs: each token's text, score and kind.

It is a protobuf message: ModelProto of sentencepiece_model.proto, whose field 1, repeated, is a SentencePiece with
piece (1, string), score (2, float) and type (3, an enum whose numbers are those of llama.cpp's kinds). Refuses what is
no such message. Source: sentencepiece's src/sentencepiece_model.proto, protobuf's encoding guide.
"""

import struct
from collections.abc import Iterator
from typing import Any, NamedTuple

from thaud.errors import ModelError

NORMAL, USER_DEFINED = 1, 4
VARINT, EIGHT_BYTES, COUNTED, FOUR_BYTES = 0, 1, 2, 5


class Row(NamedTuple):
    """One token: its text, by how much a merge into it is preferred, and llama.cpp's kind."""

    text: str
    score: float
    kind: int


def read_pieces(message: bytes) -> list[Row]:
    """Every token by id. Raises ModelError where the bytes are no such message."""
    try:
        return [row_of(value) for number, value in fields(message) if number == 1]
    except (ValueError, IndexError, struct.error, TypeError) as error:
        raise ModelError(f"tokenizer.model is damaged: {error}") from error


def row_of(message: bytes) -> Row:
    """One SentencePiece. User-defined ones are normal to llama.cpp's converter, which knows added tokens otherwise."""
    found = {1: b"", 2: 0.0, 3: NORMAL, **dict(fields(message))}
    kind = int(found[3])
    return Row(found[1].decode(), float(found[2]), NORMAL if kind == USER_DEFINED else kind)


def fields(message: bytes) -> Iterator[tuple[int, Any]]:
    """A message's fields in order: numbers, floats (four bytes) or bytes, by their wire type."""
    at = 0
    value: Any
    while at < len(message):
        key, at = varint(message, at)
        wire = key & 7
        if wire == VARINT:
            value, at = varint(message, at)
        elif wire == FOUR_BYTES:
            value, at = struct.unpack_from("<f", message, at)[0], at + 4
        elif wire == EIGHT_BYTES:
            value, at = message[at : at + 8], at + 8
        elif wire == COUNTED:
            length, at = varint(message, at)
            value, at = message[at : at + length], at + length
        else:
            raise ValueError(f"wire type {wire}")
        if at > len(message):
            raise ValueError("it ends within a field")
        yield key >> 3, value


def varint(message: bytes, at: int) -> tuple[int, int]:
    """A number of seven bits a byte, and where it ends."""
    value = shift = 0
    while True:
        byte = message[at]
        value |= (byte & 127) << shift
        at, shift = at + 1, shift + 7
        if byte < 128:
            return value, at
