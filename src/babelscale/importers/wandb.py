"""Local folders of W&B: the log `run-ID.wandb` that the client writes, online and offline.

The file is a header of 7 bytes and a log in LevelDB's format (blocks of 32 KiB; records of checksum, length, kind and
data), whose records are Protocol Buffers of W&B's `Record`. Of these only the fields below are read; their numbers are
part of the format and do not change.
"""

import json
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from babelscale.errors import InputError
from babelscale.importers.logged import LoggedRun, flatten
from babelscale.importers.protobuf import fields
from babelscale.tabular import Notice

_BLOCK, _HEAD = 32768, 7
_FULL, _FIRST, _MIDDLE, _LAST = 1, 2, 3, 4
# Fields of Record: history, summary, config, run, exit; of their items: key, nested key, JSON of the value.
_HISTORY, _SUMMARY, _CONFIG, _RUN, _EXIT = 2, 3, 5, 17, 18
_KEY, _NESTED, _JSON = 1, 2, 16
_HIDDEN = ("_wandb", "_timestamp", "_runtime")


def read(path: Path) -> tuple[list[LoggedRun], list[Notice]]:
    """Every run under a folder (`wandb/`, one run's folder) or in one .wandb file, in alphabetical order of files."""
    files = [path] if path.is_file() else sorted(path.rglob("*.wandb"))
    runs, notices = [], []
    for file in files:
        run, whole = _run(file)
        runs.append(run)
        if not whole:
            notices.append(Notice("warning", "truncated", f"{file}: the end is missing; what is whole is read"))
    names = [run.name for run in runs]
    for run, file in zip(runs, files, strict=True):
        # Display names may repeat; the identifier in the name of the file does not.
        if names.count(run.name) > 1:
            run.name = f"{run.name} ({file.stem.removeprefix('run-')})"
    return runs, notices


def _run(path: Path) -> tuple[LoggedRun, bool]:
    run = LoggedRun(path.stem.removeprefix("run-"), state="running")
    records = _Records(path)
    step = 0
    for data in records:
        for number, value in fields(data):
            if not isinstance(value, bytes):
                continue
            if number == _HISTORY:
                step = _log(run, value, step)
            elif number == _SUMMARY:
                run.summary |= _visible(flatten(_items(value)))
            elif number == _CONFIG:
                run.config |= _visible(flatten(_items(value)))
            elif number == _RUN:
                _begin(run, value)
            elif number == _EXIT:
                code = next((v for n, v in fields(value) if n == 1), 0)
                run.state = "crashed" if code else "finished"
    return run, records.whole


def _begin(run: LoggedRun, data: bytes) -> None:
    """RunRecord: 1 identifier, 4 configuration, 8 display name."""
    found = {number: value for number, value in fields(data) if isinstance(value, bytes)}
    name = found.get(8) or found.get(1) or b""
    run.name = name.decode("utf-8", "replace") or run.name
    if 4 in found:
        run.config |= _visible(flatten(_items(found[4])))


def _log(run: LoggedRun, data: bytes, step: int) -> int:
    """HistoryRecord: 1 items, 2 step (whose field 1 is the number)."""
    metrics = _items(data)
    for number, value in fields(data):
        if number == 2 and isinstance(value, bytes):
            step = next((v for n, v in fields(value) if n == 1 and isinstance(v, int)), step)
    named = metrics.get("_step")
    step = int(named) if isinstance(named, int | float) else step
    run.log(step, {key: value for key, value in _visible(flatten(metrics)).items() if key != "_step"})
    return step


def _items(data: bytes) -> dict[str, Any]:
    """Items with their keys; one that is removed or does not parse is left out."""
    found: dict[str, Any] = {}
    for number, value in fields(data):
        if number != 1 or not isinstance(value, bytes):
            continue
        keys, text = [], None
        for inner, part in fields(value):
            if inner in (_KEY, _NESTED) and isinstance(part, bytes):
                keys.append(part.decode("utf-8", "replace"))
            elif inner == _JSON and isinstance(part, bytes):
                text = part
        name = ".".join(key for key in keys if key)
        if name and text is not None:
            try:
                parsed = json.loads(text)
            except (ValueError, RecursionError):
                raise InputError(f"field {name!r} of the log is not JSON", hint="is the file whole?") from None
            # Configurations wrap each value: {"value": ..., "desc": ...}.
            found[name] = parsed["value"] if isinstance(parsed, dict) and "value" in parsed else parsed
    return found


def _visible(found: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in found.items() if not key.startswith(_HIDDEN)}


class _Records:
    """The records of a log in LevelDB's format. After iteration `whole` says whether the file ended with a record."""

    def __init__(self, path: Path) -> None:
        self.path, self.whole = path, True

    def __iter__(self) -> Iterator[bytes]:
        with self.path.open("rb") as file:
            head = file.read(_HEAD)
            if head[:4] != b":W&B":
                raise InputError(f"{self.path}: is not a W&B log", hint="name a folder or file that wandb wrote")
            parts: list[bytes] = []
            while True:
                left = _BLOCK - file.tell() % _BLOCK
                if left < _HEAD:
                    file.seek(left, 1)
                    continue
                begins = file.read(_HEAD)
                if len(begins) < _HEAD:
                    self.whole = not begins and not parts
                    return
                checksum, length, kind = struct.unpack("<IHB", begins)
                data = file.read(length)
                if len(data) < length or not self._sound(checksum, kind, data):
                    self.whole = False
                    return
                if kind in (_FULL, _FIRST):
                    parts = []
                parts.append(data)
                if kind in (_FULL, _LAST):
                    yield b"".join(parts)
                    parts = []

    @staticmethod
    def _sound(checksum: int, kind: int, data: bytes) -> bool:
        """W&B sums with CRC-32 over kind and data."""
        return (
            kind in (_FULL, _FIRST, _MIDDLE, _LAST)
            and zlib.crc32(data, zlib.crc32(bytes([kind]))) & 0xFFFFFFFF == checksum
        )
