"""Train one run, or a population of runs in one program: batches in, a log of losses and a final state out."""

import contextlib
import functools
import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import Mesh
from numpy.typing import NDArray

from babelscale import files
from babelscale.errors import InputError, Stopped, StudyError
from babelscale.model import huggingface
from babelscale.model.execution import Execution
from babelscale.model.shape import Shape
from babelscale.training import BRANCHES, LOG, STATE, memory
from babelscale.training import mesh as meshes
from babelscale.training.batches import Batches, mixture_name, prefetched
from babelscale.training.checkpoint import Checkpoints
from babelscale.training.evaluation import HeldOut
from babelscale.training.program import Program, State, program
from babelscale.training.recipe import Recipe

Progress = Callable[[int, float], None]
Stop = Callable[[], bool]
# Losses are fetched from the device this often; waiting for each one would leave it idle.
_FETCH = 16


@dataclass(frozen=True)
class Job:
    """One run as the loop sees it.

    Args:
        steps: optimiser steps.
        seed: of the initial parameters; the order of batches has its own in `batches`.
        base: folder to continue from, with a fresh optimiser and schedule: a finished run's states, or a Hugging Face
            model.
        base_step: of the state to continue from, where the base is a run.
        forks: steps done when other runs branch off this one; the states there are kept for them.
        measured: steps done -> what is measured then in place of `held_out`, for the runs that branch off.
        trunk: folder of the run that this one branches off; its first `fork` steps are taken over, to the bit.
        fork: steps done when this run leaves its trunk.
    """

    shape: Shape
    recipe: Recipe
    steps: int
    seed: int
    batches: Batches
    held_out: tuple[HeldOut, ...]
    base: Path | None = None
    base_step: int | None = None
    forks: frozenset[int] = frozenset()
    measured: Mapping[int, tuple[HeldOut, ...]] = field(default_factory=dict)
    trunk: Path | None = None
    fork: int = 0

    @property
    def evaluations(self) -> set[int]:
        """Steps done when held-out losses are measured, for this run and for its branches."""
        return {*self.recipe.evaluation_steps(self.steps), *self.measured}


def train(
    job: Job,
    folder: Path,
    *,
    keep_state: bool = False,
    progress: Progress | None = None,
    stop: Stop | None = None,
    mesh: Mesh | None = None,
    execution: Execution | None = None,
) -> Path:
    """Train a run, or go on with one that was interrupted, and return its log.

    The log (`log.jsonl`) holds one line a step and one an evaluation; it is the same to the byte whether or not the run
    was interrupted, on the same device kind and versions. On several processes, all call this alike and share the
    folder; the first one writes.

    Args:
        folder: holds the log, the saved states under `state/`, and those of branches under `branches/`.
        keep_state: save the final state, for runs that others continue from.
        progress: called with (steps done, latest loss).
        stop: asked after every step whether to save the state and end there.
        mesh: the devices to use (default: one of this process).
        execution: how steps are computed (default: the usual choice for the devices).

    Raises:
        InputError: the run does not fit the devices or divide over them.
        StudyError: the loss is no longer finite, or something cannot be written or restored.
        Stopped: `stop` returned true; the state is saved.
    """
    return train_population(
        [job], [folder], keep_state=[keep_state], progress=progress, stop=stop, mesh=mesh, execution=execution
    )[0]


