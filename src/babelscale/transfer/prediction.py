"""Prediction of transfer scores that were not measured, with intervals, from those that were.

The log gain (see `bts.to_gain`) of source s for target t is modelled as

    g(t, s) = mean + a_t + b_s + (target, source and pair features) . w + (kin of t) x (kin of s) . W
              + u(text of t) + v(text of s) + h(text of t, text of s) + rest

with each group of effects drawn from a normal distribution whose variance is estimated from the scores
(`transfer.mixed`). u, v and h are smooth curves of the amount of text a language has: scores fall steeply where there
is little. a_t and b_s are the effects of a language beyond its features. For a language without any score they
are unknown, and its intervals include their whole spread. Target means can explain most of a matrix's variance, so a
prediction is evaluated in three ways: with a pair left out, a target left out, and a language left out in both roles.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from babelscale.errors import InputError
from babelscale.formatting import json_ready
from babelscale.intervals import LEVEL, Z90
from babelscale.transfer import mixed
from babelscale.transfer.bts import from_gain, to_gain
from babelscale.transfer.matrix import TransferMatrix
from babelscale.transfer.permutation import correlation
from babelscale.transfer.relations import Relations

Array = NDArray[np.float64]
LeftOut = Literal["pair", "target", "language"]

# Fewest scores to predict from; directions of kin whose products are features of a pair.
FEWEST, _PRODUCTS, _BUMPS = 20, 5, 5
_WIDE = 10.0
# More languages than this are left out some at a time.
_MOST_FOLDS = 60


@dataclass(frozen=True)
class Check:
    """How well left-out scores were predicted.

    Attributes:
        left_out: an unordered pair (both directions), a target's whole row, or a language's row and column.
        scores: how many were predicted.
        R2, spearman: over all of them, in BTS.
        within_target: Spearman correlation inside a target's row, averaged: does it rank the sources?
        coverage: share inside the 90 % interval, before intervals are widened by `MatrixPrediction.widened`.
        means_R2, means_spearman: the same of a model that knows only the means of targets and sources.
    """

    left_out: LeftOut
    scores: int
    R2: float
    spearman: float
    within_target: float
    coverage: float
    means_R2: float
    means_spearman: float


@dataclass(frozen=True)
class MatrixPrediction:
    """A whole matrix: scores that were known as they were, the others predicted.

    Attributes:
        matrix: status "predicted" with 90 % intervals; a censored score stays, and keeps its bound.
        checks: results of leaving scores out.
        spread: standard deviation of each group of effects, in log gain.
        widened: factor by which intervals were widened because left-out scores fell outside too often: of pairs of
            known languages, and of pairs with a language that has no score.
        weights: of the features of pairs, per standard deviation of the feature: (weight, low, high), in log gain.
    """

    matrix: TransferMatrix
    checks: tuple[Check, ...]
    spread: Mapping[str, float]
    widened: tuple[float, float]
    weights: Mapping[str, tuple[float, float, float]] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Plain data for strict JSON."""
        checks = [json_ready(asdict(check)) for check in self.checks]
        return {
            "matrix": self.matrix.to_dict(),
            "checks": checks,
            "spread": dict(self.spread),
            "widened": list(self.widened),
            "weights": {k: list(v) for k, v in self.weights.items()},
        }

    def __str__(self) -> str:
        lines = [
            str(self.matrix),
            "",
            "left out       scores     R2  rank r  in a row  in 90 %   means only: R2  rank r",
        ]
        for c in self.checks:
            lines.append(
                f"one {c.left_out:<10}{c.scores:>7}{c.R2:>7.2f}{c.spearman:>8.2f}{c.within_target:>10.2f}"
                f"{100 * c.coverage:>7.0f} %{c.means_R2:>18.2f}{c.means_spearman:>8.2f}"
            )
        spread_text = ", ".join(f"{name} {sd:.3f}" for name, sd in self.spread.items())
        lines.append(f"standard deviation of log gain by effect: {spread_text}")
        if max(self.widened) > 1:
            lines.append(
                f"intervals are widened {self.widened[0]:.2f}-fold, {self.widened[1]:.2f}-fold for languages without "
                "any score, because the checks on left-out scores require it"
            )
        return "\n".join(lines)


