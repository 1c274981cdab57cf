"""The decoder of the study, in one file: parameters, forward pass, loss.

A parallel block (Wang and Komatsuzaki 2021) is x <- x + attention(norm(x)) + feed_forward(norm(x)), with one RMSNorm
vector for both branches, a SiLU-gated feed-forward, rotary positions and no biases. The embedding is tied to the head
and there is no final norm: that is what the printed parameter counts say. A sequential block (Llama) is
x <- x + attention(norm(x)); x <- x + feed_forward(norm'(x)), with a final norm.
"""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array
from jax.sharding import Mesh
from jax.sharding import PartitionSpec as P

from babelscale.model.execution import Execution
from babelscale.model.shape import Shape

Parameters = dict[str, Array]
EPSILON = 1e-6
ROTARY_BASE = 10_000.0
_PLAIN = Execution()
# Queries of one block of plain attention.
_QUERIES = 128


def initialise(shape: Shape, key: Array) -> Parameters:
    """Parameters in float32; every block's arrays are stacked along a first axis of length `layers`.

    embedding (V, d), norm (layers, d), attention_in (layers, d, 3, heads, d_head) for q, k and v, attention_out
    (layers, heads, d_head, d), feed_forward_in (layers, d, 2, d_ff) for gate and up and feed_forward_out
    (layers, d_ff, d); sequential blocks add norm_feed_forward (layers, d) and norm_final (d,).
    """
    d, layers, heads, d_head = shape.d_model, shape.layers, shape.heads, shape.d_head
    keys = jax.random.split(key, 5)
    # Each block adds two branches to the stream; small outputs keep its variance near that of the embedding.
    out = ((heads * d_head + shape.d_ff) * 2 * layers) ** -0.5
    parameters = {
        "embedding": jax.random.normal(keys[0], (shape.vocabulary, d)) * d**-0.5,
        "norm": jnp.ones((layers, d)),
        "attention_in": jax.random.normal(keys[1], (layers, d, 3, heads, d_head)) * d**-0.5,
        "attention_out": jax.random.normal(keys[2], (layers, heads, d_head, d)) * out,
        "feed_forward_in": jax.random.normal(keys[3], (layers, d, 2, shape.d_ff)) * d**-0.5,
        "feed_forward_out": jax.random.normal(keys[4], (layers, shape.d_ff, d)) * out,
    }
    if shape.block == "sequential":
        parameters |= {"norm_feed_forward": jnp.ones((layers, d)), "norm_final": jnp.ones(d)}
    return parameters


def rotary(length: int, d_head: int) -> tuple[Array, Array]:
    """Cosines and sines of the rotary angles, each (length, d_head / 2) (Su et al. 2021, eq. 34; base 10,000)."""
    frequencies = 1.0 / ROTARY_BASE ** (jnp.arange(0, d_head, 2) / d_head)
    angles = jnp.arange(length)[:, None] * frequencies
    return jnp.cos(angles), jnp.sin(angles)


def _rotate(x: Array, cosines: Array, sines: Array) -> Array:
    """Rotate (..., T, heads, d_head) by the angles of its positions."""
    first, second = jnp.split(x, 2, axis=-1)
    cosines, sines = cosines[:, None].astype(x.dtype), sines[:, None].astype(x.dtype)
    return jnp.concatenate([first * cosines - second * sines, second * cosines + first * sines], axis=-1)


def _normalise(x: Array, scale: Array) -> Array:
    """RMSNorm (Zhang and Sennrich 2019, eq. 4), in float32."""
    wide = x.astype(_wide(x))
    rms = jax.lax.rsqrt(jnp.mean(jnp.square(wide), axis=-1, keepdims=True) + EPSILON)
    return (wide * rms * scale).astype(x.dtype)


def _wide(x: Array) -> Any:
    """float32, unless the type is wider."""
    return jnp.promote_types(x.dtype, jnp.float32)


