"""Program: the compiled parts of training, the same on one device and on many, for one run and for a population."""

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax import Array
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from babelscale.model import decoder
from babelscale.model.execution import Execution
from babelscale.model.shape import Shape
from babelscale.training import mesh as meshes
from babelscale.training.recipe import Recipe

State = dict[str, Any]
Metrics = dict[str, Array]


@dataclass(frozen=True)
class Program:
    """What runs on the devices. In a population every array has a first axis of one entry a member.

    Attributes:
        initial: seeds (members,) -> state.
        update: (state, sequences, learning rate, step, seeds) -> (state, {"loss", "gradient_norm"}); the state given is
            consumed.
        nats: (parameters, sequences (B, T + 1)) -> nats by sequence (B,), always of one run.
        like: the state's shapes and shardings.
        sequences, whole: shardings of a batch, and of what every device holds whole.
    """

    initial: Callable[..., State]
    update: Callable[..., tuple[State, Metrics]]
    nats: Callable[..., Array]
    like: State
    sequences: NamedSharding
    whole: NamedSharding


def optimiser(recipe: Recipe) -> optax.GradientTransformation:
    """AdamW but for the learning rate, which is an argument of the update: one program serves runs of every length."""

    def decays(parameters: decoder.Parameters) -> dict[str, bool]:
        return {name: not name.startswith("norm") for name in parameters}

    return optax.chain(
        optax.clip_by_global_norm(recipe.clip),
        optax.scale_by_adam(recipe.beta1, recipe.beta2),
        optax.add_decayed_weights(recipe.weight_decay, mask=decays),
    )


@functools.cache
def program(shape: Shape, recipe: Recipe, execution: Execution, mesh: Mesh, members: int | None = None) -> Program:
    """The program of a shape and recipe, shared by all such runs of a process.

    Args:
        members: how many runs are trained together by `vmap`; None for one by itself.
    """
    adamw = optimiser(recipe)
    several = mesh if members is None and mesh.size > 1 else None

    def initial(seed: Array) -> State:
        parameters = decoder.initialise(shape, jax.random.key(seed))
        return {"parameters": parameters, "optimiser": adamw.init(parameters)}

    def update(state: State, sequences: Array, rate: Array, step: Array, seed: Array) -> tuple[State, Metrics]:
        parameters = state["parameters"]
        # Which outputs are dropped depends on the seed and the step alone, so that a resumed run drops the same.
        key = jax.random.fold_in(jax.random.key(seed), step) if recipe.dropout else None
        gradient, entropy = _gradient(parameters, sequences, key, shape, recipe, execution, several)
        direction, inner = adamw.update(gradient, state["optimiser"], parameters)
        parameters = jax.tree.map(lambda p, change: p - rate * change, parameters, direction)
        metrics = {"loss": entropy, "gradient_norm": optax.tree.norm(gradient)}
        return {"parameters": parameters, "optimiser": inner}, metrics

    def nats(parameters: decoder.Parameters, sequences: Array) -> Array:
        return decoder.nats(parameters, sequences, shape, execution).sum(axis=-1)

    if members is not None:
        initial, update = jax.vmap(initial), jax.vmap(update, in_axes=(0, 0, None, None, 0))
    seeds = jax.ShapeDtypeStruct(() if members is None else (members,), jnp.uint32)
    like = jax.eval_shape(initial, seeds)
    placed = meshes.shardings(like, mesh, members)
    like = jax.tree.map(
        lambda leaf, sharding: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding), like, placed
    )
    rows, whole = NamedSharding(mesh, P("data")), NamedSharding(mesh, P())
    return Program(
        initial=jax.jit(initial, out_shardings=placed),
        update=jax.jit(update, donate_argnums=0, out_shardings=(placed, whole)),
        nats=jax.jit(nats, out_shardings=whole),
        like=like,
        sequences=rows,
        whole=whole,
    )


def _gradient(
    parameters: decoder.Parameters,
    sequences: Array,
    key: Array | None,
    shape: Shape,
    recipe: Recipe,
    execution: Execution,
    mesh: Mesh | None,
) -> tuple[decoder.Parameters, Array]:
    """Mean gradient and cross-entropy of a batch, worked off in `execution.microbatches` parts."""

    def objective(parameters: decoder.Parameters, part: Array, key: Array | None) -> tuple[Array, Array]:
        return decoder.loss(
            parameters, part, shape, execution, dropout=recipe.dropout, z_loss=recipe.z_loss, key=key, mesh=mesh
        )

    slope = jax.value_and_grad(objective, has_aux=True)
    parts = execution.microbatches
    if parts == 1:
        (_, entropy), gradient = slope(parameters, sequences, key)
        return gradient, entropy

    def add(carry: tuple[decoder.Parameters, Array], inputs: tuple[Array, Array]) -> tuple[Any, None]:
        part, index = inputs
        own = None if key is None else jax.random.fold_in(key, index)
        (_, entropy), gradient = slope(parameters, part, own)
        return jax.tree.map(jnp.add, carry, (gradient, entropy)), None

    # Every part takes rows from all over the batch, so that each device has work in each part.
    split = sequences.reshape(-1, parts, sequences.shape[-1]).swapaxes(0, 1)
    start = (jax.tree.map(jnp.zeros_like, parameters), jnp.zeros(()))
    total, _ = jax.lax.scan(add, start, (split, jnp.arange(parts)))
    return jax.tree.map(lambda value: value / parts, total)