def predict(
    matrix: TransferMatrix,
    languages: Sequence[str] | None = None,
    relations: Relations | None = None,
    *,
    checks: bool = True,
) -> MatrixPrediction:
    """Predict every score that is missing between `languages`.

    Args:
        matrix: known scores; measured ones count by their intervals, censored ones as bounds, predicted ones not.
        languages: those of the matrix and any others (default: those of the matrix).
        relations: features of all of them (default: from the table of languages).
        checks: leave scores out and widen intervals accordingly; without it, intervals are those of the model.

    Raises:
        InputError: fewer than 20 scores are known, or relations lack a language.
    """
    codes = tuple(dict.fromkeys((*(languages or ()), *matrix.languages)))
    relations = Relations.of(codes) if relations is None else relations
    if missing := [code for code in codes if code not in relations.languages]:
        raise InputError(f"relations lack {missing[0]!r}", hint="give them for every language of the matrix")
    cells = observed(matrix, codes)
    known = int(np.isfinite(cells.y).sum())
    if known < FEWEST:
        raise InputError(
            f"{known} known scores are too few to predict other scores",
            hint=f"at least {FEWEST} are needed; `babelscale study next` proposes which to measure",
        )
    features = Features.of(relations.at(codes), cells.target, cells.source)
    with mixed.one_thread():
        found = mixed.fit(problem_of(cells, features))
        checked, widened = _check(cells, found, features) if checks else ((), (1.0, 1.0))
        filled = _filled(matrix, codes, features, found, widened)
    return MatrixPrediction(
        filled,
        checked,
        {name: math.sqrt(variance) for name, variance in found.variances.items() if name != "mean"},
        widened,
        features.weights(found),
    )


@dataclass(frozen=True)
class Cells:
    """Known scores as observations of log gain: row, column, value (NaN where only bounds are known), variance."""

    target: NDArray[np.int64]
    source: NDArray[np.int64]
    y: Array
    noise: Array
    low: Array
    high: Array
    bts: Array


def observed(matrix: TransferMatrix, codes: Sequence[str]) -> Cells:
    """The known scores of a matrix as observations, rows and columns numbered by `codes`."""
    usable = np.isin(matrix.status, ("measured", "printed", "censored"))
    i, j = np.nonzero(usable)
    place = np.array([codes.index(code) for code in matrix.languages])
    bts, low, high = (to_gain(grid[i, j]) for grid in (matrix.values, matrix.low, matrix.high))
    censored = matrix.status[i, j] == "censored"
    with np.errstate(invalid="ignore"):
        sd = np.where(np.isfinite(low) & np.isfinite(high) & ~censored, (high - low) / (2 * Z90), 0.0)
    decimals = matrix.provenance.get("decimals")
    if decimals is not None:
        # A printed score lies anywhere within its rounding; d gain / d BTS = 1 / (2 - BTS).
        step = 10.0 ** -int(decimals)
        sd = np.hypot(sd, np.where(censored, 0.0, step / math.sqrt(12) / (2 - matrix.values[i, j])))
    low = np.where(censored & np.isfinite(matrix.low[i, j]), low, -np.inf)
    high = np.where(censored & (matrix.high[i, j] < 2), high, np.inf)
    y = np.where(censored, np.nan, bts)
    return Cells(place[i], place[j], y, np.nan_to_num(sd) ** 2, low, high, matrix.values[i, j])


