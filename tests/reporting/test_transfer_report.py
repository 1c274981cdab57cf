"""A look at transfer from whatever holds a matrix, and the next runs of a study, as the command line shows them."""

import json
from pathlib import Path

import numpy as np
import pytest

from babelscale import cli
from babelscale.errors import InputError
from babelscale.reporting.design.next_runs import next_runs
from babelscale.reporting.report.language_features import language_features
from babelscale.reporting.report.transfer_report import transfer_report
from babelscale.runs import Runs
from babelscale.study import Study, load

DESIGN = """
name = "six"
languages = ["da", "de", "es", "nl", "pt", "sv"]
[corpus]
bytes_per_language = 60_000
[tokenizer]
vocabulary = 400
[recipe]
batch_size = 4
sequence_length = 32
[sizes]
xs = { layers = 1, heads = 1, d_model = 8, d_ff = 16, d_head = 8 }
[[groups]]
name = "mono"
mixture = "monolingual"
sizes = ["xs"]
tokens = [12_800]
"""


@pytest.fixture
def six(tmp_path: Path) -> Study:
    path = tmp_path / "six.toml"
    path.write_text(DESIGN)
    return Study.create(path, tmp_path / "six")


def call(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    with pytest.raises(SystemExit) as stopped:
        cli.main([str(argument) for argument in arguments])
    assert not stopped.value.code, capsys.readouterr().err
    return capsys.readouterr().out


def test_a_matrix_alone_is_printed_as_it_is_saved(capsys) -> None:
    alone = json.loads(call(capsys, "transfer", "--published", "--json"))
    assert alone["kind"] == "transfer-matrix"
    whole = json.loads(call(capsys, "transfer", "--published", "--tests", "--predict", "lb", "--json"))
    assert whole["kind"] == "transfer"
    assert whole["matrix"]["languages"][0] == "lb"
    assert {check["left_out"] for check in whole["prediction"]["checks"]} == {"pair", "target", "language"}
    assert whole["analysis"]["contrasts"][0]["raw"]["p"] < 0.05
    json.dumps(whole, allow_nan=False)


def test_runs_give_scores_along_and_a_picture(capsys, study: Path, tmp_path: Path) -> None:
    path = tmp_path / "along.svg"
    said = call(capsys, "transfer", study, "--along", "--chart", path, "--picture", "along")
    assert "scores at" in said
    assert path.read_text().startswith("<svg")


def test_a_matrix_is_read_from_the_files_it_is_saved_to(capsys, tmp_path: Path) -> None:
    for ending in ("json", "csv"):
        path = tmp_path / f"m.{ending}"
        call(capsys, "transfer", "--published", "--save", path)
        assert "best sources" in call(capsys, "transfer", path)
    square = tmp_path / "square.csv"
    square.write_text("t,no,nan\nno,,0.1\nnan,0.3,\n")
    assert "+0.30" in call(capsys, "transfer", square)


def test_features_of_ones_own_join_in(capsys, tmp_path: Path) -> None:
    path = tmp_path / "typology.json"
    square = [[None, 1, 0], [1, None, 0], [0, 0, None]]
    path.write_text(json.dumps({"languages": ["de", "no", "ja"], "pairs": {"word order": square}, "traits": {}}))
    found = json.loads(call(capsys, "transfer", "--published", "--predict", "lb", "--relations", path, "--json"))
    assert "word order" in found["prediction"]["weights"]
    assert (
        "word order"
        not in json.loads(call(capsys, "transfer", "--published", "--predict", "lb", "--json"))["prediction"]["weights"]
    )


def test_a_matrix_holds_no_runs() -> None:
    with pytest.raises(InputError, match="mixtures need runs"):
        transfer_report(published=True, mixtures=True)
    with pytest.raises(InputError, match="either runs or --published"):
        transfer_report()


def test_a_bare_folder_tells_what_the_table_of_languages_does(study: Path, runs: Runs) -> None:
    found = language_features(study, runs.languages)
    assert set(found.pairs) == {"script", "family", "branch", "lineage", "place"}
    # A continued run among them adds what it tells.
    assert "adaptation" in language_features(study, runs.languages, runs).pairs


def test_next_runs_begin_with_baselines_and_several_widths(six: Study) -> None:
    found = next_runs(six, count=4)
    assert found.baselines == six.design.languages
    assert [len(mixture) for mixture in found.mixtures] == [4, 2, 4, 2]
    assert found.chosen == "evenly"
    assert found.baseline_tokens == 12_800
    assert found.tokens == 0.75 * 12_800
    names = [group.name for group in found.design.groups]
    assert names == ["mono", "next-1-baselines", "next-1-2", "next-1-4"]
    # A second proposal is not the first again.
    again = next_runs(Study(found.design, six.folder), count=4)
    assert not {frozenset(m) for m in again.mixtures} & {frozenset(m) for m in found.mixtures}
    # Asked for more than there are, it proposes each of them once: 15 of two languages and 15 of four.
    every = next_runs(six, count=100)
    assert len({frozenset(m) for m in every.mixtures}) == len(every.mixtures) == 30
    assert again.design.groups[-1].name == "next-2-4"


def test_a_budget_is_kept(six: Study) -> None:
    three = next_runs(six, count=3)
    bought = next_runs(six, compute=three.compute * 1.0001)
    assert len(bought.mixtures) == 3
    assert bought.compute == pytest.approx(three.compute)
    with pytest.raises(InputError, match="not enough for the monolingual runs") as error:
        next_runs(six, compute=three.compute / 1e3)
    assert "give at least" in str(error.value.hint)
    for wrong in ({}, {"compute": 1e12, "count": 3}):
        with pytest.raises(InputError, match="give either compute or count"):
            next_runs(six, **wrong)
    with pytest.raises(InputError, match="no size 'xl'"):
        next_runs(six, count=1, size="xl")


def test_the_design_that_is_written_is_the_study_and_more(six: Study, tmp_path: Path, capsys) -> None:
    path = tmp_path / "next.toml"
    said = call(capsys, "study", "next", tmp_path / "six.toml", "--count", 2, "--file", path, "--out", tmp_path / "six")
    assert f"babelscale study run {path} --out {tmp_path / 'six'}" in said
    back = load(path)
    assert back.groups[0] == six.design.groups[0]
    assert back.sizes == six.design.sizes
    assert sum(len(group.shares or ()) for group in back.groups) == 2
    with pytest.raises(InputError, match="exists already"):
        next_runs(six, count=2).save(path)


@pytest.fixture
def read_six(six: Study, simulate_six: Runs, monkeypatch: pytest.MonkeyPatch) -> Study:
    """The study as if runs of known gains were finished in it."""
    (six.folder / "finished").mkdir(parents=True)
    monkeypatch.setattr(Study, "runs", lambda self: simulate_six)
    return six


@pytest.fixture
def simulate_six() -> Runs:
    import polars as pl

    from babelscale.transfer.acquisition import balanced

    codes = ("da", "de", "es", "nl", "pt", "sv")
    params = float(load_shape().params)
    rng = np.random.default_rng(0)
    gain = rng.normal(-0.1, 0.1, (6, 6))
    table, exposure, losses = [], [], []
    several = [*balanced(codes, 3, 8), *balanced(codes, 2, 6)]
    for number, mixture in enumerate([*((code,) for code in codes), *several]):
        run, end = f"r{number}", 12_800.0 * (3 if len(mixture) > 1 else 1)
        table.append({"run": run, "params": params, "tokens": end, "size": "xs", "seed": 0})
        for step, d in enumerate(np.geomspace(end / 40, end, 12)):
            for code in mixture:
                own = d / len(mixture)
                worth = sum(gain[codes.index(code), codes.index(c)] for c in mixture if c != code)
                nats = 1 + 20 * (own * np.exp(worth)) ** -0.3 * np.exp(0.002 * rng.normal())
                exposure.append({"run": run, "step": step, "language": code, "tokens": own})
                losses.append(
                    {
                        "run": run,
                        "step": step,
                        "language": code,
                        "split": "validation",
                        "lr_state": "stable",
                        "nats": nats,
                        "tokens": 1.0,
                    }
                )
    return Runs.of(pl.DataFrame(table), pl.DataFrame(exposure), pl.DataFrame(losses))


def load_shape():
    from babelscale.study.design import parse

    return parse(DESIGN, "six").shape("xs")


def test_once_mixtures_are_read_the_next_are_chosen_by_what_is_uncertain(read_six: Study, simulate_six: Runs) -> None:
    found = next_runs(read_six, count=4)
    assert found.baselines == ()
    assert found.chosen == "by uncertainty"
    assert found.sd is not None
    assert found.sd[1] < found.sd[0]
    trained = {tuple(sorted(codes)) for codes in simulate_six.exposure.group_by("run").agg("language")["language"]}
    assert not trained & set(found.mixtures)
    assert "uncertainty of a log gain" in str(found)
    only = next_runs(read_six, count=3, targets=["pt"])
    assert all("pt" in mixture for mixture in only.mixtures)
