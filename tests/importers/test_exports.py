"""Sources of several files: lm-eval, OLMo-core, MLflow's folders, exports of W&B's site, and runs of babelscale."""

import json
import math
import shutil
from collections.abc import Callable
from pathlib import Path

import polars as pl
import pytest
from tests.importers.test_sources import EXPECTED, MIXTURES, TOKENS_PER_STEP, assert_equal

from babelscale import InputError
from babelscale.importers import Mapping, import_runs

BITS = math.log(2)


def write_lm_eval(folder: Path) -> None:
    """Files as `lm_eval --output_path` names them, one for each checkpoint."""
    for name, run in EXPECTED.items():
        for step in run["tokens"]:
            tasks = {
                f"paloma_{code}": {
                    "alias": f"paloma_{code}",
                    "bits_per_byte,none": losses[step] / BITS,
                    "bits_per_byte_stderr,none": "N/A",
                    "byte_perplexity,none": math.exp(losses[step]),
                    "word_perplexity,none": 1e9,
                }
                for code, losses in run["losses"].items()
            }
            content = {
                "results": {**tasks, "belebele_swh_Latn": {"alias": "belebele", "acc,none": 0.25}},
                "group_subtasks": {task: [] for task in tasks},
                "config": {
                    "model": "hf",
                    "model_args": f"pretrained=out/{name}/checkpoint-{step},dtype=bfloat16",
                    "model_num_parameters": run["params"],
                },
                "versions": dict.fromkeys(tasks, 1.0),
                "date": 1717000000.0 + int(step),
                "model_name": f"out/{name}/checkpoint-{step}",
            }
            file = folder / f"out__{name}__checkpoint-{step}" / "results_2026-06-01T12-00-00.123456.json"
            file.parent.mkdir(parents=True)
            file.write_text(json.dumps(content))


def write_olmo_core(folder: Path) -> None:
    for name, run in EXPECTED.items():
        (folder / name).mkdir(parents=True)
        for step, tokens in run["tokens"].items():
            metrics = {f"eval/lm/{code}/CE loss": losses[step] for code, losses in run["losses"].items()}
            metrics |= {"train/CE loss": 9.0, "throughput/total tokens": tokens, "optim/LR (group 0)": 1e-4}
            text = json.dumps(metrics)
            # The last metrics are saved under the name without a step alone.
            (folder / name / ("metrics.json" if step == "300" else f"metrics_step{step}.json")).write_text(text)


def write_mlflow_files(folder: Path) -> None:
    """The file store of MLflow, as its tests in test_real_tools.py have it written by MLflow itself."""
    for name, run in EXPECTED.items():
        place = folder / "237545752920440567" / f"id{name}"
        files = {"meta.yaml": f"end_time: 1795864793450\nlifecycle_stage: active\nrun_name: '{name}'\nstatus: 3\n"}
        files |= {"params/params": str(run["params"]), "tags/mlflow.runName": name}
        files |= {f"params/data.mix.{code}": repr(share) for code, share in run["mixture"].items()}
        files["metrics/tokens"] = "".join(f"1795864793449 {float(n)} {step}\n" for step, n in run["tokens"].items())
        for code, losses in run["losses"].items():
            lines = [f"1795864793449 {loss!r} {step}\n" for step, loss in losses.items()]
            files[f"metrics/eval/{code}/loss"] = "".join(lines)
        for file, text in files.items():
            (place / file).parent.mkdir(parents=True, exist_ok=True)
            (place / file).write_text(text)
    (folder / "237545752920440567" / "meta.yaml").write_text("name: study\n")


def table_of_runs() -> pl.DataFrame:
    rows = [
        {
            "Name": name, "State": "finished", "Created": "2026-10-03T11:22:33.000Z", "model.n_params": run["params"],
            "train/tokens": run["tokens"]["300"], "_step": 300,
            **{f"data.mix.{code}": share for code, share in run["mixture"].items()},
            **{f"eval/{code}/loss": losses["300"] for code, losses in run["losses"].items()},
        }
        for name, run in EXPECTED.items()
    ]  # fmt: skip
    return pl.DataFrame(rows)


