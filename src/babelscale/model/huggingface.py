"""Hugging Face checkpoints: the sequential decoder written as a Llama model, and such a model read as our parameters.

A sequential block is Llama's (Touvron et al. 2023, arXiv 2302.13971, section 2.2) where its options are ours: as many
key-value heads as heads, no biases, SiLU, RMSNorm with 1e-6, plain rotary positions with base 10,000, tied embedding.
Whatever would be computed otherwise is refused rather than approximated. A matrix there is (outputs, inputs), here the
other way round.
"""

import functools
import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from babelscale.errors import BabelscaleError, InputError
from babelscale.files import new_folder
from babelscale.model import huggingface_config as config
from babelscale.model import huggingface_tokenizer
from babelscale.model.shape import Shape

WEIGHTS, INDEX = "model.safetensors", "model.safetensors.index.json"
HEAD = "lm_head.weight"
# Bytes of one file of weights at most, as the Hugging Face libraries have it.
_FILE_BYTES = 5_000_000_000
_READABLE = {"F32", "BF16", "F16"}


@dataclass(frozen=True)
class Tensor:
    """One tensor of a Llama model and where it stands among our parameters.

    Args:
        name: there.
        shape: there; a matrix is (outputs, inputs).
        array, part: here: the name of our array and the index of the part of it.
        turned: the part is (inputs, outputs), after joining its axes.
    """

    name: str
    shape: tuple[int, ...]
    array: str
    part: tuple[Any, ...]
    turned: bool = True

    def taken(self, parameters: Mapping[str, NDArray[Any]]) -> NDArray[Any]:
        """The tensor, out of our parameters."""
        part = parameters[self.array][self.part]
        return part.reshape(self.shape[::-1]).T if self.turned else part

    def put(self, value: NDArray[Any], parameters: Mapping[str, NDArray[Any]]) -> None:
        """The tensor, into our parameters."""
        part = parameters[self.array][self.part]
        part[...] = (value.T if self.turned else value).reshape(part.shape)


def tensors(shape: Shape) -> Iterator[Tensor]:
    """Every tensor of a Llama model of this shape, the tied head left out."""
    d, d_ff, width = shape.d_model, shape.d_ff, shape.heads * shape.d_head
    yield Tensor("model.embed_tokens.weight", (shape.vocabulary, d), "embedding", (...,), turned=False)
    for layer in range(shape.layers):
        block = f"model.layers.{layer}"
        yield Tensor(f"{block}.input_layernorm.weight", (d,), "norm", (layer,), turned=False)
        for slot, name in enumerate("qkv"):
            place = (layer, slice(None), slot)
            yield Tensor(f"{block}.self_attn.{name}_proj.weight", (width, d), "attention_in", place)
        yield Tensor(f"{block}.self_attn.o_proj.weight", (d, width), "attention_out", (layer,))
        yield Tensor(f"{block}.post_attention_layernorm.weight", (d,), "norm_feed_forward", (layer,), turned=False)
        for slot, name in enumerate(("gate", "up")):
            place = (layer, slice(None), slot)
            yield Tensor(f"{block}.mlp.{name}_proj.weight", (d_ff, d), "feed_forward_in", place)
        yield Tensor(f"{block}.mlp.down_proj.weight", (d, d_ff), "feed_forward_out", (layer,))
    yield Tensor("model.norm.weight", (d,), "norm_final", (...,), turned=False)


def export(
    parameters: Mapping[str, ArrayLike],
    shape: Shape,
    folder: str | Path,
    *,
    tokenizer: str | Path | None = None,
    dtype: Literal["float32", "bfloat16"] = "float32",
    sequence_length: int = 2048,
    languages: Sequence[str] = (),
    trained_on: str = "",
) -> Path:
    """Write a model that `AutoModelForCausalLM.from_pretrained(folder)` reads; the folder appears whole or not at all.

    Args:
        parameters: of the decoder, `block = "sequential"`.
        folder: new or empty.
        tokenizer: folder that holds tokenizer.model, or that file.
        dtype: of the weights; bfloat16 rounds them.
        sequence_length: tokens of the longest sequence trained on; nothing in the model depends on it.
        languages: codes, for the model card.
        trained_on: paragraphs of Markdown for the model card.

    Raises:
        InputError: the model is no Llama model, the parameters are not those of the shape, the tokenizer does not fit,
            or the folder is not empty.
        BabelscaleError: the files could not be written.
    """
    if dtype not in config.DTYPES:
        raise InputError(f"dtype {dtype!r}", hint=f"one of {', '.join(config.DTYPES)}")
    config.check_exportable(shape)
    arrays = _checked(parameters, shape)
    model = None if tokenizer is None else _sentencepiece(Path(tokenizer), shape)
    eos = None if model is None else huggingface_tokenizer.end_of_line(model)
    folder = Path(folder)
    try:
        with new_folder(folder) as partial:
            _write_weights(arrays, shape, partial, dtype)
            if model is not None:
                huggingface_tokenizer.write(model, partial, sequence_length)
            config.write(shape, partial, dtype, sequence_length, eos)
            config.write_card(shape, partial, languages, trained_on, with_tokenizer=model is not None)
    except (OSError, _safetensors().SafetensorError) as error:
        raise BabelscaleError(
            f"{folder}: the model could not be written ({error})",
            hint="no file of it is kept; free some space on the disk",
        ) from error
    return folder