def _transposed(x: Array) -> Array:
    return jnp.swapaxes(x, -1, -2)


def _inner(x: Array, y: Array, dtype: Any = None) -> Array:
    """x^T y over the last two axes.

    CPU libraries are twice as fast when the narrower of the two is the transposed one; the barrier keeps the compiler
    from turning the product round again.
    """
    if x.shape[-1] <= y.shape[-1]:
        return jnp.matmul(_transposed(x), y, preferred_element_type=dtype)
    turned = jnp.matmul(_transposed(y), x, preferred_element_type=dtype)
    return _transposed(jax.lax.optimization_barrier(turned))


@jax.custom_vjp
def _narrow_product(x: Array, weight: Array) -> Array:
    """x weight, (..., d) by (d, n) to (..., n), with a gradient by `weight` in the quick form of `_inner`."""
    return x @ weight


def _narrow_product_forward(x: Array, weight: Array) -> tuple[Array, tuple[Array, Array]]:
    return x @ weight, (x, weight)


def _narrow_product_backward(kept: tuple[Array, Array], given: Array) -> tuple[Array, Array]:
    x, weight = kept
    return given @ weight.T, _inner(x.reshape(-1, x.shape[-1]), given.reshape(-1, given.shape[-1]))


_narrow_product.defvjp(_narrow_product_forward, _narrow_product_backward)


