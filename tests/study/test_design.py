import re
from dataclasses import replace
from pathlib import Path

import pytest

from babelscale.errors import InputError
from babelscale.model import ATLAS
from babelscale.study import design as designs
from babelscale.study.design import built_in, load, parse, to_toml
from babelscale.study.spec import expand, trunks

# Never edit these: whoever has finished runs finds them by name.
GOLDEN = [
    "xs-sv-3.97k-s0-68f22bfc70",
    "xs-da-3.97k-s0-6c532bc329",
    "xs-da+sv-3.97k-s0-68cedab11e",
    "xs-3langs-3.97k-s0-6112790db0",
    "s-3langs-3.97k-s0-1162f683fc",
    "s-3langs-to-sw-2.05k-s0-0b473f1d00",
]
SIZES = {"sv": 2e4, "da": 2e4, "sw": 1e4}


def specs(text: str):
    return expand(parse(text, "tiny.toml"), SIZES, "corpus", "tokenizer")


def test_quickstart_covers_what_it_promises():
    design = designs.load("quickstart")
    groups = expand(design, dict.fromkeys(design.languages, 3e5), "c", "t")
    unique = {spec.hash: spec for group in groups.values() for spec in group}
    assert len(unique) >= 24
    assert len({spec.shape for spec in unique.values()}) >= 2
    assert any(len(spec.mixture.languages) == 12 for spec in unique.values())
    assert any(spec.base is not None for spec in unique.values())
    assert all(len(spec.name) < 80 for spec in unique.values())


def test_groups_share_runs():
    design = designs.load("quickstart")
    groups = expand(design, dict.fromkeys(design.languages, 3e5), "c", "t")
    assert {s.hash for s in groups["monolingual"]} & {s.hash for s in groups["scaling"]}


def test_identities_are_golden(tiny_text: str):
    """Stable across versions: a study must find its finished runs again."""
    names = [spec.name for group in specs(tiny_text).values() for spec in group]
    assert names == GOLDEN


def test_what_changes_no_result_moves_no_identity(tiny_text: str):
    names = {spec.name for group in specs(tiny_text).values() for spec in group}
    for before, after in [
        ("checkpoint_every = 10", "checkpoint_every = 20"),
        ("batch_size = 4\nsequence_length = 32", "sequence_length = 32\nbatch_size = 4\nbeta2 = 0.95"),
        ('languages = ["sv", "da"]\nsizes', 'languages = ["da", "sv"]\nsizes'),
        ('[["sv", "da"]]', '[["da", "sv"]]'),
        ('name = "mono"', 'name = "single"'),
    ]:
        assert {spec.name for group in specs(tiny_text.replace(before, after)).values() for spec in group} == names


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("learning_rate = 1e-2", "learning_rate = 2e-2"),
        ("d_ff = 16", "d_ff = 24"),
        ("tokens = [4e3]", "tokens = [5e3]"),
        ('tokens = [4e3]\n\n[[groups]]\nname = "pair"', 'tokens = [4e3]\nseeds = [1]\n\n[[groups]]\nname = "pair"'),
        ("evaluation_tokens = 256", "evaluation_tokens = 288"),
    ],
)
def test_what_changes_the_result_moves_the_identity(tiny_text: str, before: str, after: str):
    first = specs(tiny_text)["mono"][0].hash
    assert before in tiny_text
    assert specs(tiny_text.replace(before, after))["mono"][0].hash != first


def test_a_continued_run_depends_on_its_base(tiny_text: str):
    first = specs(tiny_text)["continued"][0]
    assert first.base is not None
    assert first.base.shape == first.shape
    other = expand(parse(tiny_text, "tiny.toml"), SIZES | {"sw": 50.0}, "corpus", "tokenizer")["continued"][0]
    assert other.hash != first.hash


