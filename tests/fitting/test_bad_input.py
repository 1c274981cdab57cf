"""Bad input ends in a typed error that says what to do, or in a stated non-identification; never in a silent number."""

import math
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from babelscale import laws
from babelscale.allocation import Allocation
from babelscale.errors import BabelscaleError, DomainError, InputError
from babelscale.fitting import Fit, compare, fit
from babelscale.laws import AdaptiveTransfer, Chinchilla, DataConstrained, Multilingual, Multilinguality, ScalingLaw
from babelscale.runs import Runs

from .conftest import ATLAS, ATLAS_TRUTH, atlas_allocations, observed

FIVE = {"E": 0.6, "A": 60.0, "B": 900.0, "alpha": 0.35, "beta": 0.35}
TRUTHS: list[tuple[ScalingLaw, dict[str, float]]] = [
    (Chinchilla("sw"), FIVE),
    (DataConstrained("sw"), FIVE | {"R_D": 9.0}),
    (Multilingual("sw"), FIVE | {"gamma": 0.15}),
    (Multilinguality("sw"), FIVE | {"phi": 0.11, "psi": -0.04}),
    (ATLAS, ATLAS_TRUTH),
]
each_law = pytest.mark.parametrize(("law", "truth"), TRUTHS, ids=[law.name for law, _ in TRUTHS])
N = np.tile([1e7, 3e7, 1e8, 3e8], 5)
D = np.repeat([1e9, 3e9, 1e10, 3e10, 1e11], 4)
LOSS = 1.2 + 50 / N**0.3 + 300 / D**0.3


def says(found: Fit, *words: str) -> bool:
    return any(all(word in note for word in words) for note in found.notes)


@each_law
def test_fewer_rows_than_parameters(law: ScalingLaw, truth: dict[str, float]) -> None:
    runs = observed(law, truth, atlas_allocations(4, 0), 0.0, 0)
    with pytest.raises(InputError, match=r"free parameters and the runs give 4 losses on 'sw'") as caught:
        fit(law, runs)
    assert "train more runs" in str(caught.value.hint)


@each_law
def test_one_size_only(law: ScalingLaw, truth: dict[str, float]) -> None:
    given = atlas_allocations(40, 1)
    one = Allocation(1e8, given.tokens, given.unique_tokens)
    runs = observed(law, truth, one, 0.005, 0)
    with pytest.raises(InputError, match="same size, so alpha cannot be fitted") as caught:
        fit(law, runs)
    assert "runs of another size" in str(caught.value.hint)


@each_law
def test_one_token_count_only(law: ScalingLaw, truth: dict[str, float]) -> None:
    sizes = np.geomspace(1e7, 1e10, 20)
    runs = observed(law, truth, Allocation(sizes, {"sw": 1e9, "en": 1e9}), 0.005, 0)
    with pytest.raises(InputError, match="same amount of data, so beta cannot be fitted"):
        fit(law, runs)


@pytest.mark.parametrize("bad", [0.0, -1.0, math.inf, -math.inf, math.nan])
@pytest.mark.parametrize("field", ["params", "tokens", "loss"])
def test_a_number_that_cannot_be_is_named_by_row_and_field(field: str, bad: float, tmp_path: Path) -> None:
    columns = {"params": N.copy(), "tokens": D.copy(), "loss": LOSS.copy()}
    columns[field][3] = bad
    with pytest.raises(InputError, match=rf"row 4, {field} is "):
        Runs.from_columns(**columns)
    path = tmp_path / "runs.csv"
    pl.DataFrame(columns).write_csv(path)
    with pytest.raises(InputError, match=rf"runs\.csv.*row 5.*{field} is "):  # the header is row 1
        Runs.read(path)


@pytest.mark.parametrize("bad", [0.0, -2.0, math.inf, math.nan])
def test_a_loss_that_cannot_be_in_the_three_tables(bad: float) -> None:
    runs = Runs.from_columns(N, D, LOSS)
    spoiled = runs.losses.with_columns(nats=pl.when(pl.int_range(pl.len()) == 2).then(bad).otherwise("nats"))
    with pytest.raises(InputError, match="losses: row 3, nats is "):
        Runs.of(runs.table, runs.exposure, spoiled)


def test_a_metric_that_is_not_positive_has_no_log() -> None:
    runs = Runs.from_columns(N, D, LOSS)
    known = Runs.of(runs.table, runs.exposure, runs.losses.with_columns(unigram_nats=pl.lit(9.0)))
    with pytest.raises(InputError, match="not positive everywhere") as caught:
        fit(Chinchilla(), known, metric="unigram_normalised")
    assert "bits_per_byte" in str(caught.value.hint)


@each_law
def test_no_tokens_of_the_target_in_any_run(law: ScalingLaw, truth: dict[str, float]) -> None:
    rows = [
        {"run": f"r{i}", "params": N[i], "language": code, "tokens": tokens, "loss": LOSS[i] if code == "sw" else None}
        for i in range(20)
        for code, tokens in (("sw", 0.0), ("en", D[i]))
    ]
    runs = Runs.from_flat(pl.DataFrame(rows), "rows")
    with pytest.raises(InputError, match="no run with a loss on 'sw' was trained on it"):
        fit(law, runs)
    found = compare([law], runs, targets=["sw"], axes=["random"])
    assert found.table["R2"].to_list() == [None]
    assert found.table["note"][0] != ""


