"""Runs: what comes in is checked once, and comes out as it went in."""

import time
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from babelscale.errors import InputError
from babelscale.runs import Runs, concat

AWKWARD = ["no", "nan", "NA", "on"]


@pytest.fixture
def runs() -> Runs:
    """Six runs of two sizes over languages whose codes other tools mistake for something else."""
    rows = [
        {
            "run": f"{size:g}-{'+'.join(mixed)}",
            "params": size,
            "language": code,
            "tokens": 1e6 / len(mixed),
            "unique_tokens": 4e5,
            "loss": 3.0 - 0.1 * k + 1e5 / size,
        }
        for k, mixed in enumerate((["no"], ["no", "nan"], ["no", "nan", "NA", "on"]))
        for size in (1e6, 4e6)
        for code in mixed
    ]
    return Runs.from_flat(pl.DataFrame(rows), "rows")


@pytest.mark.parametrize("ending", ["parquet", "csv"])
def test_codes_and_numbers_survive_every_format(runs: Runs, tmp_path: Path, ending):
    again = Runs.read(runs.write(tmp_path / "runs", ending))
    assert again.languages == tuple(sorted(AWKWARD))
    assert again.hash == runs.hash
    assert Runs.read(tmp_path).hash == runs.hash  # a study's folder holds runs/


@pytest.mark.parametrize("ending", ["csv", "parquet", "jsonl"])
def test_a_flat_table_survives_every_format(tmp_path: Path, ending):
    frame = pl.DataFrame({"params": [1e6] * 4, "tokens": [1e6] * 4, "loss": [1.0, 2.0, 3.0, 4.0], "language": AWKWARD})
    path = tmp_path / f"table.{ending}"
    {"csv": frame.write_csv, "parquet": frame.write_parquet, "jsonl": frame.write_ndjson}[ending](path)
    assert Runs.read(path).targets == tuple(sorted(AWKWARD))


def test_observations_of_a_target(runs: Runs):
    seen = runs.observations("nan")
    assert len(seen) == 4
    np.testing.assert_array_equal(sorted(seen.allocation.D("nan")), [2.5e5, 2.5e5, 5e5, 5e5])
    np.testing.assert_array_equal(seen.allocation.epochs("nan"), seen.allocation.D("nan") / 4e5)
    with pytest.raises(InputError, match="no loss was measured on 'sw'"):
        runs.observations("sw")
    with pytest.raises(InputError, match="no target language named"):
        runs.observations()


def test_cosampled_counts_mixtures_not_runs(runs: Runs):
    assert runs.cosampled("no") == ("nan", "NA", "on")
    assert runs.cosampled("no", most=1) == ("nan",)


def test_from_columns_is_a_table_of_one_source():
    runs = Runs.from_columns(params=[1e6, 2e6], tokens=1e8, loss=[3.0, 2.5], unique_tokens=5e7)
    seen = runs.observations()
    np.testing.assert_array_equal(seen.loss, [3.0, 2.5])
    np.testing.assert_array_equal(seen.allocation.epochs("und"), [2, 2])
    assert runs.metric == "nats_per_token"


def test_stable_and_decayed_losses_are_never_mixed():
    table = pl.DataFrame({"run": ["a"], "params": [1e6], "tokens": [1e6]})
    exposure = pl.DataFrame({"run": ["a", "a"], "step": [5, 10], "language": "sw", "tokens": [5e5, 1e6]})
    losses = pl.DataFrame(
        {
            "run": ["a", "a"],
            "step": [5, 10],
            "language": "sw",
            "split": "validation",
            "lr_state": ["stable", "decayed"],
            "nats": [300.0, 200.0],
            "tokens": 100,
            "bytes": 400,
            "unigram_nats": 700.0,
        }
    )
    runs = Runs.of(table, exposure, losses)
    assert runs.metric == "bits_per_byte"
    assert runs.observations().loss == pytest.approx([200 / np.log(2) / 400])
    assert runs.observations(lr_state="stable", metric="nats_per_token").loss == pytest.approx([3.0])
    assert runs.observations(metric="unigram_normalised").loss == pytest.approx([-5.0])


@pytest.mark.parametrize("axis", ["random", "params", "mixture"])
def test_hold_out_splits_whole_runs(runs: Runs, axis):
    kept, held = runs.hold_out(axis)
    assert sorted(kept.names + held.names) == sorted(runs.names)
    assert len(held)
    if axis == "params":
        assert held.table["params"].min() > kept.table["params"].max()  # type: ignore[operator]
    if axis == "mixture":
        assert all("NA" in name for name in held.names)


