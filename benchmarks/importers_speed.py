"""Time and memory of imports and checks: 2,000 W&B runs of 500 rows, and tables of 100,000 rows in several shapes.

    .venv/bin/python benchmarks/importers_speed.py [RUNS]

Every measurement has a process of its own. Limits: the import takes 60 s and 1 GB, a check 3 s. The log of one run, as
it is written here, is read back first and compared number by number. Exit code 1 says that a limit was exceeded.
"""

import json
import resource
import struct
import subprocess
import sys
import tempfile
import time
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from babelscale.importers import check, import_runs

STEPS, EVERY = 500, 25
_BLOCK, _HEAD = 32768, 7
_HISTORY, _CONFIG, _RUN, _EXIT = 2, 5, 17, 18


# ------------------------------------------------------------------------------------------- a writer of W&B's log


def varint(value: int) -> bytes:
    parts = bytearray()
    while value > 0x7F:
        parts.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*parts, value])


def field(number: int, value: bytes | int) -> bytes:
    if isinstance(value, int):
        return varint(number << 3) + varint(value)
    return varint(number << 3 | 2) + varint(len(value)) + value


def items(values: dict[str, Any]) -> bytes:
    """Items with a nested key each, as the client writes histories."""
    return b"".join(field(1, field(2, name.encode()) + field(16, json.dumps(v).encode())) for name, v in values.items())


def write_log(path: Path, records: list[bytes]) -> None:
    """LevelDB's format: blocks of 32 KiB, records split at their ends."""
    log = bytearray(b":W&B" + struct.pack("<HB", 0xBEE1, 0))
    for record in records:
        left, first = record, True
        while left or first:
            room = _BLOCK - len(log) % _BLOCK
            if room < _HEAD:
                log += b"\x00" * room
                continue
            part, left = left[: room - _HEAD], left[room - _HEAD :]
            kind = (1 if first else 4) if not left else (2 if first else 3)
            log += struct.pack("<IHB", zlib.crc32(part, zlib.crc32(bytes([kind]))), len(part), kind) + part
            first = False
    path.write_bytes(bytes(log))


def losses(params: float, tokens: float, code: str) -> float:
    return 1.7 + 0.1 * (code == "yo") + 400 / params**0.34 + 420 / (tokens / 2) ** 0.28


def rows(number: int) -> list[dict[str, Any]]:
    """What one run logs: twelve metrics a row, and losses of evaluation every 25 rows."""
    params = 1e7 * (1 + number % 9)
    found = []
    for step in range(1, STEPS + 1):
        tokens = step * 2**19
        row: dict[str, Any] = {f"train/metric_{index}": 0.123456789 * step + index for index in range(6)}
        row |= {"_step": step, "_runtime": 1.5 * step, "_timestamp": 1.7e9 + step}
        row |= {"train/loss": 9.0 - step / 100, "train/tokens": tokens, "lr": 3e-4}
        if step % EVERY == 0:
            row |= {f"eval/{code}/loss": losses(params, tokens, code) for code in ("sw", "yo")}
        found.append(row)
    return found


def write_run(folder: Path, number: int) -> None:
    config = {"model": {"n_params": 1e7 * (1 + number % 9)}, "data": {"mix": {"sw": 0.5, "yo": 0.5}}, "seed": number}
    update = items({key: {"value": value} for key, value in config.items()})
    identity = field(1, f"{number:08d}".encode()) + field(8, f"run-{number}".encode())
    records = [field(_RUN, identity), field(_CONFIG, update)]
    records += [field(_HISTORY, items(row) + field(2, field(1, row["_step"]))) for row in rows(number)]
    records.append(field(_EXIT, b""))
    place = folder / f"offline-run-20260101_000000-{number:08d}"
    place.mkdir()
    write_log(place / f"run-{number:08d}.wandb", records)


