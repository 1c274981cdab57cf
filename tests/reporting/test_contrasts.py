"""What the contrasts of a design can measure, from its runs alone."""

import json
import math
from typing import Any

import numpy as np
import polars as pl
import pytest

from babelscale.errors import InputError
from babelscale.fitting import simulate
from babelscale.laws import Chinchilla
from babelscale.reporting.design.contrasts import (
    DesignAnswer,
    Noise,
    alike,
    contrasts,
    distinct,
    measured_noise,
    noise_of,
    repeats,
)
from babelscale.reporting.design.power import allocation_of, specs_of
from babelscale.reporting.design.simulated_contrasts import laws_apart, number_of_languages, repetition
from babelscale.reporting.design.study_power import study_power
from babelscale.reporting.design.transfer_contrasts import low_score, pair_scatter, pairs_by_size, transfer_questions
from babelscale.runs import Runs
from babelscale.study import load
from babelscale.study.spec import RunSpec
from babelscale.transfer import bts
from babelscale.transfer.curve import LearningCurve

CODES = ("da", "en", "ru", "sv", "uk")
U = dict.fromkeys(CODES, 1e6)
QUIET, NOISY = Noise(0.005, 0, "given"), Noise(0.01, 0, "given")


def design(*groups: dict[str, Any], **fields: Any):
    sizes = {f"s{d}": {"layers": 2, "heads": 1, "d_model": d, "d_ff": d, "d_head": 8} for d in (8, 16, 32, 64)}
    given = [{"name": f"g{i}", "sizes": ["s16"], "tokens": [64e3]} | group for i, group in enumerate(groups)]
    recipe = {"batch_size": 4, "sequence_length": 32, "warmup_steps": 2}
    base = {"name": "small", "languages": CODES, "tokenizer": {"vocabulary": 400}, "sizes": sizes, "recipe": recipe}
    return load(base | {"groups": given} | fields)


def runs_in(*groups: dict[str, Any]) -> list[RunSpec]:
    return specs_of(design(*groups), U)


def about(answers: list[DesignAnswer], question: str) -> list[DesignAnswer]:
    return [answer for answer in answers if answer.question.startswith(question)]


MONO = {"mixture": "monolingual", "languages": ["en", "ru"]}


def test_without_seeds_the_noise_cannot_be_told():
    (answer,) = about(contrasts(runs_in(MONO), QUIET), "the noise")
    assert (answer.width, answer.can_tell) == (None, False)
    assert "not measurable" in str(answer)
    assert "seeds" in (answer.add or "")
    assert noise_of(runs_in(MONO), None) == Noise(0.005, 0, "assumed")


def test_repeats_differ_in_seeds_alone_whenever_they_are_evaluated():
    runs = runs_in(MONO, MONO | {"seeds": [1, 2], "recipe": {"evaluations": 2}})
    assert [len(same) for same in repeats(runs)] == [3, 3]
    assert noise_of(runs, None).degrees == 4
    (whole, by_size) = about(contrasts(runs, noise_of(runs, None)), "the noise")
    assert (whole.subject, by_size.subject) == ("all sizes", "size s16")
    # The 90 % interval of an sd from 4 degrees of freedom, of the tables of chi squared: 0.711 and 9.488.
    assert whole.width == pytest.approx((math.sqrt(4 / 0.711) - math.sqrt(4 / 9.488)) / 2, rel=1e-3)
    again = runs_in(MONO, MONO | {"recipe": {"evaluations": 2}})
    assert (len(again), len(distinct(again))) == (4, 2)
    assert alike(runs[0]) != alike(runs[1])


def test_seeds_of_a_base_count_as_seeds_of_what_continues_it():
    base = {"mixture": "uniform", "seeds": [0, 1]}
    after = {"mixture": "monolingual", "languages": ["en"], "continue_from": "g0", "seeds": [0, 1]}
    assert [len(same) for same in repeats(runs_in(base, after))] == [2, 2]


def test_half_widths_go_with_the_noise_and_with_one_over_the_root_of_the_runs():
    own = MONO | {"tokenizer": "own"}
    few = about(contrasts(runs_in(MONO, own), QUIET), "separate against")
    assert few[0].width == pytest.approx(QUIET.quantile * 0.005 * math.sqrt(2))
    louder = about(contrasts(runs_in(MONO, own), NOISY), "separate against")
    more = about(contrasts(runs_in(MONO | {"seeds": range(4)}, own | {"seeds": range(4)}), QUIET), "separate against")
    for one, two, four in zip(few, louder, more, strict=True):
        assert one.width is not None
        assert two.width == pytest.approx(2 * one.width)
        assert four.width == pytest.approx(one.width / 2)
    assert [answer.can_tell for answer in (few[0], more[0])] == [False, True]
    assert "2 times as many" in (few[0].add or "")


