"""The sequential decoder against an independent float64 Llama that knows only the exported files."""

import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from safetensors.numpy import load_file

from babelscale.model import Shape, decoder, huggingface

SHAPES = {
    "square": Shape(layers=2, heads=3, d_model=24, d_ff=40, d_head=8, vocabulary=50, block="sequential"),
    "narrow heads": Shape(layers=3, heads=2, d_model=24, d_ff=20, d_head=6, vocabulary=31, block="sequential"),
}


def llama(folder: Path, tokens: np.ndarray) -> np.ndarray:
    """Logits of a Llama checkpoint, one sequence and one head at a time, in float64 (Touvron et al. 2023, section 2.2;
    positions of Su et al. 2021 on the two halves of a head)."""
    config = json.loads((folder / "config.json").read_text())
    weights = {name: value.astype(np.float64) for name, value in load_file(folder / "model.safetensors").items()}
    heads, size = config["num_attention_heads"], config["head_dim"]

    def norm(x: np.ndarray, name: str) -> np.ndarray:
        return weights[name] * x / np.sqrt((x * x).mean(axis=-1, keepdims=True) + config["rms_norm_eps"])

    def linear(x: np.ndarray, name: str) -> np.ndarray:
        return x @ weights[f"{name}.weight"].T

    def turned(x: np.ndarray) -> np.ndarray:
        angles = np.outer(np.arange(len(x)), config["rope_theta"] ** (-np.arange(0, size, 2) / size))
        first, second = x[:, : size // 2], x[:, size // 2 :]
        pairs = (first + 1j * second) * np.exp(1j * angles)
        return np.hstack([pairs.real, pairs.imag])

    def attention(x: np.ndarray, name: str) -> np.ndarray:
        q, k, v = (linear(x, f"{name}.{part}_proj") for part in "qkv")
        mixed = []
        for head in range(heads):
            part = slice(head * size, (head + 1) * size)
            scores = turned(q[:, part]) @ turned(k[:, part]).T / np.sqrt(size)
            scores[np.triu_indices(len(x), 1)] = -np.inf
            weight = np.exp(scores - scores.max(axis=1, keepdims=True))
            mixed.append(weight / weight.sum(axis=1, keepdims=True) @ v[:, part])
        return linear(np.hstack(mixed), f"{name}.o_proj")

    def feed_forward(x: np.ndarray, name: str) -> np.ndarray:
        gate = linear(x, f"{name}.gate_proj")
        return linear(gate / (1 + np.exp(-gate)) * linear(x, f"{name}.up_proj"), f"{name}.down_proj")

    result = []
    for sequence in tokens:
        x = weights["model.embed_tokens.weight"][sequence]
        for layer in range(config["num_hidden_layers"]):
            block = f"model.layers.{layer}"
            x = x + attention(norm(x, f"{block}.input_layernorm.weight"), f"{block}.self_attn")
            x = x + feed_forward(norm(x, f"{block}.post_attention_layernorm.weight"), f"{block}.mlp")
        result.append(norm(x, "model.norm.weight") @ weights["model.embed_tokens.weight"].T)
    return np.array(result)


def lively(shape: Shape) -> dict[str, jax.Array]:
    """Parameters of the usual spread, with norm vectors that are not all ones, so that each one counts."""
    rng = np.random.default_rng(0)
    drawn = {name: rng.standard_normal(size) for name, size in huggingface.sizes(shape).items()}
    return {
        name: jnp.asarray(np.exp(0.3 * value) if name.startswith("norm") else value * shape.d_model**-0.5, jnp.float32)
        for name, value in drawn.items()
    }


@pytest.mark.parametrize("name", SHAPES)
def test_logits_equal_an_independent_llama_that_reads_the_export(name: str, tmp_path: Path):
    shape = SHAPES[name]
    parameters = lively(shape)
    tokens = np.random.default_rng(0).integers(0, shape.vocabulary, (3, 19))
    wanted = llama(huggingface.export(parameters, shape, tmp_path / "model"), tokens)
    ours = np.asarray(decoder.logits(parameters, tokens, shape))
    assert np.abs(ours - wanted).max() <= 1e-5 * np.abs(wanted).max()


def test_the_exported_tensors_are_as_many_numbers_as_the_shape_counts(tmp_path: Path):
    shape = SHAPES["narrow heads"]
    folder = huggingface.export(lively(shape), shape, tmp_path / "model")
    assert sum(value.size for value in load_file(folder / "model.safetensors").values()) == shape.params


def test_the_constants_are_the_decoders():
    from babelscale.model import huggingface_config

    assert huggingface_config.EPSILON == decoder.EPSILON
    assert huggingface_config.ROPE_BASE == decoder.ROTARY_BASE
