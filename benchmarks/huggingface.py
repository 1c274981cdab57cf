"""Exported models and tokenizers in the Hugging Face libraries: logits and ids side by side, and the way back.

Makes an environment of its own with PyTorch and transformers (about 1 GB; kept in --environment), never this one.

Usage: .venv/bin/python benchmarks/huggingface.py [--environment FOLDER] [--torch torch==2.13.0] [--find-links FOLDER]
           [--transformers transformers] [--corpus FOLDER]

--corpus: text by language to compare ids on (default: the phrasebook); --find-links: where pip may find wheels, such as
a CPU build of PyTorch.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import venv
from collections.abc import Iterator, Sequence
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from babelscale.corpora import Tokenizer, open_corpus, train_tokenizer
from babelscale.model import Shape, decoder, huggingface

LIMIT = 1e-5
VOCABULARY = 8000
SHAPES = {
    "tiny": Shape(layers=2, heads=2, d_model=64, d_ff=192, d_head=32, vocabulary=VOCABULARY, block="sequential"),
    "small": Shape(layers=6, heads=4, d_model=256, d_ff=1024, d_head=64, vocabulary=VOCABULARY, block="sequential"),
}
BATCH, LENGTH = 1, 2048
AWKWARD = [
    "",
    " ",
    "  two  spaces  ",
    "</s> <unk> <0x41> <s>",
    "\u2581 the mark of a space \u2581\u2581x",
    "\r\t\x00\u2585",
    "e\u0301 ﬁ 𝒳 👩\u200d👩\u200d👧",
    "aaaaaaaaaaaaa ......... 0000000 -----",
    "ⴰⵎⴰⵣⵉⵖ ᚠᚢᚦ 漢字かな",
]
THERE = """
import json, sys
from pathlib import Path
import numpy as np, torch, transformers
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig, LlamaForCausalLM
folder = Path(sys.argv[1])
transformers.logging.set_verbosity_error()
transformers.logging.disable_progress_bar()
torch.manual_seed(0)
print(f"torch {torch.__version__}, transformers {transformers.__version__}", file=sys.stderr)

def logits(model, tokens, path):
    with torch.no_grad():
        np.save(path, model.eval()(torch.from_numpy(tokens)).logits.float().numpy())

for path in sorted(folder.glob("ours-*")):
    tokens = np.load(folder / "tokens.npy")
    logits(AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32), tokens, folder / f"{path.name}.npy")
tokenizer = AutoTokenizer.from_pretrained(folder / "ours-tiny")
told = {"eos": tokenizer.eos_token_id, "ids": {}, "lossless": {}}
for name, text in json.loads((folder / "texts.json").read_text()).items():
    ids = tokenizer(text)["input_ids"]
    told["ids"][name] = ids
    told["lossless"][name] = tokenizer.decode(ids) == text
(folder / "ids.json").write_text(json.dumps(told))
config = LlamaConfig(vocab_size=1000, hidden_size=128, intermediate_size=352, num_hidden_layers=3,
                     num_attention_heads=4, head_dim=32, rms_norm_eps=1e-6, tie_word_embeddings=True)
model = LlamaForCausalLM(config)
with torch.no_grad():
    for name, parameter in model.named_parameters():
        if "norm" in name:
            parameter.mul_(torch.exp(0.3 * torch.randn_like(parameter)))
for kind, options in (("one", {}), ("several", {"max_shard_size": "300KB"})):
    model.save_pretrained(folder / f"theirs-{kind}", **options)
