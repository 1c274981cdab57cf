"""The decoder against an independent float64 NumPy one, and against what its equations promise."""

import functools

import jax
import numpy as np
import pytest

from babelscale.model import Shape, decoder
from babelscale.model.execution import Execution

SHAPE = Shape(layers=2, heads=3, d_model=24, d_ff=40, d_head=8, vocabulary=50)


@pytest.fixture(scope="module")
def parameters() -> decoder.Parameters:
    return decoder.initialise(SHAPE, jax.random.key(3))


@pytest.fixture(scope="module")
def sequences() -> np.ndarray:
    return np.random.default_rng(0).integers(0, SHAPE.vocabulary, (4, 17))


def reference_nats(parameters, sequences: np.ndarray, shape: Shape) -> np.ndarray:
    """The same decoder, one sequence, one position and one head at a time, in float64."""
    p = {name: np.asarray(value, np.float64) for name, value in parameters.items()}
    width = shape.heads * shape.d_head
    half = shape.d_head // 2

    def turned(vector: np.ndarray, position: int) -> np.ndarray:
        angle = position * 10_000.0 ** (-2 * np.arange(half) / shape.d_head)
        first, second = vector[:half], vector[half:]
        cos, sin = np.cos(angle), np.sin(angle)
        return np.concatenate([first * cos - second * sin, second * cos + first * sin])

    result = np.empty((len(sequences), sequences.shape[1] - 1))
    for row, sequence in enumerate(sequences):
        x = p["embedding"][sequence[:-1]]
        for layer in range(shape.layers):
            normed = x / np.sqrt(np.mean(x**2, axis=1, keepdims=True) + 1e-6) * p["norm"][layer]
            q, k, v = np.split(normed @ p["attention_in"][layer].reshape(shape.d_model, -1), 3, axis=1)
            gate, up = np.split(normed @ p["feed_forward_in"][layer].reshape(shape.d_model, -1), 2, axis=1)
            attended = np.zeros((len(x), width))
            for head in range(shape.heads):
                part = slice(head * shape.d_head, (head + 1) * shape.d_head)
                keys = [turned(k[j, part], j) for j in range(len(x))]
                for i in range(len(x)):
                    scores = np.array([turned(q[i, part], i) @ keys[j] for j in range(i + 1)]) / shape.d_head**0.5
                    weights = np.exp(scores - scores.max())
                    attended[i, part] = weights / weights.sum() @ v[: i + 1, part]
            forward = gate / (1 + np.exp(-gate)) * up
            x = x + attended @ p["attention_out"][layer].reshape(width, -1) + forward @ p["feed_forward_out"][layer]
        scores = x @ p["embedding"].T
        largest = scores.max(axis=1)
        total = largest + np.log(np.exp(scores - largest[:, None]).sum(axis=1))
        result[row] = total - scores[np.arange(len(x)), sequence[1:]]
    return result


def test_the_loss_equals_an_independent_float64_decoder(parameters, sequences):
    ours = decoder.nats(parameters, sequences, SHAPE)
    np.testing.assert_allclose(ours, reference_nats(parameters, sequences, SHAPE), rtol=1e-5)


def test_the_gradient_matches_central_differences(parameters, sequences):
    with jax.enable_x64(True):
        exact = {name: jax.numpy.asarray(np.asarray(value, np.float64)) for name, value in parameters.items()}

        def loss(p):
            return decoder.loss(p, sequences, SHAPE, z_loss=1e-3)[0]

        gradient = jax.grad(loss)(exact)
        rng = np.random.default_rng(1)
        for name in exact:
            direction = rng.standard_normal(exact[name].shape)
            step = 1e-5
            ahead = loss(exact | {name: exact[name] + step * direction})
            behind = loss(exact | {name: exact[name] - step * direction})
            slope = float((ahead - behind) / (2 * step))
            assert slope == pytest.approx(float(np.sum(np.asarray(gradient[name]) * direction)), rel=1e-6)