@dataclass(frozen=True)
class Features:
    """Columns of the model for pairs of `n` languages, some of which have an effect of their own."""

    n: int
    kin: Array
    traits: Array
    text: Array
    pairs: Array
    pair_names: tuple[str, ...]
    targets: NDArray[np.int64]
    sources: NDArray[np.int64]
    groups: tuple[str, ...] = (
        "mean",
        "target",
        "source",
        "target features",
        "source features",
        "pair",
        "kin",
        "target text",
        "source text",
        "both texts",
    )

    @classmethod
    def of(cls, relations: Relations, target: NDArray[np.int64], source: NDArray[np.int64]) -> "Features":
        """Features standardised over the observed pairs (target, source), unknown ones at the mean."""
        n = len(relations.languages)
        traits = np.stack([_standard(x, np.unique([*target, *source])) for x in relations.traits.values()], 1)
        names, grids = [], []
        for name, grid in relations.pairs.items():
            scaled = _standard(grid.ravel(), target * n + source)
            if scaled.any():
                names.append(name)
                grids.append(scaled)
        pairs = np.stack(grids, 1) if grids else np.zeros((n * n, 0))
        text = _bumps(_standard(relations.traits["text"], np.unique([*target, *source])))
        return cls(n, relations.kin, traits, text, pairs, tuple(names), np.unique(target), np.unique(source))

    def matrix(self, target: NDArray[np.int64], source: NDArray[np.int64]) -> tuple[Array, NDArray[np.int64]]:
        """The columns of some pairs, shape (m, p), and the group of each."""
        own = np.hstack([self.kin, self.traits])
        kin = self.kin[:, :_PRODUCTS]
        parts = [
            np.ones((len(target), 1)),
            (target[:, None] == self.targets).astype(np.float64),
            (source[:, None] == self.sources).astype(np.float64),
            own[target],
            own[source],
            self.pairs[target * self.n + source],
            _products(kin[target], kin[source]),
            self.text[target],
            self.text[source],
            _products(self.text[target], self.text[source]),
        ]
        group = np.repeat(np.arange(len(parts)), [part.shape[1] for part in parts])
        return np.hstack(parts), group

    def unknown(self, target: NDArray[np.int64], source: NDArray[np.int64], variances: Mapping[str, float]) -> Array:
        """Variance that comes from languages without an effect of their own, of each pair."""
        lone = ~np.isin(target, self.targets), ~np.isin(source, self.sources)
        return lone[0] * variances["target"] + lone[1] * variances["source"]

    def weights(self, found: mixed.Posterior) -> dict[str, tuple[float, float, float]]:
        """Weight of each feature of pairs, with its 90 % interval."""
        at = np.flatnonzero(found.problem.group == self.groups.index("pair"))
        sd = np.sqrt(np.diag(found.covariance)[at])
        values = zip(self.pair_names, found.mean[at].tolist(), sd.tolist(), strict=True)
        return {name: (mean, mean - Z90 * each, mean + Z90 * each) for name, mean, each in values}


def _products(a: Array, b: Array) -> Array:
    """Every product of a column of a and one of b, row by row, shape (m, p q)."""
    return (a[:, :, None] * b[:, None, :]).reshape(len(a), -1)


def _bumps(x: Array) -> Array:
    """Smooth functions of a standardised trait: Gaussian bumps over two standard deviations to either side, centred."""
    middles = np.linspace(-2, 2, _BUMPS)
    bumps = np.exp(-0.5 * ((x[:, None] - middles) / (middles[1] - middles[0])) ** 2)
    return bumps - bumps.mean(0)


def _standard(values: Array, observed: NDArray[np.int64]) -> Array:
    """Less the mean and over the standard deviation of the observed entries; unknown entries are 0."""
    seen = values[observed]
    seen = seen[np.isfinite(seen)]
    if not len(seen) or np.ptp(seen) == 0:
        return np.zeros(len(values))
    return np.nan_to_num((values - seen.mean()) / seen.std(), nan=0.0)


def problem_of(cells: Cells, features: Features) -> mixed.MixedProblem:
    """The model of known scores."""
    X, group = features.matrix(cells.target, cells.source)
    return mixed.MixedProblem(
        X, group, features.groups, cells.y, cells.noise, cells.low, cells.high, fixed={"mean": _WIDE}
    )