def write_wandb_charts(folder: Path) -> None:
    folder.mkdir(exist_ok=True)
    for code in ("sw", "yo"):
        columns: dict[str, list[object]] = {"Step": [int(step) for step in EXPECTED["small-sw"]["tokens"]]}
        for name, run in EXPECTED.items():
            for ending in ("", "__MIN", "__MAX"):
                columns[f"{name} - eval/{code}/loss{ending}"] = [repr(loss) for loss in run["losses"][code].values()]
        pl.DataFrame(columns).write_csv(folder / f"wandb_export_{code}.csv", quote_style="always")
    table_of_runs().write_csv(folder / "runs.csv", quote_style="always")


def write_wandb_histories(folder: Path) -> None:
    """Artifacts of histories as W&B writes them: a row a step, null where nothing was logged."""
    for name, run in EXPECTED.items():
        rows = [
            {"_step": int(step), "_timestamp": 1.7e9, "train/tokens": tokens, "train/loss": 9.0}
            | {f"eval/{code}/loss": losses[step] for code, losses in run["losses"].items()}
            for step, tokens in run["tokens"].items()
        ]
        rows.insert(1, {"_step": 150, "_timestamp": 1.7e9, "train/tokens": 150 * TOKENS_PER_STEP, "train/loss": 8.0})
        place = folder / f"run-{name}-history_v0"
        place.mkdir(parents=True)
        pl.DataFrame(rows).write_parquet(place / "0000.parquet")
    table_of_runs().write_csv(folder / "runs.csv")


WRITERS: dict[str, tuple[Callable[[Path], None], Mapping | None]] = {
    "lm-eval": (write_lm_eval, Mapping(tokens_per_step=TOKENS_PER_STEP, shares=MIXTURES)),
    "olmo-core": (
        write_olmo_core,
        Mapping(shares=MIXTURES, runs={name: {"params": run["params"]} for name, run in EXPECTED.items()}),
    ),
    "mlflow": (write_mlflow_files, None),
    "wandb-export": (write_wandb_charts, None),
}


@pytest.mark.parametrize("kind", WRITERS)
def test_every_number_is_read(kind: str, tmp_path: Path) -> None:
    write, mapping = WRITERS[kind]
    write(tmp_path / "source")
    found = import_runs(tmp_path / "source", mapping)
    assert found.kind == kind
    # lm-eval holds bits; the others hold the number itself.
    assert_equal(found.runs, tolerance=1e-14 if kind == "lm-eval" else 0.0)
    assert set(found.runs.losses["lr_state"]) == {"stable", "decayed"}


def test_histories_in_parquet(tmp_path: Path) -> None:
    write_wandb_histories(tmp_path)
    found = import_runs(tmp_path)
    assert found.kind == "wandb-export"
    assert_equal(found.runs)
    (tmp_path / "runs.csv").unlink()
    values = {name: {"params": run["params"]} for name, run in EXPECTED.items()}
    assert_equal(import_runs(tmp_path, Mapping(shares=MIXTURES, runs=values)).runs)
    del values["small-sw"]
    with pytest.raises(InputError, match="no params of run 'small-sw'"):
        import_runs(tmp_path, Mapping(shares=MIXTURES, runs=values))


def test_charts_need_the_table_of_their_runs(tmp_path: Path) -> None:
    write_wandb_charts(tmp_path)
    table = (tmp_path / "runs.csv").read_text()
    notices = import_runs(tmp_path).runs.notices
    assert any(notice.kind == "scaled" for notice in notices)
    (tmp_path / "runs.csv").write_text(table.replace('"large-both"', '"large"'))
    with pytest.raises(InputError, match=r"runs\.csv: has no run 'large-both'"):
        import_runs(tmp_path)
    (tmp_path / "runs.csv").unlink()
    with pytest.raises(InputError, match="no table of runs"):
        import_runs(tmp_path)
    chart = tmp_path / "wandb_export_sw.csv"
    (tmp_path / "runs.csv").write_text(table)
    chart.write_text(chart.read_text().replace('"Step"', '"Relative Time (Process)"', 1))
    with pytest.raises(InputError, match=r"x-axis is 'Relative Time \(Process\)'"):
        import_runs(tmp_path)


