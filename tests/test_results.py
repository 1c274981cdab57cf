"""Every result has a headline, frame, chart, notebook view and one-line repr, and is read back as it was saved."""

import json
from html.parser import HTMLParser
from pathlib import Path

import polars as pl
import pytest

import babelscale as bs
from babelscale.errors import InputError
from babelscale.fitting import Comparison, Profile
from babelscale.planning import Decision, Expansion, ModelPartition, Plan
from babelscale.result import JsonResult, Result


@pytest.fixture(scope="module")
def runs() -> bs.Runs:
    law = bs.laws.Chinchilla()
    truth = {"E": 1.7, "A": 400.0, "B": 900.0, "alpha": 0.34, "beta": 0.3}
    params = [n for n in (1e7, 5e7, 2e8, 1e9) for _ in range(4)]
    design = bs.Allocation(params, {"sw": [1e9, 4e9, 2e10, 1e11] * 4}, {"sw": 1e12})
    return bs.simulate(law, truth, design, noise=0.005, seed=1)


@pytest.fixture(scope="module")
def results(runs: bs.Runs) -> dict[str, Result]:
    fit = bs.fit(bs.laws.Chinchilla(), runs, resamples=20)
    return {
        "runs": runs,
        "fit": fit,
        "profile": bs.profile(bs.laws.Chinchilla(), runs, "alpha", resamples=10),
        "comparison": bs.compare(["chinchilla"], runs, axes=["params", "random"], rungs=2),
        "matrix": bs.published.transfer_matrix().within(["en", "fr", "sw"]),
    }


NAMES = ("runs", "fit", "profile", "comparison", "matrix")


@pytest.mark.parametrize("name", NAMES)
def test_a_result_speaks_in_one_line_a_text_a_frame_and_a_chart(results: dict[str, Result], name: str) -> None:
    result = results[name]
    assert repr(result) == f"<{type(result).__name__}: {result.headline}>"
    assert "\n" not in result.headline
    assert result.summary() == str(result)
    assert len(result.summary().splitlines()) > 2
    frame = result.to_frame()
    assert isinstance(frame, pl.DataFrame)
    assert frame.height > 0
    chart = result.plot().to_dict()
    assert chart["description"] or chart["title"]


class _Tables(HTMLParser):
    """The opened tags that are still open, and the rows seen."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.rows = 0

    def handle_starttag(self, tag: str, attrs: object) -> None:
        self.open.append(tag)
        self.rows += tag == "tr"

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


@pytest.mark.parametrize("name", NAMES)
def test_the_notebook_view_is_well_formed_and_short(results: dict[str, Result], name: str) -> None:
    result = results[name]
    view = _Tables()
    html = result._repr_html_()
    view.feed(html)
    assert not view.open
    assert 1 < view.rows <= 1 + min(result.to_frame().height, 20)
    assert type(result).__name__ in html


@pytest.mark.parametrize("name", NAMES[1:])
def test_load_reads_what_save_wrote(results: dict[str, Result], name: str, tmp_path: Path) -> None:
    result = results[name]
    assert isinstance(result, JsonResult)
    loaded = type(result).load(result.save(tmp_path / "result.json"))
    assert loaded == result
    assert loaded.to_frame().equals(result.to_frame())
    assert loaded.to_dict() == result.to_dict()


def test_runs_are_read_as_they_were_saved(runs: bs.Runs, tmp_path: Path) -> None:
    assert bs.Runs.load(runs.save(tmp_path / "runs")).hash == runs.hash


def test_the_frame_of_runs_is_one_that_runs_are_made_from(runs: bs.Runs) -> None:
    again = bs.Runs.from_frame(runs.to_frame()).observations("sw", metric="nats_per_token")
    first = runs.observations("sw")
    assert again.run.tolist() == first.run.tolist()
    assert again.loss == pytest.approx(first.loss)
    assert again.allocation.D("sw") == pytest.approx(first.allocation.D("sw"))
    assert again.allocation.U("sw") == pytest.approx(first.allocation.U("sw"))


@pytest.mark.parametrize(
    ("kind", "field", "value", "message"),
    [
        (bs.Fit, "parameters", {"E": "much"}, "parameters.E"),
        (bs.Fit, "draws", "none", "draws"),
        (bs.Fit, "format", 7, "this version reads 1"),
        (Profile, "best", None, "best"),
        (Profile, "searched", [1.0], "searched"),
        (Comparison, "metric", 3, "metric"),
        (Comparison, "rows", [{"law": 3}], "rows"),
        (bs.TransferMatrix, "languages", ["en", "en", "sw"], "twice"),
        (bs.TransferMatrix, "status", [["measured"]], "status"),
    ],
)
def test_a_damaged_file_is_refused_with_its_field(
    results: dict[str, Result], kind: type[JsonResult], field: str, value: object, message: str, tmp_path: Path
) -> None:
    saved = next(result for result in results.values() if isinstance(result, kind))
    path = tmp_path / "damaged.json"
    path.write_text(json.dumps(saved.to_dict() | {field: value}))
    with pytest.raises(InputError, match=message) as caught:
        kind.load(path)
    assert str(path) in caught.value.message
    path.write_text(json.dumps({name: item for name, item in saved.to_dict().items() if name != field}))
    with pytest.raises(InputError, match=field):
        kind.load(path)


def test_a_file_that_is_no_json_object_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "odd.json"
    for text, message in (("[1]", "no JSON object"), ("{", "line 1 is not JSON"), ("\ufeff{}", "not JSON")):
        path.write_text(text, encoding="utf-8")
        with pytest.raises(InputError, match=message):
            bs.Fit.load(path)


TESTS = Path(__file__).parent


def assert_holds(new: object, old: object) -> None:
    """Every field of `old` stands in `new` with the same value; `new` may have further fields."""
    if isinstance(old, dict):
        assert isinstance(new, dict)
        for key, value in old.items():
            assert_holds(new[key], value)
    elif isinstance(old, list):
        assert isinstance(new, list)
        assert len(new) == len(old)
        for one, other in zip(new, old, strict=True):
            assert_holds(one, other)
    else:
        assert new == old


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        (bs.Fit, "fitting/saved/fit.json"),
        (Comparison, "fitting/saved/comparison.json"),
        (Profile, "fitting/saved/profile.json"),
        (bs.TransferMatrix, "fitting/saved/matrix.json"),
        (bs.TransferMatrix, "fitting/saved/matrix.csv"),
        (Plan, "planning/saved/plan.json"),
        (Decision, "planning/saved/decision.json"),
        (Expansion, "planning/saved/expansion.json"),
        (ModelPartition, "planning/saved/partition.json"),
    ],
)
def test_results_that_an_earlier_version_saved_are_read(kind: type[JsonResult], name: str, tmp_path: Path) -> None:
    """The files were written before results had handles; every field of theirs is still there, with its value."""
    loaded = kind.load(TESTS / name)
    if name.endswith(".json"):
        assert_holds(json.loads(json.dumps(loaded.to_dict())), json.loads((TESTS / name).read_text("utf-8")))
    again = kind.load(loaded.save(tmp_path / Path(name).name))
    assert again.to_frame().equals(loaded.to_frame())
    assert loaded.to_frame().height > 0