@each_law
def test_no_tokens_of_the_target_give_no_loss_or_one_said_to_be_far_outside(
    law: ScalingLaw, truth: dict[str, float]
) -> None:
    found = fit(law, observed(law, truth, atlas_allocations(40, 3), 0.005, 0), resamples=5)
    with pytest.raises(DomainError, match="tokens"):
        found.predict(Allocation(1e8, {"sw": 0.0}))
    beside = Allocation(1e8, {"sw": 0.0, "en": 1e10})
    if law != ATLAS:
        with pytest.raises(DomainError, match="tokens"):
            found.predict(beside)
        return
    # Transfer alone: the equation holds, and no run has been there.
    assert "infinitely far below the fewest target tokens" in str(found.predict(beside).extrapolation)


def test_a_target_without_a_loss_names_those_that_have_one() -> None:
    runs = Runs.from_columns(N, D, LOSS, language="sw")
    with pytest.raises(InputError, match="no loss was measured on 'yo'") as caught:
        fit(Chinchilla("yo"), runs)
    assert "sw" in str(caught.value.hint)


def test_a_source_never_seen_is_said_and_has_no_interval() -> None:
    runs = observed(ATLAS, ATLAS_TRUTH, atlas_allocations(60, 2), 0.005, 0)
    found = fit(AdaptiveTransfer("sw", ("en", "yo")), runs, resamples=10)
    assert says(found, "tau_yo is not identified", "no run trains sw together with yo", "would identify it")
    assert found.parameters["tau_yo"] == 0
    assert "tau_yo" not in found.intervals
    assert found.provenance["fixed"]["tau_yo"] == 0


@pytest.mark.parametrize("loss", [np.full(20, 2.0), 1 / LOSS], ids=["constant", "rising"])
def test_losses_that_show_no_law_are_said_to(loss: np.ndarray) -> None:
    found = fit(Chinchilla(), Runs.from_columns(N, D, loss), resamples=20)
    assert says(found, "alpha", "not identif") or says(found, "alpha means nothing")
    assert says(found, "beta", "not identif") or says(found, "the parameters of its term mean nothing")


def test_arguments_outside_their_domain() -> None:
    runs = Runs.from_columns(N, D, LOSS, unique_tokens=1e9, language="sw")
    for law, fixed in (
        (Chinchilla("sw"), {"alpha": math.nan}),
        (Chinchilla("sw"), {"E": -1.0}),
        (DataConstrained("sw"), {"R_D": 0.0}),
        (Chinchilla("sw"), {"nonsense": 1.0}),
    ):
        with pytest.raises(InputError, match="cannot fix"):
            fit(law, runs, fixed=fixed)
    with pytest.raises(InputError, match="no loss at any start"):
        fit(AdaptiveTransfer("sw"), _mixed(), fixed={"tau_other": -2.0})


def _mixed() -> Runs:
    """Every run has as many English as Swahili tokens or more, so that tau_other = -2 leaves the domain."""
    rows = [
        {"run": f"r{i}", "params": N[i], "language": code, "tokens": tokens, "loss": LOSS[i] if code == "sw" else None}
        for i in range(20)
        for code, tokens in (("sw", D[i]), ("en", D[i] * (1 + i % 3)))
    ]
    return Runs.from_flat(pl.DataFrame(rows), "rows")


def test_draws_over_a_whole_range_stay_inside_the_domain() -> None:
    # tau_en is not identified, and its lowest value would make D_eff negative in the last run.
    sizes, own, english, losses = (
        [1e6] * 5 + [1e7],
        [1e8] * 3 + [0, 1e8, 1e9],
        [0] * 3 + [1e8, 0, 1e10],
        [1] * 4 + [2, 1],
    )
    rows = [
        {
            "run": f"r{i}",
            "params": sizes[i],
            "language": code,
            "tokens": float(tokens),
            "unique_tokens": 1e9,
            "loss": float(losses[i]) if code == "sw" else None,
        }
        for i in range(6)
        for code, tokens in (("sw", own[i]), ("en", english[i]))
    ]
    found = fit(AdaptiveTransfer("sw", ("en",), other=False), Runs.from_flat(pl.DataFrame(rows), "rows"), resamples=20)
    assert np.isfinite(found.draws).all()


@settings(max_examples=25)
@given(st.data())
def test_any_small_table_gives_an_error_or_finite_numbers_with_notes(data: st.DataObject) -> None:
    n = data.draw(st.integers(3, 14), "runs")
    sizes = data.draw(st.lists(st.sampled_from([1e6, 1e7, 1e8]), min_size=n, max_size=n), "sizes")
    own = data.draw(st.lists(st.sampled_from([0.0, 1e8, 1e9, 3e10]), min_size=n, max_size=n), "tokens")
    english = data.draw(st.lists(st.sampled_from([0.0, 1e8, 1e10]), min_size=n, max_size=n), "English tokens")
    loss = data.draw(st.lists(st.floats(1e-3, 1e3), min_size=n, max_size=n), "losses")
    name = data.draw(st.sampled_from(sorted(laws.LAWS)), "law")
    rows = [
        {
            "run": f"r{i}",
            "params": sizes[i],
            "language": code,
            "tokens": tokens,
            "unique_tokens": 1e9,
            "loss": loss[i] if code == "sw" else None,
        }
        for i in range(n)
        for code, tokens in (("sw", own[i]), ("en", english[i]))
    ]
    try:
        runs = Runs.from_flat(pl.DataFrame(rows), "rows")
        found = fit(laws.by_name(name, "sw", runs), runs, resamples=2)
    except BabelscaleError:
        return
    assert np.isfinite(list(found.parameters.values())).all()
    assert np.isfinite(found.draws).all()
    assert found.objective is not None
    assert math.isfinite(found.objective)
    assert says(found, "starts agree") or says(found, "nothing was searched")
    for parameter, (low, high) in found.law.bounds.items():
        assert low <= found.parameters[parameter] <= high
