"""The designs that come with the package: their counts, and the identities of some of their runs."""

import random
from collections import Counter
from dataclasses import dataclass
from importlib import resources

import pytest

from babelscale import published
from babelscale.languages import is_private
from babelscale.study import design as designs
from babelscale.study import spec as specs_module
from babelscale.study.spec import RunSpec, expand
from babelscale.training.recipe import Recipe

# The counts that the ATLAS study prints, by the groups that stand for them here.
PRINTED = {
    "monolingual-own": 140,
    "unimax": 20,
    "monolingual": 70,
    "monolingual-2b": 50,
    "bilingual-2b": 90,
    "bilingual": 150,
    "uniform-": 120,
    "finetune-2b": 50,
    "finetune": 84,
}
SETS = {
    "4v0": "de es fr pt",
    "4v1": "de en es fr",
    "4v2": "hi ja vi zh",
    "4v3": "en hi pt ru",
    "6v0": "de en es fr pt ru",
    "8v0": "de en es fr pt ru vi zh",
    "8v1": "de en fr hi ja ru vi zh",
    "12v0": "de en es fr hi it ja pl pt ru vi zh",
    "16v0": "de en es fr hi it ja pl pt ru vi zh id nl sv tr",
    "24v0": "de en es fr hi it ja pl pt ru vi zh id nl sv tr cs da fa fi hu ro th uk",
    "32v0": "de en es fr hi it ja pl pt ru vi zh id nl sv tr cs da fa fi hu ro th uk ar bg ca el ko lt no sk",
}
BATCHES = ((150e6, 256), (1e9, 512), (2e9, 1024), (float("inf"), 2048))


def runs_of(name: str) -> dict[str, list[RunSpec]]:
    """A design's runs, as if every language had a billion tokens."""
    design = designs.load(name)
    return expand(design, dict.fromkeys(design.languages, 1e9), "corpus", "tokenizer")


@pytest.fixture(scope="module")
def atlas() -> dict[str, list[RunSpec]]:
    return runs_of("atlas-2025")


def test_the_studys_774_runs_group_by_group(atlas: dict[str, list[RunSpec]]):
    counts: Counter[str] = Counter()
    for name, specs in atlas.items():
        counts["uniform-" if name.startswith("uniform-") else name] += len({spec.hash for spec in specs})
    assert counts == PRINTED
    assert len({spec.hash for specs in atlas.values() for spec in specs}) == sum(PRINTED.values()) == 774


def test_the_published_language_sets(atlas: dict[str, list[RunSpec]]):
    for name, codes in SETS.items():
        mixtures = {spec.mixture.languages for spec in atlas[f"uniform-{name}"]}
        assert mixtures == {tuple(sorted(codes.split()))}
    fifty = {spec.mixture.languages for spec in atlas["uniform-50v0"]}
    assert {len(codes) for codes in fifty} == {50}
    assert {spec.mixture.languages[0] for spec in atlas["monolingual-2b"]} == set(*fifty)
    for spec in (spec for name, specs in atlas.items() if name.startswith("uniform-") for spec in specs):
        assert len(set(spec.mixture.shares.values())) == 1


def test_the_published_sizes_vocabulary_and_batches(atlas: dict[str, list[RunSpec]]):
    every = [spec for specs in atlas.values() for spec in specs]
    assert {spec.shape.params for spec in atlas["unimax"]} == {size.params for size in published.model_scales()}
    assert {spec.shape.vocabulary for spec in every} == {64_512}
    for spec in every:
        assert spec.recipe.batch_size == next(batch for bound, batch in BATCHES if spec.shape.params < bound)
        assert (spec.recipe.sequence_length, spec.recipe.warmup_steps, spec.recipe.dropout) == (2048, 1000, 0.1)
        assert spec.steps >= 30_000


def test_unimax_pins_english_and_takes_all_languages(atlas: dict[str, list[RunSpec]]):
    design = designs.load("atlas-2025")
    # Table B.4 has 419, of which 25 are variants of others by script or region, or noise.
    assert len(design.languages) == len(set(design.languages)) == 419 - 25
    assert len([code for code in design.languages if is_private(code)]) == 29
    for spec in atlas["unimax"]:
        assert set(spec.mixture.languages) == set(design.languages)
        assert spec.mixture.shares["en"] == pytest.approx(0.05)
        assert spec.tokens == pytest.approx(1e12, rel=1e-5)


