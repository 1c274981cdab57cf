"""timing.json notes the forecasts that existed when a run's training began, and keeps them when it goes on."""

import hashlib
from pathlib import Path

import pytest

from babelscale.study import Study, timing
from babelscale.study.worker import train_run


@pytest.fixture
def study(tiny: Path, tmp_path: Path) -> Study:
    prepared = Study.create(tiny, tmp_path / "one")
    prepared.prepare()
    return prepared


class Stopped(Exception):
    pass


def test_a_resumed_run_keeps_the_forecasts_of_its_first_start(study: Study):
    spec = next(spec for spec in study.specs.values() if spec.size == "xs")
    before = study.folder / "forecasts" / "before.json"
    before.parent.mkdir()
    before.write_text("{}")

    def stop(step: int, loss: float) -> None:
        if step > spec.recipe.checkpoint_every:
            raise Stopped

    with pytest.raises(Stopped):
        train_run(study, spec, progress=stop)
    (before.parent / "after.json").write_text("[]")
    assert train_run(study, spec)
    noted = timing.read(study.finished(spec.name) / "timing.json")
    assert noted.forecasts == {"before.json": hashlib.sha256(b"{}").hexdigest()}
    assert noted.tokens == spec.tokens
    assert noted.seconds is not None


def test_an_attempt_of_a_version_without_notes_has_no_forecast_before_it(tmp_path: Path):
    (tmp_path / "forecasts").mkdir()
    (tmp_path / "forecasts" / "one.json").write_text("{}")
    for name in ("old", "new"):
        (tmp_path / name).mkdir()
    (tmp_path / "old" / "log.jsonl").touch()
    for name in ("old", "new"):
        timing.begin(tmp_path / name, tmp_path)
    assert timing.read(tmp_path / "old" / "timing.json").forecasts == {}
    assert set(timing.read(tmp_path / "new" / "timing.json").forecasts) == {"one.json"}
