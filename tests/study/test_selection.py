"""Part of a design, and runs with a tokenizer of their own."""

import json
from pathlib import Path

import pytest

from babelscale.corpora import Tokenizer, TokenStore
from babelscale.errors import InputError
from babelscale.runs import Runs
from babelscale.study import Study
from babelscale.study import study as studies
from babelscale.study.engines import Engine
from babelscale.study.export import export
from babelscale.study.worker import train_run


def made(tiny: Path, folder: Path) -> Study:
    own = 'keep_state = true\ntokenizer = "own"\nlanguages = ["sv", "da"]\n'
    text = tiny.read_text().replace('languages = ["sv", "da"]\n', own)
    text = text.replace("d_ff = 16, d_head = 8 }", 'd_ff = 16, d_head = 8, block = "sequential" }')
    (folder / "own.toml").write_text(text)
    return Study.create(folder / "own.toml", folder / "own")


@pytest.fixture(scope="module")
def study(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> Study:
    prepared = made(tiny, tmp_path_factory.mktemp("selection"))
    prepared.prepare()
    return prepared


def test_runs_with_a_tokenizer_of_their_own_read_their_own_store(study: Study):
    alone = study.groups["mono"]
    assert [spec.own for spec in alone] == ["sv", "da"]
    shared = Tokenizer.load(study.folder / "tokenizer").hash
    assert len({spec.tokenizer for spec in alone} | {shared}) == 3
    for spec in alone:
        store = TokenStore.open(study.text(spec) / "corpus")
        assert store.languages == (spec.own,)
        assert store.tokenizer_hash == spec.tokenizer
    assert train_run(study, alone[0])
    record = json.loads((study.finished(alone[0].name) / "record.json").read_text())
    assert record["run"]["tokenizer"] == alone[0].tokenizer
    assert record["exposure"][0]["unique_tokens"] <= store_tokens(study, "sv")
    folder = export(study.finished(alone[0].name), study.folder.parent / "model")
    assert (folder / "tokenizer.model").read_bytes() == (study.own("sv") / "tokenizer/tokenizer.model").read_bytes()


def store_tokens(study: Study, code: str) -> int:
    return TokenStore.open(study.own(code) / "corpus").count(code, "train")


def test_part_of_a_design_brings_what_it_continues_from(study: Study):
    chosen = study.select(["continued"])
    assert [spec.base is None for spec in chosen] == [True, False]
    assert chosen[0] == chosen[1].base
    assert {spec.name for spec in study.select()} == set(study.specs)
    with pytest.raises(InputError, match="no group 'mon'"):
        study.select(["mon"])


def test_what_is_not_wanted_is_not_prepared(tiny: Path, in_process: Engine, tmp_path: Path):
    study = made(tiny, tmp_path)
    study.prepare(only=["pair"])
    assert not (study.folder / "own").exists()
    assert study.groups["mono"] == []
    pair = [spec.name for spec in study.groups["pair"]]
    assert study.train(engine=in_process, only=["pair"]) == 1
    assert [name for name in study.specs if study.is_finished(name)] == pair
    study.prepare()
    assert len(study.groups["mono"]) == 2
    assert [spec.name for spec in study.groups["pair"]] == pair


def test_only_monolingual_runs_have_a_tokenizer_of_their_own(tiny: Path, tmp_path: Path):
    text = tiny.read_text().replace('mixture = "bilingual"', 'mixture = "bilingual"\ntokenizer = "own"')
    (tmp_path / "bad.toml").write_text(text)
    with pytest.raises(InputError, match="only monolingual runs from scratch"):
        Study.create(tmp_path / "bad.toml", tmp_path / "bad")


def test_the_tables_grow_while_a_study_runs(study: Study, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(studies, "TABLES_SECONDS", 0.0)
    rows: list[int] = []

    def engine(specs, folder, *, trunks=None, on_event=None):
        for spec in list(specs)[:2]:
            train_run(study, spec)
            on_event({"run": spec.name, "finished": True})
            rows.append(len(Runs.read(folder).names))

    study.train(engine=engine, only=["pair", "all"])
    assert rows[1] == rows[0] + 1
