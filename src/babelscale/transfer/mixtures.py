"""The whole transfer matrix from few runs: mixtures of several languages, each of which tells many transfers at once.

In a mixture of k languages the loss on each of them says what its own tokens were worth there beside alone. With
D_eff the tokens that a monolingual model needs to reach the mixture's loss on t, and r_s = D_s / D_t,

    (D_eff / D_t)^m = 1 + sum_s ((1 + tau_s)^m - 1) r_s        form m
     D_eff / D_t    = prod_s (1 + tau_s)^r_s                   form 0, its limit

For two languages in equal parts every m says D_eff = D_t (1 + tau), so tau is the pair's own whatever the form. m = 1
is the ATLAS law (Longpre et al. 2025), D_eff = D_t + sum_s tau_s D_s; with the negative tau that most pairs have, a
wide mixture takes it to D_eff <= 0, where there is no loss. At m = 0 D_eff is positive whatever the tau, and the
readings are linear in the log gains g_s = log(1 + tau_s): y = log(D_eff / D_t) = sum_s r_s g_s. That form is the
default.

Gains are drawn towards what features, targets and sources have in common (`transfer.prediction`), as far as the
readings themselves ask for it; what a pair has of its own is a part shared by the readings that hold the pair.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from babelscale.errors import InputError
from babelscale.transfer import mixed
from babelscale.transfer.bts import Z90, from_gain
from babelscale.transfer.matrix import TransferMatrix
from babelscale.transfer.prediction import Features
from babelscale.transfer.readings import Readings
from babelscale.transfer.relations import Relations

Array = NDArray[np.float64]

FORMS = (1.0, 0.5, 0.0, -0.5)
_WIDE = 10.0


@dataclass(frozen=True)
class Estimate:
    """Gains of every pair, from mixtures.

    Attributes:
        matrix: BTS with 90 % intervals; "measured" where the pair came in some mixture, otherwise "predicted".
        gain: log(1 + tau), shape (n, n); NaN on the diagonal.
        covariance: of the gains of each target over its sources, shape (n, n, n).
        residual: standard deviation of a reading around the model, noise of checkpoints left aside.
        reading_sd: the same with it, of a typical reading.
        spread: standard deviation of each part of the gains.
        form: m.
        evidence: by form, log marginal likelihood of the readings; comparable between forms.
    """

    matrix: TransferMatrix
    gain: Array
    covariance: Array
    residual: float
    reading_sd: float
    spread: Mapping[str, float]
    form: float
    evidence: Mapping[float, float]

    def to_dict(self) -> dict[str, Any]:
        """Plain data for strict JSON; the matrix has its own."""
        return {
            "form": self.form, "evidence": {f"{form:g}": value for form, value in self.evidence.items()},
            "spread": dict(self.spread), "residual": self.residual,
        }  # fmt: skip

    def __str__(self) -> str:
        told = ", ".join(f"{name} {sd:.3f}" for name, sd in self.spread.items())
        lines = [str(self.matrix), f"spread of log gain by part: {told}; of a reading {self.residual:.3f}"]
        if len(self.evidence) > 1:
            best = max(self.evidence.values())
            said = ", ".join(f"{form:g}: {value - best:+.1f}" for form, value in self.evidence.items())
            lines.append(f"log evidence by form, less the best (1 is the ATLAS law): {said}")
        return "\n".join(lines)


def estimate(
    readings: Readings, relations: Relations | None = None, *, form: float | Sequence[float] = 0.0,
) -> Estimate:  # fmt: skip
    """The matrix from mixtures.

    Args:
        form: m, or several to choose from by the evidence of the readings.

    Raises:
        InputError: too few readings, or a reading that no form can hold.
    """
    if len(readings) < 2 * len(readings.languages):
        raise InputError(
            f"{len(readings)} readings of {len(readings.languages)} languages are too few for a matrix",
            hint="at least two mixtures for each language; `babelscale study next` proposes them",
        )
    relations = (relations or Relations.of(readings.languages)).at(readings.languages)
    forms = [float(form)] if isinstance(form, int | float) else [float(each) for each in form]
    found = {each: _fit(readings, relations, each) for each in forms}
    evidence = {each: fitted[1].evidence + _jacobian(readings, each) for each, fitted in found.items()}
    best = max(evidence, key=lambda each: evidence[each])
    return _gains(readings, *found[best], best, evidence)


def _fit(readings: Readings, relations: Relations, form: float) -> tuple[Features, mixed.Posterior]:
    n = len(readings.languages)
    t, s = np.nonzero(~np.eye(n, dtype=bool))
    features = Features.of(relations, t, s)
    X, group = features.matrix(t, s)
    # Effects of a reading are those of its pairs, as often as the source's tokens go into the target's.
    of_pair = np.full((n, n), -1)
    of_pair[t, s] = np.arange(len(t))
    rows = np.zeros((len(readings), X.shape[1]))
    for k, target in enumerate(readings.target):
        beside = np.flatnonzero(readings.ratio[k])
        rows[k] = readings.ratio[k, beside] @ X[of_pair[target, beside]]
    bases = (readings.base[:, None] == np.unique(readings.base)).astype(np.float64)
    rows, group = np.hstack([rows, bases]), np.concatenate([group, np.full(bases.shape[1], len(features.groups))])
    y, slope = transformed(readings.worth, form)
    low, high = transformed(readings.low, form)[0], transformed(readings.high, form)[0]
    blocks = []
    for target in range(n):
        at = np.flatnonzero(readings.target == target)
        if len(at):
            blocks.append((at, readings.ratio[at] @ readings.ratio[at].T))
    # A wrong baseline moves every reading of its target alike.
    fixed = {"mean": _WIDE, "baseline": max(float(np.mean(readings.base_noise)), 1e-8)}
    slope = np.where(np.isfinite(slope), slope, 1.0)
    problem = mixed.Problem(
        rows, group, (*features.groups, "baseline"), y, readings.noise * slope**2, low, high, tuple(blocks), fixed
    )  # fmt: skip
    return features, mixed.fit(problem)


def transformed(worth: Array, form: float) -> tuple[Array, Array]:
    """(exp(m y) - 1) / m, which is linear in the gains' own transforms, and its slope by y."""
    with np.errstate(invalid="ignore", over="ignore"):
        if form == 0:
            return worth, np.ones_like(worth)
        return np.expm1(form * worth) / form, np.exp(form * worth)


