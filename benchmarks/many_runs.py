"""Start, list and resume a study of many recorded runs: the seconds each takes, beside the limit of 3 s.

A prepared study of tiny runs, as many as asked for, whose records are written as training would leave them; the last
one is missing. Each figure is a process of its own, as a person's command is. Exit status 1 where a limit fails.

Usage: .venv/bin/python benchmarks/many_runs.py [--runs 10000] [--folder DIR]
"""

import argparse
import json
import math
import subprocess
import sys
import tempfile
import time
from pathlib import Path

LIMIT = 3.0
SEEDS = 100
DESIGN = """
name = "many"
title = "Many tiny runs"
languages = ["sv", "da", "sw"]

[corpus]
bytes_per_language = 60_000

[tokenizer]
vocabulary = 400

[recipe]
batch_size = 4
sequence_length = 32
learning_rate = 1e-2
evaluations = 2
evaluation_tokens = 256

[sizes]
xs = {{ layers = 1, heads = 1, d_model = 8, d_ff = 16, d_head = 8 }}

[[groups]]
name = "all"
mixture = "uniform"
sizes = ["xs"]
tokens = {tokens}
seeds = {seeds}
"""
STEPS = {
    "starting (open, what is missing)": "study.missing",
    "listing (status)": "from babelscale.study import cost; str(cost.status(study))",
    "reading all records, writing the tables": "study.write_tables()",
    "resuming (missing, order of runs, tables)": (
        "from babelscale.study.engines.common import Schedule; "
        "Schedule(study.missing, study.folder, study.trunks).take(); study.write_tables()"
    ),
}


def prepare(folder: Path, runs: int) -> None:
    """The study, and the record of every run but the last."""
    from babelscale.study import Study

    lengths = [128.0 * (20 + k) for k in range(math.ceil(runs / SEEDS))]
    design = folder / "many.toml"
    design.write_text(DESIGN.format(tokens=lengths, seeds=list(range(SEEDS))), encoding="utf-8")
    study = Study.create(design, folder / "study")
    study.prepare()
    for spec in study.specs.values():
        leave(study, spec)


def leave(study, spec) -> None:
    """A record of the shape that training leaves."""
    from babelscale.study import record
    from babelscale.training.batches import Batches

    place = study.finished(spec.name)
    place.mkdir(parents=True)
    steps = spec.recipe.evaluation_steps(spec.steps)
    lines = [
        {
            "step": step,
            "language": code,
            "lr_state": "decayed" if step == spec.steps else "stable",
            "split": "validation",
            "nats": 900.0 + step + spec.seed,
            "tokens": 256,
            "bytes": 700,
            "unigram_nats": 1000.0,
        }
        for step in steps
        for code in study.design.languages
    ]
    (place / "log.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    if not hasattr(leave, "tokens"):
        from babelscale.corpora import TokenStore

        store = TokenStore.open(study.folder / "corpus")
        leave.tokens = {code: store.train(code) for code in study.design.languages}
    batches = Batches(leave.tokens, spec.mixture, spec.seed, spec.recipe.batch_size, spec.recipe.sequence_length)
    record.write(spec, batches, {code: batches.unique_tokens(code) for code in spec.mixture.languages}, place)


def seconds(folder: Path, code: str) -> float:
    script = f"from babelscale.study import Study; study = Study.open({str(folder / 'study')!r}); {code}"
    began = time.perf_counter()
    subprocess.run([sys.executable, "-c", script], check=True)
    return time.perf_counter() - began


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=10_000)
    parser.add_argument("--folder", type=Path)
    options = parser.parse_args()
    held = True
    with tempfile.TemporaryDirectory(prefix="many.", dir=options.folder) as name:
        folder = Path(name)
        prepare(folder, options.runs)
        finished = sorted((folder / "study" / "finished").iterdir())
        finished[-1].rename(folder / finished[-1].name)
        print(f"{len(finished):,} runs, {len(finished) - 1:,} of them recorded")
        for what, code in STEPS.items():
            took = seconds(folder, code)
            held &= took < LIMIT
            print(f"{what:<45}{took:6.2f} s   limit {LIMIT:.0f} s")
    print("holds" if held else "FAILS")
    return 0 if held else 1


if __name__ == "__main__":
    sys.exit(main())
