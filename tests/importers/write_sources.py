"""Write the same three runs with real tools, for tests of the importers; needs these tools, not babelscale.

    python -m venv peers && peers/bin/pip install wandb tensorboardX mlflow trackio transformers openpyxl
    peers/bin/python tests/importers/write_sources.py FOLDER [TOOL ...]

A run has N, a mixture, tokens per step and losses of two languages at three steps; `expected` in this file says what.
"""

import json
import os
import sys
from pathlib import Path
from typing import Any

TOKENS_PER_STEP = 524288
RUNS: dict[str, dict[str, Any]] = {
    "small-sw": {"params": 12_582_912, "mixture": {"sw": 1.0, "yo": 0.0}, "seed": 0, "shift": 0.0},
    "small-both": {"params": 12_582_912, "mixture": {"sw": 0.75, "yo": 0.25}, "seed": 1, "shift": 0.07},
    "large-both": {"params": 50_331_648, "mixture": {"sw": 0.5, "yo": 0.5}, "seed": 1, "shift": -0.31},
}
STEPS = (100, 200, 300)


def loss(run: str, language: str, step: int) -> float:
    """A number with all its digits, so that rounding shows."""
    return 3.0 + RUNS[run]["shift"] + {"sw": 0.0, "yo": 0.4321}[language] + 123.456789 / (step + 17)


def config(run: str) -> dict[str, Any]:
    spec = RUNS[run]
    return {"model": {"n_params": spec["params"]}, "data": {"mix": spec["mixture"]}, "seed": spec["seed"], "lr": 3e-4}


def write_wandb(folder: Path) -> None:
    import wandb

    os.environ["WANDB_MODE"] = "offline"
    os.environ["WANDB_SILENT"] = "true"
    for name in RUNS:
        run = wandb.init(project="study", name=name, dir=str(folder), config=config(name))
        for step in range(50, 301, 50):
            metrics = {"train/loss": 9.0 - step / 100, "train/tokens": step * TOKENS_PER_STEP}
            if step in STEPS:
                metrics |= {f"eval/{code}/loss": loss(name, code, step) for code in ("sw", "yo")}
            run.log(metrics, step=step)
        run.finish()


def study() -> list[dict[str, Any]]:
    """27 runs of a known law: three sizes, three amounts of text, two languages alone and together."""
    runs = []
    for params in (10_000_000, 30_000_000, 90_000_000):
        for tokens in (200_000_000, 600_000_000, 1_800_000_000):
            for mixture in ({"sw": 1.0}, {"yo": 1.0}, {"sw": 0.6, "yo": 0.4}):
                losses = {
                    code: 1.7
                    + 0.1 * (code == "yo")
                    + 400 / params**0.34
                    + 420 / (tokens * (share + 0.3 * (1 - share))) ** 0.28
                    for code, share in mixture.items()
                }
                name = f"{params // 1_000_000}m-{tokens // 1_000_000}m-{'-'.join(mixture)}"
                runs.append({"name": name, "params": params, "tokens": tokens, "mixture": mixture, "losses": losses})
    return runs


