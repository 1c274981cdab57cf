"""The single-run entry point: `python -m babelscale.study.worker FOLDER [--cpu K]`.

Reads the names of runs from standard input, a line each, trains those that are missing, and says on standard output,
a JSON line each, how they go. It is idempotent: a finished run is never trained again, an interrupted one goes on.
"""

import argparse
import json
import os
import sys
import time
from pathlib import Path
from typing import Any

from babelscale.corpora import TokenStore
from babelscale.errors import BabelscaleError
from babelscale.study import record
from babelscale.study.design import RunSpec
from babelscale.training.batches import Batches
from babelscale.training.evaluation import HeldOut


def train_run(spec: RunSpec, folder: Path, *, keep_state: bool = False, progress: Any = None) -> bool:
    """Train one run of the study in `folder` and publish it; False if it was already there.

    Args:
        keep_state: keep the final state, for runs that others continue from.
        progress: called with (steps done, latest loss).
    """
    from babelscale.training.loop import Job, train

    finished = folder / "finished" / spec.name
    if (finished / record.RECORD).exists():
        return False
    working = folder / "working" / spec.name
    store = TokenStore.open(folder / "corpus")
    recipe = spec.recipe
    languages = sorted({*spec.mixture.languages, *(spec.base.mixture.languages if spec.base else ())})
    batches = Batches(
        {code: store.train(code) for code in spec.mixture.languages},
        spec.mixture, spec.seed, recipe.batch_size, recipe.sequence_length,
    )  # fmt: skip
    held_out = tuple(
        HeldOut.of(
            code, store.held_out(code), store.token_bytes, store.unigram_nats(code),
            recipe.sequence_length, recipe.evaluation_tokens,
        )
        for code in languages
    )  # fmt: skip
    base = folder / "finished" / spec.base.name / "state" if spec.base else None
    job = Job(spec.shape, recipe, spec.steps, spec.seed, batches, held_out, base)
    began = time.perf_counter()
    train(job, working, keep_state=keep_state, progress=progress)
    record.write(spec, batches, {code: batches.unique_tokens(code) for code in spec.mixture.languages}, working)
    timing = {"seconds": round(time.perf_counter() - began, 3), "tokens": spec.tokens}
    (working / "timing.json").write_text(json.dumps(timing) + "\n", encoding="utf-8")
    return record.publish(working, finished)


def _say(**event: Any) -> None:
    sys.stdout.write(json.dumps(event) + "\n")
    sys.stdout.flush()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--cpu", type=int)
    options = parser.parse_args()
    if options.cpu is not None and hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {options.cpu})
    from babelscale.study.study import Study

    study = Study.open(options.folder)
    specs, bases = study.specs, study.bases
    for line in sys.stdin:
        name = line.strip()
        try:
            train_run(
                specs[name], study.folder, keep_state=name in bases,
                progress=lambda step, loss, name=name: _say(run=name, step=step, loss=loss),
            )  # fmt: skip
        except (BabelscaleError, OSError) as error:
            _say(run=name, failed=str(error))
        else:
            _say(run=name, finished=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
