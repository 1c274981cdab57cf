"""The tiny study that the tests of this room share: six runs of few steps, trained once for all test processes."""

import fcntl
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from babelscale.study import Study
from babelscale.study.engines import Engine
from babelscale.study.engines.common import Schedule
from babelscale.study.worker import train_alike

TINY = """
name = "tiny"
title = "Six runs of a few steps"
languages = ["sv", "da", "sw"]

[corpus]
bytes_per_language = 60_000

[tokenizer]
vocabulary = 400

[recipe]
batch_size = 4
sequence_length = 32
learning_rate = 1e-2
evaluations = 2
evaluation_tokens = 256
checkpoint_every = 10

[sizes]
xs = { layers = 1, heads = 1, d_model = 8, d_ff = 16, d_head = 8 }
s = { layers = 1, heads = 2, d_model = 16, d_ff = 32, d_head = 8 }

[[groups]]
name = "mono"
mixture = "monolingual"
languages = ["sv", "da"]
sizes = ["xs"]
tokens = [4e3]

[[groups]]
name = "pair"
mixture = "bilingual"
pairs = [["sv", "da"]]
sizes = ["xs"]
tokens = [4e3]

[[groups]]
name = "all"
mixture = "unimax"
sizes = ["xs", "s"]
tokens = [4e3]

[[groups]]
name = "continued"
mixture = "monolingual"
languages = ["sw"]
sizes = ["s"]
tokens = [2e3]
continue_from = "all"
"""


@pytest.fixture
def tiny_text() -> str:
    return TINY


@pytest.fixture(scope="session")
def tiny_long() -> str:
    """The tiny design with runs of some seconds, which save seldom."""
    return TINY.replace("[4e3]", "[2e5]").replace("checkpoint_every = 10", "checkpoint_every = 500")


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny design as a file."""
    path = tmp_path_factory.mktemp("designs") / "tiny.toml"
    path.write_text(TINY)
    return path


@pytest.fixture(scope="session")
def in_process() -> Engine:
    """An engine that trains in the test's own process, so that no worker has to start and import JAX."""

    def train(specs, folder, *, trunks=None, on_event=None) -> None:
        study, schedule = Study.open(folder), Schedule(specs, folder, trunks)

        def note(event) -> None:
            if "failed" in event:
                schedule.fail(event["run"], event["failed"], event.get("full", False))
            elif "finished" in event:
                schedule.finish(event["run"])
            if on_event is not None:
                on_event(event)

        while names := schedule.take():
            train_alike(study, [study.specs[name] for name in names], note)
        schedule.close()

    return train


@pytest.fixture(scope="session")
def tiny_trained(tiny: Path, in_process: Engine, tmp_path_factory: pytest.TempPathFactory) -> Study:
    """The tiny study, trained without interruption. Tests compare with it and write into folders of their own."""
    place = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        place = place.parent
    with (place / "tiny-trained.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        study = Study.create(tiny, place / "tiny-trained")
        study.prepare()
        study.train(engine=in_process)
    return study


@pytest.fixture(scope="session")
def beside() -> Callable[[Study, Path], Study]:
    """beside(study, folder): the same study with the same text in another folder; none of its runs is trained there."""

    def made(study: Study, folder: Path) -> Study:
        folder.mkdir(parents=True)
        for name in ("corpus", "tokenizer", "design.json"):
            (folder / name).symlink_to(study.folder / name)
        return Study(study.design, folder)

    return made
