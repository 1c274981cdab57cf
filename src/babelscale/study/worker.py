"""The worker: `python -m babelscale.study.worker FOLDER [--cpu K]`.

Reads the names of runs from standard input, one a line or several alike separated by tabs, trains those that are
missing, and says on standard output, a JSON line each, how they go. It is idempotent: a finished run is trained again
only where its final state is kept and is not there, an interrupted one goes on. On SIGTERM it saves the state of what
it trains and ends.
"""

import argparse
import functools
import os
import shutil
import signal
import sys
import time
import warnings
from collections.abc import Callable, Collection, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from babelscale.corpora import TokenStore
from babelscale.errors import BabelscaleError, BabelscaleWarning, Stopped
from babelscale.study import record, text, timing
from babelscale.study.disk import DiskFull, watched
from babelscale.study.spec import PretrainedModel, RunSpec
from babelscale.study.study import Study
from babelscale.training import BRANCHES, LOG, STATE
from babelscale.training.batches import Batches
from babelscale.training.evaluation import HeldOut, Split
from babelscale.training.loop import Job, entries
from babelscale.training.recipe import Recipe
from babelscale.workers import write_line

Say = Callable[[dict[str, Any]], None]


def train_run(study: Study, spec: RunSpec, *, progress: Any = None, stop: Any = None) -> bool:
    """Train one run of a study and publish it; False if it was already there, with or without its state.

    Args:
        progress: called with (steps done, latest loss).
        stop: asked after every step whether to save and end.

    Raises:
        StudyError: it failed, or another process has taken it over.
        Stopped: `stop` returned true.
    """
    return bool(train_runs(study, [spec], progress=progress, stop=stop))


def train_runs(
    study: Study,
    specs: Sequence[RunSpec],
    *,
    progress: Any = None,
    stop: Any = None,
    mesh: Any = None,
    execution: Any = None,
) -> list[RunSpec]:
    """Train what is missing of these runs, several of one shape, recipe and length together, and publish them.

    Args:
        mesh, execution: as in `loop.train_population`. On several processes all call this alike; the first publishes.

    Returns:
        The runs that were published.

    Raises:
        DiskFull: there is no room to save or publish.
    """
    with watched(study.folder):
        return _train_runs(study, specs, progress, stop, mesh, execution)


def _train_runs(
    study: Study, specs: Sequence[RunSpec], progress: Any, stop: Any, mesh: Any, execution: Any
) -> list[RunSpec]:
    import jax
    from jax.experimental import multihost_utils

    from babelscale.training.loop import train_population

    specs = [spec for spec in specs if not study.is_whole(spec)]
    folders = _claimed(study, specs)
    waiting = [
        (spec, folder) for spec, folder in zip(specs, folders, strict=True) if not (folder / record.RECORD).exists()
    ]
    jobs = [job(study, spec) for spec, _ in waiting]
    began = time.perf_counter()
    if jobs:
        train_population(
            jobs,
            [folder for _, folder in waiting],
            keep_state=[spec.name in study.kept for spec, _ in waiting],
            progress=progress,
            stop=stop,
            mesh=mesh,
            execution=execution,
        )
    seconds = time.perf_counter() - began
    published: list[RunSpec] = []
    if jax.process_index() == 0:
        for (spec, folder), one in zip(waiting, jobs, strict=True):
            _leave_record(spec, one.batches, seconds / len(jobs), folder)
        for spec, folder in zip(specs, folders, strict=True):
            if spec.name not in study.kept:
                shutil.rmtree(folder / STATE, ignore_errors=True)
            if study.is_finished(spec.name) and not study.is_whole(spec):
                record.complete(folder, study.finished(spec.name))
            elif record.publish(folder, study.finished(spec.name)):
                published.append(spec)
    if jax.process_count() > 1:
        multihost_utils.sync_global_devices("published")
    return published


def _claimed(study: Study, specs: Sequence[RunSpec]) -> list[Path]:
    """A folder for each run, claimed by the first process and used by all; it notes the forecasts that exist."""
    import jax
    from jax.experimental import multihost_utils

    places = [study.folder / "working" / spec.name for spec in specs]
    own = [record.claim(place) for place in places] if jax.process_index() == 0 else []
    for folder in own:
        timing.begin(folder, study.folder)
    if jax.process_count() == 1:
        return own
    claimed = [folder.name for folder in own] or ["0"] * len(places)
    numbers = np.array([int(name, 16) for name in claimed], np.uint32)
    shared = multihost_utils.broadcast_one_to_all(numbers)
    return [place / f"{int(number):08x}" for place, number in zip(places, shared, strict=True)]


def train_alike(study: Study, specs: Sequence[RunSpec], say: Say, stop: Any = None) -> None:
    """Train runs of one shape, recipe and length, as many at once as the device holds, and say how they go.

    Raises:
        Stopped: `stop` returned true; the runs under way are saved.
    """
    for chunk in _chunks(specs):
        try:
            _train_chunk(study, chunk, say, stop)
        except Stopped:
            raise
        except (BabelscaleError, OSError) as error:
            if isinstance(error, DiskFull):
                for spec in chunk:
                    say({"run": spec.name, "failed": str(error), "full": True})
            elif len(chunk) > 1:
                # One of them may be the reason: each goes on alone from what is saved.
                for spec in chunk:
                    train_alike(study, [spec], say, stop)
            elif not study.is_whole(chunk[0]):
                say({"run": chunk[0].name, "failed": str(error)})
            else:
                # Another process, which had taken it over, was faster; a save under way may have made a folder anew.
                record.discard(study.folder / "working" / chunk[0].name)
                say({"run": chunk[0].name, "finished": True})