BAD = {
    "not TOML": ("name = ", "name 7 ", "not TOML"),
    "unknown language": ('"sv", "da", "sw"]', '"sv", "da", "qqq"]', "unknown language code 'qqq'"),
    "missing language": ('pairs = [["sv", "da"]]', 'pairs = [["sv", "fi"]]', "language 'fi' is not among"),
    "unknown size": ('sizes = ["xs", "s"]', 'sizes = ["xl"]', "size 'xl' is not in [sizes]"),
    "unknown field": ('mixture = "unimax"', 'mixture = "unimax"\ncolour = 3', "colour"),
    "unknown mixture": ('mixture = "unimax"', 'mixture = "soup"', "mixture"),
    "unknown recipe": ("batch_size", "batch_sise", "unknown field 'batch_sise'"),
    "no tokens": ("tokens = [2e3]", "tokens = []", "tokens"),
    "negative tokens": ("tokens = [2e3]", "tokens = [-2e3]", "tokens must be positive"),
    "tokens and steps": ("tokens = [2e3]", "tokens = [2e3]\nsteps = [3]", "tokens and steps are both given"),
    "negative steps": ("tokens = [2e3]", "steps = [0]", "steps must be positive"),
    "later base": ('continue_from = "all"', 'continue_from = "later"', "not an earlier group"),
    "two groups of a name": ('name = "all"', 'name = "mono"', "a second group of this name"),
    "two starts": ('continue_from = "all"', 'continue_from = "all"\ncheckpoint = "model"', "are both given"),
    "no size": (", d_head = 8 }\ns", " }\ns", "sizes.xs: no d_head"),
    "scale and size": ("xs = { layers = 1", "xs = { scale = 4, layers = 1", "scale and layers are both given"),
    "no such rung": (
        "s = { layers = 1, heads = 2, d_model = 16, d_ff = 32, d_head = 8 }",
        "s = { scale = 3 }",
        "scale 3",
    ),
    "no shares": ('mixture = "unimax"', 'mixture = "shares"', "mixture 'shares' lists no shares"),
    "shares of a rule": (
        'mixture = "unimax"',
        'mixture = "unimax"\nshares = [{ sv = 1 }]',
        "shares are listed beside mixture 'unimax'",
    ),
    "no share": ('mixture = "unimax"', 'mixture = "shares"\nshares = [{ sv = 1, da = 0 }]', "must be positive weights"),
    "unlisted share": ('mixture = "unimax"', 'mixture = "shares"\nshares = [{ fi = 1 }]', "language 'fi' is not among"),
    "unknown field of a group's recipe": (
        'name = "pair"',
        'name = "pair"\nrecipe = { batch = 4 }',
        "groups[1] (pair): recipe: unknown field 'batch'",
    ),
    "wrong field of a group's recipe": (
        'name = "pair"',
        'name = "pair"\nrecipe = { evaluations = 0 }',
        "groups[1] (pair): recipe: evaluations is 0",
    ),
    "odd head": ("d_head = 8 }\ns", "d_head = 7 }\ns", "rotary"),
}


@pytest.mark.parametrize("case", BAD)
def test_a_bad_design_names_the_file_and_the_field(tiny_text: str, case: str):
    before, after, said = BAD[case]
    assert before in tiny_text
    with pytest.raises(InputError, match=re.escape(said)) as caught:
        parse(tiny_text.replace(before, after, 1), "tiny.toml")
    assert caught.value.message.startswith("tiny.toml")


def test_an_unknown_name_lists_the_built_in_designs():
    with pytest.raises(InputError) as caught:
        designs.load("quickstrat")
    assert "quickstart" in (caught.value.hint or "")


def test_a_base_without_its_size_is_refused(tiny_text: str):
    text = tiny_text.replace('sizes = ["xs", "s"]', 'sizes = ["xs"]')
    with pytest.raises(InputError, match="no run of size 's'"):
        specs(text)


