"""Tables that are rewritten while somebody reads them: every read is one whole writing, or is refused."""

import threading
import time
from pathlib import Path

import pytest

from babelscale import tables
from babelscale.errors import InputError
from babelscale.runs import Runs


@pytest.fixture(scope="module")
def generations(runs: Runs) -> list[Runs]:
    """Tables that grow and shrink: with fewer runs, old losses would pass every check beside new runs."""
    names = runs.names
    return [runs.select(names[:count]) for count in (20, 35, 55, 28, 50)]


@pytest.mark.parametrize("ending", ["parquet", "csv"])
def test_a_reader_never_mixes_two_writings(generations: list[Runs], tmp_path: Path, ending) -> None:
    known = {each.hash for each in generations}
    generations[0].write(tmp_path, ending)
    done = threading.Event()
    written = 0

    def rewrite() -> None:
        nonlocal written
        while not done.is_set():
            generations[written % len(generations)].write(tmp_path, ending)
            written += 1
            time.sleep(0.1)

    writer = threading.Thread(target=rewrite)
    writer.start()
    read, refused = 0, list[str]()
    try:
        until = time.monotonic() + 60
        # At least so many reads, however busy the machine is, with the writer ahead of every one of them.
        while (read < 12 or written < 12) and time.monotonic() < until:
            try:
                found = Runs.read(tmp_path).hash
            except InputError as error:
                refused.append(error.message)
            else:
                assert found in known
                read += 1
    finally:
        done.set()
        writer.join()
    assert written >= 12
    assert read >= 12, refused
    assert all("half written" in said or "faster" in said for said in refused)
    assert sorted(path.stem for path in tmp_path.iterdir()) == ["exposure", "losses", "runs"]


@pytest.mark.parametrize("moves", [1, 2])
def test_a_write_that_stopped_between_the_tables_is_refused_until_it_is_done_again(
    generations: list[Runs], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, moves: int
) -> None:
    few, many = generations[0], generations[2]
    many.write(tmp_path)
    moved = 0
    replace = Path.replace

    def stopped(self: Path, target: Path) -> Path:
        nonlocal moved
        if moved == moves:
            raise OSError("the machine stops here")
        moved += 1
        return replace(self, target)

    monkeypatch.setattr(tables, "_PAUSES", (0.0,))
    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", stopped)
        with pytest.raises(OSError, match="stops here"):
            few.write(tmp_path)
    with pytest.raises(InputError, match="half written"):
        Runs.read(tmp_path)
    few.write(tmp_path)
    assert Runs.read(tmp_path).hash == few.hash


def test_a_disk_that_fills_up_leaves_the_old_tables(
    generations: list[Runs], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    few, many = generations[0], generations[2]
    many.write(tmp_path)

    def full(self, path) -> None:
        raise OSError("no space left")

    with monkeypatch.context() as patch:
        patch.setattr("polars.DataFrame.write_parquet", full)
        with pytest.raises(OSError, match="no space"):
            few.write(tmp_path)
    assert Runs.read(tmp_path).hash == many.hash