def write_wandb_study(folder: Path) -> None:
    import wandb

    os.environ["WANDB_MODE"] = "offline"
    os.environ["WANDB_SILENT"] = "true"
    for spec in study():
        config = {"model": {"n_params": spec["params"]}, "data": {"mix": spec["mixture"]}}
        run = wandb.init(project="study", name=spec["name"], dir=str(folder), config=config)
        metrics = {f"eval/{code}/loss": loss for code, loss in spec["losses"].items()}
        run.log({**metrics, "train/tokens": spec["tokens"]}, step=spec["tokens"] // TOKENS_PER_STEP)
        run.finish()


def write_tensorboard(folder: Path) -> None:
    from tensorboardX import SummaryWriter

    for name in RUNS:
        with SummaryWriter(str(folder / name), write_to_disk=True) as writer:
            for step in range(50, 301, 50):
                writer.add_scalar("train/loss", 9.0 - step / 100, step)
                writer.add_scalar("params", RUNS[name]["params"], step)
                for code in ("sw", "yo"):
                    writer.add_scalar(f"data/mix/{code}", RUNS[name]["mixture"][code], step)
                if step in STEPS:
                    for code in ("sw", "yo"):
                        writer.add_scalar(f"eval/{code}/loss", loss(name, code, step), step)


def write_mlflow(folder: Path) -> None:
    import mlflow

    mlflow.set_tracking_uri(f"sqlite:///{folder / 'mlflow.db'}")
    mlflow.create_experiment("study", artifact_location=str(folder / "artifacts"))
    log_mlflow()


def log_mlflow() -> None:
    import mlflow

    mlflow.set_experiment("study")
    for name in RUNS:
        with mlflow.start_run(run_name=name):
            mlflow.log_params({"params": RUNS[name]["params"], "seed": RUNS[name]["seed"]})
            mlflow.log_params({f"data.mix.{code}": share for code, share in RUNS[name]["mixture"].items()})
            for step in range(50, 301, 50):
                mlflow.log_metrics({"train_loss": 9.0 - step / 100, "tokens": step * TOKENS_PER_STEP}, step=step)
                if step in STEPS:
                    mlflow.log_metrics(
                        {f"eval.{code}.loss": loss(name, code, step) for code in ("sw", "yo")}, step=step
                    )


def write_mlflow_files(folder: Path) -> None:
    """The same runs in MLflow's folders, which it calls its file store."""
    import mlflow

    os.environ["MLFLOW_ALLOW_FILE_STORE"] = "true"
    mlflow.set_tracking_uri(folder.resolve().as_uri())
    log_mlflow()


def write_trackio(folder: Path) -> None:
    os.environ["TRACKIO_DIR"] = str(folder)
    import trackio

    for name in RUNS:
        trackio.init(project="study", name=name, config=config(name), embed=False)
        for step in STEPS:
            metrics = {f"eval/{code}/loss": loss(name, code, step) for code in ("sw", "yo")}
            trackio.log({**metrics, "train/tokens": step * TOKENS_PER_STEP}, step=step)
        trackio.finish()


def write_huggingface(folder: Path) -> None:
    from transformers import LlamaConfig
    from transformers.trainer_callback import TrainerState

    for name, spec in RUNS.items():
        state = TrainerState(global_step=300, max_steps=300, num_input_tokens_seen=300 * TOKENS_PER_STEP)
        for step in STEPS:
            seen = {"num_input_tokens_seen": step * TOKENS_PER_STEP}
            state.log_history.append({"loss": 9.0 - step / 100, "epoch": step / 300, "step": step, **seen})
            for code in ("sw", "yo"):
                state.log_history.append(
                    {f"eval_{code}_loss": loss(name, code, step), "epoch": step / 300, "step": step}
                )
        place = folder / name / "checkpoint-300"
        place.mkdir(parents=True)
        state.save_to_json(str(place / "trainer_state.json"))
        layers = 2 if spec["params"] < 2e7 else 8
        LlamaConfig(
            hidden_size=256, intermediate_size=688, num_hidden_layers=layers, num_attention_heads=4,
            num_key_value_heads=2, vocab_size=8192, tie_word_embeddings=True,
        ).save_pretrained(str(place))  # fmt: skip


def write_excel(folder: Path) -> None:
    from openpyxl import Workbook

    book = Workbook()
    book.active.append(["run", "params", "step", "language", "tokens", "loss", "lr_state"])
    for name, spec in RUNS.items():
        for step in STEPS:
            for code in ("sw", "yo"):
                tokens = spec["mixture"][code] * step * TOKENS_PER_STEP
                state = "decayed" if step == STEPS[-1] else "stable"
                book.active.append([name, spec["params"], step, code, tokens, loss(name, code, step), state])
    book.create_sheet("notes").append(["the first sheet has the runs"])
    book.save(folder / "runs.xlsx")


def expected() -> dict[str, Any]:
    return {
        name: {
            "params": spec["params"],
            "mixture": spec["mixture"],
            "tokens": {step: step * TOKENS_PER_STEP for step in STEPS},
            "losses": {code: {step: loss(name, code, step) for step in STEPS} for code in ("sw", "yo")},
        }
        for name, spec in RUNS.items()
    }


TOOLS = {
    "wandb": write_wandb,
    "wandb-study": write_wandb_study,
    "tensorboard": write_tensorboard,
    "mlflow": write_mlflow,
    "mlflow-files": write_mlflow_files,
    "trackio": write_trackio,
    "huggingface": write_huggingface,
    "excel": write_excel,
}

if __name__ == "__main__":
    root = Path(sys.argv[1])
    for tool in sys.argv[2:] or TOOLS:
        (root / tool).mkdir(parents=True, exist_ok=True)
        TOOLS[tool](root / tool)
    (root / "expected.json").write_text(json.dumps(expected(), indent=1), encoding="utf-8")