def is_checkpoint(folder: str | Path) -> bool:
    """Whether a folder looks like a Hugging Face checkpoint: it holds a config.json."""
    return (Path(folder) / config.CONFIG).is_file()


def read_shape(folder: str | Path) -> Shape:
    """The shape that config.json gives.

    Raises:
        InputError: the decoder does not compute exactly this model; names the field and both values.
    """
    return config.read(Path(folder))


def read(folder: str | Path) -> tuple[dict[str, NDArray[np.float32]], Shape]:
    """The parameters of a Llama checkpoint in float32, and its shape. The files are mapped, one tensor read at a time.

    Raises:
        InputError: the decoder does not compute exactly this model, or a tensor is missing, of another shape, of a type
            that is no plain float, or has no place; names the file and the tensor.
    """
    folder = Path(folder)
    shape = read_shape(folder)
    parameters = {name: np.empty(size, np.float32) for name, size in sizes(shape).items()}
    with ExitStack() as stack:
        held = _open(folder, stack)
        wanted = {tensor.name: tensor for tensor in tensors(shape)}
        _check_names(set(held), set(wanted), folder)
        for name, tensor in wanted.items():
            tensor.put(_value(held[name], name, tensor.shape), parameters)
        _check_head(folder, held, parameters["embedding"])
    return parameters, shape


@functools.cache
def weights_hash(folder: str | Path) -> str:
    """SHA-256 (hex) of a checkpoint's configuration and weights, read once a process.

    Raises:
        InputError: the folder holds no checkpoint.
    """
    folder = Path(folder)
    if not is_checkpoint(folder):
        raise InputError(
            f"{folder}: this is not a Hugging Face model", hint="give a folder that contains a config.json"
        )
    digest = hashlib.sha256()
    for path in sorted({folder / config.CONFIG, *folder.glob("*.safetensors")}):
        with path.open("rb") as file:
            digest.update(f"{path.name} {hashlib.file_digest(file, 'sha256').hexdigest()}\n".encode())
    return digest.hexdigest()


def sizes(shape: Shape) -> dict[str, tuple[int, ...]]:
    """Our arrays by name, and their shapes."""
    d, d_ff, L = shape.d_model, shape.d_ff, shape.layers
    return {
        "embedding": (shape.vocabulary, d),
        "norm": (L, d),
        "attention_in": (L, d, 3, shape.heads, shape.d_head),
        "attention_out": (L, shape.heads, shape.d_head, d),
        "norm_feed_forward": (L, d),
        "feed_forward_in": (L, d, 2, d_ff),
        "feed_forward_out": (L, d_ff, d),
        "norm_final": (d,),
    }


def _checked(parameters: Mapping[str, ArrayLike], shape: Shape) -> dict[str, NDArray[Any]]:
    """The parameters as arrays of the host, if they are those of the shape."""
    wanted = sizes(shape)
    if set(parameters) != set(wanted):
        raise InputError(
            f"the parameters are {', '.join(sorted(parameters))}; a sequential decoder has {', '.join(sorted(wanted))}",
            hint="give the parameters and the shape of one model",
        )
    arrays = {name: np.asarray(value) for name, value in parameters.items()}
    for name, size in wanted.items():
        if arrays[name].shape != size:
            raise InputError(
                f"parameter {name} has the shape {arrays[name].shape}, the model's is {size}",
                hint="give the parameters and the shape of one model",
            )
    return arrays


def _sentencepiece(path: Path, shape: Shape) -> bytes:
    path = path / huggingface_tokenizer.MODEL if path.is_dir() else path
    try:
        model = path.read_bytes()
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error})", hint="give the folder of the run's tokenizer") from None
    if (held := huggingface_tokenizer.size(model)) > shape.vocabulary:
        raise InputError(
            f"{path}: {held:,} tokens, the model has {shape.vocabulary:,}",
            hint="give the tokenizer with which it was trained",
        )
    return model


def _safetensors() -> Any:
    import safetensors

    return safetensors


