"""A Ray cluster of two nodes on this machine: workers and a node killed, a cluster that is not there or vanishes."""

import importlib.util
import sys
import threading
import time
from functools import partial
from pathlib import Path
from types import ModuleType

import pytest

from babelscale.errors import StudyError
from babelscale.study.engines import run_ray

pytest.importorskip("ray", reason="Ray is an extra of its own")


@pytest.fixture
def kills() -> ModuleType:
    path = Path(__file__).parents[2] / "benchmarks" / "ray_kills.py"
    found = importlib.util.spec_from_file_location("ray_kills", path)
    assert found is not None
    assert found.loader is not None
    module = importlib.util.module_from_spec(found)
    found.loader.exec_module(module)
    return module


@pytest.mark.slow
def test_two_nodes_lose_and_double_nothing(
    kills: ModuleType, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    """A killed worker, a killed node and one that joins; the bytes of a single process."""
    monkeypatch.setattr(sys, "argv", ["ray_kills", "--runs", "7", "--kills", "2", "--tokens", "1e4"])
    assert kills.main() == 0, capsys.readouterr().out


@pytest.mark.slow
def test_a_cluster_that_vanishes_is_told_and_nothing_is_lost(kills: ModuleType, tmp_path: Path):
    """Ray itself waits a minute before it believes it."""
    _, study = kills.studies(tmp_path, 10, 1e5)
    cluster, _ = kills.cluster()
    caught: list[StudyError] = []

    def train() -> None:
        try:
            study.train(engine=partial(run_ray, address=cluster.address))
        except StudyError as error:
            caught.append(error)

    trainer = threading.Thread(target=train)
    trainer.start()
    try:
        while not list(study.folder.glob("finished/*")) and trainer.is_alive():
            time.sleep(0.1)
    finally:
        cluster.shutdown()
    trainer.join()
    assert "was lost" in str(caught[0])
    left = len(study.missing)
    assert 0 < left < 10
    # Another engine goes on from there.
    assert study.train() == left
    assert not study.missing


def test_no_cluster_is_told(kills: ModuleType, tmp_path: Path):
    _, study = kills.studies(tmp_path, 10, 1e4)
    with pytest.raises(StudyError, match=r"no Ray cluster at 127\.0\.0\.1:1 "):
        study.train(engine=partial(run_ray, address="127.0.0.1:1"))
    assert len(study.missing) == 10
