"""Train one run: batches in, a log of losses and a final state out."""

import functools
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import Array
from numpy.typing import NDArray

from babelscale import files
from babelscale.errors import StudyError
from babelscale.model import decoder
from babelscale.model.shape import Shape
from babelscale.training.batches import Batches
from babelscale.training.checkpoint import Checkpoints
from babelscale.training.evaluation import HeldOut
from babelscale.training.recipe import Recipe

State = dict[str, Any]
# Losses are fetched from the device this often; waiting for each one would leave it idle.
_FETCH = 16


@dataclass(frozen=True)
class Job:
    """One run as the loop sees it.

    Args:
        steps: optimiser steps.
        seed: of the initial parameters; the order of batches has its own in `batches`.
        base: folder of a finished run's state to continue from, with a fresh optimiser and schedule.
    """

    shape: Shape
    recipe: Recipe
    steps: int
    seed: int
    batches: Batches
    held_out: tuple[HeldOut, ...]
    base: Path | None = None


def train(
    job: Job, folder: Path, *, keep_state: bool = False, progress: Callable[[int, float], None] | None = None
) -> Path:
    """Train a run, or go on with one that was interrupted, and return its log.

    The log (`log.jsonl`) holds one line a step and one an evaluation; it is the same to the byte whether or not the run
    was interrupted, on the same device kind and versions.

    Args:
        folder: holds the log, and the saved states under `state/`.
        keep_state: save the final state, for runs that others continue from.
        progress: called with (steps done, latest loss).

    Raises:
        StudyError: the loss is no longer finite.
    """
    folder.mkdir(parents=True, exist_ok=True)
    log, saved = folder / "log.jsonl", folder / "state"
    state, update, nats = _prepare(job)
    first = 0
    checkpoints = (
        Checkpoints(saved) if keep_state or saved.exists() or job.steps > job.recipe.checkpoint_every else None
    )
    if checkpoints is not None and (latest := checkpoints.latest()) is not None:
        state, first = checkpoints.restore(state), latest
    elif job.base is not None:
        state["parameters"] = _base_state(job.base, state)["parameters"]
    try:
        _truncate(log, first)
        with log.open("a", encoding="utf-8") as file:
            for step, reached, lines in _steps(job, state, first, update, nats, progress):
                file.writelines(json.dumps(line) + "\n" for line in lines)
                file.flush()
                due = step % job.recipe.checkpoint_every == 0 and step < job.steps
                if checkpoints is not None and (due or (keep_state and step == job.steps)):
                    checkpoints.save(step, reached)
    finally:
        if checkpoints is not None:
            checkpoints.close()
    return log


def _steps(
    job: Job, state: State, first: int, update: Callable[..., Any], nats: Callable[..., Any],
    progress: Callable[[int, float], None] | None,
) -> Iterator[tuple[int, State, list[dict[str, Any]]]]:  # fmt: skip
    """Yield (step, state, lines of the log since the last yield) at every fetch, evaluation and save."""
    evaluations = set(job.recipe.evaluation_steps(job.steps))
    pending: list[Array] = []
    for step in range(first + 1, job.steps + 1):
        rate = np.float32(job.recipe.rate(step - 1, job.steps))
        state, loss = update(state, job.batches.at(step - 1), rate)
        pending.append(loss)
        stop = step in evaluations or step % job.recipe.checkpoint_every == 0 or step == job.steps
        if not stop and len(pending) < _FETCH:
            continue
        losses = [float(value) for value in pending]
        pending.clear()
        lines: list[dict[str, Any]] = [
            {"step": step - len(losses) + 1 + k, "loss": value} for k, value in enumerate(losses)
        ]
        if not np.isfinite(losses).all():
            raise StudyError(f"the loss is {losses[-1]} at step {step}", hint="lower the learning rate of the recipe")
        if step in evaluations:
            lines += _evaluate(job, step, functools.partial(nats, state["parameters"]))
        if progress is not None:
            progress(step, losses[-1])
        yield step, state, lines


def _evaluate(job: Job, step: int, nats: Callable[[NDArray[np.int32]], Any]) -> list[dict[str, Any]]:
    def by_sequence(sequences: NDArray[np.int32]) -> NDArray[np.float64]:
        return np.asarray(nats(sequences), np.float64)

    lr_state: Literal["stable", "decayed"] = "decayed" if step == job.steps else "stable"
    return [
        {"step": step, "language": part.language, "lr_state": lr_state}
        | part.measure(by_sequence, job.recipe.batch_size)
        for part in job.held_out
    ]


def _prepare(job: Job) -> tuple[State, Callable[..., Any], Callable[..., Any]]:
    update, nats, optimiser = _programs(job.shape, job.recipe)
    parameters = decoder.initialise(job.shape, jax.random.key(job.seed))
    return {"parameters": parameters, "optimiser": optimiser.init(parameters)}, update, nats


@functools.cache
def _programs(shape: Shape, recipe: Recipe) -> tuple[Callable[..., Any], Callable[..., Any], Any]:
    """The compiled update and evaluation, shared by all runs of one shape and recipe in a process."""

    def decays(parameters: decoder.Parameters) -> Mapping[str, bool]:
        return {name: name != "norm" for name in parameters}

    # The learning rate enters as an argument of `update`, so that one program serves runs of every length.
    optimiser = optax.chain(
        optax.clip_by_global_norm(recipe.clip),
        optax.scale_by_adam(recipe.beta1, recipe.beta2),
        optax.add_decayed_weights(recipe.weight_decay, mask=decays),
    )

    def mean_loss(parameters: decoder.Parameters, sequences: Array) -> Array:
        return decoder.nats(parameters, sequences, shape).mean()

    @functools.partial(jax.jit, donate_argnums=0)
    def update(state: State, sequences: Array, rate: Array) -> tuple[State, Array]:
        loss, gradient = jax.value_and_grad(mean_loss)(state["parameters"], sequences)
        direction, inner = optimiser.update(gradient, state["optimiser"], state["parameters"])
        parameters = jax.tree.map(lambda p, change: p - rate * change, state["parameters"], direction)
        return {"parameters": parameters, "optimiser": inner}, loss

    @jax.jit
    def nats(parameters: decoder.Parameters, sequences: Array) -> Array:
        return decoder.nats(parameters, jnp.asarray(sequences), shape).sum(axis=-1)

    return update, nats, optimiser


def _base_state(base: Path, like: State) -> State:
    """The last state of a finished run."""
    checkpoints = Checkpoints(base)
    try:
        return checkpoints.restore(like)
    finally:
        checkpoints.close()


def _truncate(log: Path, step: int) -> None:
    """Drop the lines of steps after `step`, and a last line cut short by a kill."""
    if not log.exists():
        return
    kept = []
    for line in log.read_text(encoding="utf-8").splitlines():
        try:
            entry = json.loads(line)
        except json.JSONDecodeError:
            break
        if entry["step"] > step:
            break
        kept.append(line + "\n")
    files.write_text(log, "".join(kept))