@pytest.mark.parametrize(
    ("tokens", "z_loss"),
    [
        (1, 1e-2),
        (20, 0.0),
        (1000, 0.0),
        (1000, 1e-2),
        # Each tokens and each z-loss stand above; every chunk is compiled, which takes the time.
        pytest.param(1, 0.0, marks=pytest.mark.slow),
        pytest.param(20, 1e-2, marks=pytest.mark.slow),
    ],
)
def test_the_training_loss_and_its_gradient_are_those_of_whole_logits(parameters, sequences, z_loss, tokens):
    def whole(p):
        scores = decoder.logits(p, sequences[:, :-1], SHAPE)
        normaliser = jax.nn.logsumexp(scores, axis=-1)
        chosen = jax.numpy.take_along_axis(scores, sequences[:, 1:, None], axis=-1)[..., 0]
        entropy = (normaliser - chosen).mean()
        return entropy + z_loss * jax.numpy.square(normaliser).mean(), entropy

    def chunked(p):
        return decoder.loss(p, sequences, SHAPE, Execution(loss_tokens=tokens), z_loss=z_loss)

    (expected, entropy), slope = jax.value_and_grad(whole, has_aux=True)(parameters)
    (objective, measured), gradient = jax.value_and_grad(chunked, has_aux=True)(parameters)
    assert float(objective) == pytest.approx(float(expected), rel=1e-6)
    assert float(measured) == pytest.approx(float(entropy), rel=1e-6)
    for name in parameters:
        np.testing.assert_allclose(gradient[name], slope[name], rtol=2e-4, atol=1e-7)


def test_rematerialising_changes_no_gradient(parameters, sequences):
    def gradient(execution):
        return jax.grad(lambda p: decoder.loss(p, sequences, SHAPE, execution)[0])(parameters)

    kept, again = gradient(Execution()), gradient(Execution(rematerialise=True))
    for name in parameters:
        np.testing.assert_allclose(kept[name], again[name], rtol=1e-5, atol=1e-8)


def test_narrow_products_change_no_gradient(parameters, sequences):
    def gradient(execution):
        return jax.grad(lambda p: decoder.loss(p, sequences, SHAPE, execution)[0])(parameters)

    plain, narrow = gradient(Execution()), gradient(Execution(narrow=True))
    for name in parameters:
        np.testing.assert_allclose(plain[name], narrow[name], rtol=1e-4, atol=1e-7)


def test_attention_in_blocks_of_queries_is_a_softmax_over_earlier_keys():
    length = 300
    q, k, v, given = np.random.default_rng(2).standard_normal((4, 2, length, 8)).astype(np.float32)
    seen = np.tri(length, dtype=bool)

    def whole(q, k, v):
        scores = jax.numpy.einsum("hid,hjd->hij", q, k) / 8**0.5
        weights = jax.nn.softmax(jax.numpy.where(seen, scores, -np.inf), axis=-1)
        return jax.numpy.einsum("hij,hjd->hid", weights, v)

    expected, back = jax.vjp(whole, q, k, v)
    mixed, ours = jax.vjp(decoder.attention, q, k, v)
    np.testing.assert_allclose(mixed, expected, rtol=1e-4, atol=1e-6)
    for slope, reference in zip(ours(given), back(given), strict=True):
        np.testing.assert_allclose(slope, reference, rtol=1e-4, atol=1e-5)


def test_bfloat16_stays_near_float32(parameters, sequences):
    exact, _ = decoder.loss(parameters, sequences, SHAPE)
    (rounded, _), gradient = jax.value_and_grad(
        lambda p: decoder.loss(p, sequences, SHAPE, Execution("bfloat16")), has_aux=True
    )(parameters)
    assert float(rounded) == pytest.approx(float(exact), rel=5e-3)
    assert {value.dtype.name for value in gradient.values()} == {"float32"}


def test_dropout_keeps_the_mean_and_follows_its_key(parameters, sequences):
    @functools.partial(jax.jit, static_argnums=1)
    def drawn(key, dropout):
        return decoder.loss(parameters, sequences, SHAPE, dropout=dropout, key=key)[0]

    def lost(key: int, dropout: float = 0.1) -> float:
        return float(drawn(jax.random.key(key), dropout))

    plain = lost(0, 0.0)
    assert lost(0) == lost(0) != lost(1)
    assert plain == pytest.approx(float(decoder.loss(parameters, sequences, SHAPE)[0]), rel=1e-6)
    assert np.mean([lost(key) for key in range(20)]) == pytest.approx(plain, rel=0.05)


def test_parameters_are_as_many_as_the_shape_counts(parameters):
    assert sum(value.size for value in parameters.values()) == SHAPE.params


def test_no_position_sees_a_later_token(parameters, sequences):
    changed = sequences.copy()
    changed[:, 10] = (changed[:, 10] + 1) % SHAPE.vocabulary
    before, after = (decoder.logits(parameters, part[:, :-1], SHAPE) for part in (sequences, changed))
    np.testing.assert_array_equal(before[:, :10], after[:, :10])
    assert not np.allclose(before[:, 10], after[:, 10])
