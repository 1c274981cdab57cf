"""Hugging Face checkpoints: what is written is read back, and what the decoder does not compute is refused."""

import functools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import ml_dtypes
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from babelscale.errors import BabelscaleError, InputError
from babelscale.model import Shape, decoder, huggingface

SHAPE = Shape(layers=2, heads=2, d_model=16, d_ff=24, d_head=8, vocabulary=40, block="sequential")


@pytest.fixture(scope="module")
def parameters() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    return {name: rng.standard_normal(size, dtype=np.float32) for name, size in huggingface.sizes(SHAPE).items()}


@pytest.fixture
def folder(parameters, tmp_path: Path) -> Path:
    return huggingface.export(parameters, SHAPE, tmp_path / "model")


def changed(folder: Path, **fields: Any) -> None:
    """Set fields of config.json, or take them away with None."""
    config = json.loads((folder / "config.json").read_text())
    config |= fields
    (folder / "config.json").write_text(
        json.dumps({k: v for k, v in config.items() if v is not None or k not in fields})
    )


def rewritten(folder: Path, change: Callable[[dict[str, np.ndarray]], object]) -> None:
    """Save the weights again after a change to the dictionary of them."""
    tensors = load_file(folder / "model.safetensors")
    change(tensors)
    save_file(tensors, folder / "model.safetensors")


def assert_same(read: dict[str, np.ndarray], wanted: dict[str, np.ndarray]) -> None:
    assert read.keys() == wanted.keys()
    for name, value in read.items():
        assert value.dtype == np.float32
        np.testing.assert_array_equal(value, wanted[name], err_msg=name)


def test_the_sizes_are_those_of_the_decoders_own_parameters():
    made = jax.eval_shape(functools.partial(decoder.initialise, SHAPE), jax.random.key(0))
    assert {name: value.shape for name, value in made.items()} == huggingface.sizes(SHAPE)


def test_what_is_exported_is_read_back_bit_by_bit(folder, parameters):
    read, shape = huggingface.read(folder)
    assert shape == SHAPE
    assert_same(read, parameters)
    assert huggingface.is_checkpoint(folder)
    assert huggingface.read_shape(folder) == SHAPE


def test_weights_past_the_size_of_a_file_stand_in_several(parameters, tmp_path, monkeypatch):
    monkeypatch.setattr(huggingface, "_FILE_BYTES", 4000)
    folder = huggingface.export(parameters, SHAPE, tmp_path / "model")
    index = json.loads((folder / "model.safetensors.index.json").read_text())
    files = {path.name for path in folder.glob("*.safetensors")}
    assert len(files) > 2
    assert set(index["weight_map"].values()) == files
    assert index["metadata"]["total_size"] == 4 * SHAPE.params
    assert_same(huggingface.read(folder)[0], parameters)


def test_bfloat16_rounds_the_weights_once(parameters, tmp_path):
    folder = huggingface.export(parameters, SHAPE, tmp_path / "model", dtype="bfloat16")
    rounded = {name: value.astype(ml_dtypes.bfloat16).astype(np.float32) for name, value in parameters.items()}
    assert_same(huggingface.read(folder)[0], rounded)
    assert json.loads((folder / "config.json").read_text())["torch_dtype"] == "bfloat16"


def test_float16_weights_are_read(folder, parameters):
    rewritten(folder, lambda held: held.update({name: value.astype(np.float16) for name, value in held.items()}))
    assert_same(
        huggingface.read(folder)[0], {k: v.astype(np.float16).astype(np.float32) for k, v in parameters.items()}
    )


def test_the_card_tells_what_the_model_was_trained_on(parameters, tmp_path):
    folder = huggingface.export(
        parameters, SHAPE, tmp_path / "model", languages=["no", "sw"], trained_on="Norwegian and Swahili."
    )
    card = (folder / "README.md").read_text()
    assert '- "no"' in card
    assert "Norwegian and Swahili." in card
    assert f"{SHAPE.params:,} parameters" in card


def test_a_parallel_model_is_refused_with_the_way_out(parameters, tmp_path):
    shape = Shape(layers=2, heads=2, d_model=16, d_ff=24, d_head=8, vocabulary=40)
    with pytest.raises(InputError, match=r'block = "sequential"'):
        huggingface.export(parameters, shape, tmp_path / "model")


def test_a_width_the_other_library_does_not_load_is_refused(parameters, tmp_path):
    shape = Shape(layers=2, heads=3, d_model=16, d_ff=24, d_head=8, vocabulary=40, block="sequential")
    with pytest.raises(InputError, match="d_model such as 18"):
        huggingface.export(parameters, shape, tmp_path / "model")


def test_parameters_of_another_model_are_refused(parameters, tmp_path):
    with pytest.raises(InputError, match=r"norm_final has the shape \(3,\), the model's is \(16,\)"):
        huggingface.export(parameters | {"norm_final": np.ones(3)}, SHAPE, tmp_path / "model")
    with pytest.raises(InputError, match="norm_final"):
        huggingface.export({k: v for k, v in parameters.items() if k != "norm_final"}, SHAPE, tmp_path / "model")