def _write_weights(arrays: Mapping[str, NDArray[Any]], shape: Shape, folder: Path, dtype: str) -> None:
    """One file, or several and an index of them, no more than one held in memory."""
    from safetensors.numpy import save_file

    kind = config.DTYPES[dtype]
    shards: list[list[Tensor]] = [[]]
    filled = total = 0
    for tensor in tensors(shape):
        room = kind.itemsize * int(np.prod(tensor.shape))
        if shards[-1] and filled + room > _FILE_BYTES:
            shards.append([])
            filled = 0
        shards[-1].append(tensor)
        filled, total = filled + room, total + room
    several = len(shards) > 1
    index: dict[str, str] = {}
    for number, shard in enumerate(shards, 1):
        name = f"model-{number:05}-of-{len(shards):05}.safetensors" if several else WEIGHTS
        values = {tensor.name: np.ascontiguousarray(tensor.taken(arrays), dtype=kind) for tensor in shard}
        save_file(values, folder / name, metadata={"format": "pt"})
        index |= dict.fromkeys(values, name)
    if several:
        text = json.dumps({"metadata": {"total_size": total}, "weight_map": index}, indent=2)
        (folder / INDEX).write_text(text + "\n", encoding="utf-8")


def _open(folder: Path, stack: ExitStack) -> dict[str, tuple[Path, Any]]:
    """Every tensor's name, with the file that holds it, open. One file goes before several, as in the other library."""
    index = folder / INDEX
    if (folder / WEIGHTS).is_file() or not index.is_file():
        file = _mapped(folder / WEIGHTS, stack)
        return dict.fromkeys(file.keys(), (folder / WEIGHTS, file))
    places = config.read_json(index).get("weight_map")
    if not isinstance(places, dict) or not all(isinstance(name, str) for name in places.values()):
        raise InputError(f"{index}: no weight_map of tensors and files", hint="save the model again")
    files, held = {}, {}
    for name in sorted(set(places.values())):
        if Path(name).name != name:
            raise InputError(f"{index}: weight_map names {name!r}", hint="the files must be beside the index")
        files[name] = folder / name, _mapped(folder / name, stack)
        held[name] = set(files[name][1].keys())
    for tensor, name in places.items():
        if tensor not in held[name]:
            raise InputError(
                f"{folder / name}: tensor {tensor} is missing, which {INDEX} lists for this file", hint="copy it again"
            )
    return {tensor: files[name] for tensor, name in places.items()}


def _mapped(path: Path, stack: ExitStack) -> Any:
    if not path.is_file():
        raise InputError(
            f"{path}: no such file", hint="weights are read from safetensors files; save the model with them"
        )
    try:
        return stack.enter_context(_safetensors().safe_open(path, framework="numpy"))
    except (_safetensors().SafetensorError, OSError) as error:
        raise InputError(f"{path}: not a whole safetensors file ({error})", hint="copy it again") from None


def _check_names(held: set[str], wanted: set[str], folder: Path) -> None:
    """Every wanted tensor, and no other but a head and the rotary table that old files carry."""
    if missing := sorted(wanted - held):
        raise InputError(
            f"{folder}: no tensor {missing[0]} ({len(missing)} of {len(wanted)} missing)",
            hint="check that it is a complete LlamaForCausalLM",
        )
    extra = {name for name in held - wanted - {HEAD} if not name.endswith("rotary_emb.inv_freq")}
    if extra:
        raise InputError(
            f"{folder}: the decoder does not use tensor {min(extra)}",
            hint="the decoder computes a plain Llama model, without biases, adapters or quantised weights",
        )


def _value(place: tuple[Path, Any], name: str, shape: tuple[int, ...]) -> NDArray[Any]:
    path, file = place
    seen = file.get_slice(name)
    if tuple(seen.get_shape()) != shape:
        raise InputError(
            f"{path}: {name} has the shape {tuple(seen.get_shape())}, {config.CONFIG} says {shape}",
            hint="the weights and the configuration belong to different models",
        )
    if seen.get_dtype() not in _READABLE:
        raise InputError(
            f"{path}: {name} is of type {seen.get_dtype()}, not one of {', '.join(sorted(_READABLE))}",
            hint="save the model unquantised",
        )
    return file.get_tensor(name)


def _check_head(folder: Path, held: Mapping[str, tuple[Path, Any]], embedding: NDArray[np.float32]) -> None:
    """The head must be the embedding, by the configuration or by its values."""
    if HEAD not in held:
        if not config.is_tied(folder):
            raise InputError(
                f"{folder}: tie_word_embeddings is false and there is no tensor {HEAD}", hint="save the model again"
            )
    elif not np.array_equal(_value(held[HEAD], HEAD, embedding.shape).astype(np.float32), embedding):
        raise InputError(
            f"{held[HEAD][0]}: {HEAD} differs from the embedding, the decoder's head is the embedding",
            hint="only models with tied embeddings can be read exactly",
        )