def test_a_curve_that_ends_early_gets_its_last_loss_from_the_table(tmp_path: Path) -> None:
    write_wandb_charts(tmp_path)
    for file in tmp_path.glob("wandb_export_*.csv"):
        file.write_text("\n".join(file.read_text().splitlines()[:3]) + "\n")
    assert_equal(import_runs(tmp_path).runs)


def test_tasks_of_lm_eval_without_a_language(tmp_path: Path) -> None:
    write_lm_eval(tmp_path)
    for file in tmp_path.rglob("*.json"):
        file.write_text(file.read_text().replace("paloma_sw", "wikitext").replace("paloma_yo", "lambada"))
    columns = {"bits_per_byte.sw": "wikitext/bits_per_byte", "bits_per_byte.yo": "lambada/bits_per_byte"}
    mapping = Mapping(tokens_per_step=TOKENS_PER_STEP, shares=MIXTURES, columns=columns)
    assert_equal(import_runs(tmp_path, mapping).runs, tolerance=1e-14)
    with pytest.raises(InputError, match="missing column loss"):
        import_runs(tmp_path, Mapping(tokens_per_step=TOKENS_PER_STEP, shares=MIXTURES))


def test_results_of_lm_eval_without_losses(tmp_path: Path) -> None:
    file = tmp_path / "results_2026.json"
    file.write_text('{"results": {"mmlu": {"acc,none": 0.25}}, "config": {}, "model_name": "m"}')
    with pytest.raises(InputError, match="no task has bits_per_byte"):
        import_runs(file)
    file.write_text('{"results": {"wiki_sw": {"word_perplexity,none": 25.0, "byte_perplexity,none": 2.0}}, "config": '
                    '{"model_num_parameters": -1}, "model_name": "m"}')  # fmt: skip
    mapping = Mapping(constants={"params": 1e8, "tokens": 2e9})
    assert import_runs(file, mapping).runs.observations("sw").loss.tolist() == [1.0]
    file.write_text(file.read_text().replace('"byte_perplexity,none": 2.0', '"acc,none": 1.0'))
    with pytest.raises(InputError, match="no task has bits_per_byte"):
        import_runs(file, mapping)


def test_runs_that_mlflow_deleted_are_left_out(tmp_path: Path) -> None:
    write_mlflow_files(tmp_path)
    meta = tmp_path / "237545752920440567" / "idlarge-both" / "meta.yaml"
    meta.write_text(meta.read_text().replace("active", "deleted"))
    assert import_runs(tmp_path).runs.names == ["small-both", "small-sw"]
    metric = meta.parent.with_name("idsmall-sw") / "metrics" / "tokens"
    metric.write_text(metric.read_text() + "17958")
    assert any(notice.kind == "truncated" for notice in import_runs(tmp_path).runs.notices)
    metric.write_text("x\n" + metric.read_text())
    with pytest.raises(InputError, match="tokens: row 1 is not a timestamp"):
        import_runs(tmp_path)


def test_runs_of_babelscale_are_read_as_they_are(tmp_path: Path) -> None:
    write_mlflow_files(tmp_path / "source")
    runs = import_runs(tmp_path / "source").runs
    runs.write(tmp_path / "study" / "runs")
    for path in (tmp_path / "study", tmp_path / "study" / "runs"):
        found = import_runs(path)
        assert (found.kind, found.runs.hash) == ("study", runs.hash)
    assert import_runs(tmp_path / "study", found.mapping).runs.hash == runs.hash
    with pytest.raises(InputError, match="as babelscale writes them"):
        import_runs(tmp_path / "study", Mapping(language="sw"))
    shutil.rmtree(tmp_path / "study" / "runs")
    with pytest.raises(InputError, match="nothing that can be imported"):
        import_runs(tmp_path / "study")