def _filled(
    matrix: TransferMatrix,
    codes: tuple[str, ...],
    features: Features,
    found: mixed.Posterior,
    widened: tuple[float, float],
) -> TransferMatrix:
    """The known scores in their places and predictions elsewhere, a row at a time."""
    n = len(codes)
    values, low, high = (np.full((n, n), np.nan) for _ in range(3))
    status = np.full((n, n), "missing", dtype="U9")
    sources = np.arange(n)
    for t in range(n):
        target = np.full(n, t)
        X, _ = features.matrix(target, sources)
        mean, variance = found.predict(X)
        lone = features.unknown(target, sources, found.variances)
        sd = np.sqrt(variance + lone + found.variances[mixed.RESIDUAL]) * np.where(lone > 0, widened[1], widened[0])
        values[t], low[t], high[t] = from_gain(mean), from_gain(mean - Z90 * sd), from_gain(mean + Z90 * sd)
        status[t] = "predicted"
    np.fill_diagonal(status, "missing")
    for grid in (values, low, high):
        np.fill_diagonal(grid, np.nan)
    place = np.array([codes.index(code) for code in matrix.languages])
    chosen = np.isin(matrix.status, ("measured", "printed", "censored"))
    rows, columns = place[np.nonzero(chosen)[0]], place[np.nonzero(chosen)[1]]
    for grid, known in ((values, matrix.values), (low, matrix.low), (high, matrix.high), (status, matrix.status)):
        grid[rows, columns] = known[chosen]
    about = {"predicted_from": dict(matrix.provenance), "known": int(chosen.sum())}
    return TransferMatrix(codes, values, low, high, status, about)


def _check(cells: Cells, found: mixed.Posterior, features: Features) -> tuple[tuple[Check, ...], tuple[float, float]]:
    """Leave scores out; how accurate the predictions were, and the factors by which intervals are widened."""
    means = _means_only(found.problem, features)
    checks, factors = [], {}
    for left_out in ("pair", "target", "language"):
        folds = _folds(cells, left_out)
        rows = np.concatenate(folds)
        mean, variance = (np.concatenate(part) for part in zip(*found.leave_out(folds), strict=True))
        plain = np.concatenate([part for part, _ in means.leave_out(folds)])
        z = np.abs(cells.y[rows] - mean) / np.sqrt(variance)
        factors[left_out] = max(1.0, float(np.quantile(z, LEVEL)) / Z90)
        checks.append(_checked(left_out, cells, rows, mean, plain, float(np.mean(z <= Z90))))
    return tuple(checks), (factors["pair"], factors["language"])


def _means_only(problem: mixed.MixedProblem, features: Features) -> mixed.Posterior:
    """The same scores with the means of targets and sources alone."""
    chosen = np.isin(problem.group, [features.groups.index(name) for name in ("mean", "target", "source")])
    return mixed.fit(replace(problem, X=problem.X[:, chosen], group=problem.group[chosen], names=features.groups[:3]))


def _folds(cells: Cells, left_out: LeftOut) -> list[NDArray[np.int64]]:
    """Rows to leave out together; only scores with a number are evaluated."""
    measured = np.flatnonzero(np.isfinite(cells.y))
    t, s = cells.target[measured], cells.source[measured]
    if left_out == "pair":
        keys = np.minimum(t, s) * (max(t.max(), s.max()) + 1) + np.maximum(t, s)
        return [measured[keys == key] for key in np.unique(keys)]
    codes = np.unique(t if left_out == "target" else [*t, *s])
    stride = -(-len(codes) // _MOST_FOLDS)
    chosen = [t == code if left_out == "target" else (t == code) | (s == code) for code in codes[::stride]]
    return [measured[mask] for mask in chosen if mask.any()]


def _checked(
    left_out: LeftOut, cells: Cells, rows: NDArray[np.int64], mean: Array, plain: Array, coverage: float
) -> Check:
    from scipy.stats import rankdata

    truth = cells.bts[rows]

    def rank(a: Array, b: Array) -> float:
        return correlation(rankdata(a), rankdata(b))

    def fit(predicted: Array) -> float:
        return 1 - float(np.sum((truth - predicted) ** 2)) / max(float(np.sum((truth - truth.mean()) ** 2)), 1e-300)

    predicted, flat = from_gain(mean), from_gain(plain)
    within = [
        rank(predicted[at], truth[at]) for code in np.unique(cells.target) if (at := cells.target[rows] == code).any()
    ]
    known = [x for x in within if math.isfinite(x)]
    return Check(
        left_out,
        len(rows),
        fit(predicted),
        rank(predicted, truth),
        float(np.mean(known)) if known else math.nan,
        coverage,
        fit(flat),
        rank(flat, truth),
    )
