"""Observations of mixtures, and the matrix they give: planted gains found again, forms told apart, bounds kept."""

import itertools
import json
import math

import numpy as np
import polars as pl
import pytest
from scipy.stats import spearmanr

from babelscale.errors import InputError
from babelscale.runs import Runs, concat
from babelscale.transfer import TransferMatrix, from_gain, to_gain
from babelscale.transfer.acquisition import _variance, balanced, propose
from babelscale.transfer.mixture_observations import MixtureObservations, observe_mixtures
from babelscale.transfer.mixtures import FORMS, estimate

CODES = ("da", "de", "es", "fil", "id", "nl", "pt", "sv")
N = len(CODES)


def gains(seed: int = 0, level: float = -0.15) -> np.ndarray:
    rng = np.random.default_rng(seed)
    grid = level + rng.normal(0, 0.08, (N, 1)) + rng.normal(0, 0.04, (1, N)) + rng.normal(0, 0.08, (N, N))
    np.fill_diagonal(grid, np.nan)
    return grid


GAIN = gains()


def log_worth(code, mixture) -> float:
    return sum(GAIN[CODES.index(code), CODES.index(s)] * q / mixture[code] for s, q in mixture.items() if s != code)


def share_worth(code, mixture) -> float:
    return sum(2 * GAIN[CODES.index(code), CODES.index(s)] * q for s, q in mixture.items() if s != code)


def atlas_worth(code, mixture) -> float:
    others = [(s, q) for s, q in mixture.items() if s != code]
    total = sum(math.expm1(GAIN[CODES.index(code), CODES.index(s)]) * q for s, q in others)
    return math.log1p(total / mixture[code])


def mixtures(even, width: int, count: int, seed: int = 0):
    return [even(codes) for codes in balanced(CODES, width, count, seed)]


def planted(worth, width: int, count: int, *, noise: float = 0.0, seed: int = 0) -> MixtureObservations:
    """Observations without runs, noise of the readings themselves."""
    rng = np.random.default_rng(seed)
    rows = []
    for number, codes in enumerate(balanced(CODES, width, count, seed)):
        mixture = dict.fromkeys(codes, 1 / width)
        for code in codes:
            ratio = np.array([float(c in codes and c != code) for c in CODES])
            rows.append((CODES.index(code), ratio, worth(code, mixture) + noise * rng.normal(), f"r{number}"))
    target, ratio, y, run = map(np.array, zip(*rows, strict=True))
    m = len(y)
    never = np.full(m, np.inf)
    return MixtureObservations(
        CODES,
        target,
        np.full(m, 1 / width),
        ratio,
        y,
        -never,
        never,
        np.full(m, noise**2),
        target,
        np.full(m, noise**2),
        run.astype(np.str_),
        np.ones(m),
    )


def together(*parts: MixtureObservations) -> MixtureObservations:
    names = [name for name in MixtureObservations.__dataclass_fields__ if name not in ("languages", "anchor")]
    return MixtureObservations(CODES, **{name: np.concatenate([getattr(p, name) for p in parts]) for name in names})


OFF = ~np.eye(N, dtype=bool)


def test_a_pairs_reading_is_its_score(simulate, even):
    runs = simulate(log_worth, [even(pair) for pair in itertools.combinations(CODES, 2)], longer=3.0)
    matrix = TransferMatrix.from_runs(runs, anchor=0.4)
    found = observe_mixtures(runs, anchor=0.4)
    assert len(found) == N * (N - 1)
    assert found.anchor == pytest.approx(next(iter(matrix.provenance["anchor_tokens"].values())))
    for k in range(len(found)):
        target, source = CODES[found.target[k]], CODES[int(found.ratio[k].argmax())]
        assert found.worth[k] == pytest.approx(float(to_gain(matrix.cell(target, source).value)), abs=1e-9)


def test_a_mixtures_reading_is_its_worth(simulate, even):
    runs = simulate(log_worth, mixtures(even, 4, 6), longer=4.0)
    found = observe_mixtures(runs)
    for k in range(len(found)):
        codes = [CODES[found.target[k]], *(CODES[j] for j in np.flatnonzero(found.ratio[k]))]
        assert found.worth[k] == pytest.approx(log_worth(codes[0], even(codes)), abs=0.02)
    ends = observe_mixtures(runs, at="end")
    known = ~np.isnan(ends.worth)
    np.testing.assert_allclose(ends.worth[known], found.worth[known], atol=0.03)
    # One ends with a loss that its monolingual run never had: a bound from below.
    assert (found.worth[~known] >= ends.low[~known]).all()
    assert (~known).any()
    assert ends.anchor is None