def assert_read_back(folder: Path) -> None:
    """The reader, which tests hold against files of the real client, gets every number that was written here."""
    runs = import_runs(folder).runs
    wanted = {
        (code, row["_step"]): row[f"eval/{code}/loss"]
        for row in rows(0)
        for code in ("sw", "yo")
        if f"eval/{code}/loss" in row
    }
    assert {(row["language"], row["step"]): row["nats"] for row in runs.losses.to_dicts()} == wanted
    assert runs.exposure.filter(step=STEPS)["tokens"].to_list() == [STEPS * 2**18] * 2


# ------------------------------------------------------------------------------------------------- tables to check


def table(languages: int, checkpoints: int, rows: int = 100_000) -> pl.DataFrame:
    """A table of a law with noise: mixtures of all its languages, at one or more steps."""
    generator = np.random.default_rng(0)
    codes = ["sw", "yo", "ha", "ig", "am", "so", "zu", "xh", "rw", "ln", "lg", "wo",
             "en", "fr", "de", "es", "it", "pt", "ru", "ar", "hi", "bn", "vi", "th"][:languages]  # fmt: skip
    count = rows // (languages * checkpoints)
    run = np.repeat(np.arange(count), languages * checkpoints)
    step = np.tile(np.repeat(np.arange(1, checkpoints + 1), languages), count)
    params = np.round(10 ** generator.uniform(7, 9, count))[run]
    total = 10 ** generator.uniform(9, 11, count)[run] * step / checkpoints
    noise = generator.normal(0, 0.003, len(run))
    loss = (1.7 + 400 / params**0.34 + 420 / total**0.28) * np.exp(noise)
    columns = {"run": [f"r{n}" for n in run], "params": params, "language": codes * (len(run) // languages)}
    if checkpoints > 1:
        columns["step"] = step * 1000
    return pl.DataFrame({**columns, "tokens": np.round(total / languages), "loss": loss})


SHAPES = {
    "one language": (1, 1),
    "24 languages": (24, 1),
    "20 checkpoints": (2, 20),
    "24 languages, 20 checkpoints": (24, 20),
}


def measure(what: str, path: str) -> None:
    """In a process of its own: seconds and peak memory as one line of JSON."""
    begins, worked = time.perf_counter(), time.process_time()
    if what == "import":
        found = f"{import_runs(path).runs.losses.height} losses"
    else:
        result = check(path)
        serious = [str(finding) for finding in result.findings if finding.severity != "notice"]
        found = f"{result.losses} losses, {len(serious)} findings {serious[:2]}"
    seconds, processor = time.perf_counter() - begins, time.process_time() - worked
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    print(json.dumps({"seconds": seconds, "processor": processor, "bytes": memory, "found": found}))


def measured(name: str, what: str, path: Path, seconds: float, most: float) -> bool:
    command = [sys.executable, __file__, "--measure", what, str(path)]
    found = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    good = found["seconds"] < seconds and found["bytes"] < most
    print(
        f"{name}: {found['seconds']:.2f} s of {seconds:g} ({found['processor']:.2f} s of processors), "
        f"{found['bytes'] / 1e6:.0f} MB of {most / 1e6:.0f}; "
        f"{found['found']}{'' if good else '  EXCEEDED'}",
        flush=True,
    )
    return good


def main() -> None:
    if sys.argv[1:2] == ["--measure"]:
        measure(*sys.argv[2:])
        return
    runs = int(sys.argv[1]) if len(sys.argv) > 1 else 2000
    good = True
    with tempfile.TemporaryDirectory() as name:
        place = Path(name)
        (place / "one").mkdir()
        write_run(place / "one", 0)
        assert_read_back(place / "one")
        for shape, (languages, checkpoints) in SHAPES.items():
            frame = table(languages, checkpoints)
            file = place / f"{shape}.csv"
            frame.write_csv(file)
            good &= measured(f"check of {frame.height} rows, {shape}", "check", file, 3.0, 1e9)
        (place / "wandb").mkdir()
        for number in range(runs):
            write_run(place / "wandb", number)
        good &= measured(f"import of {runs} W&B runs of {STEPS} rows", "import", place / "wandb", 60.0, 1e9)
    sys.exit(not good)


if __name__ == "__main__":
    main()
