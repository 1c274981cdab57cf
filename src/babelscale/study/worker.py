"""The single-run entry point: `python -m babelscale.study.worker FOLDER [--cpu K]`.

Reads the names of runs from standard input, a line each, trains those that are missing, and says on standard output,
a JSON line each, how they go. It is idempotent: a finished run is never trained again, an interrupted one goes on.
"""

import argparse
import functools
import json
import os
import shutil
import sys
import time
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from babelscale import files
from babelscale.corpora import TokenStore
from babelscale.errors import BabelscaleError, BabelscaleWarning
from babelscale.study import record
from babelscale.study.spec import Checkpoint, RunSpec
from babelscale.study.study import Study
from babelscale.training.batches import Batches
from babelscale.training.evaluation import HeldOut, Split
from babelscale.training.loop import BRANCHES, STATE, Job


def train_run(study: Study, spec: RunSpec, *, progress: Any = None) -> bool:
    """Train one run of a study and publish it; False if it was already there.

    Args:
        progress: called with (steps done, latest loss).
    """
    return bool(train_runs(study, [spec], progress=progress))


def train_runs(
    study: Study, specs: Sequence[RunSpec], *, progress: Any = None, mesh: Any = None, execution: Any = None
) -> list[RunSpec]:
    """Train what is missing of these runs, several of one shape, recipe and length together, and publish them.

    Args:
        mesh, execution: as in `loop.train_population`. On several processes all call this alike; the first publishes.

    Returns:
        The runs that were published.
    """
    import jax
    from jax.experimental import multihost_utils

    from babelscale.training.loop import train_population

    specs = [spec for spec in specs if not study.is_finished(spec.name)]
    folders = [study.folder / "working" / spec.name for spec in specs]
    waiting = [
        (spec, folder) for spec, folder in zip(specs, folders, strict=True) if not (folder / record.RECORD).exists()
    ]
    jobs = [job(study, spec) for spec, _ in waiting]
    began = time.perf_counter()
    if jobs:
        train_population(
            jobs, [folder for _, folder in waiting], keep_state=[spec.name in study.kept for spec, _ in waiting],
            progress=progress, mesh=mesh, execution=execution,
        )  # fmt: skip
    seconds = time.perf_counter() - began
    published: list[RunSpec] = []
    if jax.process_index() == 0:
        for (spec, folder), one in zip(waiting, jobs, strict=True):
            _leave_record(spec, one.batches, seconds / len(jobs), folder)
        for spec, folder in zip(specs, folders, strict=True):
            if spec.name not in study.kept:
                shutil.rmtree(folder / STATE, ignore_errors=True)
            if record.publish(folder, study.finished(spec.name)):
                published.append(spec)
    if jax.process_count() > 1:
        multihost_utils.sync_global_devices("published")
    return published


def _leave_record(spec: RunSpec, batches: Batches, seconds: float, folder: Path) -> None:
    timing = {"seconds": round(seconds, 3), "tokens": spec.tokens}
    files.write_text(folder / "timing.json", json.dumps(timing) + "\n")
    record.write(spec, batches, {code: batches.unique_tokens(code) for code in spec.mixture.languages}, folder)


def job(study: Study, spec: RunSpec) -> Job:
    """A run of a study as the training loop sees it."""
    recipe = spec.recipe
    store = TokenStore.open(study.text(spec) / "corpus")
    learned = spec.base.mixture.languages if isinstance(spec.base, RunSpec) else ()
    languages = sorted({*spec.mixture.languages, *learned})
    batches = Batches(
        {code: store.train(code) for code in spec.mixture.languages},
        spec.mixture, spec.seed, recipe.batch_size, recipe.sequence_length,
    )  # fmt: skip

    def measured(code: str, tokens: NDArray[Any], split: Split) -> HeldOut:
        by_token = store.token_bytes, store.unigram_nats(code)
        return HeldOut.of(code, tokens, *by_token, recipe.sequence_length, recipe.evaluation_tokens, split)

    held_out = tuple(measured(code, store.held_out(code), "validation") for code in languages)
    aligned = [code for code in languages if store.has_parallel(code)]
    held_out += tuple(measured(code, store.parallel(code), "parallel") for code in aligned)
    base, base_step = None, None
    if isinstance(spec.base, Checkpoint):
        base = Path(spec.base.folder)
    elif isinstance(spec.base, RunSpec):
        base, base_step = study.finished(spec.base.name) / STATE, spec.base.steps
    trunk = study.trunks.get(spec.name)
    trunk_folder = study.finished(trunk.name) if trunk else None
    if trunk_folder is not None and not (trunk_folder / BRANCHES / str(recipe.phases(spec.steps)[1])).is_dir():
        # The longer run failed, or was trained before this one was asked for.
        trunk_folder = None
    branches = tuple(branch.steps for branch in study.branches(spec.name))
    return Job(
        spec.shape, recipe, spec.steps, spec.seed, batches, held_out,
        base=base, base_step=base_step, branches=branches, trunk=trunk_folder,
    )  # fmt: skip


def _say(**event: Any) -> None:
    sys.stdout.write(json.dumps(event) + "\n")
    sys.stdout.flush()


def _say_warning(name: str, message: Warning | str, category: type[Warning], *_: Any) -> None:
    """What a person should know of a run goes to them; what libraries warn of goes to the worker's log."""
    if issubclass(category, BabelscaleWarning):
        _say(run=name, warning=str(message))
    else:
        sys.stderr.write(f"{name}: {category.__name__}: {message}\n")


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
        warnings.showwarning = functools.partial(_say_warning, name)
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
