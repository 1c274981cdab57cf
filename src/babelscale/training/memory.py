"""The memory that a run needs on each device, computed from shapes before anything is allocated."""

import functools
from dataclasses import asdict, dataclass, replace
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import AbstractMesh, Mesh

from babelscale.errors import InputError
from babelscale.model import decoder
from babelscale.model.execution import Execution
from babelscale.model.shape import Shape
from babelscale.training import mesh as meshes
from babelscale.training.recipe import Recipe

# So few stay in the caches: 1.03 to 1.23 times as fast as whole batches of 1,024 and 2,048 (docs/performance.md).
_CPU_TOKENS = 512
# The share of a device's memory that the estimate may fill.
_ROOM = 0.85


@dataclass(frozen=True)
class Memory:
    """Bytes a device holds at once, about; the parts of `needed`.

    Attributes:
        parameters, optimiser, gradients: exact, from the shapes and how they are split.
        activations: what the forward pass keeps for the backward pass, plus one block's own when rematerialising.
        head: logits of one chunk of the loss and their gradient, the embedding in whole and its gradient.
        devices: of the mesh.
    """

    parameters: int
    optimiser: int
    gradients: int
    activations: int
    head: int
    devices: int

    @property
    def needed(self) -> int:
        return self.parameters + self.optimiser + self.gradients + self.activations + self.head

    def to_dict(self) -> dict[str, Any]:
        return asdict(self) | {"needed": self.needed}

    def __str__(self) -> str:
        parts = ", ".join(
            f"{name} {getattr(self, name) / 1e9:.3g}"
            for name in ("parameters", "optimiser", "gradients", "activations", "head")
        )
        return f"{self.needed / 1e9:.3g} GB on each of {self.devices} devices ({parts})"


def estimate(
    shape: Shape, recipe: Recipe, execution: Execution, mesh: Mesh | AbstractMesh, members: int | None = None
) -> Memory:
    """Memory a device needs to train, traced and not run.

    Activations are the arrays that reverse-mode differentiation keeps, as tracing the forward pass names them; a
    compiler that fuses well may keep fewer.
    """
    data, tensor = (mesh.shape[axis] for axis in meshes.AXES)
    parameters = meshes.parameter_shapes(shape)
    held = meshes.bytes_per_device(parameters, meshes.shardings(parameters, mesh))
    runs = 1
    if members is not None:
        # Devices share out the runs of a population, and hold each one whole.
        runs, data = members // data, 1
        held = runs * sum(leaf.size * leaf.dtype.itemsize for leaf in parameters.values())
    rows = max(1, recipe.batch_size // execution.microbatches // data)
    chunk = min(rows * recipe.sequence_length, max(execution.loss_tokens, rows))
    width = 4 if execution.dtype == "float32" else 2
    head = 3 * 4 * chunk * shape.vocabulary + (4 + width) * shape.vocabulary * shape.d_model
    # Matrices of half the width are copies, made once a step.
    copies = 0 if width == 4 else held // 2
    return Memory(
        parameters=held,
        optimiser=2 * held,
        gradients=(2 if execution.microbatches > 1 else 1) * held + copies,
        activations=runs * _kept(shape, recipe, execution, rows) // tensor,
        head=runs * head // tensor,
        devices=mesh.size,
    )


def _kept(shape: Shape, recipe: Recipe, execution: Execution, rows: int) -> int:
    """Bytes kept of the stream up to the head, for so many rows."""
    kept = _residuals(shape, recipe, execution, rows)
    if execution.rematerialise:
        kept += _residuals(replace(shape, layers=1), recipe, replace(execution, rematerialise=False), rows)
    return kept


@functools.cache
def _residuals(shape: Shape, recipe: Recipe, execution: Execution, rows: int) -> int:
    """Bytes of what differentiating the stream keeps; parameters are not counted again."""
    parameters = meshes.parameter_shapes(shape)
    tokens = jax.ShapeDtypeStruct((rows, recipe.sequence_length), jnp.int32)
    # The fused kernel keeps what plain attention without its scores would; tracing it needs its device.
    plain = replace(execution, attention="plain", microbatches=1)

    def kept(parameters: decoder.Parameters, tokens: jax.Array) -> Any:
        return jax.vjp(lambda p: decoder.hidden(p, tokens, shape, plain), parameters)[1]

    whole = {value.shape for value in parameters.values()}
    total = 0
    for leaf in jax.tree.leaves(jax.eval_shape(kept, parameters, tokens)):
        scores = leaf.shape[-2:] == (recipe.sequence_length,) * 2
        if leaf.shape not in whole and not (execution.attention == "cudnn" and scores):
            total += leaf.size * leaf.dtype.itemsize
    return total


def choose(shape: Shape, recipe: Recipe, mesh: Mesh, members: int | None = None) -> Execution:
    """The usual execution for these devices, in as many microbatches as their memory asks for.

    A CPU takes about `_CPU_TOKENS` tokens at a time whatever its memory, so that results do not depend on it.
    """
    execution = Execution.on(mesh.devices.flat[0].platform, shape)
    data = 1 if members is not None else mesh.shape["data"]
    parts = [n for n in range(1, recipe.batch_size // data + 1) if recipe.batch_size % (n * data) == 0]
    limit = _limit(mesh)
    if limit is None:
        few = [n for n in parts if recipe.tokens_per_step // (n * data) <= _CPU_TOKENS]
        return replace(execution, microbatches=(few or parts[-1:])[0])
    for rematerialise in (False, True):
        for n in parts:
            tried = replace(execution, microbatches=n, rematerialise=rematerialise)
            if estimate(shape, recipe, tried, mesh, members).needed <= _ROOM * limit:
                return tried
    return replace(execution, microbatches=parts[-1], rematerialise=True)


def _limit(mesh: Mesh) -> int | None:
    """Bytes a device may use, where it says so (accelerators do)."""
    return (mesh.local_devices[0].memory_stats() or {}).get("bytes_limit")


def check(memory: Memory, mesh: Mesh) -> None:
    """Raise InputError where a device says how much memory it has and it is too little."""
    limit = _limit(mesh)
    if limit is not None and memory.needed > limit:
        raise InputError(
            f"the run needs about {memory}, a device has {limit / 1e9:.3g} GB",
            hint="use more devices, a smaller batch or shorter sequences",
        )
