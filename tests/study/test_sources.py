"""What a study can be made from: parallel test sets, MADLAD-400's layout, a model and tokenizer of others."""

import gzip
import json
from pathlib import Path

import pytest

from babelscale.corpora import open_corpus
from babelscale.errors import InputError, StudyError
from babelscale.runs import Runs
from babelscale.study import Study
from babelscale.study.export import export
from babelscale.study.worker import train_run

PLAIN = "d_ff = 32, d_head = 8 }"


@pytest.fixture(scope="module")
def exported(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Study, Path]:
    """A study of sequential models, and its kept run as a model of the Hugging Face kind."""
    folder = tmp_path_factory.mktemp("exported")
    text = tiny.read_text().replace(PLAIN, 'd_ff = 32, d_head = 8, block = "sequential" }')
    (folder / "first.toml").write_text(text)
    study = Study.create(folder / "first.toml", folder / "first")
    study.prepare()
    base = next(study.specs[name] for name in study.kept)
    train_run(study, base)
    export(study.finished(base.name), folder / "model")
    return study, folder / "model"


def second(exported: tuple[Study, Path], folder: Path, tiny: Path, size: str = "sequential") -> Study:
    """A study that continues the exported model on Swahili."""
    text = tiny.read_text().replace(PLAIN, f'd_ff = 32, d_head = 8, block = "{size}" }}')
    text = text.replace("vocabulary = 400", f'vocabulary = 400\nsource = "{exported[1]}"')
    text = text.replace('continue_from = "all"', f'checkpoint = "{exported[1]}"')
    (folder / "second.toml").write_text(text)
    study = Study.create(folder / "second.toml", folder / "second")
    study.prepare()
    return study


def test_a_run_continues_a_model_from_outside(exported, tiny: Path, tmp_path: Path):
    study = second(exported, tmp_path, tiny)
    first = exported[0]
    assert (study.folder / "tokenizer/tokenizer.model").read_bytes() == (
        first.folder / "tokenizer/tokenizer.model"
    ).read_bytes()
    spec = next(spec for spec in study.specs.values() if spec.base is not None)
    assert spec.name.startswith("s-model-to-sw-")
    train_run(study, spec)
    # The same continuation inside the study the model came from.
    twin = next(spec for spec in first.specs.values() if spec.base is not None)
    train_run(first, twin)

    def losses(study: Study, name: str) -> list[float]:
        rows = json.loads((study.finished(name) / "record.json").read_text())["losses"]
        return [row["nats"] for row in rows if row["language"] == "sw"]

    assert losses(study, spec.name) == losses(first, twin.name)
    record = json.loads((study.finished(spec.name) / "record.json").read_text())
    assert (record["run"]["start"], record["run"]["base"]) == ("checkpoint", "model")


def test_a_model_of_another_shape_is_refused(exported, tiny: Path, tmp_path: Path):
    study = second(exported, tmp_path, tiny, "parallel")
    spec = next(spec for spec in study.specs.values() if spec.base is not None)
    with pytest.raises(StudyError, match="this run needs"):
        train_run(study, spec)


def test_a_tokenizer_that_is_not_there_is_named(tiny: Path, tmp_path: Path):
    (tmp_path / "bad.toml").write_text(
        tiny.read_text().replace("vocabulary = 400", 'vocabulary = 400\nsource = "none"')
    )
    with pytest.raises(InputError, match=r"none/tokenizer\.model: cannot be read"):
        Study.create(tmp_path / "bad.toml", tmp_path / "bad").prepare()
    assert not (tmp_path / "bad").exists()


@pytest.fixture(scope="module")
def layouts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The phrasebook in the layout of MADLAD-400, and a parallel set of two languages."""
    folder = tmp_path_factory.mktemp("layouts")
    corpus = open_corpus("phrasebook", languages=["sv", "da", "sw"], bytes_per_language=120_000)
    for code in corpus.languages:
        lines = [line for line, _ in corpus.split(code)]
        shards = folder / "madlad" / "data" / code
        shards.mkdir(parents=True)
        for shard in range(2):
            with gzip.open(shards / f"{code}_clean_{shard:04}.jsonl.gz", "wt", encoding="utf-8") as file:
                file.writelines(json.dumps({"text": line}) + "\n" for line in lines[shard:-100:2])
        if code != "sw":
            (folder / "flores").mkdir(exist_ok=True)
            (folder / "flores" / f"{code}.txt").write_text("".join(line + "\n" for line in lines[-100:]))
    return folder


def test_a_study_of_madlad_measures_the_parallel_set_too(layouts: Path, tiny: Path, tmp_path: Path):
    corpus = 'source = "madlad-400@madlad"\nheld_out_tokens = 2000\nparallel = "flores"\nbytes_per_language = 90_000'
    (layouts / "madlad.toml").write_text(tiny.read_text().replace("bytes_per_language = 60_000", corpus))
    study = Study.create(layouts / "madlad.toml", tmp_path / "madlad")
    study.prepare()
    spec = next(spec for spec in study.specs.values() if spec.size == "xs" and len(spec.mixture.languages) == 3)
    train_run(study, spec)
    study.write_tables()
    runs = Runs.read(study.folder)
    measured = set(runs.losses.select("language", "split").unique().iter_rows())
    every = {("sv", "validation"), ("da", "validation"), ("sw", "validation")}
    assert measured == every | {("sv", "parallel"), ("da", "parallel")}
    assert set(runs.observations("sv").run) == {spec.name}
