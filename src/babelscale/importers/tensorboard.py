"""TensorBoard event files: scalars by step. One folder of event files is one run.

A file is a sequence of TFRecords (length, its checksum, data, its checksum), each an `Event` of Protocol Buffers.
"""

import struct
from collections.abc import Iterator
from pathlib import Path

from babelscale.importers.logged import LoggedRun
from babelscale.importers.protobuf import fields
from babelscale.tabular import Notice

PATTERN = "*tfevents*"
# Types of tensors (DataType): float, double.
_FLOAT, _DOUBLE = 1, 2
_LONGEST = 2**26


def read(path: Path) -> tuple[list[LoggedRun], list[Notice]]:
    """Every folder with event files under `path`, named by its place under it; or one event file."""
    files = [path] if path.is_file() else sorted(path.rglob(PATTERN))
    root = path.parent if path.is_file() else path
    runs: dict[str, LoggedRun] = {}
    notices: list[Notice] = []
    for file in files:
        name = file.parent.relative_to(root).as_posix()
        run = runs.setdefault(name, LoggedRun(root.name if name == "." else name))
        for data in _records(file, notices):
            _event(run, data)
    return list(runs.values()), notices


def _records(path: Path, notices: list[Notice]) -> Iterator[bytes]:
    with path.open("rb") as file:
        while True:
            head = file.read(12)
            if not head:
                return
            size = struct.unpack("<Q", head[:8])[0] if len(head) == 12 else _LONGEST + 1
            data = file.read(size + 4) if size <= _LONGEST else b""
            if len(data) < size + 4 or size > _LONGEST:
                notices.append(Notice("warning", "truncated", f"{path}: the end is missing; what is whole is read"))
                return
            yield data[:-4]


def _event(run: LoggedRun, data: bytes) -> None:
    """Event: 2 step, 5 summary, whose field 1 is a value: 1 tag, 2 number, 8 tensor."""
    step, summary = 0, b""
    for number, value in fields(data):
        if number == 2 and isinstance(value, int):
            step = value
        elif number == 5 and isinstance(value, bytes):
            summary = value
    for number, value in fields(summary):
        if number != 1 or not isinstance(value, bytes):
            continue
        found = {inner: part for inner, part in fields(value) if isinstance(part, bytes)}
        scalar = struct.unpack("<f", found[2])[0] if len(found.get(2, b"")) == 4 else _tensor(found.get(8, b""))
        tag = found.get(1, b"").decode("utf-8", "replace")
        if scalar is not None and tag:
            run.log(step, {tag: scalar})


def _tensor(data: bytes) -> float | None:
    """A tensor of one number: 1 type, 4 content, 5 floats, 6 doubles."""
    kind, content = 0, b""
    for number, value in fields(data):
        if number == 1 and isinstance(value, int):
            kind = value
        elif number in (4, 5, 6) and isinstance(value, bytes):
            content = value
    if kind == _FLOAT and len(content) == 4:
        return struct.unpack("<f", content)[0]
    if kind == _DOUBLE and len(content) == 8:
        return struct.unpack("<d", content)[0]
    return None
