"""Saved training states: Orbax behind two verbs. Atomic, at least two kept, the last whole one restored."""

import json
from pathlib import Path
from typing import Any

import jax
import orbax.checkpoint as ocp

from babelscale.errors import StudyError

State = Any  # a pytree of arrays


class Checkpoints:
    """The saved states of one run in one folder, by step.

    Args:
        folder: made when the first state is saved.
        keep: how many to keep.
    """

    def __init__(self, folder: Path, keep: int = 2) -> None:
        self.folder = folder
        options = ocp.CheckpointManagerOptions(max_to_keep=keep, enable_async_checkpointing=False)
        self._manager = ocp.CheckpointManager(folder.absolute(), options=options)

    def latest(self) -> int | None:
        return self._manager.latest_step()

    def save(self, step: int, state: State) -> None:
        """Write a state; it counts only once it is whole."""
        self._manager.save(step, args=ocp.args.StandardSave(state))

    def restore(self, like: State, step: int | None = None) -> State:
        """The state of a step (default the latest), with the shapes, types and devices of `like`.

        Raises:
            StudyError: nothing is saved, or what is saved has another shape.
        """
        step = self.latest() if step is None else step
        if step is None:
            raise StudyError(f"{self.folder}: no saved state", hint="remove the folder to train the run again")
        abstract = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=x.sharding), like)
        try:
            return self._manager.restore(step, args=ocp.args.StandardRestore(abstract))
        except (ValueError, KeyError, json.JSONDecodeError) as error:
            raise StudyError(
                f"{self.folder}: the state of step {step} cannot be restored ({str(error).splitlines()[0]})",
                hint="it belongs to another shape or is damaged; remove it to train the run again",
            ) from error

    def close(self) -> None:
        self._manager.close()
