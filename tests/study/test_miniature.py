"""The study in miniature: its counts beside the study's, its text, and one run of each group from start to end."""

import json
import os
import random
import signal
import subprocess
import sys
import tarfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from babelscale.study import Study, load, records
from babelscale.study.spec import RunSpec, expand, trunks
from babelscale.study.text import deal

# The counts that the ATLAS study prints, by the groups that stand for them here.
PRINTED = {
    "monolingual-own": 140,
    "unimax": 20,
    "monolingual": 70,
    "monolingual-reference": 50,
    "bilingual-reference": 90,
    "bilingual": 150,
    "uniform": 120,
    "continued-reference": 50,
    "continued": 84,
}
SEVEN = {"de", "en", "es", "fr", "ru", "sw", "zh"}


@pytest.fixture(scope="module")
def miniature() -> dict[str, list[RunSpec]]:
    design = load("atlas-miniature")
    return expand(design, dict.fromkeys(design.languages, 5e4), "corpus", "tokenizer")


def mirrored(groups: dict[str, list[RunSpec]]) -> dict[str, list[RunSpec]]:
    return {name: specs for name, specs in groups.items() if not name.startswith(("extra-", "holdout-"))}


def test_the_mirrored_groups_hold_exactly_the_studys_774_runs(miniature: dict[str, list[RunSpec]]):
    counts: Counter[str] = Counter()
    for name, specs in mirrored(miniature).items():
        counts["uniform" if name.startswith("uniform-") else name.removesuffix("-again")] += len(specs)
    assert counts == PRINTED
    assert len({spec.hash for specs in mirrored(miniature).values() for spec in specs}) == 774


def test_twenty_sizes_seven_languages_and_the_nested_sets(miniature: dict[str, list[RunSpec]]):
    sizes = {spec.size: spec.shape.params for specs in miniature.values() for spec in specs}
    params = [sizes[name] for name in sorted(sizes)]
    assert len(params) == 20
    assert params == sorted(set(params))
    assert params[-1] > 30 * params[0]
    assert {code for spec in miniature["monolingual-own"] for code in spec.mixture.languages} == SEVEN
    widths = {name: len(specs[0].mixture.languages) for name, specs in miniature.items() if name.startswith("uniform-")}
    assert sorted(widths.values()) == [4, 4, 4, 4, 6, 8, 8, 12, 16, 24, 32, 37]
    sets = {name: set(miniature[name][0].mixture.languages) for name in widths}
    wide = ["uniform-6v0", "uniform-8v0", "uniform-12v0", "uniform-16v0", "uniform-24v0", "uniform-32v0"]
    for inner, outer in zip(wide, [*wide[1:], "uniform-37v0"], strict=True):
        assert sets[inner] < sets[outer]


def test_extras_are_there_and_share_their_beginnings(miniature: dict[str, list[RunSpec]]):
    every = {spec.name: spec for specs in miniature.values() for spec in specs}
    short = trunks(every.values())
    for name, specs in miniature.items():
        if name.endswith("-lengths"):
            # Runs of fewer steps than ten warm-ups warm up faster, and share nothing.
            assert all((spec.name in short) == (spec.steps >= 200) for spec in specs)
            assert max(spec.steps for spec in specs) >= 200
    assert sum(len(specs) for name, specs in miniature.items() if name.startswith("extra-seeds")) >= 24
    repeated = [spec for name, specs in miniature.items() if name.startswith("extra-repeated") for spec in specs]
    assert len({spec.size for spec in repeated}) == 3
    epochs = [spec.tokens / spec.unique_tokens for spec in repeated if spec.unique_tokens is not None]
    assert max(epochs) == 40
    assert min(epochs) <= 1
    skewed = {round(max(spec.mixture.shares.values()), 2) for spec in miniature["extra-skewed"]}
    assert skewed == {0.75, 0.9}


def test_the_holdout_is_the_largest_two_sizes_and_three_mixtures_of_the_seven(miniature: dict[str, list[RunSpec]]):
    part = load("atlas-miniature").holdout
    sizes = {spec.size: spec.shape.params for specs in miniature.values() for spec in specs}
    assert set(part.sizes) == set(sorted(sizes, key=lambda name: sizes[name])[-2:])
    held = {tuple(spec.mixture.shares.items()) for name in part.groups for spec in miniature[name]}
    assert len(held) == 3
    assert all({code for code, _ in shares} == SEVEN for shares in held)
    others = {
        tuple(spec.mixture.shares.items())
        for name, specs in miniature.items()
        if name not in part.groups
        for spec in specs
    }
    assert not held & others


def test_no_verse_of_the_real_text_is_read_in_two_languages_or_on_both_sides(shared: Path, tmp_path: Path):
    source = shared / "corpora" / "bible37.tar.xz"
    if not source.exists():
        pytest.skip("../shared/corpora/bible37.tar.xz is not there")
    with tarfile.open(source) as archive:
        archive.extractall(tmp_path, filter="data")
    design = load("atlas-miniature")
    deal(design, tmp_path / "bible", tmp_path / "text")
    facts = json.loads((tmp_path / "text" / "passages.json").read_text(encoding="utf-8"))
    owner: dict[str, str] = {}
    held_out: set[str] = set()
    for code in design.languages:
        verses: dict[str, list[tuple[str, str]]] = {}
        for line in (tmp_path / "bible" / f"{code}.tsv").read_text(encoding="utf-8").splitlines():
            name, _, text = line.partition("\t")
            verses.setdefault(name.rpartition(".")[0], []).append((name, " ".join(text.split())))
        for split, passages in (("train", facts["train"][code]), ("valid", facts["held_out"])):
            found = [verse for passage in passages for verse in verses.get(passage, ())]
            text = (tmp_path / "text" / split / f"{code}.txt").read_text(encoding="utf-8")
            assert text == "".join(f"{verse}\n" for _, verse in found)
            if split == "valid":
                held_out |= {name for name, _ in found}
            for name, _ in found if split == "train" else ():
                assert owner.setdefault(name, code) == code
    assert held_out
    assert not held_out & owner.keys()
    assert set(owner.values()) == set(design.languages)


