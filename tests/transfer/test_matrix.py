"""TransferMatrix: from runs, through files, and what it says."""

import json
import math

import numpy as np
import polars as pl
import pytest

from babelscale import published
from babelscale.errors import InputError
from babelscale.reporting.report.transfer_report import holds_matrix
from babelscale.runs import Runs
from babelscale.transfer import TransferMatrix, analyse, from_tau

TAU = {
    ("da", "sv"): 0.5,
    ("sv", "da"): 0.3,
    ("da", "no"): 0.6,
    ("no", "da"): 0.2,
    ("sv", "no"): -0.95,
    ("no", "sv"): 0.1,
}


def runs(seeds=(0,), params=1e6, state="stable", noise=0.0, half=0.5, longer=None) -> Runs:
    """Monolingual and bilingual runs of three languages with planted tau[target, source]."""
    codes = ["da", "no", "sv"]
    table, exposure, losses = [], [], []
    rng = np.random.default_rng(7)
    for seed in seeds:
        mixes = [{c: 1.0} for c in codes] + [{a: half, b: 1 - half} for a in codes for b in codes if a < b]
        for mix in mixes:
            name = f"{'+'.join(mix)}-{seed}"
            table.append({"run": name, "params": params, "tokens": 9e8 if list(mix) == [longer] else 1e8, "seed": seed})
            end = 9e8 if list(mix) == [longer] else 1e8
            for step, D in enumerate(np.geomspace(1e6, end, 10)):
                for code, share in mix.items():
                    exposure.append({"run": name, "step": step, "language": code, "tokens": D * share})
                    own = D * share + sum(TAU[code, o] * D * w for o, w in mix.items() if o != code)
                    loss = (1 + 50 * own**-0.3) * math.exp(noise * rng.standard_normal())
                    losses.append(
                        {
                            "run": name,
                            "step": step,
                            "language": code,
                            "split": "validation",
                            "lr_state": state,
                            "nats": loss,
                            "tokens": 1.0,
                        }
                    )
    return Runs.of(pl.DataFrame(table), pl.DataFrame(exposure), pl.DataFrame(losses))


@pytest.fixture(scope="module")
def matrix() -> TransferMatrix:
    return TransferMatrix.from_runs(runs())


def test_from_runs_finds_every_directed_pair(matrix: TransferMatrix):
    assert matrix.languages == ("da", "no", "sv")
    for (target, source), tau in TAU.items():
        cell = matrix.cell(target, source)
        if tau == -0.95:
            assert cell.status == "censored"
            assert (cell.low, cell.high) == (-math.inf, pytest.approx(-0.5))
            assert math.isnan(cell.value)
        else:
            assert cell.status == "measured"
            assert cell.value == pytest.approx(from_tau(tau), abs=0.02)
    assert matrix.cell("da", "da").status == "missing"
    assert matrix.provenance["params"] == 1e6
    assert matrix.provenance["anchor_tokens"]["da"] == pytest.approx(4e7)
    assert "checkpoint noise" in matrix.provenance["intervals"]


def test_several_seeds_say_so():
    found = TransferMatrix.from_runs(runs(seeds=(0, 1, 2), noise=0.002))
    assert "3 seeds" in found.provenance["intervals"]
    cell = found.cell("da", "sv")
    assert cell.low < from_tau(0.5) < cell.high


def test_seeds_are_matched():
    # Bilingual runs of seed 1 find no monolingual run of seed 1.
    mono, both = runs(seeds=(0,)), runs(seeds=(1,))
    parts = mono.select([n for n in mono.names if "+" not in n]), both.select([n for n in both.names if "+" in n])
    frames = [pl.concat([getattr(p, name) for p in parts]) for name in ("table", "exposure", "losses")]
    with pytest.raises(InputError, match="no transfer score can be read"):
        TransferMatrix.from_runs(Runs.of(*frames))


def test_the_size_with_most_bilingual_runs_is_taken():
    small, large = runs(), runs(seeds=(5,), params=9e6)
    large = large.select([n for n in large.names if n.count("+") == 0 or n.startswith("da+sv")])
    frames = [pl.concat([getattr(p, name) for p in (small, large)]) for name in ("table", "exposure", "losses")]
    both = Runs.of(*frames)
    assert TransferMatrix.from_runs(both).provenance["params"] == 1e6
    assert TransferMatrix.from_runs(both, params=9e6).languages == ("da", "sv")


def test_one_longer_run_does_not_move_the_anchor_out_of_reach():
    found = TransferMatrix.from_runs(runs(longer="da"))
    assert set(found.provenance["anchor_tokens"].values()) == {4e7}
    assert found.cell("da", "sv").value == pytest.approx(from_tau(0.5), abs=0.02)


def test_other_shares_are_no_bilingual_pair():
    with pytest.raises(InputError, match="0 bilingual kinds"):
        TransferMatrix.from_runs(runs(half=0.45))