def test_vocabularies_are_compared_at_equal_tokens_only():
    apart = runs_in(MONO | {"tokens": [32e3]}, MONO | {"tokenizer": "own"})
    (answer,) = about(contrasts(apart, QUIET), "separate against")
    assert (answer.width, answer.can_tell) == (None, False)
    assert "nearest 32k tokens" in answer.basis


def test_a_crossing_needs_two_lengths_of_both_starts():
    base, fresh = {"mixture": "uniform"}, MONO | {"tokens": [32e3, 64e3], "seeds": range(3)}
    after = MONO | {"continue_from": "g0"}
    ends = {"recipe": {"evaluations": 1}}
    one = about(contrasts(runs_in(base, after | ends, MONO | ends | {"tokens": [16e3]}), QUIET), "from scratch")
    assert not one[0].can_tell
    assert "runs from scratch of 64k tokens and continued ones of 16k" in (one[0].add or "")
    both = about(contrasts(runs_in(base, after, fresh), QUIET), "from scratch")
    assert "64k" in both[0].basis
    # The mean over two languages keeps the error of their common base.
    assert both[1].width == pytest.approx(QUIET.half_width(1 + 1 / 6))
    (none,) = about(contrasts(runs_in(base, after), QUIET), "from scratch")
    assert none.basis == "no such run from scratch"


def test_two_stages_are_compared_with_one_stage_of_either_mixture_and_of_the_totals():
    staged = {"mixture": "uniform", "then": [{"en": 1}, {"ru": 1}], "boundaries": [0.5]}
    totals = {"mixture": "shares", "shares": [{"en": 6, "ru": 1, "sv": 1, "da": 1, "uk": 1}]}
    answers = about(contrasts(runs_in(staged, {"mixture": "uniform"}, totals), QUIET), "two stages")
    widths = {answer.subject: answer.width for answer in answers}
    assert widths["against one stage of the first mixture, each"] == pytest.approx(QUIET.half_width(2))
    assert widths["against one stage of the first mixture, mean of the languages"] == pytest.approx(
        QUIET.half_width(1 / 2 + 1)
    )
    assert widths["against one stage of the second mixture"] is None
    assert "1 of 2 two-stage runs" in next(a.basis for a in answers if "totals, each" in a.subject)
    assert about(contrasts(runs_in(MONO), QUIET), "two stages") == []


def test_skewed_pairs_need_the_even_one():
    skewed = {"mixture": "shares", "shares": [{"en": 3, "ru": 1}, {"en": 1, "ru": 9}]}
    (alone,) = about(contrasts(runs_in(skewed), QUIET), "skewed")
    assert alone.width is None
    even = {"mixture": "bilingual", "languages": ["en", "ru"], "seeds": [0, 1]}
    (beside,) = about(contrasts(runs_in(skewed, even), QUIET), "skewed")
    assert beside.width == pytest.approx(QUIET.half_width(1 + 1 / 2))
    assert "10, 75 %" in beside.basis


PAIRS = {"mixture": "bilingual", "tokens": [256e3]}
ALONE = {"mixture": "monolingual", "tokens": [64e3]}


def slope(code: str, params: float, tokens: float) -> float:
    return 0.1


def test_the_width_of_a_score_is_that_of_scores_read_from_noisy_curves():
    (pairs,) = pairs_by_size(runs_in(PAIRS, ALONE))
    answers = transfer_questions(runs_in(PAIRS, ALONE), QUIET, slope, U)
    (one,) = about(answers, "one transfer")
    rng = np.random.default_rng(0)
    tokens = np.geomspace(1e3, 4e5, 40)
    found = []
    for mono, bilingual in rng.normal(0, QUIET.sd, (400, 2)):
        curves = [
            LearningCurve("en", tokens, 3 * (tokens / part) ** -0.1 * math.exp(error))
            for part, error in ((1, mono), (2, bilingual))
        ]
        found.append(bts.score(*curves, tokens=pairs.anchor).value)
    assert one.width == pytest.approx(bts.Z90 * np.std(found), rel=0.1)
    assert np.mean(found) == pytest.approx(0, abs=0.02)


def test_scores_that_would_be_censored_ask_for_a_lower_anchor():
    (long,) = pairs_by_size(runs_in(PAIRS, ALONE))
    assert long.anchor == pytest.approx(0.4 * long.mono_end)
    (short,) = pairs_by_size(runs_in(PAIRS | {"tokens": [64e3]}, ALONE | {"tokens": [128e3]}))
    assert short.anchor < 0.4 * short.mono_end
    assert short.floor(short.anchor) == pytest.approx(low_score())
    answers = transfer_questions(runs_in(PAIRS | {"tokens": [64e3]}, ALONE | {"tokens": [128e3]}), QUIET, slope, U)
    assert "are censored" in about(answers, "one transfer")[0].basis
    # Cut text and other seeds are no baseline.
    cut, other = ALONE | {"unique_tokens": 2000}, ALONE | {"seeds": [1]}
    assert pairs_by_size(runs_in(PAIRS, cut, other)) == []


