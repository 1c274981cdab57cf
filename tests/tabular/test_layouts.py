"""One table in many dialects, names and layouts gives the same runs; what cannot be read is refused with its row."""

import bz2
import gzip
import json
import lzma
from collections.abc import Callable
from pathlib import Path

import polars as pl
import pytest

from babelscale import InputError, Runs
from babelscale.tabular import Options

# Two languages, two sizes: monolingual runs and mixtures of unequal shares.
ROWS = [
    ("a-sw", 2e7, 4e8, "sw", 4.12, 1e8),
    ("b-sw", 8e7, 4e8, "sw", 3.91, 1e8),
    ("c-mix", 2e7, 3e8, "sw", 4.05, 1e8),
    ("c-mix", 2e7, 1e8, "nan", 4.55, 5e7),
    ("d-mix", 8e7, 2e8, "sw", 3.99, 1e8),
    ("d-mix", 8e7, 6e8, "nan", 4.01, 5e7),
]
NAMES = ("run", "params", "tokens", "language", "loss", "unique_tokens")


def csv(rows=ROWS, names=NAMES, delimiter: str = ",", cell: Callable[[object], str] = str) -> str:
    return "\n".join(delimiter.join(map(cell, row)) for row in [names, *rows]) + "\n"


@pytest.fixture(scope="module")
def expected() -> str:
    return Runs.from_flat(pl.DataFrame(ROWS, schema=list(NAMES), orient="row"), "rows").hash


def german(value: object) -> str:
    return f"{value:.2f}".replace(".", ",") if isinstance(value, float) else str(value)


def in_groups(value: object) -> str:
    return f'"{value:,.0f}"' if isinstance(value, float) and value > 1e4 else str(value)


def short(value: object) -> str:
    return f"{value / 1e6:g}M" if isinstance(value, float) and value > 1e4 else str(value)


TEXTS = {
    "plain.csv": csv().encode(),
    "bom.csv": b"\xef\xbb\xbf" + csv().encode(),
    "utf16.csv": csv().encode("utf-16"),
    "windows.csv": csv().replace("\n", "\r\n").encode(),
    "quoted.csv": csv(cell=lambda value: f'"{value}"').encode(),
    "spaces.csv": csv(delimiter=", ").encode(),
    "tabs.tsv": csv(delimiter="\t").encode(),
    "bars.txt": csv(delimiter="|").encode(),
    "german.csv": csv(delimiter=";", cell=german).encode(),
    "thousands.csv": csv(cell=in_groups).encode(),
    "suffixes.csv": csv(cell=short).encode(),
    "blank_lines.csv": csv().replace("\n", "\n\n").encode(),
    "comment.csv": b"# exported today\n" + csv().encode(),
    "trailing.csv": csv().replace("\n", ",\n").encode(),
    "packed.csv.gz": gzip.compress(csv().encode()),
    "packed.csv.bz2": bz2.compress(csv().encode()),
    "packed.csv.xz": lzma.compress(csv().encode()),
    "lines.jsonl": "".join(json.dumps(dict(zip(NAMES, row, strict=True))) + "\n" for row in ROWS).encode(),
    "array.json": json.dumps([dict(zip(NAMES, row, strict=True)) for row in ROWS]).encode(),
    "columns.json": json.dumps({name: [row[k] for row in ROWS] for k, name in enumerate(NAMES)}).encode(),
    "text.jsonl": "".join(
        json.dumps({name: str(cell) for name, cell in zip(NAMES, row, strict=True)}) + "\n" for row in ROWS
    ).encode(),
    "caps.csv": csv(names=tuple(name.upper() for name in NAMES)).encode(),
    "theirs.csv": csv(names=("Name", "Model Size", "n_tokens", "lang", "final_loss", "unique")).encode(),
    "nested.jsonl": "".join(
        json.dumps({"run": r, "model": {"n_params": n}, "tokens": d, "language": c, "loss": y, "unique_tokens": u})
        + "\n"
        for r, n, d, c, y, u in ROWS
    ).encode(),
    "totals.csv": csv(
        [
            ("a-sw", 2e7, 4e8, 1.0, "sw", 4.12, 1e8),
            ("b-sw", 8e7, 4e8, 1.0, "sw", 3.91, 1e8),
            ("c-mix", 2e7, 4e8, 0.75, "sw", 4.05, 1e8),
            ("c-mix", 2e7, 4e8, 0.25, "nan", 4.55, 5e7),
            ("d-mix", 8e7, 8e8, 0.25, "sw", 3.99, 1e8),
            ("d-mix", 8e7, 8e8, 0.75, "nan", 4.01, 5e7),
        ],
        ("run", "params", "total_tokens", "share", "language", "loss", "unique_tokens"),
    ).encode(),
    "wide.csv": csv(
        [
            ("a-sw", 2e7, 4e8, 1, 0, 4.12, "", 1e8, 5e7),
            ("b-sw", 8e7, 4e8, 1, 0, 3.91, "", 1e8, 5e7),
            ("c-mix", 2e7, 4e8, 0.75, 0.25, 4.05, 4.55, 1e8, 5e7),
            ("d-mix", 8e7, 8e8, 0.25, 0.75, 3.99, 4.01, 1e8, 5e7),
        ],
        (
            "run",
            "params",
            "tokens",
            "share_sw",
            "share_nan",
            "eval/sw/loss",
            "eval/nan/loss",
            "unique_sw",
            "unique_nan",
        ),
    ).encode(),
    "percent.csv": csv(
        [
            ("a-sw", 2e7, 4e8, 100, 0, 4.12, "", 1e8, 5e7),
            ("b-sw", 8e7, 4e8, 100, 0, 3.91, "", 1e8, 5e7),
            ("c-mix", 2e7, 4e8, 75, 25, 4.05, 4.55, 1e8, 5e7),
            ("d-mix", 8e7, 8e8, 25, 75, 3.99, 4.01, 1e8, 5e7),
        ],
        ("run", "params", "tokens", "mix.sw", "mix.nan", "loss_sw", "loss_nan", "unique_sw", "unique_nan"),
    ).encode(),
}