def test_a_continued_run_is_not_read():
    frame = runs()
    table = frame.table.with_columns(start=pl.lit("checkpoint"))
    with pytest.raises(InputError, match="no bilingual run"):
        TransferMatrix.from_runs(Runs.of(table, frame.exposure, frame.losses))


def test_helpers_leave_out_what_is_only_bounded_above(matrix: TransferMatrix):
    assert [h.source for h in matrix.helpers("da")] == ["no", "sv"]
    assert [h.source for h in matrix.helpers("sv")] == ["da"]
    best = matrix.helpers("da")[0]
    assert str(best).startswith("no")
    assert json.loads(json.dumps(best.to_dict(), allow_nan=False))["value"] == best.value
    assert matrix.cell("sv", "no").to_dict()["low"] == "-inf"
    with pytest.raises(InputError, match="not in the transfer matrix"):
        matrix.helpers("fr")


@pytest.mark.parametrize("ending", ["json", "csv"])
def test_files_keep_everything(matrix: TransferMatrix, tmp_path, ending: str):
    path = matrix.save(tmp_path / f"m.{ending}")
    back = TransferMatrix.load(path)
    assert back.languages == matrix.languages
    for name in ("values", "low", "high"):
        np.testing.assert_array_equal(getattr(back, name), getattr(matrix, name))
    assert (back.status == matrix.status).all()
    assert back.cell("sv", "no").low == -math.inf
    if ending == "json":
        json.loads(path.read_text(), parse_constant=lambda word: pytest.fail(f"{word} is not JSON"))
        assert back.provenance == matrix.provenance
    assert list(tmp_path.iterdir()) == [path]


def test_awkward_codes_survive_a_square_csv(tmp_path):
    path = tmp_path / "m.csv"
    path.write_text("t,no,nan,NA,on\nno,,0.1,,-0.2\nnan,0.3,,0.1,0\nNA,0,0,,0\non,0.5,0,0,\n")
    matrix = TransferMatrix.read(path)
    assert matrix.languages == ("no", "nan", "NA", "on")
    assert matrix.cell("nan", "no").value == 0.3
    assert matrix.cell("no", "NA").status == "missing"
    assert TransferMatrix.load(matrix.save(tmp_path / "again.csv")).cell("on", "no").value == 0.5


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "no rows"),
        ("t,da,sv\nda,,x\nsv,0,\n", "row 2, sv: 'x' is not a number"),
        ("t,da,sv\nda,,nan\nsv,0,\n", "row 2, sv is NaN"),
        ("t,da,sv\nda,,0\nfr,0,\n", "'fr' has a row and no column"),
        ("t,da,sv\nda,0\nsv,0,\n", "row 2 has 2 cells"),
        ("target,source,score\nda,sv,1\nda,sv,0\n", "row 3 repeats"),
        ("target,source,score,status\nda,sv,1,guessed\n", "status 'guessed'"),
    ],
)
def test_bad_csv_names_row_and_field(tmp_path, text: str, said: str):
    path = tmp_path / "m.csv"
    path.write_text(text)
    with pytest.raises(InputError, match=said):
        TransferMatrix.read(path)


DIALECTS = {
    "marked.csv": "\ufefftarget,source,score\nsw,yo,0.25\nyo,sw,0.5\n",
    "semicolons.csv": "target;sw;yo\nsw;;0,25\nyo;0,5;\n",
    "comment.csv": "# exported on Monday\nTarget,Source,Score\nyo,sw,0.5\nsw,yo,0.25\n",
    "tabs.tsv": "target\tsource\tscore\tlow\thigh\nsw\tyo\t0.25\t-inf\t1\nyo\tsw\t0.5\t\t\n",
    "flores.csv": "target,source,score\nswh_Latn,yor_Latn,0.25\nyor_Latn,swh_Latn,0.5\n",
    "broken_line.csv": 'target,source,score,note\n\nsw,yo,0.25,"two\nlines"\nyo,sw,0.5,\n',
    "diagonal.csv": "source,target,score\nsw,sw,1.0\nsw,yo,0.5\nyo,sw,0.25\nyo,yo,2\n",
    "square_diagonal.csv": "bts,yo,sw\nsw,0.25,1\nyo,1,0.5\n",
    "records.jsonl": (
        '{"target": "sw", "source": "yo", "score": 0.25}\n{"target": "yo", "source": "sw", "score": "0.5"}\n'
    ),
}