def verse_text(folder: Path, languages: tuple[str, ...]) -> Path:
    """Short verses of made-up words; the words of a language are its own."""
    folder.mkdir()
    for code in languages:
        draw = random.Random(code)
        words = ["".join(draw.choices("abdefgiklmnoprstuvz", k=draw.randint(2, 7))) for _ in range(60)]
        lines = [
            f"B{b}.{c}.{v}\t{' '.join(draw.choices(words, k=12))}\n"
            for b in range(20)
            for c in range(1, 26)
            for v in range(1, 7)
        ]
        (folder / f"{code}.tsv").write_text("".join(lines), encoding="utf-8")
    return folder


def one_run_of_each_group(source: Path) -> dict[str, Any]:
    """The design with one mixture, one seed and one small size a group, and a sixty-fourth of the tokens."""
    design = load("atlas-miniature").model_dump(mode="json")
    design["corpus"]["source"] = str(source)
    design["tokenizer"]["vocabulary"] = 400
    design["recipe"] |= {"sequence_length": 32, "warmup_steps": 1, "evaluation_tokens": 64, "checkpoint_every": 10}
    tiny = {"layers": 1, "heads": 1, "d_model": 8, "d_ff": 16, "d_head": 8}
    design["sizes"] = {name: tiny | {"recipe": {"learning_rate": 1e-2}} for name in design["sizes"]}
    for group in design["groups"]:
        kept = [size for size in ("01", "10") if size in group["sizes"]] or group["sizes"]
        group["sizes"] = kept if group["name"] == "unimax" else kept[:1]
        group["tokens"] = [tokens / 64 for tokens in group["tokens"]]
        group["seeds"] = group["seeds"][:1]
        for name in ("shares", "then", "boundaries"):
            if group.get(name):
                group[name] = group[name][:1]
        if group["unique_tokens"]:
            group["unique_tokens"] //= 64
        narrow = {"monolingual": 1, "bilingual": 2}.get(group["mixture"])
        if narrow:
            group["languages"] = (group["languages"] or design["languages"])[:narrow]
    return design


TRAIN = """
import sys
from pathlib import Path
from babelscale.study import Study
study = Study.open(Path(sys.argv[1]))
study.train(holdout=True)
"""


@pytest.mark.slow
def test_one_run_of_each_group_killed_and_resumed_leaves_the_same_bytes(tmp_path: Path):
    source = verse_text(tmp_path / "text", load("atlas-miniature").languages)
    design = one_run_of_each_group(source)
    whole, killed = (Study.create(design, tmp_path / name) for name in ("whole", "killed"))
    for study in (whole, killed):
        study.prepare()
    assert whole.specs.keys() == killed.specs.keys()
    assert all(whole.groups[group.name] for group in whole.design.groups)
    whole.train(holdout=True)
    deaths = 0
    while len(killed.missing) > len(killed.specs) // 4:
        before = len(killed.missing)
        process = subprocess.Popen([sys.executable, "-c", TRAIN, str(killed.folder)], start_new_session=True)
        while len(killed.missing) > before - len(killed.specs) // 4 and process.poll() is None:
            time.sleep(0.05)
        workers = subprocess.run(
            ["pgrep", "-f", f"study.worker {killed.folder}"], capture_output=True, text=True, check=False
        ).stdout.split()
        for number in (process.pid, *map(int, workers)):
            os.kill(number, signal.SIGKILL)
        process.wait()
        deaths += 1
    assert deaths >= 2
    killed.train(holdout=True)
    for name in whole.specs:
        for file in ("record.json", "log.jsonl"):
            assert (whole.finished(name) / file).read_bytes() == (killed.finished(name) / file).read_bytes(), name
    for group in whole.design.groups:
        for spec in whole.groups[group.name]:
            kept = json.loads((whole.finished(spec.name) / "record.json").read_text(encoding="utf-8"))
            decayed = [entry for entry in kept["losses"] if entry["lr_state"] == "decayed"]
            assert {entry["language"] for entry in decayed} >= set(spec.mixture.languages)
            assert all(0 < entry["nats"] / entry["tokens"] < 10 for entry in decayed)
    branched = [name for name in whole.trunks if (whole.finished(whole.trunks[name].name) / "branches").is_dir()]
    assert branched


@pytest.mark.slow
def test_the_records_in_the_repository_are_of_this_design_and_this_text(shared: Path, tmp_path: Path):
    source = shared / "corpora" / "bible37.tar.xz"
    if not source.exists():
        pytest.skip("../shared/corpora/bible37.tar.xz is not there")
    study = Study.create("atlas-miniature", tmp_path / "study", corpus=source)
    study.prepare()
    done = records.restore(study, Path(__file__).parents[2] / "records" / "atlas-miniature.jsonl.xz")
    assert done.foreign == {}
    assert done.restored
    assert all(study.is_finished(name) for name in done.restored)