def test_readings_that_fall_short_are_bounds(simulate, even):
    runs = simulate(log_worth, mixtures(even, 4, 6), longer=1.0)
    found = observe_mixtures(runs, anchor=0.4)
    short = np.isnan(found.worth)
    assert short.any()
    for k in np.flatnonzero(short):
        codes = [CODES[found.target[k]], *(CODES[j] for j in np.flatnonzero(found.ratio[k]))]
        assert found.low[k] == -math.inf
        assert log_worth(codes[0], even(codes)) < found.high[k] + 0.02
    # Left to itself the anchor is one that nine tenths reach.
    assert np.isnan(observe_mixtures(runs).worth).mean() <= 0.15


def test_mixtures_that_end_too_early_are_refused(simulate, even):
    runs = simulate(log_worth, mixtures(even, 6, 6), longer=0.05)
    with pytest.raises(InputError, match="do not reach"):
        observe_mixtures(runs)
    with pytest.raises(InputError, match="is before the first checkpoint") as error:
        observe_mixtures(simulate(log_worth, mixtures(even, 4, 6), longer=4.0), anchor=0.001)
    assert "an anchor of 0.01" in str(error.value.hint)


def test_states_of_the_learning_rate_are_never_mixed(simulate, even):
    # Monolingual losses are stable, those of mixtures decayed: nothing can be read of one against the other.
    stable = simulate(log_worth, mixtures(even, 4, 6), longer=4.0)
    many = pl.col("run").is_in([name for name in stable.names if int(name[1:].split("-")[0]) >= N])
    state = pl.when(many).then(pl.lit("decayed")).otherwise(pl.col("lr_state"))
    planted_mismatch = Runs.of(stable.table, stable.exposure, stable.losses.with_columns(lr_state=state))
    for state in ("stable", "decayed"):
        with pytest.raises(InputError, match=f"with {state} losses"):
            observe_mixtures(planted_mismatch, lr_state=state)
        with pytest.raises(InputError, match=r"no transfer score can be read|there is no bilingual run"):
            TransferMatrix.from_runs(planted_mismatch, lr_state=state)


def test_planted_gains_are_found_from_runs(simulate, even):
    runs = simulate(log_worth, [*mixtures(even, 4, 16), *mixtures(even, 3, 8, 1)], longer=4.0, noise=0.001)
    found = estimate(observe_mixtures(runs))
    assert np.abs(found.gain[OFF] - GAIN[OFF]).mean() < 0.03
    assert spearmanr(found.gain[OFF], GAIN[OFF])[0] > 0.9
    assert ((found.matrix.status == "measured") == observe_mixtures(runs).pairs).all()
    json.dumps(found.to_dict(), allow_nan=False)


def test_intervals_cover():
    inside = []
    for seed in range(6):
        global GAIN
        held, GAIN = GAIN, gains(seed)
        try:
            found = estimate(planted(log_worth, 4, 14, noise=0.04, seed=seed))
            truth = from_gain(GAIN[OFF])
        finally:
            GAIN = held
        inside.append((found.matrix.low[OFF] <= truth) & (truth <= found.matrix.high[OFF]))
    assert 0.82 <= np.mean(inside) <= 0.96


@pytest.mark.parametrize(
    ("worth", "form"),
    [(log_worth, "log"), (share_worth, "share"), (atlas_worth, "atlas")],
    ids=["log", "share", "atlas"],
)
def test_the_form_that_was_planted_has_the_most_evidence(worth, form):
    readings = together(*(planted(worth, w, 20, noise=0.01, seed=w) for w in (2, 3, 4)))
    found = estimate(readings, forms=("atlas", "log", "share"))
    assert found.form == form
    assert np.abs(found.gain[OFF] - GAIN[OFF]).max() < 0.08
    assert "log evidence" in str(found)


def test_what_many_languages_cost_is_told_apart_from_the_gains():
    def costly(code, mixture):
        return log_worth(code, mixture) + 0.5 * math.log(2 * mixture[code])

    readings = together(*(planted(costly, w, 24, noise=0.01, seed=w) for w in (2, 3, 4)))
    found = estimate(readings, forms=("log", "log, width"))
    assert found.form == "log, width"
    assert np.abs(found.gain[OFF] - GAIN[OFF]).mean() < 0.03


def test_mixtures_of_one_width_cannot_tell_a_form():
    found = estimate(planted(log_worth, 4, 20, noise=0.01), forms=tuple(FORMS))
    assert found.form == "log"
    assert "several widths" in str(found)


