"""The package's figures against the reference tables, and against what follows from them."""

import csv
import math
from pathlib import Path

import pytest

from babelscale import published
from babelscale.errors import InputError

REFERENCE = Path(__file__).parents[3] / "shared" / "reference"


def reference(name: str) -> list[dict[str, str]]:
    path = REFERENCE / f"{name}.csv"
    if not path.exists():
        pytest.skip(f"no reference table {name}.csv beside the project")
    return list(csv.DictReader(path.read_text(encoding="utf-8").splitlines()))


def test_model_scales_are_the_reference():
    rows = reference("model_scales")
    assert [(s.scale, s.params) for s in published.model_scales()] == [
        (int(row["scale"]), int(row["parameters"])) for row in rows
    ]


def test_model_scales_count_every_parameter_once():
    for s in published.model_scales():
        layer = 4 * s.d_model * s.heads * s.d_head + 3 * s.d_model * s.d_ff + s.d_model
        assert s.params == 64512 * s.d_model + s.layers * layer


def test_table_c1_is_the_reference():
    rows = reference("table_c1_laws")
    ours = published.table_c1()
    assert len(ours) == len(rows) == 18
    for row, law in zip(rows, ours, strict=True):
        for name, cell in row.items():
            value = getattr(law, name)
            assert value == (cell if isinstance(value, str) else float(cell))


def test_table_1_is_the_reference():
    rows = reference("table_1_r2")
    names = {"R2": "random", "R2_N": "params", "R2_D": "tokens", "R2_C": "compute", "R2_M": "mixtures"}
    for row, r2 in zip(rows, published.r2_table(), strict=True):
        assert (row["block"], row["law"]) == (r2.block, r2.law)
        for column, field in names.items():
            assert getattr(r2, field) == (float(row[column]) if row[column] else None)


def test_table_c1_selects_blocks():
    assert {row.language for row in published.table_c1("multilingual", "unimax")} == {
        "en",
        "fr",
        "ru",
        "zh",
        "hi",
        "sw",
    }
    assert published.table_c1(language="no") == ()


@pytest.mark.parametrize("ratio", [2, 4, 8, 16])
def test_multipliers_print_as_in_the_study(ratio: int):
    params, tokens = published.PRINTED_MULTIPLIERS[ratio]
    law = published.multilinguality()
    m = law.multipliers(ratio)
    # The printed multipliers follow from the printed exponents within the rounding of both.
    for value, printed in ((m.params, params), (m.tokens, tokens)):
        slack = ratio**law.exponent_rounding
        assert value / slack - 0.005 <= printed <= value * slack + 0.005
    assert m.compute == pytest.approx(m.params * m.tokens)
    assert m.tokens_per_language == pytest.approx(m.tokens / ratio)


def test_multilinguality_derives_alpha_and_beta():
    law = published.multilinguality()
    assert law.alpha == pytest.approx(0.45, abs=0.005)
    assert law.beta == pytest.approx(0.147, abs=0.0005)
    assert 2 ** (law.phi / law.alpha) == pytest.approx(law.multipliers(2).params)
    assert law.multipliers(4).tokens_per_language == pytest.approx(1 - 0.32, abs=0.01)
    with pytest.raises(InputError):
        law.multipliers(0)


def test_crossover_at_2b_lies_among_the_printed_ones():
    law = published.crossover()
    printed = {row["language"]: float(row["tokens"]) for row in reference("crossover_2b")}
    assert dict(law.tokens_at_2b) == printed
    assert min(printed.values()) == 144e9
    assert max(printed.values()) == 283e9
    assert 144e9 < law.tokens(2e9) < 283e9
    # The reading that the reference rules out would miss all eight by far.
    assert 10_283_128 * 2e9**1.65 / (6 * 2e9) > 283e9
    assert law.ratio("zh") == pytest.approx(283e9 / law.tokens(2e9))
    with pytest.raises(InputError, match="no crossover"):
        law.ratio("sw")


def test_printed_laws_as_fits_cover_their_rounding_only():
    fits = published.laws("multilingual", "monolingual")
    assert [fit.target for fit in fits] == ["en", "fr", "ru", "zh", "hi", "sw"]
    english = fits[0]
    assert english.parameters["A"] == pytest.approx(math.exp(9.91))
    assert english.parameters["alpha"] == english.parameters["beta"] == 0.63
    assert english.intervals["alpha"] == pytest.approx((0.625, 0.635))
    assert english.draws.shape[0] == 200
    assert (english.draws[:, 3] == english.draws[:, 4]).all()
    assert english.objective is None
