"""Files that the real tools wrote (see write_sources.py) are read number by number; damaged ones are refused or cut."""

import json
import random
import re
import sqlite3
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from babelscale import InputError, Runs
from babelscale.cli import imports
from babelscale.errors import BabelscaleError
from babelscale.importers import check, import_runs, sources
from babelscale.importers.mapping import Mapping, load

FILES = Path(__file__).parent / "files"
EXPECTED: dict[str, Any] = json.loads((FILES / "expected.json").read_text())
MIXTURES = {name: run["mixture"] for name, run in EXPECTED.items()}
TOKENS_PER_STEP = 524288


def assert_equal(runs: Runs, *, tolerance: float = 0.0, params: bool = True) -> None:
    """Every loss, token count and size is the expected one."""
    assert sorted(runs.names) == sorted(EXPECTED)
    losses = {(r["run"], r["language"], r["step"]): r["nats"] for r in runs.losses.to_dicts()}
    wanted = {
        (name, code, int(step)): loss
        for name, run in EXPECTED.items()
        for code, steps in run["losses"].items()
        for step, loss in steps.items()
    }
    assert losses == pytest.approx(wanted, rel=tolerance, abs=0)
    for row in runs.exposure.to_dicts():
        run = EXPECTED[row["run"]]
        assert row["tokens"] == run["mixture"][row["language"]] * run["tokens"][str(row["step"])]
    if params:
        assert dict(zip(runs.names, runs.table["params"], strict=True)) == {n: r["params"] for n, r in EXPECTED.items()}


def test_wandb() -> None:
    found = import_runs(FILES / "wandb")
    assert found.kind == "wandb"
    assert_equal(found.runs)


def test_tensorboard() -> None:
    # Event files hold 32-bit numbers.
    found = import_runs(FILES / "tensorboard", Mapping(tokens_per_step=TOKENS_PER_STEP))
    assert found.kind == "tensorboard"
    assert_equal(found.runs, tolerance=1e-7)


def test_huggingface() -> None:
    found = import_runs(FILES / "huggingface", Mapping(shares=MIXTURES))
    assert found.kind == "huggingface"
    assert_equal(found.runs, params=False)
    # A Llama model of width 256 with 2 and 8 layers, and a tied vocabulary of 8,192.
    block = 2 * 256 * 256 + 2 * 256 * 128 + 3 * 256 * 688 + 2 * 256
    assert set(found.runs.table["params"]) == {layers * block + 256 + 8192 * 256 for layers in (2, 8)}


def mlflow_database(path: Path) -> None:
    """The tables of MLflow's store that the importer reads, with the columns that it has."""
    with sqlite3.connect(path) as database:
        database.executescript("""
            CREATE TABLE runs (run_uuid TEXT, name TEXT, status TEXT, start_time INT, lifecycle_stage TEXT);
            CREATE TABLE params (key TEXT, value TEXT, run_uuid TEXT);
            CREATE TABLE metrics (key TEXT, value REAL, timestamp INT, run_uuid TEXT, step INT, is_nan INT);""")
        for name, run in EXPECTED.items():
            database.execute("INSERT INTO runs VALUES (?, ?, 'FINISHED', 0, 'active')", (f"id-{name}", name))
            params = {"params": run["params"], **{f"data.mix.{code}": share for code, share in run["mixture"].items()}}
            for key, value in params.items():
                database.execute("INSERT INTO params VALUES (?, ?, ?)", (key, str(value), f"id-{name}"))
            for step, tokens in run["tokens"].items():
                metrics = {"tokens": tokens} | {f"eval.{c}.loss": steps[step] for c, steps in run["losses"].items()}
                for key, value in metrics.items():
                    row = (key, value, 0, f"id-{name}", int(step), 0)
                    database.execute("INSERT INTO metrics VALUES (?, ?, ?, ?, ?, ?)", row)


def trackio_database(path: Path) -> None:
    with sqlite3.connect(path) as database:
        database.executescript("""
            CREATE TABLE metrics (id INTEGER PRIMARY KEY, timestamp TEXT, run_name TEXT, step INT, metrics TEXT);
            CREATE TABLE configs (id INTEGER PRIMARY KEY, run_name TEXT, config TEXT, created_at TEXT);""")
        for name, run in EXPECTED.items():
            config = {"model": {"n_params": run["params"]}, "data": {"mix": run["mixture"]}, "_Username": "x"}
            database.execute("INSERT INTO configs VALUES (NULL, ?, ?, '')", (name, json.dumps(config)))
            for step, tokens in run["tokens"].items():
                metrics = {f"eval/{c}/loss": steps[step] for c, steps in run["losses"].items()} | {
                    "train/tokens": tokens
                }
                database.execute(
                    "INSERT INTO metrics VALUES (NULL, '', ?, ?, ?)", (name, int(step), json.dumps(metrics))
                )