def train_population(
    jobs: Sequence[Job],
    folders: Sequence[Path],
    *,
    keep_state: Sequence[bool] | None = None,
    progress: Progress | None = None,
    stop: Stop | None = None,
    mesh: Mesh | None = None,
    execution: Execution | None = None,
) -> list[Path]:
    """Train runs of one shape, recipe and length together in one program; each leaves what it would leave alone.

    Their losses equal those of runs trained alone but for rounding. It pays on accelerators, which one small model
    leaves idle.

    Args:
        folders: one a run, as in `train`.
        mesh: devices share out the runs, not the batches.
    """
    _check_alike(jobs)
    job = jobs[0]
    mesh = mesh or meshes.make_mesh(1)
    members = len(jobs) if len(jobs) > 1 else None
    execution = execution or memory.choose(job.shape, job.recipe, mesh, members)
    if members is None:
        meshes.check(job.shape, job.recipe.batch_size // execution.microbatches, mesh)
    elif members % mesh.shape["data"]:
        raise InputError(f"{members} runs do not divide over {mesh.shape['data']} devices")
    memory.check(memory.estimate(job.shape, job.recipe, execution, mesh, members), mesh)
    made = program(job.shape, job.recipe, execution, mesh, members)
    with contextlib.ExitStack() as stack:
        places = [
            _Place.make(one, folder, keep, stack)
            for one, folder, keep in zip(jobs, folders, keep_state or [False] * len(jobs), strict=True)
        ]
        alone = made if members is None else program(job.shape, job.recipe, execution, mesh)
        state, first = _start(places, made, alone)
        for place in places:
            place.begin(first)
        for step, reached, lines, stopped in _steps(jobs, state, first, made, alone, progress, stop):
            for k, place in enumerate(places):
                place.write(lines[k])
                place.save(step, functools.partial(_member, reached, k, members), stopped)
            if stopped:
                raise Stopped(f"stopped after step {step} of {job.steps}; the state is saved")
    return [place.log for place in places]


def _check_alike(jobs: Sequence[Job]) -> None:
    for job in jobs[1:]:
        for name in ("shape", "recipe", "steps", "evaluations", "forks"):
            if getattr(job, name) != getattr(jobs[0], name):
                raise InputError(f"runs of a population must have the same {name}", hint="train the others apart")
    if len({job.fork for job in jobs if job.trunk is not None}) > 1:
        raise InputError("runs of a population must leave their trunks at the same step", hint="train the others apart")


@dataclass
class _Place:
    """Where one run writes: its log and its saved states."""

    job: Job
    folder: Path
    keep_state: bool
    states: Checkpoints
    branches: Checkpoints | None

    @classmethod
    def make(cls, job: Job, folder: Path, keep_state: bool, stack: contextlib.ExitStack) -> "_Place":
        folder.mkdir(parents=True, exist_ok=True)
        states = Checkpoints(folder / STATE)
        stack.callback(states.close)
        branches = None
        if job.forks:
            branches = Checkpoints(folder / BRANCHES, keep=None)
            stack.callback(branches.close)
        return cls(job, folder, keep_state, states, branches)

    @property
    def log(self) -> Path:
        return self.folder / LOG

    def begin(self, step: int) -> None:
        """Leave in the log what belongs to the first `step` steps."""
        if jax.process_index() != 0:
            return
        trunk = self.job.trunk
        if trunk is not None and not self.log.exists():
            steps = set(self.job.recipe.evaluation_steps(self.job.steps))
            codes = {part.language for part in self.job.held_out}
            kept = [
                line
                for line in entries(trunk / LOG, step)
                if "language" not in line or (line["step"] in steps and line["language"] in codes)
            ]
        else:
            kept = entries(self.log, step) if self.log.exists() else []
        files.write_text(self.log, "".join(json.dumps(line) + "\n" for line in kept))

    def write(self, lines: list[dict[str, Any]]) -> None:
        if jax.process_index() != 0:
            return
        try:
            # Never made anew: a log that is gone was taken over, with the run, by another process.
            with self.log.open("r+", encoding="utf-8") as file:
                file.seek(0, os.SEEK_END)
                file.writelines(json.dumps(line) + "\n" for line in lines)
        except FileNotFoundError:
            raise StudyError(
                f"{self.folder}: the folder is gone, because another process has taken over this run"
            ) from None
        except OSError as error:
            raise StudyError(
                f"{self.log}: cannot be written ({error.strerror})",
                hint="make room on the disk; the run then continues from its last saved state",
            ) from error

    def save(self, step: int, state: Callable[[], State], stopped: bool) -> None:
        job = self.job
        due = stopped or (step % job.recipe.checkpoint_every == 0 and step < job.steps)
        if due or (self.keep_state and step == job.steps):
            self.states.save(step, state())
        if self.branches is not None and step in job.forks:
            self.branches.save(step, state())


def _start(places: Sequence[_Place], made: Program, alone: Program) -> tuple[State, int]:
    """The state to go on from and the steps it has behind it, the same for all members."""
    found = [_found(place, alone) for place in places]
    first = min(step for step, _ in found)
    if first == 0 and all(place.job.base is None for place in places):
        seeds = np.array([place.job.seed for place in places], np.uint32)
        return made.initial(seeds if made is not alone else seeds[0]), 0
    # A kill between two members' saves leaves one of them a save ahead.
    states = [
        state if step == first and state is not None else _at(place, alone, first)
        for place, (step, state) in zip(places, found, strict=True)
    ]
    if made is alone:
        return states[0], first
    stacked = jax.tree.map(lambda *parts: jnp.stack(parts), *states)
    return jax.tree.map(lambda leaf, like: jax.device_put(leaf, like.sharding), stacked, made.like), first


def _found(place: _Place, alone: Program) -> tuple[int, State | None]:
    saved = place.states.restore_latest(alone.like)
    if saved is None and place.job.trunk is not None:
        # What the run shares with its trunk is there already.
        return place.job.fork, None
    return saved or (0, None)


def _at(place: _Place, alone: Program, step: int) -> State:
    job = place.job
    if step == 0:
        state = alone.initial(np.uint32(job.seed))
        return state if job.base is None else state | {"parameters": _base_parameters(job, job.base, alone)}
    if job.trunk is not None and step == job.fork:
        return _restored(job.trunk / BRANCHES, alone.like, step)
    return place.states.restore(alone.like, step)


def _base_parameters(job: Job, base: Path, alone: Program) -> State:
    """The final parameters of a finished run, or those of a Hugging Face model."""
    like = alone.like["parameters"]
    if not huggingface.is_checkpoint(base):
        return _restored(base, {"parameters": like}, job.base_step)["parameters"]
    parameters, found = huggingface.read(base)
    if found != job.shape:
        raise StudyError(
            f"{base} has {found}, this run needs {job.shape}", hint="give the size the shape of this model"
        )
    return {name: jax.device_put(value, like[name].sharding) for name, value in parameters.items()}


def _restored(folder: Path, like: State, step: int | None) -> State:
    checkpoints = Checkpoints(folder)
    try:
        return checkpoints.restore(like, step)
    finally:
        checkpoints.close()


def _member(state: State, k: int, members: int | None) -> State:
    return state if members is None else jax.tree.map(lambda leaf: leaf[k], state)


def _steps(
    jobs: Sequence[Job],
    state: State,
    first: int,
    made: Program,
    alone: Program,
    progress: Progress | None,
    stop: Stop | None,
) -> Iterator[tuple[int, State, list[list[dict[str, Any]]], bool]]:
    """Yield (step, state, each run's lines of the log since the last yield, whether to end) at every fetch, evaluation
    and save."""
    job = jobs[0]
    recipe = job.recipe
    evaluations, forks = job.evaluations, job.forks
    members = len(jobs) if made is not alone else None
    seeds = np.array([job.seed for job in jobs], np.uint32)
    pending: list[Any] = []
    for step, sequences in enumerate(_placed_batches(jobs, first, made, members), start=first + 1):
        rate = np.float32(recipe.rate(step - 1, job.steps))
        state, metrics = made.update(state, sequences, rate, np.uint32(step), seeds if members else seeds[0])
        pending.append(metrics)
        due = step in evaluations or step in forks or step % recipe.checkpoint_every == 0 or step == job.steps
        stopped = step < job.steps and _stopped(stop, due)
        if not due and not stopped and len(pending) < _FETCH:
            continue
        lines = _step_lines(job, step, jax.device_get(pending), members)
        pending.clear()
        _check_finite(jobs, step, lines)
        last = float(np.mean([own[-1]["loss"] for own in lines]))
        if step in evaluations:
            for k, one in enumerate(jobs):
                parameters = _member(state["parameters"], k, members)
                lines[k] += _evaluate(one, step, functools.partial(alone.nats, parameters), alone)
        if progress is not None:
            progress(step, last)
        yield step, state, lines, stopped


def _stopped(stop: Stop | None, due: bool) -> bool:
    if stop is None or jax.process_count() == 1:
        return stop is not None and stop()
    # Processes hear of it at different steps; they agree where all of them come to the same one.
    return due and bool(np.any(multihost_utils.process_allgather(np.array(stop()))))


def _placed_batches(jobs: Sequence[Job], first: int, made: Program, members: int | None) -> Iterator[jax.Array]:
    """The batches from step `first` on, on the devices; read ahead but where the CPU has other things to do."""
    recipe, last = jobs[0].recipe, jobs[0].steps
    size = (recipe.batch_size, recipe.sequence_length + 1)

    def read(step: int) -> jax.Array:
        if members is None:
            return meshes.spread(size, made.sequences, lambda rows: jobs[0].batches.at(step, rows))
        return meshes.spread(
            (members, *size), made.sequences, lambda rows: np.stack([job.batches.at(step) for job in jobs[rows]])
        )

    on_cpu = all(device.platform == "cpu" for device in made.sequences.device_set)
    return map(read, range(first, last)) if on_cpu else prefetched(read, first, last)


def _step_lines(job: Job, step: int, fetched: list[Any], members: int | None) -> list[list[dict[str, Any]]]:
    """The lines of the last steps, by run."""
    lines: list[list[dict[str, Any]]] = [[] for _ in range(members or 1)]
    for done, metrics in enumerate(fetched, start=step - len(fetched) + 1):
        rate = job.recipe.rate(done - 1, job.steps)
        for k, own in enumerate(lines):
            values = {name: float(np.atleast_1d(metrics[name])[k]) for name in ("loss", "gradient_norm")}
            own.append({"step": done, **values, "learning_rate": rate})
    return lines


def _check_finite(jobs: Sequence[Job], step: int, lines: list[list[dict[str, Any]]]) -> None:
    for job, own in zip(jobs, lines, strict=True):
        bad = next((line for line in own if not np.isfinite(line["loss"])), None)
        if bad is not None:
            which = (
                f" of the run with {mixture_name(job.batches.mixture, job.batches.then)}, seed {job.seed}"
                if len(jobs) > 1
                else ""
            )
            raise StudyError(
                f"the loss{which} is {bad['loss']} at step {bad['step']}", hint="lower the learning rate of the recipe"
            )


def _evaluate(job: Job, step: int, nats: Callable[[jax.Array], jax.Array], alone: Program) -> list[dict[str, Any]]:
    def by_sequence(sequences: NDArray[np.int32]) -> NDArray[np.float64]:
        placed = meshes.spread(sequences.shape, alone.sequences, lambda rows: sequences[rows])
        return np.asarray(nats(placed), np.float64)

    lr_state: Literal["stable", "decayed"] = "decayed" if step == job.steps else "stable"
    return [
        {"step": step, "language": part.language, "lr_state": lr_state, "split": part.split}
        | part.measure(by_sequence, job.recipe.batch_size)
        for part in job.measured.get(step, job.held_out)
    ]


def entries(log: Path, step: int) -> list[dict[str, Any]]:
    """The lines of the first `step` steps, without a last one cut short by a kill."""
    kept: list[dict[str, Any]] = []
    for line in log.read_text(encoding="utf-8").splitlines():
        try:
            entry = json.loads(line)
        except json.JSONDecodeError:
            break
        if entry["step"] > step:
            break
        kept.append(entry)
    return kept
