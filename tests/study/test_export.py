"""A finished run becomes a model for other programs: its parameters, its tokenizer and what is told of it."""

import json
from pathlib import Path

import jax
import numpy as np
import pytest

from babelscale import cli
from babelscale.corpora import Tokenizer, open_corpus, train_tokenizer
from babelscale.errors import InputError, StudyError
from babelscale.model import Shape, decoder, huggingface
from babelscale.study.export import export
from babelscale.training.checkpoint import Checkpoints

SHAPE = Shape(layers=1, heads=2, d_model=8, d_ff=12, d_head=4, vocabulary=400, block="sequential")
STEPS = 30


@pytest.fixture(scope="module")
def parameters() -> decoder.Parameters:
    return decoder.initialise(SHAPE, jax.random.key(1))


@pytest.fixture(scope="module")
def tokenizer_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tokenizer") / "tokenizer"
    book = open_corpus("phrasebook", languages=("no", "sw"), bytes_per_language=40_000)
    train_tokenizer(book, ("no", "sw"), SHAPE.vocabulary, folder)
    return folder


@pytest.fixture
def run(tmp_path: Path, parameters: decoder.Parameters, tokenizer_folder: Path) -> Path:
    """A run as a study leaves it: its record, and its final state with an optimiser's."""
    tokenizer = Tokenizer.load(tokenizer_folder)
    (tmp_path / "study" / "tokenizer").mkdir(parents=True)
    (tmp_path / "study" / "tokenizer" / "tokenizer.model").write_bytes(tokenizer.model)
    folder = tmp_path / "study" / "finished" / "xs-no+sw"
    folder.mkdir(parents=True)
    name = {"run": folder.name, "step": STEPS}
    losses = {"split": "validation", "lr_state": "decayed", "nats": 2000 * np.log(2), "bytes": 1000, "tokens": 500}
    identity = {"shape": SHAPE.identity(), "mixture": {"no": 0.75, "sw": 0.25}, "recipe": {}, "steps": STEPS, "seed": 0}
    hashes = {"corpus": "c" * 64, "tokenizer": tokenizer.hash}
    record = {
        "run": {
            "run": folder.name,
            "params": float(SHAPE.params),
            "tokens": 3840.0,
            "params_non_embedding": float(SHAPE.params_non_embedding),
            "flops": 1e9,
            "flops_6nd": 1e9,
            "seed": 0,
            "start": "scratch",
            "base": None,
            "size": "xs",
            "mixture": "no + sw",
            **hashes,
        },
        "hash": "a" * 64,
        "identity": {**identity, **hashes, "base": None},
        "recipe": {"sequence_length": 32},
        "exposure": [
            name | {"language": "no", "tokens": 2880.0, "unique_tokens": 9000.0},
            name | {"language": "sw", "tokens": 960.0, "unique_tokens": 8000.0},
        ],
        "losses": [name | losses | {"language": code, "unigram_nats": 3000.0} for code in ("no", "sw")],
    }
    (folder / "record.json").write_text(json.dumps(record))
    save(folder, STEPS, parameters)
    return folder


def save(run: Path, step: int, parameters: decoder.Parameters) -> None:
    checkpoints = Checkpoints(run / "state")
    checkpoints.save(step, {"parameters": parameters, "optimiser": {"count": np.int32(step)}})
    checkpoints.close()


def test_a_run_is_exported_with_its_tokenizer_and_what_it_was_trained_on(run, parameters, tmp_path, capsys):
    with pytest.raises(SystemExit) as stopped:
        cli.main(["export", str(run), str(tmp_path / "model")])
    assert not stopped.value.code
    assert capsys.readouterr().out == f"{tmp_path / 'model'}\n"
    read, shape = huggingface.read(tmp_path / "model")
    assert shape == SHAPE
    for name, value in read.items():
        np.testing.assert_array_equal(value, parameters[name])
    assert json.loads((tmp_path / "model" / "config.json").read_text())["max_position_embeddings"] == 32
    assert (tmp_path / "model" / "tokenizer.json").is_file()
    card = (tmp_path / "model" / "README.md").read_text()
    assert "| no | 0.75 | 2,880 | 9,000 | 2.0000 |" in card
    assert '- "no"' in card


def test_bfloat16_by_the_command_line(run, tmp_path):
    with pytest.raises(SystemExit) as stopped:
        cli.main(["export", str(run), str(tmp_path / "model"), "--dtype", "bfloat16"])
    assert not stopped.value.code
    assert json.loads((tmp_path / "model" / "config.json").read_text())["dtype"] == "bfloat16"


def test_a_run_whose_final_state_was_not_kept_is_refused(run, parameters, tmp_path):
    (run / "state" / str(STEPS)).rename(tmp_path / "elsewhere")
    with pytest.raises(StudyError, match="no saved state") as refused:
        export(run, tmp_path / "model")
    assert "continue from" in (refused.value.hint or "")
    save(run, 20, parameters)
    with pytest.raises(StudyError, match="its last saved state is of step 20 of 30"):
        export(run, tmp_path / "model")
    assert not (tmp_path / "model").exists()


def test_a_parallel_run_is_refused_before_anything_is_read(run, tmp_path):
    record = json.loads((run / "record.json").read_text())
    del record["identity"]["shape"]["block"]
    (run / "record.json").write_text(json.dumps(record))
    with pytest.raises(InputError, match=r'block = "sequential"'):
        export(run, tmp_path / "model")


def test_another_tokenizer_or_none_is_refused(run, tmp_path):
    path = run.parent.parent / "tokenizer" / "tokenizer.model"
    path.write_bytes(path.read_bytes() + b"\n")
    with pytest.raises(StudyError, match="no tokenizer of hash"):
        export(run, tmp_path / "model")
    path.unlink()
    with pytest.raises(StudyError, match="no tokenizer of hash"):
        export(run, tmp_path / "model")


def test_what_is_no_run_is_refused(run, tmp_path):
    with pytest.raises(InputError, match=r"record.json: no such file"):
        export(tmp_path, tmp_path / "model")
    (run / "record.json").write_text("{}")
    with pytest.raises(InputError, match=r"record\.json: run: Field required"):
        export(run, tmp_path / "model")