tokens = np.load(folder / "tokens.npy") % 1000
logits(model, tokens, folder / "theirs.npy")
model.to(torch.bfloat16).save_pretrained(folder / "theirs-bfloat16")
# Loaded again: the conversion above rounds the rotary frequencies too.
model = AutoModelForCausalLM.from_pretrained(folder / "theirs-bfloat16", dtype=torch.float32)
logits(model, tokens, folder / "theirs-bfloat16.npy")
"""


def interpreter(options: argparse.Namespace) -> Path:
    """Python of the environment that holds PyTorch and transformers."""
    python = options.environment / "bin" / "python"
    if not python.exists():
        venv.create(options.environment, with_pip=True)
    links = ["--find-links", options.find_links] if options.find_links else []
    wanted = [options.torch, options.transformers, "safetensors", "numpy"]
    subprocess.run([python, "-m", "pip", "install", "--quiet", *links, *wanted], check=True)
    return python


def texts(corpus_source: str, folder: Path) -> tuple[Tokenizer, dict[str, list[str]]]:
    """A tokenizer trained on the corpus, and lines by language to compare ids on."""
    codes = ["ar", "en", "hi", "no", "sv", "sw", "zh"] if corpus_source == "phrasebook" else None
    corpus = open_corpus(corpus_source, languages=codes, bytes_per_language=300_000)
    tokenizer = train_tokenizer(corpus, corpus.languages, VOCABULARY, folder)
    lines = {code: list(corpus.sample(code, 300_000, seed=1)) for code in corpus.languages}
    return tokenizer, lines | {"awkward": AWKWARD}


def lively(shape: Shape) -> decoder.Parameters:
    """Parameters whose norm vectors are not all ones."""
    parameters = decoder.initialise(shape, jax.random.key(0))
    for number, name in enumerate(sorted(parameters)):
        if name.startswith("norm"):
            drawn = jax.random.normal(jax.random.key(number), parameters[name].shape)
            parameters[name] = parameters[name] * jnp.exp(0.3 * drawn)
    return parameters


def compared(title: str, ours: np.ndarray, theirs: np.ndarray) -> bool:
    """Print the largest difference as a share of the largest logit, and as it is."""
    largest = float(np.abs(theirs).max())
    absolute = float(np.abs(ours - theirs).max())
    print(f"{title:<46}{absolute / largest:>15.1e}{LIMIT:>15.0e}{absolute:>15.1e}{largest:>15.2f}")
    return absolute <= LIMIT * largest


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--environment", type=Path, default=Path(tempfile.gettempdir()) / "babelscale-huggingface")
    parser.add_argument("--torch", default="torch")
    parser.add_argument("--transformers", default="transformers")
    parser.add_argument("--find-links")
    parser.add_argument("--corpus", default="phrasebook")
    options = parser.parse_args(arguments)
    python = interpreter(options)
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        good = list(checks(folder, python, options.corpus))
    return 0 if all(good) else 1


def checks(folder: Path, python: Path, corpus: str) -> Iterator[bool]:
    tokenizer, lines = texts(corpus, folder / "tokenizer")
    tokens = np.random.default_rng(0).integers(0, VOCABULARY, (BATCH, LENGTH))
    np.save(folder / "tokens.npy", tokens)
    parameters = {name: lively(shape) for name, shape in SHAPES.items()}
    for name, shape in SHAPES.items():
        huggingface.export(parameters[name], shape, folder / f"ours-{name}", tokenizer=folder / "tokenizer")
    (folder / "texts.json").write_text(json.dumps({name: "\n".join(part) for name, part in lines.items()}))
    subprocess.run([python, "-c", THERE, folder], check=True)
    titles = ("relative", "limit", "absolute", "largest logit")
    print(f"\n{'largest difference of logits in float32':<46}" + "".join(f"{t:>15}" for t in titles))
    for name, shape in SHAPES.items():
        ours = np.asarray(decoder.logits(parameters[name], jnp.asarray(tokens), shape))
        yield compared(f"exported, {shape.params:,} parameters", ours, np.load(folder / f"ours-{name}.npy"))
    for kind in ("one", "several", "bfloat16"):
        read, shape = huggingface.read(folder / f"theirs-{kind}")
        arrays = {array: jnp.asarray(value) for array, value in read.items()}
        ours = np.asarray(decoder.logits(arrays, jnp.asarray(tokens % 1000), shape))
        theirs = np.load(folder / ("theirs-bfloat16.npy" if kind == "bfloat16" else "theirs.npy"))
        files = len(list((folder / f"theirs-{kind}").glob("*.safetensors")))
        yield compared(f"read back, saved as {kind} ({files} files)", ours, theirs)
    yield from same_ids(tokenizer, lines, json.loads((folder / "ids.json").read_text()))


def same_ids(
    tokenizer: Tokenizer, lines: dict[str, list[str]], told: dict[str, dict[str, list[int]]]
) -> Iterator[bool]:
    print(f"\n{'ids':<12}{'lines':>8}{'tokens':>10}{'differ':>8}{'limit':>8}  decoded losslessly")
    for name, part in lines.items():
        ours = tokenizer.encode_lines(part).tolist()
        theirs = [*told["ids"][name], tokenizer.end_of_line]
        differ = sum(a != b for a, b in zip(ours, theirs, strict=False)) + abs(len(ours) - len(theirs))
        print(
            f"{name:<12}{len(part):>8,}{len(ours):>10,}{differ:>8,}{0:>8}  {'yes' if told['lossless'][name] else 'NO'}"
        )
        yield differ == 0 and bool(told["lossless"][name])
    print(f"eos token there {told['eos']}, end of line here {tokenizer.end_of_line}")
    yield told["eos"] == tokenizer.end_of_line


if __name__ == "__main__":
    sys.exit(main())
