"""Logs of runs as TensorBoard reads them."""

import json
import struct
from pathlib import Path

import pytest
from tensorboardX.proto.event_pb2 import Event

from babelscale.errors import InputError
from babelscale.reporting.monitor.tensorboard import write_tensorboard

STEPS = [{"step": k, "loss": 5.0 - k, "gradient_norm": 1.0, "learning_rate": 0.1} for k in (1, 2)]
HELD_OUT = {
    "step": 2,
    "language": "no",
    "lr_state": "decayed",
    "split": "validation",
    "nats": 200.0,
    "tokens": 100,
    "bytes": 400,
    "unigram_nats": 500.0,
}


def read(folder: Path) -> dict[tuple[str, int], float]:
    """Scalars of the event files in a folder: records of a length, its checksum, the bytes and theirs."""
    found = {}
    for path in folder.glob("events.out.*"):
        data, place = path.read_bytes(), 0
        while place < len(data):
            (size,) = struct.unpack_from("<Q", data, place)
            event = Event.FromString(data[place + 12 : place + 12 + size])
            found |= {(value.tag, event.step): value.simple_value for value in event.summary.value}
            place += 12 + size + 4
    return found


def log(study: Path, state: str, name: str, entries: list[dict], tail: str = "") -> None:
    folder = study / state / name
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "log.jsonl").write_text("".join(json.dumps(entry) + "\n" for entry in entries) + tail)


def test_losses_stand_by_step_and_by_language(tmp_path: Path):
    log(tmp_path, "finished", "run", [*STEPS, HELD_OUT])
    scalars = read(write_tensorboard(tmp_path) / "run")
    assert scalars["train/loss", 1] == 4.0
    assert scalars["train/learning_rate", 2] == pytest.approx(0.1)
    assert scalars["validation/nats_per_token/no", 2] == 2.0
    assert scalars["validation/unigram_normalised/no", 2] == -3.0


def test_a_run_under_way_is_brought_up_to_date(tmp_path: Path):
    log(tmp_path, "working/run", "attempt-1", STEPS[:1], '{"step": 2, "lo')
    place = write_tensorboard(tmp_path) / "run"
    assert ("train/loss", 2) not in read(place)
    before = sorted(path.name for path in place.iterdir())
    write_tensorboard(tmp_path)
    assert sorted(path.name for path in place.iterdir()) == before
    log(tmp_path, "working/run", "attempt-2", STEPS)
    write_tensorboard(tmp_path)
    assert read(place)["train/loss", 2] == 3.0


def test_a_study_that_has_not_begun_is_named(tmp_path: Path):
    with pytest.raises(InputError, match="no run has started"):
        write_tensorboard(tmp_path)