@pytest.mark.parametrize("name", TEXTS)
def test_every_dialect_and_layout_gives_the_same_runs(name: str, expected: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(TEXTS[name])
    assert Runs.read(tmp_path / name).hash == expected


@pytest.mark.parametrize("ending", ["parquet", "feather", "ipc"])
def test_binary_tables_with_odd_types(ending: str, expected: str, tmp_path: Path) -> None:
    frame = pl.DataFrame(ROWS, schema=list(NAMES), orient="row").with_columns(
        pl.col("language").cast(pl.Categorical),
        pl.col("tokens").cast(pl.Int32),
        pl.col("params").cast(pl.Float32),
        pl.col("unique_tokens").cast(pl.Decimal(20, 2)),
        config=pl.struct(lr=pl.lit(0.1)),
    )
    path = tmp_path / f"runs.{ending}"
    frame.write_parquet(path) if ending == "parquet" else frame.write_ipc(path)
    assert Runs.read(path).hash == expected


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("params,tokens,loss\n2e7,4e8,NaN\n", "row 2, loss is NaN"),
        ("params,tokens,loss\n\n2e7,4e8,1e400\n", "row 3, loss is infinite"),
        ('params,tokens,loss\n2e7,4e8,"2,5"\n', "decimal sign or a thousands separator"),
        ("params,tokens,loss\n2e7,4e8,0x10\n", "row 2, loss: '0x10' is not a number"),
        ("params,tokens,loss\n2e7,4e8\n", "row 2 has 2 cells, and there are 3 columns"),
        ("params,tokens,loss\n2e7,4e8,3,9\n", "row 2 has 4 cells, and there are 3 columns"),
        ("params,tokens,loss,loss\n2e7,4e8,3,4\n", "two columns are called 'loss'"),
        ('params,tokens,loss\n2e7,4e8,"3\n', "quotation mark"),
        ("2e7,4e8,3\n2e7,4e8,3\n", "missing columns params, tokens, loss"),
        ("params,tokens,loss\n0.02,0.4,3\n", "no model has less than one"),
        ("params,tokens,ppl\n2e7,4e8,40\n", "column 'ppl' holds perplexities"),
        ("params,tokens,loss,language\n2e7,4e8,3,False\n", "YAML reads the code no"),
        ("params,tokens,loss,language\n2e7,4e8,3,\n", "language is empty"),
        ("params,tokens,loss,language\n2e7,4e8,3,12!\n", "language '12!' is not a language code"),
        ("params,loss_sw,loss_yo,tokens\n2e7,3,4,4e8\n", "nothing says how many of each language"),
        ("run,params,tokens,share_sw,share_yo,loss_sw\na,2e7,4e8,0.5,0.2,3\n", "shares of run 'a' add up to 0.7"),
        ("params,tokens,val_loss,test_loss\n2e7,4e8,3,4\n", "both look like loss"),
        ("run,params,tokens,loss\na,2e7,4e8,3\na,2e7,8e8,2\n", "a column `step` makes them steps of one run"),
        (
            "run,params,tokens,language,loss,flops\na,1e7,1e9,hi,3,6e16\na,1e7,1e9,bn,4,6e16\na,1e7,1e9,ta,4,6e16\n",
            "flops are 6 N times 1e\\+09 tokens, not 3e\\+09",
        ),
    ],
)
def test_what_cannot_be_read_is_refused_with_its_reason(text: str, says: str, tmp_path: Path) -> None:
    path = tmp_path / "bad.csv"
    path.write_text(text)
    with pytest.raises(InputError, match=says.replace("(", r"\(")) as caught:
        Runs.read(path)
    assert "bad.csv" in caught.value.message or "no model" in caught.value.message