def test_a_size_may_be_a_rung_of_the_ladder_and_its_recipe_the_studys(tiny_text: str):
    text = tiny_text.replace("xs = { layers = 1, heads = 1, d_model = 8, d_ff = 16, d_head = 8 }", "xs = { scale = 4 }")
    text = text.replace("[corpus]", "recipe_of = 'atlas'\n[corpus]", 1)
    text = text.replace("batch_size = 4\nsequence_length = 32\nlearning_rate = 1e-2\n", "")
    design = parse(text.replace("d_head = 8 }", "d_head = 8, recipe = { batch_size = 4 } }"), "tiny.toml")
    rung = next(rung.shape for rung in ATLAS if rung.scale == 4)
    assert design.shape("xs") == replace(rung, vocabulary=400)
    recipe = design.training_recipe("xs")
    assert (recipe.batch_size, recipe.sequence_length, recipe.learning_rate) == (256, 2048, 2e-4)
    assert (recipe.warmup_steps, recipe.dropout, recipe.evaluations) == (1000, 0.1, 2)
    assert design.training_recipe("s").batch_size == 4


def test_the_recipe_of_a_group_is_that_of_its_runs_alone(tiny_text: str):
    plain = specs(tiny_text)
    groups = specs(tiny_text.replace('name = "pair"', 'name = "pair"\nrecipe = { evaluations = 5, batch_size = 8 }'))
    assert {name for name in groups if groups[name] != plain[name]} == {"pair"}
    recipe = groups["pair"][0].recipe
    assert recipe == replace(plain["pair"][0].recipe, evaluations=5, batch_size=8)
    # A field at what the design says moves no identity.
    assert specs(tiny_text.replace('name = "pair"', 'name = "pair"\nrecipe = { evaluations = 2 }')) == plain
    of_steps = tiny_text.replace("tokens = [4e3]", "steps = [10]\nrecipe = { batch_size = 8 }", 1)
    assert {(spec.steps, spec.tokens) for spec in specs(of_steps)["mono"]} == {(10, 10 * 8 * 32)}


def test_a_length_in_steps_is_that_many_tokens_and_the_same_run(tiny_text: str):
    text = tiny_text.replace("tokens = [4e3]", "steps = [31]")
    groups = specs(text)
    assert [spec.name for name in ("mono", "pair") for spec in groups[name]] == GOLDEN[:3]


def test_folders_are_relative_to_the_file_and_names_stay(tmp_path):
    assert designs.located("texts", tmp_path) == str(tmp_path / "texts")
    for name in ("phrasebook", "madlad-400", "madlad-400:noisy", "s3://mine/texts", "madlad-400@s3://mine/copy"):
        assert designs.located(name, tmp_path) == name
    assert designs.located("madlad-400:noisy@copy", tmp_path) == f"madlad-400:noisy@{tmp_path / 'copy'}"


def test_the_design_in_the_guide_is_one():
    guide = Path(__file__).parents[2] / "docs" / "laboratory.md"
    text = guide.read_text(encoding="utf-8").partition("```toml\n")[2].partition("```")[0]
    design = parse(text, "laboratory.md")
    groups = expand(design, dict.fromkeys(design.languages, 1e9), "c", "t")
    assert len(trunks(spec for specs in groups.values() for spec in specs)) == 4 + 3
    assert {spec.recipe.batch_size for spec in groups["wide"]} == {256, 64}


def test_listed_shares_are_the_mixture_they_name(tiny_text: str):
    """Weights are normalised, and an even mixture by shares is the same run as by its own name."""
    listed = 'mixture = "shares"\nshares = [{ sv = 2, da = 2 }, { sv = 3, sw = 1 }]'
    text = tiny_text.replace('mixture = "bilingual"\npairs = [["sv", "da"]]', listed)
    assert text != tiny_text
    groups = specs(text)
    even, uneven = groups["pair"]
    assert even.name == specs(tiny_text)["pair"][0].name
    assert dict(uneven.mixture.shares) == {"sv": 0.75, "sw": 0.25}


@pytest.mark.parametrize("name", built_in())
def test_a_design_written_as_toml_is_the_same_design(name: str):
    design = load(name)
    assert parse(to_toml(design, "two\nlines"), name) == design


def test_awkward_codes_and_names_survive_toml(tiny_text: str):
    text = tiny_text.replace('"sw"', '"no"').replace('pairs = [["sv", "da"]]', 'pairs = [["sv", "no"]]')
    design = parse(text.replace('name = "pair"', 'name = "p.1"'), "t")
    back = parse(to_toml(design), "t")
    assert back == design
    assert back.languages[-1] == "no"
