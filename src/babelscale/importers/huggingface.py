"""Hugging Face Trainer: `trainer_state.json` of a run or of its last checkpoint, with N from the model beside it."""

import json
import math
import struct
from pathlib import Path

from babelscale.errors import InputError
from babelscale.importers.logged import LoggedRun, flatten, json_object
from babelscale.tabular import Notice

NAME = "trainer_state.json"
# Fields of a model's configuration that make the shapes of a Llama-like decoder.
_SHAPES = ("hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "vocab_size")
_LLAMA = ("llama", "mistral", "qwen2", "qwen3", "smollm3")


def read(path: Path) -> tuple[list[LoggedRun], list[Notice]]:
    """Every run under a folder; of several checkpoints of one run the last one counts."""
    files = [path] if path.is_file() else sorted(path.rglob(NAME))
    root = path.parent if path.is_file() else path
    newest: dict[Path, tuple[int, Path]] = {}
    for file in files:
        inside = file.parent.name.startswith("checkpoint-")
        folder = file.parent.parent if inside else file.parent
        step = int(json_object(file).get("global_step") or 0)
        if step >= newest.get(folder, (-1, file))[0]:
            newest[folder] = (step, file)
    runs = [_run(file, folder, root) for folder, (_, file) in sorted(newest.items())]
    return runs, []


def _run(file: Path, folder: Path, root: Path) -> LoggedRun:
    state = json_object(file)
    inside = folder.resolve().is_relative_to(root.resolve()) and folder != root
    run = LoggedRun(folder.relative_to(root).as_posix() if inside else folder.name or root.name)
    for entry in state.get("log_history", []):
        if not isinstance(entry, dict) or not isinstance(entry.get("step"), int):
            raise InputError(f"{file}: an entry of log_history has no step", hint="is the file whole?")
        run.log(entry["step"], {key: value for key, value in flatten(entry).items() if key not in ("step", "epoch")})
    if run.history and state.get("num_input_tokens_seen"):
        run.log(max(run.history), {"num_input_tokens_seen": state["num_input_tokens_seen"]})
    done = state.get("max_steps") in (None, 0, -1) or state.get("global_step") == state.get("max_steps")
    run.state = "finished" if done else "running"
    params = _params(file.parent) or _params(folder)
    if params is not None:
        run.config["params"] = params
    return run


def _params(folder: Path) -> int | None:
    """N of the model in a folder: from the shapes in its safetensors files, or from its configuration."""
    tensors: dict[str, int] = {}
    for file in sorted(folder.glob("*.safetensors")):
        tensors |= _tensors(file)
    if tensors:
        return sum(tensors.values())
    config = folder / "config.json"
    if not config.exists():
        return None
    found = json_object(config)
    if found.get("model_type") not in _LLAMA or any(not isinstance(found.get(name), int) for name in _SHAPES):
        return None
    width, inner, layers, heads, vocabulary = (int(found[name]) for name in _SHAPES)
    head = int(found.get("head_dim") or width // heads)
    pairs = int(found.get("num_key_value_heads") or heads)
    biased = found["model_type"] == "qwen2" or bool(found.get("attention_bias"))
    attention = 2 * width * head * heads + 2 * width * head * pairs + (head * (heads + 2 * pairs) if biased else 0)
    if found["model_type"] == "qwen3":
        attention += 2 * head
    block = attention + 3 * width * inner + 2 * width
    tied = bool(found.get("tie_word_embeddings", False))
    return layers * block + width + vocabulary * width * (1 if tied else 2)


def _tensors(file: Path) -> dict[str, int]:
    """Name -> number of elements, from a safetensors file's header."""
    with file.open("rb") as handle:
        begins = handle.read(8)
        size = struct.unpack("<Q", begins)[0] if len(begins) == 8 else 0
        if not 0 < size < 2**27:
            raise InputError(f"{file}: is not a safetensors file", hint="is the file whole?")
        try:
            header = json.loads(handle.read(size))
        except ValueError:
            raise InputError(f"{file}: its header is not JSON", hint="is the file whole?") from None
    return {name: math.prod(entry["shape"]) for name, entry in header.items() if name != "__metadata__"}