def test_steps_of_one_flat_table_are_checkpoints_of_one_run(tmp_path: Path) -> None:
    path = tmp_path / "curve.csv"
    path.write_text("run,step,params,tokens,loss\na,10,2e7,1e8,4.5\na,20,2e7,2e8,4.2\na,30,2e7,3e8,4.0\n")
    runs = Runs.read(path)
    assert len(runs) == 1
    assert runs.table["tokens"].to_list() == [3e8]
    assert runs.observations().loss.tolist() == [4.0]
    assert runs.observations(lr_state="stable").loss.tolist() == [4.5, 4.2]
    assert any(notice.kind == "lr-state" for notice in runs.notices)


def test_states_splits_and_starts_of_a_flat_table_are_obeyed(tmp_path: Path) -> None:
    path = tmp_path / "states.csv"
    rows = "a,2e7,4e8,4.1,decayed,val,scratch\nb,2e7,4e8,4.4,stable,val,scratch\nc,2e7,4e8,3.8,decayed,train,scratch\n"
    path.write_text("run,params,tokens,loss,lr_state,split,start\n" + rows + "d,2e7,1e8,3.7,decayed,val,checkpoint\n")
    assert Runs.read(path).observations().loss.tolist() == [4.1]


def test_unknown_columns_are_named_with_the_nearest_known_name(tmp_path: Path) -> None:
    path = tmp_path / "runs.csv"
    path.write_text("params,tokens,loss,unique_token,colour\n2e7,4e8,4.1,1e8,red\n")
    (notice,) = Runs.read(path).notices
    assert notice.kind == "unused"
    assert "'unique_token' (did you mean unique_tokens?)" in notice.text
    assert "'colour'" in notice.text


def test_seeds_with_equal_losses_are_two_runs(tmp_path: Path) -> None:
    path = tmp_path / "seeds.csv"
    path.write_text("params,tokens,loss\n2e7,4e8,4.1\n2e7,4e8,4.1\n")
    assert len(Runs.read(path)) == 2


def test_mapping_constants_and_shares(tmp_path: Path) -> None:
    path = tmp_path / "theirs.csv"
    path.write_text("id,steps,sw perplexity-free,yo\na,100,4.1,4.5\nb,200,4.0,4.4\n")
    options = Options(
        mapping={"run": "id", "step": "steps", "loss.sw": "sw perplexity-free", "loss.yo": "yo"},
        constants={"params": 2e7},
        tokens_per_step=1e6,
        shares={"a": {"sw": 0.5, "yo": 0.5}, "b": {"sw": 0.9, "yo": 0.1}},
    )
    runs = Runs.read(path, options)
    assert runs.exposure.filter(run="b", language="yo")["tokens"].item() == pytest.approx(2e7)
    assert runs.table["params"].to_list() == [2e7, 2e7]
    with pytest.raises(InputError, match="no shares of run 'b'"):
        Runs.read(path, Options(**{**vars(options), "shares": {"a": {"sw": 1.0}}}))