def test_finetunes_start_from_the_unimax_run_of_their_size(atlas: dict[str, list[RunSpec]]):
    bases = {spec.size: spec for spec in atlas["unimax"]}
    for spec in (*atlas["finetune"], *atlas["finetune-2b"]):
        assert spec.base == bases[spec.size]
    # Against starting over, at equal new tokens.
    scratch = {(spec.size, spec.mixture.languages, spec.tokens) for spec in atlas["monolingual"]}
    assert scratch <= {(spec.size, spec.mixture.languages, spec.tokens) for spec in atlas["finetune"]}


def test_own_vocabularies_are_other_runs(atlas: dict[str, list[RunSpec]]):
    own, shared = atlas["monolingual-own"], atlas["monolingual"]
    assert len({spec.tokenizer for spec in own}) == len({spec.mixture.languages for spec in own}) == 7
    assert {spec.tokenizer for spec in shared} == {"tokenizer"}


@pytest.mark.parametrize(("name", "runs"), [("laptop", 221), ("single-gpu", 97)])
def test_the_smaller_designs_hold_what_every_law_asks_for(name: str, runs: int):
    groups = runs_of(name)
    every = {spec.hash: spec for specs in groups.values() for spec in specs}.values()
    assert len(every) == runs
    assert len({spec.shape.params for spec in every}) >= 4
    codes = designs.load(name).languages
    pairs = {spec.mixture.languages for spec in groups["bilingual"]}
    assert len(pairs) == len(codes) * (len(codes) - 1) // 2
    # Each pair runs twice as far as the two it is held against, and both are there.
    base = {spec.mixture.languages[0]: spec for spec in groups["monolingual"]}
    for spec in groups["bilingual"]:
        assert all(spec.tokens == pytest.approx(2 * base[code].tokens, rel=1e-3) for code in spec.mixture.languages)
    assert len({spec.seed for spec in every}) > 1
    # A continued run and one from scratch of the same size, language and tokens.
    scratch = {(spec.size, spec.mixture.languages, spec.tokens) for spec in groups["ladder"]}
    assert all((spec.size, spec.mixture.languages, spec.tokens) in scratch for spec in groups["continued"])


# Never edit these: whoever has finished runs finds them by name.
GOLDEN = {
    ("atlas-2025", "monolingual-own"): "46-zh-126B-s0-944f917d67",
    ("atlas-2025", "unimax"): "46-394langs-1T-s0-a92dec87e6",
    ("atlas-2025", "monolingual-2b"): "34-zh-294B-s0-cae1f98977",
    ("atlas-2025", "bilingual"): "46-sw+zh-126B-s0-f869473b14",
    ("atlas-2025", "uniform-50v0"): "46-50langs-126B-s0-8052f40f8e",
    ("atlas-2025", "finetune"): "46-394langs-to-zh-419B-s0-452f4d731b",
    ("laptop", "ladder"): "xl-sv-8M-s0-0c2dee5b55",
    ("laptop", "bilingual"): "m-sw+zh-2M-s0-cd05173d50",
    ("laptop", "unimax"): "xl-12langs-8M-s0-873ae7b4cc",
    ("laptop", "continued"): "xl-12langs-to-sv-2M-s0-d802bfe6cf",
    ("single-gpu", "ladder"): "146m-sw-2B-s0-0511465943",
    ("single-gpu", "unimax"): "146m-8langs-1.5B-s0-e871376b44",
}


def test_identities_are_golden():
    runs = {design: runs_of(design) for design in dict.fromkeys(design for design, _ in GOLDEN)}
    found = {(design, group): runs[design][group][-1].name for design, group in GOLDEN}
    assert found == GOLDEN


def text_of(name: str) -> str:
    return resources.files("babelscale.study").joinpath("designs", f"{name}.toml").read_text(encoding="utf-8")


