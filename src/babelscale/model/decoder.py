"""The decoder of the study, in one file: parameters, forward pass, loss.

A block is parallel (Wang and Komatsuzaki 2021): x <- x + attention(norm(x)) + feed_forward(norm(x)), with one RMSNorm
vector for both branches, a SiLU-gated feed-forward, rotary positions and no biases. The embedding is tied to the head
and there is no final norm: that is what the printed parameter counts say.

The branches read the same normalised input, so q, k, v, gate and up are one matrix, and o and down another.
"""

import jax
import jax.numpy as jnp
from jax import Array

from babelscale.model.shape import Shape

Parameters = dict[str, Array]


def initialise(shape: Shape, key: Array) -> Parameters:
    """Parameters in float32; every block's arrays are stacked along a first axis of length `layers`.

    embedding (V, d), norm (layers, d), into (layers, d, 3 heads d_head + 2 d_ff) and
    out_of (layers, heads d_head + d_ff, d).
    """
    d, width, layers = shape.d_model, shape.heads * shape.d_head, shape.layers
    embedding, into, out_of = jax.random.split(key, 3)
    return {
        "embedding": jax.random.normal(embedding, (shape.vocabulary, d)) * d**-0.5,
        "norm": jnp.ones((layers, d)),
        "into": jax.random.normal(into, (layers, d, 3 * width + 2 * shape.d_ff)) * d**-0.5,
        # Each block adds two branches to the stream; small outputs keep its variance near that of the embedding.
        "out_of": jax.random.normal(out_of, (layers, width + shape.d_ff, d))
        * ((width + shape.d_ff) * 2 * layers) ** -0.5,
    }


def rotary(length: int, d_head: int) -> tuple[Array, Array]:
    """Cosines and sines of the rotary angles, each (length, d_head / 2) (Su et al. 2021, eq. 34; base 10,000)."""
    frequencies = 10_000.0 ** (-jnp.arange(0, d_head, 2) / d_head)
    angles = jnp.arange(length)[:, None] * frequencies
    return jnp.cos(angles), jnp.sin(angles)


def _rotate(x: Array, cosines: Array, sines: Array) -> Array:
    first, second = jnp.split(x, 2, axis=-1)
    return jnp.concatenate([first * cosines - second * sines, second * cosines + first * sines], axis=-1)


def attention(q: Array, k: Array, v: Array) -> Array:
    """Causal attention; q, k, v and the result are (batch x heads, T, d_head)."""
    length, d_head = q.shape[-2:]
    scores = (q * d_head**-0.5) @ jnp.swapaxes(k, -1, -2)
    causal = jnp.tril(jnp.ones((length, length), bool))
    weights = jax.nn.softmax(jnp.where(causal, scores, -1e30), axis=-1)
    return weights @ v


def hidden(parameters: Parameters, tokens: Array, shape: Shape) -> Array:
    """The stream after the last block; tokens (B, T) -> (B, T, d_model)."""
    batch, length = tokens.shape
    heads, d_head, width = shape.heads, shape.d_head, shape.heads * shape.d_head
    cosines, sines = rotary(length, d_head)

    def to_heads(x: Array) -> Array:
        return x.reshape(batch, length, heads, d_head).swapaxes(1, 2).reshape(batch * heads, length, d_head)

    def block(stream: Array, layer: Parameters) -> tuple[Array, None]:
        scale = jax.lax.rsqrt(jnp.mean(jnp.square(stream), axis=-1, keepdims=True) + 1e-6)
        inner = (stream * scale * layer["norm"]) @ layer["into"]
        q, k, v, gate, up = jnp.split(inner, [width, 2 * width, 3 * width, 3 * width + shape.d_ff], axis=-1)
        q, k = (_rotate(to_heads(part), cosines, sines) for part in (q, k))
        attended = attention(q, k, to_heads(v)).reshape(batch, heads, length, d_head).swapaxes(1, 2)
        joined = jnp.concatenate([attended.reshape(batch, length, width), jax.nn.silu(gate) * up], axis=-1)
        return stream + joined @ layer["out_of"], None

    layers = {name: parameters[name] for name in ("norm", "into", "out_of")}
    stream, _ = jax.lax.scan(block, parameters["embedding"][tokens], layers)
    return stream


def logits(parameters: Parameters, tokens: Array, shape: Shape) -> Array:
    """(B, T) -> (B, T, V), through the tied embedding."""
    return hidden(parameters, tokens, shape) @ parameters["embedding"].T


def nats(parameters: Parameters, sequences: Array, shape: Shape) -> Array:
    """Cross-entropy of every predicted token in nats; sequences (B, T + 1) -> (B, T)."""
    inputs, targets = sequences[:, :-1], sequences[:, 1:]
    scores = logits(parameters, inputs, shape)
    chosen = jnp.take_along_axis(scores, targets[..., None], axis=-1)[..., 0]
    return jax.nn.logsumexp(scores, axis=-1) - chosen