def test_kinship_counts_languages_and_names_those_to_add():
    some = ["en", "ru", "sv"]
    answers = transfer_questions(runs_in(PAIRS | {"languages": some}, ALONE | {"languages": some}), QUIET, slope, U)
    script = next(a for a in about(answers, "do related") if "script" in a.subject)
    # Russian has no partner of its script, so two languages are left: too few.
    assert (script.width, script.can_tell) == (None, False)
    every = transfer_questions(runs_in(PAIRS, ALONE), QUIET, slope, U)
    wider = next(a for a in about(every, "do related") if "script" in a.subject)
    assert "8 of 20 directed pairs share it, 5 languages" in wider.basis
    assert wider.width is not None
    assert wider.width > pair_scatter() / math.sqrt(20)
    quiet = transfer_questions(runs_in(PAIRS, ALONE), Noise(1e-4, 0, "given"), slope, U)
    assert next(a for a in about(quiet, "do related") if "script" in a.subject).width < wider.width  # pyright: ignore[reportOperatorIssue]


def test_trends_of_transfer_narrow_with_more_sizes():
    def trend(sizes: list[str], subject: str) -> float:
        runs = runs_in(PAIRS | {"sizes": sizes}, ALONE | {"sizes": sizes})
        found = about(transfer_questions(runs, QUIET, slope, U), "change of transfer per doubling of N")
        return next(a.width or 0.0 for a in found if a.subject == subject)

    ends = ["s8", "s64"]
    assert 0 < trend(ends, "mean of the pairs") < trend(ends, "one pair") / 2
    assert trend(["s8", "s16", "s32", "s64"], "one pair") < trend(ends, "one pair")
    only = about(transfer_questions(runs_in(PAIRS, ALONE), QUIET, slope, U), "change of transfer per doubling of N")
    assert only == []


REPEATED = {
    "mixture": "monolingual",
    "languages": ["en"],
    "unique_tokens": 16384,
    "sizes": ["s8", "s64"],
    "tokens": [16384, 32768, 65536, 131072, 262144, 655360],
}


def test_cut_runs_have_the_cut_text_and_others_the_whole():
    allocation, _ = allocation_of(runs_in(REPEATED, MONO), U)
    assert sorted(set(allocation.U("en").tolist())) == [16384.0, 1e6]
    assert allocation.epochs("en").max() == pytest.approx(40, rel=0.01)
    assert allocation_of(runs_in(REPEATED), dict.fromkeys(CODES, 1e3))[0].U("en").max() == 1e3


def test_a_dependence_of_repeats_on_the_size_is_found_where_the_design_has_the_runs():
    whole = REPEATED | {"unique_tokens": None}
    found = repetition(runs_in(REPEATED, whole), U, Noise(0.002, 0, "given"), tables=3)
    at = about(found, "R_D* (the worth")
    assert [answer.can_tell for answer in at] == [True, True]
    (k,) = about(found, "dependence")
    assert (k.width, k.can_tell) == (0.0, True)
    # Without the same lengths on fresh text, beta and R_D* make up for each other.
    (deaf,) = about(repetition(runs_in(REPEATED), U, QUIET, tables=3), "dependence")
    assert not deaf.can_tell


def test_too_few_lengths_or_one_size_leave_repeats_open():
    few = repetition(runs_in(REPEATED | {"tokens": [16384, 262144]}), U, QUIET, tables=2)
    assert "too few lengths" in few[0].basis
    assert "no language is repeated at two sizes" in few[1].basis
    assert not any(answer.can_tell for answer in few)


def test_the_price_of_languages_needs_three_numbers_of_them():
    sizes = ["s8", "s16", "s32", "s64"]
    alone = MONO | {"sizes": sizes, "tokens": [16e3, 64e3, 256e3]}
    pair = {"mixture": "bilingual", "languages": ["en", "ru"], "sizes": sizes, "tokens": [64e3, 256e3]}
    (none,) = number_of_languages(runs_in(alone, pair), U, ["en"], QUIET, tables=2)
    assert not none.can_tell
    wide = {"mixture": "uniform", "sizes": sizes, "tokens": [64e3, 256e3]}
    phi, psi = number_of_languages(runs_in(alone, pair, wide), U, ["en", "ru"], QUIET, tables=2)
    assert "K = 1 2 5 at 4 sizes" in phi.basis
    assert "moves it" not in phi.basis
    assert (phi.subject, psi.subject) == ("phi", "psi")
    assert phi.width is not None
    # Text of which runs of one language repeat 50 times: what they lose would pass for a help of other languages.
    _, biased = number_of_languages(runs_in(alone, pair, wide), dict.fromkeys(CODES, 5e3), ["en"], QUIET, tables=2)
    assert abs(float(biased.basis.split("changes it by ")[1])) > abs(float(psi.basis.split("changes it by ")[1]))


