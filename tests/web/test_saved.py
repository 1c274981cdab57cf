"""Saved fits are parsed once, until their files change."""

from pathlib import Path

import pytest
from tests.web.test_app import ask

from babelscale.errors import InputError
from babelscale.fitting import Fit, fit
from babelscale.laws import Chinchilla
from babelscale.runs import Runs
from babelscale.web import create_app
from babelscale.web.app_state import SavedFits


def test_a_saved_fit_is_parsed_once_for_its_content(
    tmp_path: Path, runs: Runs, monkeypatch: pytest.MonkeyPatch
) -> None:
    for target in ("sv", "da"):
        fit(Chinchilla(target), runs, resamples=5).save(tmp_path / f"{target}.json")
    read, load = [], Fit.load
    monkeypatch.setattr(Fit, "load", lambda path: read.append(Path(path).name) or load(path))
    app = create_app(tmp_path)
    first = ask(app, "/api/plan", "languages=sv,da&compute=1e14&draws=0").json()
    ask(app, "/api/plan", "languages=sv,da&compute=2e14&draws=0")
    assert read == ["da.json", "sv.json"]
    fit(Chinchilla("sv"), runs, resamples=5, fixed={"alpha": 0.9}).save(tmp_path / "sv.json")
    changed = ask(app, "/api/plan", "languages=sv,da&compute=1e14&draws=0").json()
    assert read == ["da.json", "sv.json", "sv.json"]
    assert changed["losses"] != first["losses"]


def test_a_file_that_is_gone_or_damaged_is_named_each_time(tmp_path: Path, runs: Runs) -> None:
    kept, path = SavedFits(), tmp_path / "sv.json"
    for _ in range(2):
        with pytest.raises(InputError, match=r"sv\.json: cannot be read"):
            kept.load([path])
    path.write_text("{}", encoding="utf-8")
    for _ in range(2):
        with pytest.raises(InputError, match=r"sv\.json: .*not JSON|sv\.json: not a saved Fit"):
            kept.load([path])
    fit(Chinchilla("sv"), runs, resamples=0).save(path)
    assert kept.load([path])[0].target == "sv"
