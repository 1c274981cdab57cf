"""Local folders of W&B: the log `run-ID.wandb` that the client writes, online and offline.

The file is a header of 7 bytes and a log in LevelDB's format (blocks of 32 KiB; records of checksum, length, kind and
data), whose records are Protocol Buffers of W&B's `Record`. Of these only the fields below are read; their numbers are
part of the format and do not change.
"""

import functools
import json
import math
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from babelscale.errors import InputError
from babelscale.importers.logged import LoggedRun, flatten, is_counter, is_evaluated
from babelscale.importers.protobuf import fields
from babelscale.tabular import Notice

_BLOCK, _HEAD = 32768, 7
_FULL, _FIRST, _MIDDLE, _LAST = 1, 2, 3, 4
# Fields of Record: history, summary, config, run, exit; of their items: key, nested key, JSON of the value.
_HISTORY, _SUMMARY, _CONFIG, _RUN, _EXIT = 2, 3, 5, 17, 18
_KEY, _NESTED, _JSON = 1, 2, 16
_HIDDEN = ("_wandb", "_timestamp", "_runtime")
_JSON_TAG = b"\x82\x01"  # field 16, of a length


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
    records, history = _Records(path), _History(run)
    for data in records:
        for number, value in fields(data):
            if not isinstance(value, bytes):
                continue
            if number == _HISTORY:
                history.add(value)
            elif number == _SUMMARY:
                run.summary |= _visible(flatten(_parsed(_items(value))))
            elif number == _CONFIG:
                run.config |= _visible(flatten(_parsed(_items(value))))
            elif number == _RUN:
                _begin(run, value)
            elif number == _EXIT:
                code = next((v for n, v in fields(value) if n == 1), 0)
                run.state = "crashed" if code else "finished"
    history.end()
    return run, records.whole


def _begin(run: LoggedRun, data: bytes) -> None:
    """RunRecord: 1 identifier, 4 configuration, 8 display name."""
    found = {number: value for number, value in fields(data) if isinstance(value, bytes)}
    name = found.get(8) or found.get(1) or b""
    run.name = name.decode("utf-8", "replace") or run.name
    if 4 in found:
        run.config |= _visible(flatten(_parsed(_items(found[4]))))


class _History:
    """What a table of runs takes from a history: rows with a loss of evaluation, and the last value of every metric.

    Other numbers are passed over unparsed: most rows of a history have nothing else.
    """

    def __init__(self, run: LoggedRun) -> None:
        self._run, self._step = run, 0
        self._last: dict[bytes, bytes] = {}

    def add(self, data: bytes) -> None:
        """HistoryRecord: 1 items, 2 step (whose field 1 is the number)."""
        row = _items(data)
        for name in [name for name, text in row.items() if text.startswith(b"{")]:
            nested = flatten(_parsed({name: row.pop(name)}))
            row |= {key.encode(): json.dumps(value).encode() for key, value in nested.items()}
        self._step = self._step_of(data, row)
        self._last |= row
        kinds = {name: _kind(name) for name in row}
        if "loss" in kinds.values() or self._step in self._run.history:
            wanted = {name: text for name, text in row.items() if kinds[name] == "loss"}
            wanted |= {name: text for name, text in self._last.items() if _kind(name) == "counter"}
            self._run.log(self._step, _parsed(wanted))

    def _step_of(self, data: bytes, row: dict[bytes, bytes]) -> int:
        named = _parsed({b"_step": row[b"_step"]})["_step"] if b"_step" in row else None
        if isinstance(named, int | float) and math.isfinite(named):
            return int(named)
        for number, value in fields(data):
            if number == 2 and isinstance(value, bytes):
                return next((v for n, v in fields(value) if n == 1 and isinstance(v, int)), self._step)
        return self._step

    def end(self) -> None:
        """A run without a loss of evaluation keeps its last values."""
        if self._last and not self._run.history:
            self._run.log(self._step, _visible(flatten(_parsed(self._last))))


@functools.lru_cache(2**16)
def _kind(name: bytes) -> str:
    """What a metric is, by its name: "loss" of evaluation, "counter" or "" for what tables of runs do not hold."""
    key = name.decode("utf-8", "replace")
    if key.startswith((*_HIDDEN, "_step")):
        return ""
    return "loss" if is_evaluated(key) else "counter" if is_counter(key) else ""


def _items(data: bytes) -> dict[bytes, bytes]:
    """Names of items, with the JSON of their values."""
    found: dict[bytes, bytes] = {}
    for number, item in fields(data):
        if number != 1 or not isinstance(item, bytes) or not item:
            continue
        # Nearly every item is one short key and one short value; others are read field by field.
        at = 2 + item[1] if item[0] in (_KEY << 3 | 2, _NESTED << 3 | 2) and len(item) > 1 else len(item)
        if item[at : at + 2] == _JSON_TAG and at + 2 < len(item) == at + 3 + item[at + 2] and item[at + 2] < 0x80:
            found[item[2:at]] = item[at + 3 :]
        else:
            _add_item(found, item)
    return found


def _add_item(found: dict[bytes, bytes], item: bytes) -> None:
    """Items of several nested keys, or long ones; one that was removed has no value."""
    keys, text = [], None
    for number, part in fields(item):
        if number in (_KEY, _NESTED) and isinstance(part, bytes):
            keys.append(part)
        elif number == _JSON and isinstance(part, bytes):
            text = part
    name = b".".join(key for key in keys if key)
    if name and text is not None:
        found[name] = text


def _parsed(items: dict[bytes, bytes]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, text in items.items():
        key = name.decode("utf-8", "replace")
        try:
            value = json.loads(text)
        except (ValueError, RecursionError):
            raise InputError(f"field {key!r} of the log is not JSON", hint="is the file whole?") from None
        # Configurations wrap each value: {"value": ..., "desc": ...}.
        found[key] = value["value"] if isinstance(value, dict) and "value" in value else value
    return found


def _visible(found: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in found.items() if not key.startswith(_HIDDEN) and key != "_step"}


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