def names(text: str, corpus: str = "corpus", tokenizer: str = "tokenizer") -> dict[str, set[str]]:
    """Run names by group of a design's text."""
    design = designs.parse(text, "test.toml")
    groups = expand(design, dict.fromkeys(design.languages, 1e9), corpus, tokenizer)
    return {group: {spec.name for spec in specs} for group, specs in groups.items()}


@pytest.mark.parametrize("name", ["quickstart", "laptop", "single-gpu"])
def test_the_order_of_a_file_moves_no_identity(name: str):
    """Tables, groups, the keys of each and the languages of a list may stand in any order."""
    text = "\n".join(line for line in text_of(name).splitlines() if not line.startswith("#"))
    top, *tables = text.split("\n[")
    draw = random.Random(5)
    shuffled = []
    for table in tables:
        head, *keys = [line for line in table.splitlines() if line]
        draw.shuffle(keys)
        shuffled.append("\n".join(["[" + head, *keys]))
    draw.shuffle(shuffled)
    # A group stands after the one it continues from.
    shuffled.sort(key=lambda table: "continue_from" in table)
    lines = top.splitlines()
    lines.reverse()
    assert names("\n".join([*lines, *shuffled])) == names(text)
    codes = next(line for line in lines if line.startswith("languages"))
    backwards = f"languages = {list(reversed(designs.load(name).languages))}"
    assert names(text.replace(codes, backwards)) == names(text)


@pytest.mark.parametrize("name", ["quickstart", "laptop", "single-gpu", "atlas-2025"])
def test_a_new_field_of_the_recipe_moves_no_identity(name: str, monkeypatch: pytest.MonkeyPatch):
    @dataclass(frozen=True)
    class Longer(Recipe):
        label_smoothing: float = 0.0

    before = names(text_of(name))
    monkeypatch.setattr(designs, "Recipe", Longer)
    monkeypatch.setattr(specs_module, "Recipe", Longer)
    assert isinstance(designs.load(name).training_recipe(next(iter(designs.load(name).sizes))), Longer)
    assert names(text_of(name)) == before


CHANGES = {
    "shape": ("d_ff = 256", "d_ff = 264", {"bilingual", "monolingual", "noise", "noise-monolingual"}),
    "block": ("d_head = 16 }\nl =", 'd_head = 16, block = "sequential" }\nl =', {"bilingual", "monolingual"}),
    "vocabulary": ("vocabulary = 2048", "vocabulary = 2304", None),
    "recipe": ("learning_rate = 1e-2", "learning_rate = 2e-2", {"bilingual", "monolingual", "noise"}),
    "recipe of a size": ("learning_rate = 5e-3", "learning_rate = 4e-3", set()),
    "evaluation": ("evaluation_tokens = 8192", "evaluation_tokens = 4096", None),
    "share": ("en = 0.05", "en = 0.06", {"unimax", "continued"}),
    "seeds": ("seeds = [1, 2]", "seeds = [3, 4]", {"noise", "noise-monolingual"}),
    "tokens": ("tokens = [16e6]", "tokens = [17e6]", {"repeated"}),
}


@pytest.mark.parametrize("change", CHANGES)
def test_what_changes_a_result_moves_its_identity_and_no_other(change: str):
    before, after, moved = CHANGES[change]
    text = text_of("laptop")
    assert before in text
    first, second = names(text), names(text.replace(before, after))
    gone = {group for group in first if not first[group] & second[group]}
    stayed = {group for group in first if first[group] == second[group]}
    if moved is None:
        assert gone == set(first)
    else:
        assert moved <= gone
        if change in ("share", "seeds", "tokens"):
            assert stayed == set(first) - moved


def test_text_and_tokenizer_move_every_identity_and_sizes_of_languages_only_those_they_matter_to():
    text = text_of("laptop")
    first = names(text)
    for changed in (names(text, corpus="other"), names(text, tokenizer="other")):
        assert all(not first[group] & changed[group] for group in first)
    design = designs.parse(text, "test.toml")
    uneven = expand(design, {code: 1e9 if code != "sw" else 1e3 for code in design.languages}, "corpus", "tokenizer")
    moved = {group for group, specs in uneven.items() if {spec.name for spec in specs} != first[group]}
    assert moved == {"unimax", "continued"}
