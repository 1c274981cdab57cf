"""The whole transfer matrix from few runs: mixtures of several languages, each of which measures many transfers.

In a mixture of k languages, the loss on each of them shows what its tokens were worth there, compared with training
alone. D_eff are the tokens that a monolingual model needs to reach the mixture's loss on t; q_s is the share of source
s, p that of t.

    form "atlas"     D_eff / D_t  = 1 + sum_s tau_s q_s / p                   (Longpre et al. 2025)
    form "log"   log(D_eff / D_t) = sum_s g_s q_s / p,                        g_s = log(1 + tau_s)
    form "share" log(D_eff / D_t) = sum_s g_s 2 q_s

For two languages in equal parts all three say D_eff = D_t (1 + tau), so tau is the pair's own whatever the form. With
the negative tau that most pairs have, a wide mixture takes "atlas" to D_eff <= 0, where there is no loss; the others
are positive whatever the tau, and linear in the log gains. In "log" every source adds what it does in a pair; in
"share" it adds by its part of all tokens, so that many sources average out. Each may have a term c_t log 2p, the
effect of the number of languages on t, whichever they are. It is identified only by mixtures of several widths,
pairs among them. So is how much less accurate a form is for wide mixtures, by
(log 2p)^2. Several forms can be fitted, and the evidence of the readings chooses. Repeated tokens are not discounted,
as in the score.

Gains are shrunk towards what features, targets and sources have in common (`transfer.prediction`), as strongly as the
readings suggest; the specific part of a pair is shared by the readings that contain the pair.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from babelscale.errors import InputError
from babelscale.intervals import Z90
from babelscale.transfer import mixed
from babelscale.transfer.bts import from_gain
from babelscale.transfer.matrix import TransferMatrix
from babelscale.transfer.mixture_observations import MixtureObservations
from babelscale.transfer.prediction import Features
from babelscale.transfer.relations import Relations

Array = NDArray[np.float64]


@dataclass(frozen=True)
class MixtureForm:
    """How the gains of several sources combine in a mixture.

    Args:
        power: 1: worths are added; 0: their logarithms.
        dilution: weight of source s is (q_s / p) (2 p)^dilution.
        width: whether there is a term c log 2p.
    """

    power: int
    dilution: int
    width: bool = False


FORMS: Mapping[str, MixtureForm] = MappingProxyType(
    {
        "atlas": MixtureForm(1, 0),
        "log": MixtureForm(0, 0),
        "share": MixtureForm(0, 1),
        "atlas, width": MixtureForm(1, 0, True),
        "log, width": MixtureForm(0, 0, True),
        "share, width": MixtureForm(0, 1, True),
    }
)
_WIDE = 10.0


@dataclass(frozen=True)
class MixtureEstimate:
    """Gains of every pair, from mixtures.

    Attributes:
        matrix: BTS with 90 % intervals; "measured" where the pair came in some mixture, otherwise "predicted".
        gain: log(1 + tau), shape (n, n); NaN on the diagonal.
        covariance: of the gains of each target over its sources, shape (n, n, n).
        residual: standard deviation of a reading around the model, noise of checkpoints left aside.
        reading_sd: the same with it, of a typical reading.
        spread: standard deviation of each part of the gains.
        form: of `FORMS`.
        evidence: by form, log marginal likelihood of the readings; comparable between forms.
    """

    matrix: TransferMatrix
    gain: Array
    covariance: Array
    residual: float
    reading_sd: float
    spread: Mapping[str, float]
    form: str
    evidence: Mapping[str, float]

    def to_dict(self) -> dict[str, Any]:
        """Plain data for strict JSON; the matrix has its own."""
        return {
            "form": self.form,
            "evidence": dict(self.evidence),
            "spread": dict(self.spread),
            "residual": self.residual,
        }

    def __str__(self) -> str:
        parts_text = ", ".join(f"{name} {sd:.3f}" for name, sd in self.spread.items())
        lines = [
            str(self.matrix),
            f"standard deviation of log gain by effect: {parts_text}; of a reading: {self.residual:.3f}",
        ]
        if len(self.evidence) > 1:
            best = max(self.evidence.values())
            evidence_text = "; ".join(f"{form} {value - best:+.1f}" for form, value in self.evidence.items())
            lines.append(f"form {self.form!r}; log evidence of each form, minus that of the best: {evidence_text}")
        elif not FORMS[self.form].width:
            lines.append(f"form {self.form!r}; mixtures of several widths are needed to compare it with other forms")
        return "\n".join(lines)


def estimate(
    readings: MixtureObservations, relations: Relations | None = None, *, forms: Sequence[str] = ("log",)
) -> MixtureEstimate:
    """The matrix from mixtures.

    Args:
        forms: of `FORMS`, to choose from by the evidence of the readings. Where all mixtures are of one width, forms
            cannot be told apart, and the default stands.

    Raises:
        InputError: too few readings, or an unknown form.
    """
    if unknown := [form for form in forms if form not in FORMS]:
        raise InputError(f"no form {unknown[0]!r}", hint=f"one of {', '.join(FORMS)}")
    if len(readings) < 2 * len(readings.languages):
        raise InputError(
            f"{len(readings)} readings of {len(readings.languages)} languages are not enough for a matrix",
            hint="at least two mixtures for each language; `babelscale study next` proposes them",
        )
    relations = (relations or Relations.of(readings.languages)).at(readings.languages)
    with mixed.one_thread():
        return _best(readings, relations, ["log"] if np.ptp(readings.share) < 1e-6 else list(forms))


def _best(readings: MixtureObservations, relations: Relations, tried: Sequence[str]) -> MixtureEstimate:
    """The form with the most evidence. Forms are compared by the readings with a number, as the stand-ins of bounds
    differ from form to form."""
    known = readings.at(np.isfinite(readings.worth)) if len(tried) > 1 else readings
    fits = {form: _fit(known, relations, FORMS[form]) for form in tried}
    # log |d transformed / d y| over the readings with a number makes the evidences of two forms comparable.
    slopes = float(np.nansum(known.worth))
    evidence = {form: found[1].evidence + FORMS[form].power * slopes for form, found in fits.items()}
    best = max(evidence, key=lambda form: evidence[form])
    fitted = fits[best] if len(known) == len(readings) else _fit(readings, relations, FORMS[best])
    return _gains(readings, *fitted, best, evidence)


def _fit(readings: MixtureObservations, relations: Relations, form: MixtureForm) -> tuple[Features, mixed.Posterior]:
    n = len(readings.languages)
    t, s = np.nonzero(~np.eye(n, dtype=bool))
    features = Features.of(relations, t, s)
    X, group = features.matrix(t, s)
    # The effects of a reading are those of its pairs, weighted by source.
    weights = weights_of(readings, form)
    of_pair = np.full((n, n), -1)
    of_pair[t, s] = np.arange(len(t))
    rows = np.zeros((len(readings), X.shape[1]))
    for k, target in enumerate(readings.target):
        beside = np.flatnonzero(weights[k])
        rows[k] = weights[k, beside] @ X[of_pair[target, beside]]
    bases = (readings.base[:, None] == np.unique(readings.base)).astype(np.float64)
    parts, names = [rows, bases], [*features.groups, "baseline"]
    width = np.log(2 * readings.share)
    if form.width:
        own = (readings.target[:, None] == np.arange(n)) * width[:, None]
        parts += [width[:, None], own]
        names += ["width", "width of target"]
    first = len(features.groups)
    group = np.concatenate([group, *(np.full(part.shape[1], first + k) for k, part in enumerate(parts[1:]))])
    y, slope = transformed(readings.worth, form.power)
    low, high = transformed(readings.low, form.power)[0], transformed(readings.high, form.power)[0]
    of_target = (np.flatnonzero(readings.target == target) for target in np.unique(readings.target))
    blocks = tuple((at, weights[at] @ weights[at].T) for at in of_target)
    # An error of a baseline is common to every reading against it.
    fixed = {"mean": _WIDE, "baseline": max(float(np.mean(readings.base_noise)), 1e-8), "width": 1.0}
    slope = np.where(np.isfinite(slope), slope, 1.0)
    problem = mixed.MixedProblem(
        np.hstack(parts),
        group,
        tuple(names),
        y,
        readings.noise * slope**2,
        low,
        high,
        blocks,
        {name: fixed[name] for name in names if name in fixed},
        width**2 if np.ptp(width) > 0 else None,
    )
    return features, mixed.fit(problem)


def weights_of(readings: MixtureObservations, form: MixtureForm) -> Array:
    """Weight of each source in each reading, shape (m, n)."""
    return readings.ratio * (2 * readings.share[:, None]) ** form.dilution


def transformed(worth: Array, power: int) -> tuple[Array, Array]:
    """What is linear in the gains' own transforms (exp(y) - 1, or y itself), and its slope by y."""
    with np.errstate(over="ignore"):
        return (np.expm1(worth), np.exp(worth)) if power else (worth, np.ones_like(worth))