@pytest.mark.parametrize("write", [mlflow_database, trackio_database])
def test_databases(write, tmp_path: Path) -> None:
    write(tmp_path / "study.db")
    found = import_runs(tmp_path / "study.db")
    assert found.kind == "database"
    assert_equal(found.runs)


def test_json_lines_of_levanter(tmp_path: Path) -> None:
    for name, run in EXPECTED.items():
        events = [{"tracker": "json_logger", "event": "hparams", "hparams": {"parameter_count": run["params"]}}]
        events[0]["hparams"] |= {f"mix.{code}": share for code, share in run["mixture"].items()}
        for step, tokens in run["tokens"].items():
            metrics = {f"eval/{c}/loss": steps[step] for c, steps in run["losses"].items()}
            metrics["throughput/total_tokens"] = tokens
            events.append({"tracker": "json_logger", "event": "log", "step": int(step), "metrics": metrics})
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(event) + "\n" for event in events))
    found = import_runs(tmp_path)
    assert found.kind == "json-lines"
    assert_equal(found.runs)


def test_json_lines_of_maxtext(tmp_path: Path) -> None:
    lines = [
        {"learning/loss": 4.0, "evaluation/avg_loss": losses["sw"][step], "step": float(step), "run_name": name}
        for name, run in EXPECTED.items()
        for losses in [run["losses"]]
        for step in run["tokens"]
    ]
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    mapping = Mapping(
        columns={"loss": "evaluation/avg_loss"}, constants={"params": 1e8}, tokens_per_step=2.0**20, language="sw"
    )
    runs = import_runs(tmp_path / "metrics.jsonl", mapping).runs
    assert runs.names == sorted(EXPECTED)
    assert runs.observations("sw").loss.tolist() == [EXPECTED[name]["losses"]["sw"]["300"] for name in sorted(EXPECTED)]
    assert set(runs.observations("sw").allocation.D("sw")) == {300 * 2.0**20}


MEGATRON = """ using world size: 8
  global_batch_size ............................... 256
  seq_length ...................................... 2048
 > number of parameters on (tensor, pipeline) model parallel rank (0, 0): 6291456
 > number of parameters on (tensor, pipeline) model parallel rank (1, 0): 6291456
 [2026-01-01 10:00:00] iteration      100/     300 | consumed samples:        25600 | elapsed time per iteration (ms): 300.1 | learning rate: 3.000000E-04 | global batch size:   256 | lm loss: 4.500000E+00 | loss scale: 1.0 |
 validation loss at iteration 100 | lm loss value: 4.210000E+00 | lm loss PPL: 6.735654E+01 |
 [2026-01-01 10:05:00] iteration      300/     300 | consumed samples:        76800 | elapsed time per iteration (ms): 300.1 | learning rate: 3.000000E-05 | global batch size:   256 | lm loss: 4.100000E+00 | loss scale: 1.0 |
 validation loss at iteration 300 | lm loss value: 3.987654E+00 | lm loss PPL: 5.392815E+01 |
"""  # noqa: E501


def test_log_of_megatron(tmp_path: Path) -> None:
    (tmp_path / "run.log").write_text(MEGATRON)
    found = import_runs(tmp_path / "run.log", Mapping(language="sw"))
    assert found.kind == "log"
    (row,) = found.runs.table.to_dicts()
    assert (row["params"], row["tokens"]) == (12582912, 76800 * 2048)
    assert found.runs.observations("sw").loss.tolist() == [3.987654]


def test_log_of_nanotron_says_that_its_tokens_are_rounded(tmp_path: Path) -> None:
    line = (
        "[INFO|DP=0]: iteration: {} / 300 | consumed_tokens: {} | elapsed_time_per_iteration_ms: 1.2K | lm_loss: {} |\n"
    )
    (tmp_path / "run.log").write_text(line.format(100, "26.2M", 4.5) + line.format(300, "78.6M", 4.1))
    mapping = Mapping(constants={"params": 1e7}, language="sw", columns={"loss": "lm_loss"})
    runs = import_runs(tmp_path / "run.log", mapping).runs
    assert runs.table["tokens"].to_list() == [78.6e6]
    assert {notice.kind for notice in runs.notices} >= {"rounded", "training-loss"}