def test_bounds_pull_estimates_below_them():
    readings = planted(log_worth, 4, 20, noise=0.01)
    worst = int(np.nanargmin(readings.worth))
    worth, high = readings.worth.copy(), readings.high.copy()
    high[worst] = worth[worst] + 0.01
    worth[worst] = np.nan
    kept = [name for name in MixtureObservations.__dataclass_fields__ if name not in ("worth", "high")]
    bounded = MixtureObservations(**{name: getattr(readings, name) for name in kept}, worth=worth, high=high)
    with_bound, without = estimate(bounded), estimate(readings.at(np.arange(len(readings)) != worst))
    sources = np.flatnonzero(readings.ratio[worst])
    target = readings.target[worst]
    assert with_bound.gain[target, sources].sum() <= without.gain[target, sources].sum() + 1e-6
    assert with_bound.gain[target, sources].sum() == pytest.approx(readings.worth[worst], abs=0.1)


def test_too_few_readings_are_refused():
    with pytest.raises(InputError, match="are not enough"):
        estimate(planted(log_worth, 4, 3))
    with pytest.raises(InputError, match="no form 'sum'"):
        estimate(planted(log_worth, 4, 10), forms=("sum",))


def test_mixtures_are_dealt_out_evenly():
    dealt = balanced(CODES, 3, 16, seed=1)
    counts = [sum(code in mixture for mixture in dealt) for code in CODES]
    assert max(counts) - min(counts) <= 1
    assert all(len(set(mixture)) == 3 for mixture in dealt)
    assert dealt == balanced(CODES, 3, 16, seed=1)
    with pytest.raises(InputError, match="mixtures of 9"):
        balanced(CODES, 9, 1)


def test_proposed_mixtures_shrink_what_is_uncertain():
    found = estimate(planted(log_worth, 4, 8, noise=0.03))
    proposal = propose(found, [4] * 4, seed=0)
    assert list(proposal.sd) == sorted(proposal.sd, reverse=True)
    # What is promised is what those mixtures bring, or less.
    S = np.nan_to_num(found.covariance)
    first = [CODES.index(code) for code in proposal.mixtures[0]]

    def left(members):
        total = 0.0
        for t in range(N):
            h = np.array([float(k in members and k != t) for k in range(N)]) * (t in members)
            total += np.trace(S[t]) - (S[t] @ h) @ (S[t] @ h) / (h @ S[t] @ h + found.reading_sd**2)
        return total

    others = [left(list(combo)) for combo in itertools.combinations(range(N), 4)]
    assert left(first) <= np.quantile(others, 0.05)
    only = propose(found, [4, 3], targets=["sv"])
    assert all("sv" in mixture for mixture in only.mixtures)
    with pytest.raises(InputError, match="'xx' is not among"):
        propose(found, [4], targets=["xx"])


def test_a_form_that_dilutes_makes_wide_mixtures_tell_less():
    parts = [planted(share_worth, w, 16, noise=0.02, seed=w) for w in (2, 3, 4)]
    share, log = (estimate(together(*parts), forms=(form,)) for form in ("share", "log"))
    assert _variance(share, 4, 0.05) == pytest.approx(4 * (0.05**2 + share.spread["rough"] ** 2 * math.log(2) ** 2))
    assert _variance(log, 4, 0.05) == pytest.approx(0.05**2 + log.spread["rough"] ** 2 * math.log(2) ** 2)
    assert _variance(share, 2, 0.05) == pytest.approx(0.05**2)


def test_runs_of_another_tokenizer_are_no_baseline(simulate, even):
    runs = simulate(log_worth, mixtures(even, 4, 4), longer=4.0)
    many = pl.col("run").is_in([name for name in runs.names if int(name[1:].split("-")[0]) >= N])
    table = runs.table.with_columns(tokenizer=pl.when(many).then(pl.lit("b")).otherwise(pl.lit("a")))
    with pytest.raises(InputError, match="no mixture can be read"):
        observe_mixtures(Runs.of(table, runs.exposure, runs.losses))


def test_baselines_of_another_seed_stand_in(simulate, even):
    mono = simulate(log_worth, [even(CODES[:2])], seeds=(0,))
    both = simulate(log_worth, mixtures(even, 4, 6), longer=4.0, seeds=(3,))
    names = [name for name in both.names if int(name.split("-")[0][1:]) >= N]
    alone = [name for name in mono.names if int(name.split("-")[0][1:]) < 2]
    found = observe_mixtures(concat([mono.select(alone), both.select(names)]))
    assert {CODES[k] for k in found.target} == {"da", "de"}
