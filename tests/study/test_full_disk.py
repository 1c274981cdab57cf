"""A disk that is really full: one sentence and exit code 2, nothing half-published, and the same command goes on."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from babelscale.study import Study

Resize = Callable[[int], None]


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[tuple[Path, Resize]]:
    """A disk of its own in memory, and what makes it so many kilobytes larger than what it holds."""
    place = tmp_path / "disk"
    place.mkdir()
    mount = shutil.which("mount")
    if mount is None or os.geteuid() != 0:
        pytest.skip("a small disk is mounted by root alone")
    mounted = subprocess.run(
        [mount, "-t", "tmpfs", "-o", "size=64m", "tmpfs", str(place)], capture_output=True, text=True, check=False
    )
    if mounted.returncode != 0:
        pytest.skip(f"nothing can be mounted here ({mounted.stderr.strip()})")

    def resize(room: int) -> None:
        used = shutil.disk_usage(place).used // 1024
        subprocess.run([mount, "-o", f"remount,size={max(4, used + room)}k", str(place)], check=True)

    yield place, resize
    subprocess.run(["umount", "-l", str(place)], check=True)


def command(design: Path, folder: Path) -> subprocess.CompletedProcess[str]:
    given = [sys.executable, "-m", "babelscale", "study", "run", str(design), "--out", str(folder), "--no-report"]
    return subprocess.run(given, capture_output=True, text=True, check=False)


def assert_told(done: subprocess.CompletedProcess[str]) -> None:
    assert done.returncode == 2, done.stderr
    error = done.stderr[done.stderr.index("error: ") :].splitlines()
    assert len(error) == 2, done.stderr
    assert "the disk is full" in error[0]
    assert "hint: make room and run the same" in error[1]
    assert "Traceback" not in done.stderr


def assert_whole(tiny_trained: Study, folder: Path) -> int:
    """What is published is as it would be on a larger disk; returns how many runs are."""
    published = list((folder / "finished").iterdir()) if (folder / "finished").exists() else []
    for run in published:
        for part in ("record.json", "log.jsonl"):
            assert (run / part).read_bytes() == (tiny_trained.finished(run.name) / part).read_bytes()
    return len(published)


def assert_goes_on(tiny_trained: Study, design: Path, folder: Path, resize: Resize) -> None:
    resize(65536)
    done = command(design, folder)
    assert done.returncode == 0, done.stderr
    assert assert_whole(tiny_trained, folder) == len(tiny_trained.specs)
    assert not [path for path in (folder / "working").iterdir() if path.name in tiny_trained.specs]
    for table in (tiny_trained.folder / "runs").iterdir():
        assert (folder / "runs" / table.name).read_bytes() == table.read_bytes()


def prepared(tiny_trained: Study, folder: Path) -> None:
    """All but the runs; what is compiled is not compiled again."""
    (folder / "working").mkdir(parents=True)
    for name in ("corpus", "tokenizer", "design.json", "working/compiled"):
        (folder / name).symlink_to(tiny_trained.folder / name)


@pytest.mark.parametrize("room", [4, 60])
def test_while_text_is_prepared(room: int, disk: tuple[Path, Resize], tiny: Path):
    """The tokenizer's file, and the tokens."""
    place, resize = disk
    resize(room)
    assert_told(command(tiny, place / "tiny"))
    assert not (place / "tiny" / "corpus").exists()
    resize(65536)
    study = Study.create(tiny, place / "tiny")
    study.prepare()
    assert study.specs.keys()


@pytest.mark.parametrize("room", [120, *(pytest.param(room, marks=pytest.mark.slow) for room in (8, 40, 400))])
def test_while_runs_are_trained(room: int, disk: tuple[Path, Resize], tiny: Path, tiny_trained: Study):
    """Logs, states, records: wherever it is that there is no room."""
    place, resize = disk
    prepared(tiny_trained, place / "tiny")
    resize(room)
    assert_told(command(tiny, place / "tiny"))
    assert assert_whole(tiny_trained, place / "tiny") < len(tiny_trained.specs)
    assert_goes_on(tiny_trained, tiny, place / "tiny", resize)


def test_while_tables_are_written(disk: tuple[Path, Resize], tiny: Path, tiny_trained: Study):
    place, resize = disk
    shutil.copytree(tiny_trained.folder, place / "tiny", ignore=shutil.ignore_patterns("runs", "compiled"))
    resize(0)
    assert_told(command(tiny, place / "tiny"))
    assert not list((place / "tiny").glob("runs/*.parquet"))
    assert_goes_on(tiny_trained, tiny, place / "tiny", resize)
