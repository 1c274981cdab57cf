"""Mesh: the devices of a run, one or many, on one host or several, and how arrays lie on them.

Two axes. "data" spreads the batch, and every large parameter and optimiser array with it (fully sharded data
parallelism, Rajbhandari et al. 2020); "tensor" splits heads, feed-forward and vocabulary (Shoeybi et al. 2019).
"""

import math
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from jax.sharding import AbstractMesh, AxisType, Mesh, NamedSharding
from jax.sharding import PartitionSpec as P
from numpy.typing import NDArray

from babelscale.errors import InputError
from babelscale.model import decoder
from babelscale.model.shape import Shape

AXES = ("data", "tensor")
# Which axis of each parameter the tensor axis of the mesh splits.
_TENSOR = {"embedding": 0, "attention_in": 3, "attention_out": 1, "feed_forward_in": 3, "feed_forward_out": 1}


def make_mesh(devices: int | None = None, tensor: int = 1) -> Mesh:
    """A mesh of the first `devices` devices of all processes (default all).

    Args:
        tensor: devices that share one copy of the batch and split the matrices.
    """
    present = jax.devices()
    count = len(present) if devices is None else devices
    if not 1 <= count <= len(present):
        raise InputError(f"{count} devices are requested", hint=f"JAX sees {len(present)} ({present[0].platform})")
    if tensor < 1 or count % tensor:
        raise InputError(f"a tensor axis of {tensor} does not divide {count} devices")
    return jax.make_mesh(
        (count // tensor, tensor), AXES, axis_types=(AxisType.Auto,) * len(AXES), devices=present[:count]
    )


def abstract_mesh(devices: int, tensor: int = 1) -> AbstractMesh:
    """A mesh of devices that need not be there, to reckon with."""
    return AbstractMesh((devices // tensor, tensor), AXES)


def check(shape: Shape, batch_size: int, mesh: Mesh | AbstractMesh) -> None:
    """Raise InputError where a model or a batch does not divide over the mesh."""
    data, tensor = (mesh.shape[axis] for axis in AXES)
    if batch_size % data:
        raise InputError(
            f"a batch of {batch_size} sequences does not divide over {data} devices",
            hint="use a number of devices that divides it",
        )
    for name, size in (("heads", shape.heads), ("d_ff", shape.d_ff), ("vocabulary", shape.vocabulary)):
        if size % tensor:
            raise InputError(f"a tensor axis of {tensor} does not divide the model's {name}, {size}")


def specification(name: str, size: tuple[int, ...], mesh: Mesh | AbstractMesh) -> P:
    """How a parameter is split: `_TENSOR`'s axis over "tensor", the largest other axis that divides over "data".

    The axis of stacked layers stays whole, because the model iterates over it; norm vectors stay whole everywhere.
    """
    axes: list[str | None] = [None] * len(size)
    if name not in _TENSOR:
        return P()
    if mesh.shape["tensor"] > 1:
        axes[_TENSOR[name]] = "tensor"
    data = mesh.shape["data"]
    first = 0 if name == "embedding" else 1
    free = [axis for axis in range(first, len(size)) if axes[axis] is None and size[axis] % data == 0]
    if data > 1 and free:
        axes[max(free, key=lambda axis: size[axis])] = "data"
    return P(*axes)


def shardings(tree: Any, mesh: Mesh | AbstractMesh, members: int | None = None) -> Any:
    """A sharding for every array of a training state; the optimiser's follow the parameters they belong to.

    Args:
        tree: arrays or their shapes, as `jax.eval_shape` gives them.
        members: runs of a population, stacked along a first axis, which then is what the devices share.
    """

    def place(path: Any, leaf: Any) -> NamedSharding:
        if members is not None:
            return NamedSharding(mesh, P("data") if leaf.shape[:1] == (members,) else P())
        name = next((entry.key for entry in reversed(path) if isinstance(entry, jax.tree_util.DictKey)), "")
        return NamedSharding(mesh, specification(str(name), leaf.shape, mesh))

    return jax.tree_util.tree_map_with_path(place, tree)


def bytes_per_device(tree: Any, placed: Any) -> int:
    """Bytes one device holds of arrays of these shapes under these shardings."""
    return sum(
        math.prod(sharding.shard_shape(leaf.shape)) * leaf.dtype.itemsize
        for leaf, sharding in zip(jax.tree.leaves(tree), jax.tree.leaves(placed), strict=True)
    )


def spread(shape: tuple[int, ...], sharding: NamedSharding, rows: Callable[[slice], NDArray[Any]]) -> jax.Array:
    """A global array of this shape, of which each process reads the rows of the first axis its own devices hold.

    Args:
        rows: a slice of the first axis -> those rows; called once a process.
    """
    places = sharding.addressable_devices_indices_map(shape).values()
    spans = [place[0].indices(shape[0])[:2] for place in places if place is not None]
    first, last = min(start for start, _ in spans), max(stop for _, stop in spans)
    held = np.asarray(rows(slice(first, last)))
    if held.shape == shape and sharding.is_fully_addressable:
        return jax.device_put(held, sharding)

    def part(index: tuple[slice, ...] | None) -> NDArray[Any]:
        assert index is not None
        start, stop, _ = index[0].indices(shape[0])
        return held[(slice(start - first, stop - first), *index[1:])]

    return jax.make_array_from_callback(shape, sharding, part)


def parameter_shapes(shape: Shape) -> dict[str, jax.ShapeDtypeStruct]:
    """The shapes of all parameters, without making them."""
    return jax.eval_shape(lambda: decoder.initialise(shape, jax.random.key(0)))
