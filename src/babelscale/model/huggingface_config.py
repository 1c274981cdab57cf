"""config.json, generation_config.json and the model card of a Llama model, written and read."""

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np

from babelscale.errors import InputError
from babelscale.model.shape import Shape

CONFIG, GENERATION, CARD = "config.json", "generation_config.json", "README.md"
DTYPES = {"float32": np.dtype(np.float32), "bfloat16": np.dtype(ml_dtypes.bfloat16)}
EPSILON, ROPE_BASE = 1e-6, 10_000.0
# Sizes by our name; these have no default that could be meant.
_SIZES = {
    "layers": "num_hidden_layers",
    "heads": "num_attention_heads",
    "d_model": "hidden_size",
    "d_ff": "intermediate_size",
    "vocabulary": "vocab_size",
}
_HINT = "the decoder computes Llama with these values only; choose another base"


def check_exportable(shape: Shape) -> None:
    """Refuse what no Llama model computes.

    Raises:
        InputError: a parallel block, or a width that the Hugging Face library refuses.
    """
    if shape.block != "sequential":
        raise InputError(
            f"a model of block {shape.block!r} cannot be exported: Llama's feed-forward reads the stream after the "
            "attention, a parallel one reads it before",
            hint='train with block = "sequential"',
        )
    if shape.d_model % shape.heads:
        raise InputError(
            f"a model with d_model {shape.d_model} and {shape.heads} heads cannot be exported: the Hugging Face "
            "library takes only a d_model that is a multiple of the heads",
            hint=f"choose a d_model such as {shape.heads * -(-shape.d_model // shape.heads)}",
        )


def write(shape: Shape, folder: Path, dtype: str, sequence_length: int, eos: int | None) -> None:
    """Write config.json and generation_config.json.

    Args:
        eos: id of the end-of-line token, after which generation stops; there is no token before a text.
    """
    ends = {"bos_token_id": None, "eos_token_id": eos, "pad_token_id": None}
    rope = {"rope_type": "default", "rope_theta": ROPE_BASE}
    settings = {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "vocab_size": shape.vocabulary,
        "hidden_size": shape.d_model,
        "intermediate_size": shape.d_ff,
        "num_hidden_layers": shape.layers,
        "num_attention_heads": shape.heads,
        "num_key_value_heads": shape.heads,
        "head_dim": shape.d_head,
        "hidden_act": "silu",
        "rms_norm_eps": EPSILON,
        # Releases before 5 read the first, later ones the second.
        "rope_theta": ROPE_BASE,
        "rope_parameters": rope,
        "attention_bias": False,
        "attention_dropout": 0.0,
        "mlp_bias": False,
        "tie_word_embeddings": True,
        "max_position_embeddings": sequence_length,
        "torch_dtype": dtype,
        "dtype": dtype,
    }
    for name, content in ((CONFIG, settings | ends), (GENERATION, ends)):
        (folder / name).write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def read(folder: Path) -> Shape:
    """The shape a config.json gives, if the decoder computes exactly that model.

    Raises:
        InputError: naming the file, the field and both values.
    """
    path = folder / CONFIG
    told = read_json(path)
    for name, seen, wanted in _fixed(told):
        if seen != wanted or isinstance(seen, bool) != isinstance(wanted, bool):
            raise InputError(f"{path}: {name} is {seen!r}, the decoder has {wanted!r}", hint=_HINT)
    given = {ours: _size(told, theirs, path) for ours, theirs in _SIZES.items()}
    if (groups := told.get("num_key_value_heads")) not in (None, given["heads"]):
        raise InputError(
            f"{path}: num_key_value_heads is {groups!r}, the decoder has num_attention_heads, {given['heads']}",
            hint="models with grouped-query attention cannot be read exactly",
        )
    d_head = given["d_model"] // given["heads"] if told.get("head_dim") is None else _size(told, "head_dim", path)
    return Shape(**given, d_head=d_head, block="sequential")


def is_tied(folder: Path) -> bool:
    """Whether config.json ties the head to the embedding (by default it does not)."""
    return read_json(folder / CONFIG).get("tie_word_embeddings", False) is True


def read_json(path: Path) -> dict[str, Any]:
    try:
        told = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: cannot be read ({error})", hint="name the folder of a Hugging Face model") from None
    if not isinstance(told, dict):
        raise InputError(f"{path}: not an object", hint="name the folder of a Hugging Face model")
    return told


def _fixed(told: Mapping[str, Any]) -> Iterator[tuple[str, Any, Any]]:
    """Fields that the decoder leaves no choice of: name, value seen and value wanted.

    A field that is absent has the format's own default, which for all of these is what the decoder has.
    """
    yield "model_type", told.get("model_type"), "llama"
    yield "architectures", told.get("architectures") or ["LlamaForCausalLM"], ["LlamaForCausalLM"]
    yield "hidden_act", told.get("hidden_act", "silu"), "silu"
    yield "rms_norm_eps", told.get("rms_norm_eps", EPSILON), EPSILON
    yield "attention_bias", told.get("attention_bias", False), False
    yield "mlp_bias", told.get("mlp_bias", False), False
    yield "quantization_config", told.get("quantization_config"), None
    yield "rope_theta", told.get("rope_theta", ROPE_BASE), ROPE_BASE
    for name in ("rope_parameters", "rope_scaling"):
        rope = told.get(name) or {}
        if not isinstance(rope, dict):
            yield name, rope, {}
            continue
        standard = {"rope_theta": ROPE_BASE, "rope_type": "default", "type": "default", "partial_rotary_factor": 1.0}
        for key, value in rope.items():
            yield f"{name}.{key}", value, standard.get(key)


def _size(told: Mapping[str, Any], name: str, path: Path) -> int:
    value = told.get(name)
    if type(value) is not int or value < 1:
        seen = f"{name} is {value!r}" if name in told else f"no {name}"
        raise InputError(f"{path}: {seen}", hint="it must be a whole number of at least 1")
    return value


def write_card(shape: Shape, folder: Path, languages: Sequence[str], trained_on: str, *, with_tokenizer: bool) -> None:
    """Write README.md: what the model is, how it is loaded and, where told, what it was trained on."""
    head = ["library_name: transformers", "pipeline_tag: text-generation", "tags:", "- babelscale"]
    if languages:
        # Quoted: a bare `no` is a truth value to readers of this head.
        head += ["language:", *(f"- {json.dumps(code)}" for code in languages)]
    lines = [
        "---",
        *head,
        "---",
        "",
        f"# A language model of {shape.params:,} parameters",
        "",
        f"A Llama model of {shape.layers} layers, {shape.heads} heads of {shape.d_head}, d_model {shape.d_model}, d_ff "
        f"{shape.d_ff} and {shape.vocabulary:,} tokens, embedding and head tied; {shape.params_non_embedding:,} "
        "parameters without the embedding.",
        "`AutoModelForCausalLM.from_pretrained` loads it.",
    ]
    if with_tokenizer:
        lines += [
            "",
            "The tokenizer gives the ids that the model was trained with. A line ends with the token of the newline;",
            "no token comes before a text. Decode with `skip_special_tokens=False` to keep the newlines.",
        ]
    if trained_on.strip():
        lines += ["", "## Trained on", "", trained_on.strip()]
    (folder / CARD).write_text("\n".join(lines) + "\n", encoding="utf-8")