def test_hold_out_takes_the_runs_that_tie_at_the_top():
    runs = Runs.from_columns(params=[1e6, 2e6, 3e6, 4e6], tokens=[1e6, 5e6, 5e6, 5e6], loss=[4.0, 3.0, 2.5, 2.0])
    kept, held = runs.hold_out("tokens")
    assert len(kept) == 1
    assert len(held) == 3


def test_hold_out_counts_the_languages_of_many_runs_at_once():
    rows = [
        {"run": f"r{k}", "params": 1e6, "language": code, "tokens": 1e6, "unique_tokens": 4e5, "loss": 3.0}
        for k in range(3000)
        for code in ["sv", "da", "sw"][: 2 + (k % 3 == 0)]
    ]
    runs = Runs.from_flat(pl.DataFrame(rows), "rows")
    began = time.process_time()
    held = runs.hold_out("mixture")[1]
    took = time.process_time() - began
    assert set(held.names) == {f"r{k}" for k in range(0, 3000, 3)}
    # A pass over the exposure for each run takes several times as long.
    assert took < 0.1


def test_hold_out_of_everything_is_refused(runs: Runs):
    with pytest.raises(InputError, match="would hold out"):
        runs.select(runs.names[:1]).hold_out("params")


def test_the_hash_ignores_order_and_sees_values(runs: Runs):
    shuffled = Runs.of(runs.table.reverse(), runs.exposure.reverse(), runs.losses.reverse())
    assert shuffled.hash == runs.hash
    assert runs.select(runs.names[1:]).hash != runs.hash


def test_concat_refuses_runs_of_one_name(runs: Runs):
    with pytest.raises(InputError, match="repeats"):
        concat([runs, runs])


HEADER = "params,tokens,loss"
BAD_TABLES = {
    "missing column": ("params,tokens\n1e6,1e6\n", "missing column loss"),
    "NaN": (f"{HEADER}\n1e6,1e6,2\n1e6,2e6,nan\n", "row 3, loss is NaN"),
    "infinite": (f"{HEADER}\n1e6,1e6,inf\n", "row 2, loss is infinite"),
    "negative": (f"{HEADER}\n1e6,-1,2\n", "row 2, tokens is negative"),
    "zero loss": (f"{HEADER}\n1e6,1e6,0\n", "row 2, loss is not positive"),
    "text": (f"{HEADER}\n1e6,many,2\n", "row 2, tokens: 'many' is not a number"),
    "empty cell": (f"{HEADER}\n1e6,,2\n", "row 2, tokens is empty"),
    "duplicate": (f"run,{HEADER}\na,1e6,1,2\nb,2e6,1,2\na,1e6,1,2\n", "row 4 repeats row 2"),
    "no rows": (f"{HEADER}\n", "no rows"),
    "empty file": ("", "no rows"),
    "code": (f"language,{HEADER}\n12!,1e6,1e6,2\n", "language '12!' is not a language code"),
    "two sizes": (f"run,language,{HEADER}\na,sw,1e6,1,2\na,yo,2e6,1,2\n", "row 3: run 'a' has params 1e+06 and 2e+06"),
    "one language twice": (
        f"run,language,{HEADER}\na,sw,1e6,1,2\na,sw,1e6,2,2\n",
        "row 3: run 'a' has several rows of 'sw'",
    ),
}


@pytest.mark.parametrize("case", BAD_TABLES)
def test_a_bad_table_names_the_file_the_row_and_the_field(tmp_path: Path, case: str):
    text, said = BAD_TABLES[case]
    path = tmp_path / "bad.csv"
    path.write_text(text)
    with pytest.raises(InputError) as caught:
        Runs.read(path)
    assert str(path) in caught.value.message
    assert said in caught.value.message
    assert caught.value.hint or case in ("two sizes",)


def test_a_folder_with_a_loss_of_an_unknown_run_is_refused(runs: Runs, tmp_path: Path):
    runs.write(tmp_path)
    runs.select(runs.names[1:]).table.write_parquet(tmp_path / "runs.parquet")
    with pytest.raises(InputError, match=r"exposure.parquet: run .* is not in"):
        Runs.read(tmp_path)


@pytest.mark.parametrize("name", ["nothing", "nothing.csv", "notes.txt"])
def test_a_path_that_is_no_table_is_refused(tmp_path: Path, name: str):
    if name == "notes.txt":
        (tmp_path / name).write_text("x")
    with pytest.raises(InputError, match=name):
        Runs.read(tmp_path / name)


def test_a_cut_parquet_file_is_refused(runs: Runs, tmp_path: Path):
    runs.write(tmp_path)
    whole = (tmp_path / "losses.parquet").read_bytes()
    (tmp_path / "losses.parquet").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(InputError, match=r"losses.parquet: cannot be read"):
        Runs.read(tmp_path)
