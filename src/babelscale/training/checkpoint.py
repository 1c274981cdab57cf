"""Saved training states: Orbax behind two verbs. Atomic, at least two kept, the last whole one restored."""

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
        self._manager = ocp.CheckpointManager(
            folder.absolute(), options=options, item_handlers=ocp.StandardCheckpointHandler()
        )

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
        where = f"{self.folder}: the state of step {step}"
        try:
            self._compare(step, like, where)
            abstract = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=x.sharding), like)
            return self._manager.restore(step, args=ocp.args.StandardRestore(abstract))
        except (ValueError, KeyError, OSError) as error:
            raise StudyError(
                f"{where} cannot be restored ({str(error).splitlines()[0]})",
                hint="it is damaged; remove it to train the run again",
            ) from error

    def _compare(self, step: int, like: State, where: str) -> None:
        """Refuse a state of other shapes before any of it is read."""
        saved = jax.tree_util.tree_flatten_with_path(self._manager.item_metadata(step).tree)[0]
        shapes = {jax.tree_util.keystr(path): tuple(leaf.shape) for path, leaf in saved}
        for path, leaf in jax.tree_util.tree_flatten_with_path(_plain(like))[0]:
            name = jax.tree_util.keystr(path)
            if shapes.get(name) != leaf.shape:
                raise StudyError(
                    f"{where} has {name} of shape {shapes.get(name, 'none')}, this run needs {leaf.shape}",
                    hint="it belongs to another model; name another base or remove it",
                )

    def close(self) -> None:
        self._manager.close()


def _plain(tree: State) -> State:
    """Named tuples as Orbax stores them: dictionaries by field, empty ones as None."""
    names = getattr(tree, "_fields", None)
    if names is not None:
        return {name: _plain(value) for name, value in zip(names, tree, strict=True)} or None
    if isinstance(tree, dict):
        return {name: _plain(value) for name, value in tree.items()}
    if isinstance(tree, list | tuple):
        return [_plain(value) for value in tree]
    return tree
