"""A design in Python is what it would be as a file: the same checks, the same runs, the same study."""

import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import numpy as np
import pytest

from babelscale.errors import InputError
from babelscale.study import CorpusPart, Design, Group, RunSpec, SizePart, Study, TokenizerPart, built_in, load
from babelscale.study.design import parse
from babelscale.study.spec import expand

DOCS = Path(__file__).parents[2] / "docs" / "designs.md"


def runs(design: Design) -> list[tuple[str, str, str]]:
    groups = expand(design, dict.fromkeys(design.languages, 2e4), "corpus", "tokenizer")
    return [(group, spec.name, spec.hash) for group, specs in groups.items() for spec in specs]


def python(text: str) -> dict:
    """A file's fields with Python's objects in the place of TOML's."""
    fields = tomllib.loads(text)
    fields["languages"] = iter(fields["languages"])
    fields["corpus"] = CorpusPart(**fields["corpus"])
    fields["tokenizer"] = TokenizerPart(**fields["tokenizer"])
    fields["sizes"] = {name: SizePart(**part) for name, part in fields["sizes"].items()}
    fields["groups"] = [Group(**group | {"tokens": np.array(group["tokens"])}) for group in fields["groups"]]
    return fields


def test_a_file_and_python_name_the_same_runs(tiny_text: str, tiny: Path):
    file = runs(load(tiny))
    assert len({name for _, name, _ in file}) == 6
    assert runs(load(tomllib.loads(tiny_text))) == file
    assert runs(load(python(tiny_text))) == file
    assert runs(load(load(tiny))) == file
    assert runs(load(Design(**python(tiny_text)))) == file
    # And what is another design has other runs.
    assert runs(load(tomllib.loads(tiny_text.replace("learning_rate = 1e-2", "learning_rate = 2e-2")))) != file


@pytest.mark.parametrize("name", built_in())
def test_every_design_survives_the_way_through_python(name: str):
    assert load(load(name)) == load(name)


def test_a_study_of_python_goes_on_with_that_of_the_file(tiny_text: str, tiny: Path, tmp_path: Path):
    of_file = Study.create(tiny, tmp_path / "study")
    of_file.prepare()
    of_python = Study.create(python(tiny_text), tmp_path / "study")
    assert of_python.specs == of_file.specs
    assert list(of_python.specs) == list(of_file.specs)
    assert all(isinstance(spec, RunSpec) for spec in of_python.missing)
    with pytest.raises(InputError, match="holds a study with another"):
        Study.create(python(tiny_text) | {"tokenizer": {"vocabulary": 500}}, tmp_path / "study")


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ('mixture = "unimax"', 'mixture = "unimix"'),
        ('sizes = ["xs", "s"]', 'sizes = ["xs", "xl"]'),
        ('continue_from = "all"', 'continue_from = "none"'),
        ("batch_size = 4", "batch = 4"),
        ('["sv", "da", "sw"]', '["sv", "da", "sw", "qqq"]'),
        ("tokens = [2e3]", "tokens = [-2e3]"),
        ("vocabulary = 400", 'vocabulary = "many"'),
    ],
)
def test_the_same_mistake_is_told_in_the_same_words(tiny_text: str, before: str, after: str):
    assert before in tiny_text
    text = tiny_text.replace(before, after)
    with pytest.raises(InputError) as in_file:
        parse(text, "design tiny")
    with pytest.raises(InputError) as in_python:
        load(tomllib.loads(text))
    assert str(in_python.value) == str(in_file.value)
    assert "design tiny: " in str(in_python.value)


def test_a_design_put_together_unchecked_is_checked(tiny: Path):
    design = load(tiny)
    group = design.groups[0].model_copy(update={"sizes": ("xl",)})
    with pytest.raises(InputError, match=r"size 'xl' is not in \[sizes\]"):
        load(design.model_copy(update={"groups": (group,)}))


def test_paths_are_taken_and_belong_to_the_current_folder(
    tiny_text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(tmp_path)
    fields = tomllib.loads(tiny_text) | {"corpus": {"source": Path("texts"), "parallel": Path("flores")}}
    design = load(fields)
    assert (design.corpus.source, design.corpus.parallel) == tuple(os.path.abspath(p) for p in ("texts", "flores"))  # noqa: PTH100


def test_what_no_file_could_hold_is_refused(tiny_text: str):
    with pytest.raises(InputError, match="design tiny: analysis: "):
        load(tomllib.loads(tiny_text) | {"analysis": {"target": object()}})


def test_the_example_of_the_guide_trains(tmp_path: Path):
    example = re.search(r"## In Python\n.*?```python\n(.*?)```", DOCS.read_text(encoding="utf-8"), re.DOTALL)
    assert example is not None
    script = example[1]
    # One width and one seed instead of two: a quarter of the runs, and half the programs to compile.
    for many, one in (("(16, 32)", "(16,)"), ("range(2)", "range(1)")):
        assert many in script
        script = script.replace(many, one)
    done = subprocess.run([sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    study = Study.open(tmp_path / "studies" / "widths")
    assert {group: len(specs) for group, specs in study.groups.items()} == {"alone": 4, "pair": 1}
    assert not study.missing