def test_a_full_disk_leaves_nothing(parameters, tmp_path, monkeypatch):
    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("safetensors.numpy.save_file", full)
    with pytest.raises(BabelscaleError, match="No space left"):
        huggingface.export(parameters, SHAPE, tmp_path / "model")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "fields",
    [
        {"rope_theta": None},
        {"rope_parameters": None},
        {"rope_theta": None, "rope_parameters": None, "attention_bias": None, "mlp_bias": None},
        {"rope_scaling": None, "num_key_value_heads": None, "head_dim": None, "architectures": None},
        {"transformers_version": "4.40.0", "use_cache": True},
    ],
)
def test_fields_that_may_be_absent_mean_the_formats_defaults(folder, parameters, fields):
    changed(folder, **fields)
    read, shape = huggingface.read(folder)
    assert shape == SHAPE
    assert_same(read, parameters)


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"num_key_value_heads": 1}, r"num_key_value_heads is 1, the decoder has num_attention_heads, 2"),
        ({"attention_bias": True}, "attention_bias is True, the decoder has False"),
        ({"mlp_bias": True}, "mlp_bias is True, the decoder has False"),
        ({"rope_theta": 500000.0}, "rope_theta is 500000.0, the decoder has 10000.0"),
        ({"rope_parameters": {"rope_theta": 5e5}}, "rope_parameters.rope_theta is 500000.0, the decoder has 10000.0"),
        (
            {"rope_scaling": {"type": "linear", "factor": 2.0}},
            "rope_scaling.type is 'linear', the decoder has 'default'",
        ),
        ({"rms_norm_eps": 1e-5}, "rms_norm_eps is 1e-05, the decoder has 1e-06"),
        ({"hidden_act": "gelu"}, "hidden_act is 'gelu', the decoder has 'silu'"),
        ({"model_type": "mistral"}, "model_type is 'mistral', the decoder has 'llama'"),
        ({"model_type": None}, "model_type is None"),
        ({"architectures": ["LlamaForSequenceClassification"]}, "architectures is .*, the decoder has"),
        ({"quantization_config": {"bits": 4}}, "quantization_config is"),
        ({"hidden_size": None}, "no hidden_size"),
        ({"num_hidden_layers": 0}, "num_hidden_layers is 0"),
        ({"vocab_size": True}, "vocab_size is True"),
        ({"head_dim": "8"}, "head_dim is '8'"),
        ({"vocab_size": 41}, r"embed_tokens.weight has the shape \(40, 16\), config.json says \(41, 16\)"),
        ({"num_hidden_layers": 3}, r"no tensor model.layers.2.input_layernorm.weight \(9 of 29 missing\)"),
        ({"num_hidden_layers": 1}, "does not use tensor model.layers.1.input_layernorm.weight"),
        ({"tie_word_embeddings": False}, "tie_word_embeddings is false and there is no tensor lm_head.weight"),
    ],
)
def test_what_the_decoder_does_not_compute_is_refused_by_name(folder, fields, told):
    changed(folder, **fields)
    with pytest.raises(InputError, match=told) as refused:
        huggingface.read(folder)
    assert str(folder) in refused.value.message
    assert refused.value.hint


@pytest.mark.parametrize("tied", [True, False])
def test_a_head_is_taken_only_if_it_is_the_embedding(folder, parameters, tied):
    changed(folder, tie_word_embeddings=tied)
    rewritten(folder, lambda held: held.update({"lm_head.weight": held["model.embed_tokens.weight"].copy()}))
    assert_same(huggingface.read(folder)[0], parameters)
    rewritten(folder, lambda held: held["lm_head.weight"].__setitem__((3, 4), 9.0))
    with pytest.raises(InputError, match=r"lm_head.weight differs from the embedding"):
        huggingface.read(folder)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda held: held.pop("model.norm.weight"), "no tensor model.norm.weight"),
        (lambda held: held.update({"model.layers.0.self_attn.q_proj.bias": np.ones(16, np.float32)}), "q_proj.bias"),
        (lambda held: held.update({"model.norm.weight": np.ones(16, np.float64)}), "of type F64"),
        (lambda held: held.update({"model.norm.weight": np.ones(17, np.float32)}), r"shape \(17,\), config.json says"),
    ],
)
def test_tensors_that_do_not_fit_are_refused_by_name(folder, change, told):
    rewritten(folder, change)
    with pytest.raises(InputError, match=told):
        huggingface.read(folder)


def test_the_rotary_table_of_old_files_is_passed_over(folder, parameters):
    rewritten(
        folder, lambda held: held.update({"model.layers.0.self_attn.rotary_emb.inv_freq": np.ones(4, np.float32)})
    )
    assert_same(huggingface.read(folder)[0], parameters)


def test_damaged_or_missing_files_are_named(parameters, tmp_path, monkeypatch):
    folder = huggingface.export(parameters, SHAPE, tmp_path / "one")
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-10])
    with pytest.raises(InputError, match=r"model.safetensors: not a whole safetensors file"):
        huggingface.read(folder)
    weights.unlink()
    with pytest.raises(InputError, match=r"model.safetensors: no such file"):
        huggingface.read(folder)
    (folder / "config.json").write_text("{")
    with pytest.raises(InputError, match=r"config.json: cannot be read"):
        huggingface.read_shape(folder)
    monkeypatch.setattr(huggingface, "_FILE_BYTES", 4000)
    folder = huggingface.export(parameters, SHAPE, tmp_path / "several")
    next(iter(folder.glob("model-00002*"))).unlink()
    with pytest.raises(InputError, match=r"model-00002-of-.*: no such file"):
        huggingface.read(folder)
    index = folder / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {"model.norm.weight": "../one/model.safetensors"}}))
    with pytest.raises(InputError, match="weight_map names"):
        huggingface.read(folder)