def inverse(value: Array, form: float) -> Array:
    """The log gain of a transformed one; infinite beyond the form's domain."""
    if form == 0:
        return value
    with np.errstate(divide="ignore", invalid="ignore"):
        inside = 1 + form * value
        return np.where(inside > 0, np.log(np.maximum(inside, 1e-300)) / form, -math.inf if form > 0 else math.inf)


def _jacobian(readings: Readings, form: float) -> float:
    """log |d transformed / d y| over the readings with a number: what makes evidences of two forms comparable."""
    return float(form * np.nansum(readings.worth))


def _gains(
    readings: Readings, features: Features, found: mixed.Posterior, form: float, evidence: Mapping[float, float],
) -> Estimate:  # fmt: skip
    """Posterior of the gains, a target at a time.

    Given the effects b, the pairs' own parts d have mean G (y - X b), G = s_d^2 R' N^-1, and covariance s_d^2 (1 - G R);
    R holds the target's ratios. With F the pairs' columns, gain = F b + d.
    """
    n = len(readings.languages)
    own = found.variances[mixed.SHARED]
    place = {int(found.problem.shared[b][0][0]): b for b in range(len(found.problem.shared))}
    gain, low, high = (np.full((n, n), np.nan) for _ in range(3))
    covariance = np.full((n, n, n), np.nan)
    for t in range(n):
        s = np.delete(np.arange(n), t)
        F, _ = features.matrix(np.full(n - 1, t), s)
        F = np.hstack([F, np.zeros((n - 1, len(found.mean) - F.shape[1]))])
        mean, S = F @ found.mean, own * np.eye(n - 1)
        at = np.flatnonzero(readings.target == t)
        if len(at):
            R = readings.ratio[np.ix_(at, s)]
            G = own * R.T @ found.precision.inverses[place[int(at[0])]]
            mean = mean + G @ (found.problem.y[at] - found.problem.X[at] @ found.mean)
            S = S - own * G @ R
            F = F - G @ found.problem.X[at]
        S = S + F @ found.covariance @ F.T
        sd = np.sqrt(np.diag(S))
        gain[t, s] = inverse(mean, form)
        covariance[t][np.ix_(s, s)] = S
        low[t, s], high[t, s] = inverse(mean - Z90 * sd, form), inverse(mean + Z90 * sd, form)
    status = np.where(readings.pairs, "measured", "predicted").astype("U9")
    np.fill_diagonal(status, "missing")
    about = {"estimated_from": "mixtures", "form": form, "readings": len(readings), "runs": len(set(readings.run))}
    matrix = TransferMatrix(readings.languages, from_gain(gain), from_gain(low), from_gain(high), status, about)
    spread = {name: math.sqrt(value) for name, value in found.variances.items() if name not in ("mean", "residual")}
    residual = found.variances[mixed.RESIDUAL]
    reading_sd = math.sqrt(residual + float(np.mean(readings.noise)))
    return Estimate(matrix, gain, covariance, math.sqrt(residual), reading_sd, spread, form, evidence)