def test_equal_shares_are_fine_where_flops_agree(tmp_path: Path) -> None:
    path = tmp_path / "equal.csv"
    path.write_text("run,params,tokens,language,loss,flops\na,1e7,1e9,hi,3,1.2e17\na,1e7,1e9,bn,4,1.2e17\n")
    assert Runs.read(path).notices == ()


@pytest.mark.parametrize(
    ("text", "tokens", "loss"),
    [
        ("params;tokens;loss\n2e7;500,000;4.12\n2e7;900,000;4.01\n", [5e5, 9e5], [4.12, 4.01]),
        ("params\ttokens\tloss\n2e7\t500,000\t4.12\n", [5e5], [4.12]),
        ("params;tokens;loss\n2e7;500.000;4,12\n2e7;1.900.000;4,01\n", [5e5, 1.9e6], [4.12, 4.01]),
        ("params;tokens;loss\n2e7;500000;4,123\n2e7;900000;4,012\n", [5e5, 9e5], [4.123, 4.012]),
    ],
)
def test_separators_of_thousands_and_decimals_are_told_apart(
    text: str, tokens: list[float], loss: list[float], tmp_path: Path
) -> None:
    path = tmp_path / "runs.csv"
    path.write_text(text)
    runs = Runs.read(path)
    assert runs.table["tokens"].to_list() == tokens
    assert runs.observations().loss.tolist() == loss


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("params;tokens;loss\n2e7;500,000;4,123\n", "row 2, tokens: '500,000' may have"),
        ("params;tokens;loss\n2e7;5e5;4.123\n2e7;5e5;4,12\n", "row 2, loss: '4.123' may have"),
        ("params;tokens;loss\n2e7;5e5;4.12\n2e7;5e5;4,12\n", "row 3, loss: '4,12' may have"),
        (
            "params,tokens,loss,unique_tokens\n2e7,5e5,4.1,1e5\n2e7,5e5,4.0,-3\n",
            r"row 3, unique_tokens is not positive",
        ),
        (
            "run,step,params,tokens,language,loss\na,1,2e7,1e6,sw,4\na,1,2e7,1e6,yo,5\na,2,2e7,2e6,sw,3\n",
            "row 4: run 'a' has",
        ),
    ],
)
def test_what_is_ambiguous_or_incomplete_is_refused(text: str, says: str, tmp_path: Path) -> None:
    path = tmp_path / "runs.csv"
    path.write_text(text)
    with pytest.raises(InputError, match=says):
        Runs.read(path)


def test_empty_states_and_splits_are_filled_and_said(tmp_path: Path) -> None:
    path = tmp_path / "runs.csv"
    path.write_text("run,params,tokens,loss,lr_state,split\na,2e7,1e6,4.1,,\nb,2e7,1e6,4.2,stable,val\n")
    runs = Runs.read(path)
    assert runs.observations().run.tolist() == ["a"]
    assert [notice.text.split(": ", 1)[1] for notice in runs.notices if notice.kind == "filled"] == [
        "split is empty in 1 rows, which count as validation",
        "lr_state is empty in 1 rows, which count as decayed",
    ]


def test_bits_per_byte_alone_give_no_losses_per_token(tmp_path: Path) -> None:
    path = tmp_path / "runs.csv"
    path.write_text("params,tokens,bpb\n2e7,1e6,1.1\n2e7,2e6,1.0\n")
    runs = Runs.read(Runs.read(path).write(tmp_path / "runs"))
    assert runs.observations().loss == pytest.approx([1.1, 1.0])
    with pytest.raises(InputError, match="nats_per_token of 'und' needs totals"):
        runs.observations(metric="nats_per_token")


def test_totals_of_runs_of_one_language_are_its_tokens(tmp_path: Path) -> None:
    path = tmp_path / "runs.csv"
    path.write_text("run,params,tokens,language,loss\na,2e7,1e6,sw,4.1\nb,2e7,1e6,yo,4.2\n")
    assert Runs.read(path, Options(tokens_are="run")).hash == Runs.read(path).hash