def test_swarm_of_olmix(tmp_path: Path) -> None:
    (tmp_path / "ratios.csv").write_text("run,sw,yo\na,1,0\nb,0.25,0.75\n")
    (tmp_path / "metrics.csv").write_text("run,sw,yo\nb,4.2,4.4\na,4.0,\n")
    mapping = Mapping(constants={"params": 3e7, "tokens": 3e9})
    found = import_runs(tmp_path, mapping)
    assert found.kind == "olmix"
    assert found.runs.observations("yo").allocation.D("yo").tolist() == [2.25e9]
    with pytest.raises(InputError, match="missing columns params, tokens"):
        import_runs(tmp_path)
    (tmp_path / "metrics.csv").write_text("run,sw,yo\nb,4.2,4.4\n")
    with pytest.raises(InputError, match="'a' stands in one of the two files alone"):
        import_runs(tmp_path, mapping)


def test_results_of_nanochat_are_a_table(tmp_path: Path) -> None:
    header = "flops_budget,depth,model_dim,params_total,num_iterations,tokens_trained,val_bpb,core_score,train_time_sec"
    (tmp_path / "results.csv").write_text(
        f"{header}\n1e18,10,640,9e7,3000,1.8e9,0.91,0.1,60\n1e18,12,768,1.4e8,2000,1.2e9,0.9,0.1,60\n"
    )
    runs = import_runs(tmp_path / "results.csv", Mapping(language="en")).runs
    assert runs.metric == "bits_per_byte"
    assert runs.observations("en").loss == pytest.approx([0.91, 0.9])


def test_a_mapping_is_written_and_used_again(tmp_path: Path) -> None:
    found = import_runs(FILES / "wandb")
    path = found.mapping.write(tmp_path / "mapping.toml")
    assert load(path) == found.mapping
    assert import_runs(FILES / "wandb", load(path)).runs.hash == found.runs.hash
    path.write_text(path.read_text().replace("data.mix.sw", "data.mix.swahili"))
    with pytest.raises(InputError, match=r"no column 'data\.mix\.swahili'"):
        import_runs(FILES / "wandb", load(path))
    path.write_text("[columns]\nparams = 3\n")
    with pytest.raises(InputError, match=r"mapping\.toml: columns\.params"):
        load(path)


def test_a_truncated_log_gives_what_is_whole_and_says_so(tmp_path: Path) -> None:
    file = min((FILES / "wandb").glob("*/*.wandb"))
    whole = file.read_bytes()
    (tmp_path / file.name).write_bytes(whole[: len(whole) * 7 // 8])
    runs = import_runs(tmp_path / file.name).runs
    assert 0 < runs.losses.height < 6
    assert any(notice.kind == "truncated" for notice in runs.notices)


@pytest.mark.parametrize("folder", ["wandb", "tensorboard", "huggingface", "mlflow", "trackio", "lines"])
def test_damaged_files_give_runs_or_a_typed_error(folder: str, tmp_path: Path) -> None:
    """Bytes changed, cut and repeated at random places (benchmarks/importers_mutated.py does so 3,000 times)."""
    generator = random.Random(folder)
    source = tmp_path / "source"
    source.mkdir()
    if folder in ("mlflow", "trackio"):
        {"mlflow": mlflow_database, "trackio": trackio_database}[folder](source / "study.db")
    elif folder == "lines":
        (source / "a.jsonl").write_text('{"event": "log", "step": 1, "metrics": {"eval/sw/loss": 4.0}}\n' * 20)
    else:
        for file in sorted((FILES / folder).rglob("*"))[:8]:
            if file.is_file():
                (source / file.name).write_bytes(file.read_bytes())
    file = next(file for file in sorted(source.iterdir()) if file.name != "config.json")
    whole = file.read_bytes()
    for _ in range(40):
        damaged = bytearray(whole)
        for _ in range(generator.randint(1, 8)):
            at = generator.randrange(len(damaged))
            match generator.randrange(3):
                case 0:
                    damaged[at] = generator.randrange(256)
                case 1:
                    del damaged[at : at + generator.randint(1, 200)]
                case _:
                    damaged[at:at] = damaged[at : at + generator.randint(1, 200)]
            damaged = damaged or bytearray(b"x")
        file.write_bytes(bytes(damaged))
        with suppress(BabelscaleError):
            import_runs(file)


def test_the_help_names_every_kind_of_source() -> None:
    named = imports.import_.__doc__ or ""
    assert all(re.search(rf"\b{name}\b", named.split("kind\n", 1)[1]) for name in sources.NAMES)


def test_a_folder_without_runs_is_said(tmp_path: Path) -> None:
    runs = import_runs(FILES / "wandb").runs.select([])
    found = check(runs.write(tmp_path / "none"))
    assert [finding.kind for finding in found.findings] == ["no-runs"]
    assert "holds no runs" in found.summary()