def _query_blocks(length: int) -> list[tuple[int, int]]:
    """Queries from `start` to `stop` see keys up to `stop` at most: most scores above the diagonal are never computed.

    Eight blocks at most, for each is compiled by itself.
    """
    size = max(_QUERIES, -(-length // 8))
    return [(start, min(start + size, length)) for start in range(0, length, size)]


def _attention_scores(q: Array, k: Array, start: int, stop: int) -> Array:
    """q k^T / sqrt(d_head) of a block of queries, in float32; later keys get -1e30."""
    scores = ((q[:, start:stop] * q.shape[-1] ** -0.5) @ _transposed(k[:, :stop])).astype(_wide(q))
    seen = jnp.arange(start, stop)[:, None] >= jnp.arange(stop)
    return jnp.where(seen, scores, -1e30)


@jax.custom_vjp
def attention(q: Array, k: Array, v: Array) -> Array:
    """Causal attention by matrix products; q, k, v and the result are (batch x heads, T, d_head)."""
    return _attention_forward(q, k, v)[0]


def _attention_forward(q: Array, k: Array, v: Array) -> tuple[Array, tuple[Array, ...]]:
    """o = exp(scores - log Z) v, with Z the sum over the keys; kept are log Z and no scores."""
    mixed, normalisers = [], []
    for start, stop in _query_blocks(q.shape[1]):
        scores = _attention_scores(q, k, start, stop)
        largest = jnp.max(scores, axis=-1, keepdims=True)
        weights = jnp.exp(scores - largest)
        total = jnp.sum(weights, axis=-1, keepdims=True)
        mixed.append((weights.astype(v.dtype) @ v[:, :stop] / total).astype(v.dtype))
        normalisers.append(largest + jnp.log(total))
    result = jnp.concatenate(mixed, axis=1)
    return result, (q, k, v, result, jnp.concatenate(normalisers, axis=1))


def _attention_backward(kept: tuple[Array, ...], given: Array) -> tuple[Array, Array, Array]:
    """With p the weights, dv = p^T do, ds = p (do v^T - do . o), dq = ds k and dk = ds^T q (Dao et al. 2022, B.2)."""
    q, k, v, result, normalisers = kept
    length, scale = q.shape[1], q.shape[-1] ** -0.5
    delta = jnp.sum((given * result).astype(_wide(q)), axis=-1, keepdims=True)
    by_q, by_k, by_v = [], jnp.zeros((), q.dtype), jnp.zeros((), v.dtype)
    for start, stop in _query_blocks(length):
        unseen = ((0, 0), (0, length - stop), (0, 0))
        part = given[:, start:stop]
        weights = jnp.exp(_attention_scores(q, k, start, stop) - normalisers[:, start:stop])
        slope = weights * ((part @ _transposed(v[:, :stop])).astype(weights.dtype) - delta[:, start:stop])
        slope = slope.astype(q.dtype)
        by_q.append(slope @ k[:, :stop] * scale)
        by_k += jnp.pad(_inner(slope, q[:, start:stop]) * scale, unseen)
        by_v += jnp.pad(_inner(weights.astype(v.dtype), part), unseen)
    return jnp.concatenate(by_q, axis=1), by_k, by_v


attention.defvjp(_attention_forward, _attention_backward)


def _attended(q: Array, k: Array, v: Array, execution: Execution) -> Array:
    """Causal attention of (B, T, heads, d_head), by the way the execution names."""
    if execution.attention == "cudnn":
        return jax.nn.dot_product_attention(q, k, v, is_causal=True, implementation="cudnn")
    batch, length, heads, d_head = q.shape

    def by_head(x: Array) -> Array:
        return x.swapaxes(1, 2).reshape(batch * heads, length, d_head)

    mixed = attention(by_head(q), by_head(k), by_head(v))
    return mixed.reshape(batch, heads, length, d_head).swapaxes(1, 2)


def _cast(x: Array, execution: Execution) -> Array:
    return x if execution.dtype == "float32" else x.astype(execution.dtype)


def _drop(x: Array, rate: float, key: Array | None) -> Array:
    if not rate or key is None:
        return x
    kept = jax.random.bernoulli(key, 1 - rate, x.shape)
    return jnp.where(kept, x / (1 - rate), jnp.zeros((), x.dtype))


def hidden(
    parameters: Parameters,
    tokens: Array,
    shape: Shape,
    execution: Execution = _PLAIN,
    dropout: float = 0.0,
    key: Array | None = None,
) -> Array:
    """The stream after the last block (and the final norm, if there is one); tokens (B, T) -> (B, T, d_model).

    Dropout, where a key is given, acts on the embedded tokens and on what each branch adds to the stream.
    """
    d, heads, d_head = shape.d_model, shape.heads, shape.d_head
    batch, length = tokens.shape
    cosines, sines = rotary(length, d_head)
    keys = None if key is None or not dropout else jax.random.split(key, 2 * shape.layers + 1)

    product = _narrow_product if execution.narrow else jnp.matmul

    def attend(x: Array, layer: Parameters) -> Array:
        into = layer["attention_in"].reshape(d, -1)
        q, k, v = jnp.moveaxis(product(x, into).reshape(batch, length, 3, heads, d_head), 2, 0)
        mixed = _attended(_rotate(q, cosines, sines), _rotate(k, cosines, sines), v, execution)
        return product(mixed.reshape(batch, length, heads * d_head), layer["attention_out"].reshape(-1, d))

    def feed_forward(x: Array, layer: Parameters) -> Array:
        both = product(x, layer["feed_forward_in"].reshape(d, -1)).reshape(batch, length, 2, -1)
        gate, up = jnp.moveaxis(both, 2, 0)
        return product(jax.nn.silu(gate) * up, layer["feed_forward_out"])

    def block(stream: Array, inputs: tuple[Parameters, Array | None]) -> tuple[Array, None]:
        layer, keys = inputs
        first, second = (None, None) if keys is None else keys
        x = _normalise(stream, layer["norm"])
        if shape.block == "parallel":
            return stream + _drop(attend(x, layer) + feed_forward(x, layer), dropout, first), None
        stream = stream + _drop(attend(x, layer), dropout, first)
        x = _normalise(stream, layer["norm_feed_forward"])
        return stream + _drop(feed_forward(x, layer), dropout, second), None

    # Rows are cast after they are picked: the gradients of a frequent token add up in float32.
    stream = _cast(parameters["embedding"][tokens], execution)
    layers = {
        name: value if name.startswith("norm") else _cast(value, execution)
        for name, value in parameters.items()
        if name not in ("embedding", "norm_final")
    }
    layer_keys = None
    if keys is not None:
        stream = _drop(stream, dropout, keys[-1])
        layer_keys = keys[:-1].reshape(shape.layers, 2)
    body = jax.checkpoint(block, prevent_cse=False) if execution.rematerialise else block
    # In one straight piece the compiler would merge what is computed again with what was dropped.
    unroll = 1 if execution.rematerialise else execution.unroll
    stream, _ = jax.lax.scan(body, stream, (layers, layer_keys), unroll=unroll)
    return _normalise(stream, parameters["norm_final"]) if shape.block == "sequential" else stream


def logits(parameters: Parameters, tokens: Array, shape: Shape) -> Array:
    """(B, T) -> (B, T, V), through the tied embedding, in float32."""
    return hidden(parameters, tokens, shape) @ parameters["embedding"].T


def nats(parameters: Parameters, sequences: Array, shape: Shape, execution: Execution = _PLAIN) -> Array:
    """Cross-entropy of every predicted token in nats; sequences (B, T + 1) -> (B, T)."""
    inputs, targets = sequences[:, :-1], sequences[:, 1:]
    stream = hidden(parameters, inputs, shape, execution)
    embedding = parameters["embedding"].astype(stream.dtype)

    def part(chunk: tuple[Array, Array, Array]) -> Array:
        _, normaliser, chosen = _scores(chunk[0], embedding, chunk[1])
        return normaliser - chosen

    return _joined(jax.lax.map(part, _chunks(stream, targets, execution.loss_tokens)), targets.shape[1])


def loss(
    parameters: Parameters,
    sequences: Array,
    shape: Shape,
    execution: Execution = _PLAIN,
    *,
    dropout: float = 0.0,
    z_loss: float = 0.0,
    key: Array | None = None,
    mesh: Mesh | None = None,
) -> tuple[Array, Array]:
    """What training minimises, and the mean cross-entropy in nats a token; sequences (B, T + 1).

    With Z = sum_v exp(logit_v), the first is the mean of -log p(target) + z_loss (log Z)^2 (Chowdhery et al. 2022,
    arXiv 2204.02311, section 5). The second carries no gradient.

    Args:
        mesh: where the batch is spread over the axis "data" of several devices.
    """
    stream = hidden(parameters, sequences[:, :-1], shape, execution, dropout, key)
    return _head_loss(z_loss, execution.loss_tokens, mesh, stream, parameters["embedding"], sequences[:, 1:])


def _chunks(stream: Array, targets: Array, tokens: int) -> tuple[Array, Array, Array]:
    """Cut (B, T, d) and (B, T) along T into (n, B, t, ...) of at most about `tokens` tokens, and say which are real.

    Along T, so that each device of a spread batch works on every chunk.
    """
    batch, length = targets.shape
    pieces = -(-length // max(1, min(length, tokens // batch)))
    size = -(-length // pieces)
    short = size * pieces - length
    real = jnp.arange(size * pieces) < length

    def cut(x: Array) -> Array:
        x = jnp.pad(x, [(0, 0), (0, short)] + [(0, 0)] * (x.ndim - 2))
        return x.reshape(batch, pieces, size, *x.shape[2:]).swapaxes(0, 1)

    return cut(stream), cut(targets), real.reshape(pieces, 1, size).astype(_wide(stream))


def _joined(pieces: Array, length: int) -> Array:
    """Put chunks (n, B, t, ...) together again to (B, T, ...)."""
    whole = pieces.swapaxes(0, 1)
    return whole.reshape(len(whole), -1, *pieces.shape[3:])[:, :length]


def _scores(stream: Array, embedding: Array, targets: Array) -> tuple[Array, Array, Array]:
    """Logits, log Z and the target's logit of one chunk, in float32."""
    scores = jnp.einsum("btd,vd->btv", stream, embedding, preferred_element_type=_wide(stream))
    chosen = jnp.take_along_axis(scores, targets[..., None], axis=-1)[..., 0]
    return scores, jax.nn.logsumexp(scores, axis=-1), chosen


@functools.partial(jax.custom_vjp, nondiff_argnums=(0, 1, 2))
def _head_loss(
    z_loss: float, tokens: int, mesh: Mesh | None, stream: Array, embedding: Array, targets: Array
) -> tuple[Array, Array]:
    """(objective, cross-entropy), both means over (B, T); the logits of one chunk exist at a time."""
    return _head_loss_forward(z_loss, tokens, mesh, stream, embedding, targets)[0]


def _head_loss_forward(
    z_loss: float, tokens: int, mesh: Mesh | None, stream: Array, embedding: Array, targets: Array
) -> tuple[tuple[Array, Array], tuple[Array, Array]]:
    """The loss is a mean, so its gradient by the logits is known with them,

        d/dlogit_v = (p_v (1 + 2 z log Z) - [v = target]) / (B T),

    and is carried into the stream and the embedding while the chunk is at hand: nothing is kept or computed again.
    """
    several = mesh is not None and mesh.shape["data"] > 1
    sums: Callable[..., Any] = functools.partial(_head_sums, z_loss, tokens, targets.size, "data" if several else None)
    if several:
        # Each device adds up its own part of the batch and the parts meet once, not once a chunk.
        rows = P("data")
        sums = jax.shard_map(
            sums,
            mesh=mesh,
            axis_names={"data"},
            in_specs=(rows, P(), rows),
            out_specs=((P(), P()), (rows, P())),
            check_vma=False,
        )
    return sums(stream, embedding.astype(stream.dtype), targets)


def _head_sums(
    z_loss: float, tokens: int, count: int, axis: str | None, stream: Array, embedding: Array, targets: Array
) -> tuple[tuple[Array, Array], tuple[Array, Array]]:
    def step(carry: tuple[Array, Array, Array], chunk: tuple[Array, Array, Array]) -> Any:
        objective, entropy, by_embedding = carry
        part, target, real = chunk
        scores, normaliser, chosen = _scores(part, embedding, target)
        weight = real / count
        nats = (normaliser - chosen) * weight
        # -1 at the target's place.
        slope = jnp.exp(scores - normaliser[..., None]) * ((1 + 2 * z_loss * normaliser) * weight)[..., None]
        slope = slope - jax.nn.one_hot(target, scores.shape[-1]) * (weight * jnp.ones_like(chosen))[..., None]
        slope = slope.astype(embedding.dtype)
        by_stream = jnp.einsum("btv,vd->btd", slope, embedding)
        rows = len(slope) * slope.shape[1]
        by_embedding += _inner(part.reshape(rows, -1), slope.reshape(rows, -1), zero.dtype)
        objective += jnp.sum(nats + z_loss * jnp.square(normaliser) * weight)
        return (objective, entropy + jnp.sum(nats), by_embedding), by_stream

    zero = jnp.zeros((), _wide(stream))
    start = (zero, zero, jnp.zeros(embedding.shape[::-1], zero.dtype))
    (objective, entropy, by_embedding), by_stream = jax.lax.scan(step, start, _chunks(stream, targets, tokens))
    if axis is not None:
        objective, entropy, by_embedding = jax.lax.psum((objective, entropy, by_embedding), axis)
    return (objective, entropy), (_joined(by_stream, targets.shape[1]), by_embedding.T)


def _head_loss_backward(
    z_loss: float, tokens: int, mesh: Mesh | None, kept: tuple[Array, Array], given: tuple[Array, Array]
) -> tuple[Array, Array, None]:
    by_stream, by_embedding = kept
    return by_stream * given[0].astype(by_stream.dtype), by_embedding * given[0], None


_head_loss.defvjp(_head_loss_forward, _head_loss_backward)
