"""What a run needs of each device's memory, reckoned from shapes before anything is allocated."""

from dataclasses import asdict, dataclass
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


@dataclass(frozen=True)
class Memory:
    """Bytes a device holds at once, about; the parts of `needed`.

    Attributes:
        parameters, optimiser, gradients: exact, from the shapes and how they are split.
        activations: what the forward pass keeps for the backward pass, plus one block's own when rematerialising.
        logits: of one chunk of the loss, with their gradient.
        devices: of the mesh.
    """

    parameters: int
    optimiser: int
    gradients: int
    activations: int
    logits: int
    devices: int

    @property
    def needed(self) -> int:
        return self.parameters + self.optimiser + self.gradients + self.activations + self.logits

    def to_dict(self) -> dict[str, Any]:
        return asdict(self) | {"needed": self.needed}

    def __str__(self) -> str:
        parts = ", ".join(
            f"{name} {getattr(self, name) / 1e9:.3g}"
            for name in ("parameters", "optimiser", "gradients", "activations", "logits")
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
    placed = meshes.shardings(parameters, mesh)
    own = sum(leaf.size * leaf.dtype.itemsize for leaf in parameters.values())
    held = meshes.bytes_per_device(parameters, placed) if members is None else own * members // data
    runs = 1 if members is None else members // data
    rows = max(1, recipe.batch_size // execution.microbatches // (data if members is None else 1))
    chunk = min(rows * recipe.sequence_length, max(execution.loss_tokens, rows))
    # Half-width copies of all matrices are made once a step.
    halves = 0 if execution.dtype == "float32" else held // 2
    return Memory(
        parameters=held,
        optimiser=2 * held,
        gradients=(2 if execution.microbatches > 1 else 1) * held + halves,
        activations=runs * _kept(shape, recipe, execution, parameters, rows) // tensor,
        logits=runs * 3 * 4 * chunk * shape.vocabulary // tensor,
        devices=mesh.size,
    )


def _kept(
    shape: Shape, recipe: Recipe, execution: Execution, parameters: dict[str, jax.ShapeDtypeStruct], rows: int
) -> int:
    """Bytes of the residuals of the stream up to the head, for so many rows; parameters are not counted again."""
    tokens = jax.ShapeDtypeStruct((rows, recipe.sequence_length), jnp.int32)
    # The fused kernel keeps what plain attention without its scores would; tracing it needs its device.
    plain = Execution(execution.dtype, "plain", execution.loss_tokens, 1, execution.rematerialise)

    def kept(parameters: decoder.Parameters, tokens: jax.Array) -> Any:
        return jax.vjp(lambda p: decoder.hidden(p, tokens, shape, plain), parameters)[1]

    whole = {value.shape for value in parameters.values()}
    total = 0
    for leaf in jax.tree.leaves(jax.eval_shape(kept, parameters, tokens)):
        scores = leaf.shape[-2:] == (recipe.sequence_length,) * 2
        if leaf.shape not in whole and not (execution.attention == "cudnn" and scores):
            total += leaf.size * leaf.dtype.itemsize
    return total


def check(memory: Memory, mesh: Mesh) -> None:
    """Raise InputError where a device says how much memory it has and it is too little."""
    stats = mesh.local_devices[0].memory_stats() or {}
    limit = stats.get("bytes_limit")
    if limit is not None and memory.needed > limit:
        raise InputError(
            f"the run needs about {memory}, a device has {limit / 1e9:.3g} GB",
            hint="use more devices or microbatches, or rematerialise",
        )
