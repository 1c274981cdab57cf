"""Messages of Protocol Buffers, field by field: as much of the format as logs of trackers need."""

from collections.abc import Iterator

from babelscale.errors import InputError


def fields(data: bytes) -> Iterator[tuple[int, bytes | int]]:
    """Fields of one Protocol Buffers message: (number, bytes or integer)."""
    at, end = 0, len(data)
    while at < end:
        tag, at = (data[at], at + 1) if data[at] < 0x80 else _varint(data, at)
        number, kind = tag >> 3, tag & 7
        if kind == 2:
            # Most lengths fit in one byte.
            size, at = (data[at], at + 1) if at < end and data[at] < 0x80 else _varint(data, at)
            if at + size > end:
                raise InputError("a record of the log is cut short", hint="is the file whole?")
            yield number, data[at : at + size]
            at += size
        elif kind == 0:
            value, at = _varint(data, at)
            yield number, value
        elif kind in (1, 5):
            size = 8 if kind == 1 else 4
            yield number, data[at : at + size]
            at += size
        else:
            raise InputError(f"a record of the log has a field of kind {kind}", hint="is the file whole?")


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        if at >= len(data) or shift > 63:
            raise InputError("a number of the log is cut short", hint="is the file whole?")
        byte = data[at]
        value |= (byte & 0x7F) << shift
        at += 1
        shift += 7
        if byte < 0x80:
            return value, at