@pytest.mark.parametrize("name", DIALECTS)
def test_every_dialect_is_the_same_matrix(tmp_path, name: str):
    path = tmp_path / name
    path.write_text(DIALECTS[name], encoding="utf-8")
    matrix = TransferMatrix.read(path)
    assert matrix.cell("sw", "yo").value == 0.25
    assert matrix.cell("yo", "sw").value == 0.5
    assert np.isnan(np.diag(matrix.values)).all()
    assert set(matrix.languages) == {"sw", "yo"}
    assert (np.diag(matrix.status) == "missing").all()
    assert holds_matrix(path)
    if name == "flores.csv":
        assert "swh_Latn = sw" in matrix.summary()
    if name == "tabs.tsv":
        assert (matrix.cell("sw", "yo").low, matrix.cell("sw", "yo").high) == (-math.inf, 1)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("target,source,score\nsw,yo,0.2\n\nyo,sw,20\n", r"row 4, score is 20, and no transfer score exceeds 2"),
        ("target;sw;yo\nsw;;2,5\nyo;0,1;\n", r"row 2, yo is 2\.5"),
        ("source,target,BTS\nsw,yo,0.2\n", r"missing column score; the table has 'BTS'"),
        ("target,source,score\nsw,,0.2\n", r"row 2, source is empty"),
        ("target,source,score\nsw,9!,0.2\n", r"row 2, source '9!' is not a language code"),
        ("target,source,score\nsw\n", r"row 2 has 1 cells"),
        ("target,source,score\nsw,yo,0.2\nswh_Latn,yor_Latn,0.1\n", r"row 3 repeats target sw, source yo"),
    ],
)
def test_a_score_that_cannot_be_is_refused_by_its_row(tmp_path, text: str, said: str):
    path = tmp_path / "scores.csv"
    path.write_text(text)
    with pytest.raises(InputError, match=said):
        TransferMatrix.load(path)


def test_a_table_of_runs_is_no_matrix(tmp_path):
    path = tmp_path / "runs.csv"
    path.write_text("Model Size;tokens;val_loss\n2e7;4e8;3,1\n")
    assert not holds_matrix(path)


def test_bad_json_is_refused(tmp_path):
    path = tmp_path / "m.json"
    for text in ("{", "[]", '{"languages": ["da"]}'):
        path.write_text(text)
        with pytest.raises(InputError, match=r"m\.json"):
            TransferMatrix.load(path)
    with pytest.raises(InputError, match="cannot be read"):
        TransferMatrix.load(tmp_path / "absent.json")


def test_it_prints_censoring(matrix: TransferMatrix):
    said = str(matrix)
    assert "5 measured, 1 censored" in said
    assert "<-0.50" in said


def test_censored_cells_are_in_no_mean(matrix: TransferMatrix):
    found = analyse(matrix)
    assert (found.scores, found.left_out) == (5, 1)
    known = [from_tau(tau) for tau in TAU.values() if tau != -0.95]
    assert found.contrasts[0].raw.same == pytest.approx(np.mean(known), abs=0.02)
    assert math.isnan(found.contrasts[0].raw.different)
    assert math.isnan(found.contrasts[0].raw.p)
    assert found.to_dict()["contrasts"][0]["raw"]["different"] is None
    assert "unknown" in str(found)


def test_a_matrix_of_some_languages_keeps_their_scores():
    printed = published.transfer_matrix()
    some = printed.within(["sw", "no", "en", "sw"])
    assert some.languages == ("sw", "no", "en")
    for pair in (("no", "en"), ("en", "sw"), ("sw", "no")):
        assert some.cell(*pair).value == printed.cell(*pair).value
    assert some.provenance == printed.provenance
    with pytest.raises(InputError, match="'qq' is not in the transfer matrix"):
        printed.within(["sw", "qq"])


def test_runs_that_repeat_part_of_a_text_are_no_baselines():
    whole = runs()
    exposure = whole.exposure.with_columns(unique_tokens=pl.lit(2e9))
    plain = Runs.of(whole.table, exposure, whole.losses)
    table = pl.DataFrame([{"run": "da-cut", "params": 1e6, "tokens": 9e8, "seed": 0}])
    steps = [(step, D) for step, D in enumerate(np.geomspace(1e6, 9e8, 10))]
    seen = [{"run": "da-cut", "step": k, "language": "da", "tokens": D, "unique_tokens": 1e6} for k, D in steps]
    losses = [
        {
            "run": "da-cut",
            "step": k,
            "language": "da",
            "split": "validation",
            "lr_state": "stable",
            "nats": 9.0,
            "tokens": 1.0,
        }
        for k, _ in steps
    ]
    kept = Runs.of(
        pl.concat([plain.table, table], how="diagonal"),
        pl.concat([plain.exposure, pl.DataFrame(seen)], how="diagonal"),
        pl.concat([plain.losses, pl.DataFrame(losses)], how="diagonal"),
    )
    one, other = TransferMatrix.from_runs(plain), TransferMatrix.from_runs(kept)
    np.testing.assert_array_equal(one.values, other.values)
    assert other.provenance["on_part_of_the_text"] == ["da-cut"]
    assert "da-cut" in str(other)
    assert "part of" not in str(one)


def test_pairs_that_help_each_other_and_pairs_that_do_not() -> None:
    values = np.array([[math.nan, 0.4, 0.3], [0.1, math.nan, 0.2], [0.5, -0.3, math.nan]])
    status = np.where(np.isnan(values), "missing", "measured")
    matrix = TransferMatrix(("da", "nb", "sv"), values, values, values, status)
    assert [pair[:2] for pair in matrix.synergies()] == [("da", "sv"), ("da", "nb")]
    assert [pair[:2] for pair in matrix.asymmetries(2)] == [("nb", "sv"), ("da", "nb")]