def test_the_law_of_a_table_predicts_it_best_where_laws_are_not_nested():
    sizes = ["s8", "s16", "s32", "s64"]
    groups = ({"mixture": kind, "sizes": sizes, "tokens": [16e3, 64e3, 256e3]} for kind in ("monolingual", "uniform"))
    allocation, _ = allocation_of(runs_in(*groups), U)
    found = laws_apart(allocation, "en", QUIET, tables=2)
    by_subject = {answer.subject: answer for answer in found}
    assert by_subject["en, truth adaptive-transfer, axis random"].can_tell
    # Without repeats the data-constrained law is Chinchilla's.
    assert not by_subject["en, truth chinchilla, axis random"].can_tell


def test_the_noise_of_finished_runs_is_measured_where_seeds_alone_differ():
    specs = runs_in(MONO | {"seeds": range(40)})
    allocation, _ = allocation_of(specs, U)
    truth = {"E": 0.5, "A": 1.0, "B": 9.0, "alpha": 0.35, "beta": 0.35}
    runs = simulate([Chinchilla("en"), Chinchilla("ru")], [truth, truth], allocation, noise=0.02, seed=1)
    names = {f"r{i:06d}": spec.name for i, spec in enumerate(specs)}
    frames = (runs.table, runs.exposure, runs.losses)
    named = Runs.of(*(frame.with_columns(pl.col("run").replace(names)) for frame in frames))
    found = noise_of(specs, None, named, {spec.name: spec for spec in specs})
    assert found.sd == pytest.approx(0.02, rel=0.15)
    assert found.degrees == 78
    assert found.source.startswith("measured on 78 repeats among finished runs (90 %: ")
    # Few of the repeats are finished: the scatter is theirs, the degrees of freedom are those of the whole design.
    few = noise_of(specs, None, named, {spec.name: spec for spec in specs if spec.seed < 3})
    assert (few.degrees, few.source[:21]) == (78, "measured on 4 repeats")
    assert noise_of(specs, 0.01, named, {}).source == "as given"
    assert measured_noise(named, {spec.name: spec for spec in specs[:2]}) is None


@pytest.fixture(scope="module")
def small():
    return design(
        MONO | {"sizes": ["s8", "s16", "s32"], "tokens": [16e3, 64e3, 256e3]},
        {"mixture": "uniform", "sizes": ["s8", "s16", "s32"], "tokens": [64e3, 256e3]},
        analysis={"targets": ["en", "ru"]},
    )


def test_a_design_is_told_of_every_law_target_and_question(small: Any):
    found = study_power(small, tables=2)
    assert [(row.law, row.target) for row in found.laws[:4]] == [
        ("chinchilla", "en"),
        ("chinchilla", "ru"),
        ("data-constrained", "en"),
        ("data-constrained", "ru"),
    ]
    data = json.loads(json.dumps(found.to_dict(), allow_nan=False))
    assert [answer["can_tell"] for answer in data["questions"]] == [answer.can_tell for answer in found.questions]
    text = str(found)
    for answer in found.questions:
        assert str(answer) in text
    assert "not identified: R_D* is not identified, because no run repeats its data" in text
    assert study_power(small, "chinchilla", tables=2) == study_power(small, "chinchilla", tables=2)
    assert study_power(small, "chinchilla", tables=2, seed=3) != study_power(small, "chinchilla", tables=2)


def test_one_law_on_one_target_is_told_in_full(small: Any):
    found = study_power(small, "chinchilla", "ru", tables=2, parameters={"alpha": 0.4}, noise=0.01)
    assert "expected 90 % interval" in str(found)
    assert found.laws[0].noise == 0.01
    for wrong, message in (
        ({"target": "no"}, "does not train on 'no'"),
        ({"parameters": {"zeta": 1.0}}, "no law has a parameter 'zeta'"),
        ({"law": "chinchila"}, "no law is called"),
    ):
        with pytest.raises(InputError, match=message):
            study_power(small, tables=2, **wrong)
    with pytest.raises(InputError, match=r"analysis\.targets is \['yo'\]"):
        study_power(design(MONO, analysis={"targets": ["yo"]}), tables=2)
