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
from babelscale.study.study import Study
from babelscale.training.batches import Batches
from babelscale.training.evaluation import HeldOut
from babelscale.training.loop import BRANCHES, STATE, Job


def train_run(
    study: Study, spec: RunSpec, *, progress: Any = None, mesh: Any = None, execution: Any = None
) -> bool:  # fmt: skip
    """Train one run of a study and publish it; False if it was already there.

    Args:
        progress: called with (steps done, latest loss).
        mesh, execution: as in `loop.train`. On several processes all call this alike; the first publishes.
    """
    import jax
    from jax.experimental import multihost_utils

    from babelscale.training.loop import train

    if study.is_finished(spec.name):
        return False
    working = study.folder / "working" / spec.name
    one = job(study, spec)
    began = time.perf_counter()
    keep = spec.name in study.bases
    train(one, working, keep_state=keep, progress=progress, mesh=mesh, execution=execution)
    published = True
    if jax.process_index() == 0:
        unique_tokens = {code: one.batches.unique_tokens(code) for code in spec.mixture.languages}
        record.write(spec, one.batches, unique_tokens, working)
        timing = {"seconds": round(time.perf_counter() - began, 3), "tokens": spec.tokens}
        (working / "timing.json").write_text(json.dumps(timing) + "\n", encoding="utf-8")
        published = record.publish(working, study.finished(spec.name))
    if jax.process_count() > 1:
        multihost_utils.sync_global_devices(f"published {spec.name}")
    return published


def job(study: Study, spec: RunSpec) -> Job:
    """A run of a study as the training loop sees it."""
    folder, recipe = study.folder, spec.recipe
    store = TokenStore.open(folder / "corpus")
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
    base = study.finished(spec.base.name) / STATE if spec.base else None
    trunk = study.trunks.get(spec.name)
    trunk_folder = study.finished(trunk.name) if trunk else None
    if trunk_folder is not None and not (trunk_folder / BRANCHES / str(recipe.phases(spec.steps)[1])).is_dir():
        # The longer run failed, or was trained before this one was asked for.
        trunk_folder = None
    branches = tuple(branch.steps for branch in study.branches(spec.name))
    return Job(spec.shape, recipe, spec.steps, spec.seed, batches, held_out, base, branches, trunk_folder)


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
    study = Study.open(options.folder)
    for line in sys.stdin:
        name = line.strip()
        try:
            train_run(
                study, study.specs[name], progress=lambda step, loss, name=name: _say(run=name, step=step, loss=loss)
            )
        except (BabelscaleError, OSError) as error:
            _say(run=name, failed=str(error))
        else:
            _say(run=name, finished=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