def _train_chunk(study: Study, specs: Sequence[RunSpec], say: Say, stop: Any) -> None:
    def progress(step: int, loss: float) -> None:
        for spec in specs:
            say({"run": spec.name, "step": step, "loss": loss})

    with warnings.catch_warnings():
        warnings.showwarning = functools.partial(_say_warning, say, specs[0].name)
        train_runs(study, specs, progress=progress, stop=stop)
    for spec in specs:
        say({"run": spec.name, "finished": True})


def _chunks(specs: Sequence[RunSpec]) -> Iterator[Sequence[RunSpec]]:
    """Equal parts, each small enough for the device to take its batches whole."""
    most = len(specs)
    if most > 1:
        from babelscale.training import memory
        from babelscale.training.mesh import make_mesh

        mesh = make_mesh(1)
        while most > 1:
            execution = memory.choose(specs[0].shape, specs[0].recipe, mesh, most)
            if execution.microbatches == 1 and not execution.rematerialise:
                break
            most = (most + 1) // 2
    parts = -(-len(specs) // most)
    size = -(-len(specs) // parts)
    for first in range(0, len(specs), size):
        yield specs[first : first + size]


def _leave_record(spec: RunSpec, batches: Batches, seconds: float, folder: Path) -> None:
    timing.finish(folder, seconds, spec.tokens)
    record.write(spec, batches, {code: batches.unique_tokens(code) for code in spec.languages}, folder)


def job(study: Study, spec: RunSpec) -> Job:
    """A run of a study as the training loop sees it."""
    recipe = spec.recipe
    store = TokenStore.open(study.text(spec) / "corpus")
    branches = study.branches(spec.name)
    parts = _held_out(store, recipe, {code for run in (spec, *branches) for code in run.measured_languages})
    batches = text.batches(spec, store)
    own = tuple(part for part in parts if part.language in spec.measured_languages)
    base, base_step = None, None
    if isinstance(spec.base, PretrainedModel):
        base = Path(spec.base.folder)
    elif isinstance(spec.base, RunSpec):
        base, base_step = study.finished(spec.base.name) / STATE, spec.base.steps
    trunk = study.trunks.get(spec.name)
    return Job(
        spec.shape,
        recipe,
        spec.steps,
        spec.seed,
        batches,
        own,
        base=base,
        base_step=base_step,
        forks=frozenset(branch.fork for branch in branches),
        measured=_measured(spec, branches, parts),
        trunk=None if trunk is None else _usable(study.finished(trunk.name), spec, own),
        fork=spec.fork,
    )


def _held_out(store: TokenStore, recipe: Recipe, languages: Collection[str]) -> tuple[HeldOut, ...]:
    """The held-out text of the languages and then their parts of the parallel set, each by code."""

    def measured(code: str, tokens: NDArray[Any], split: Split) -> HeldOut:
        by_token = store.token_bytes, store.unigram_nats(code)
        return HeldOut.of(code, tokens, *by_token, recipe.sequence_length, recipe.evaluation_tokens, split)

    aligned = [code for code in sorted(languages) if store.has_parallel(code)]
    return (
        *(measured(code, store.held_out(code), "validation") for code in sorted(languages)),
        *(measured(code, store.parallel(code), "parallel") for code in aligned),
    )


def _measured(spec: RunSpec, branches: Sequence[RunSpec], parts: Sequence[HeldOut]) -> dict[int, tuple[HeldOut, ...]]:
    """Steps at which branches want losses -> what they and the run itself have measured there."""
    languages: dict[int, set[str]] = {}
    for branch in branches:
        for step in branch.shared_evaluations:
            languages.setdefault(step, set()).update(branch.measured_languages)
    for step in languages.keys() & set(spec.recipe.evaluation_steps(spec.steps)):
        languages[step].update(spec.measured_languages)
    return {step: tuple(part for part in parts if part.language in codes) for step, codes in languages.items()}


def _usable(trunk: Path, spec: RunSpec, held_out: Sequence[HeldOut]) -> Path | None:
    """The folder of a trunk if it kept a state at the fork and measured what the run needs before it.

    It did not if it failed, or if it was trained before this run was asked for.
    """
    if not (trunk / BRANCHES / str(spec.fork)).is_dir():
        return None
    found = {
        (line["step"], line["language"], line["split"])
        for line in entries(trunk / LOG, spec.fork)
        if "language" in line
    }
    wanted = {(step, part.language, part.split) for step in spec.shared_evaluations for part in held_out}
    return trunk if wanted <= found else None


def _say_warning(say: Say, name: str, message: Warning | str, category: type[Warning], *_: Any) -> None:
    """What a person should know of a run goes to them; what libraries warn of goes to the worker's log."""
    if issubclass(category, BabelscaleWarning):
        say({"run": name, "warning": str(message)})
    else:
        sys.stderr.write(f"{name}: {category.__name__}: {message}\n")


class Signalled:
    """Ask it whether SIGTERM or SIGINT came since it was made; a second one interrupts as usual."""

    def __init__(self) -> None:
        self.number = 0
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._hear)

    def _hear(self, number: int, _: object) -> None:
        if self.number:
            raise KeyboardInterrupt
        self.number = number

    def __call__(self) -> bool:
        return bool(self.number)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--cpu", type=int)
    options = parser.parse_args()
    if options.cpu is not None and hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {options.cpu})
    stop = Signalled()
    study = Study.open(options.folder)
    for line in sys.stdin:
        if stop():
            break
        names = line.rstrip("\n").split("\t")
        try:
            train_alike(study, [study.specs[name] for name in names], write_line, stop)
        except Stopped:
            return 0
    return 0


if __name__ == "__main__":
    sys.exit(main())