def inverse(value: Array, power: int) -> Array:
    """The log gain of a transformed one; minus infinity beyond the domain of "atlas"."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(value > -1, np.log1p(np.maximum(value, -1.0)), -math.inf) if power else value


def _gains(
    readings: MixtureObservations, features: Features, found: mixed.Posterior, form: str, evidence: Mapping[str, float]
) -> MixtureEstimate:
    """Posterior of the gains, a target at a time.

    Given the effects b, the pairs' own parts d have mean G (y - X b), G = s_d^2 R' N^-1, and covariance
    s_d^2 (1 - G R); R holds the target's weights. With F the pairs' columns, gain = F b + d.
    """
    n, power = len(readings.languages), FORMS[form].power
    weights = weights_of(readings, FORMS[form])
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
            R = weights[np.ix_(at, s)]
            G = own * R.T @ found.precision.inverses[place[int(at[0])]]
            mean = mean + G @ (found.problem.y[at] - found.problem.X[at] @ found.mean)
            S = S - own * G @ R
            F = F - G @ found.problem.X[at]
        S = S + F @ found.covariance @ F.T
        sd = np.sqrt(np.diag(S))
        gain[t, s] = inverse(mean, power)
        covariance[t][np.ix_(s, s)] = S
        low[t, s], high[t, s] = inverse(mean - Z90 * sd, power), inverse(mean + Z90 * sd, power)
    status = np.where(readings.pairs, "measured", "predicted").astype("U9")
    np.fill_diagonal(status, "missing")
    about = {
        "estimated_from": "mixtures",
        "form": form,
        "readings": len(readings),
        "runs": len(set(readings.run)),
        "anchor_tokens": readings.anchor,
    }
    matrix = TransferMatrix(readings.languages, from_gain(gain), from_gain(low), from_gain(high), status, about)
    spread = {name: math.sqrt(value) for name, value in found.variances.items() if name not in ("mean", "residual")}
    residual = found.variances[mixed.RESIDUAL]
    reading_sd = math.sqrt(residual + float(np.mean(readings.noise)))
    return MixtureEstimate(matrix, gain, covariance, math.sqrt(residual), reading_sd, spread, form, evidence)
