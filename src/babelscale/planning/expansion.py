"""expand(): from K to rK languages at equal loss, what becomes of N, D and C.

From L(K, N, D_t) = L_inf + A K^phi / N^alpha + B K^psi / D_t^beta (the ATLAS study, section on multilinguality), with
s = N'/N, t = D_t'/D_t and w_N the share of the reducible loss that is capacity's, w_D = 1 - w_N, equal loss means

    r^phi w_N s^-alpha + r^psi w_D t^-beta = 1

The point that leaves both terms as they were, s = r^(phi/alpha) and t = r^(psi/beta), is also the cheapest one where
the model was compute-optimal, w_N = beta / (alpha + beta). A fit of the law to one's own runs gives A, B and draws too:
w_N is then that of the model to expand, and intervals are those of the draws.
"""

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import numpy as np

from babelscale import files, published
from babelscale.errors import InputError
from babelscale.fitting import Fit
from babelscale.formatting import count, json_ready, text_table
from babelscale.intervals import Z90, interval, normal_quantile
from babelscale.published.figures import power
from babelscale.transfer import TransferMatrix

# Beyond what the study trained: its largest evenly sampled mixture.
MOST_LANGUAGES = 50
SIZES = (0.75, 0.85, 1.0, 1.25, 1.5, 2.0, 3.0)


class Bounded(NamedTuple):
    """A multiplier with its interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class FrontierPoint:
    """One way to keep the loss: multiply N and D_tot by these. D and C have no value where no data would do."""

    params: float
    tokens: Bounded
    compute: Bounded


@dataclass(frozen=True)
class CandidateLanguage:
    """One language to add: mean scores with the languages before it, and the (low, high) of their mean.

    `gives` is what it does for them, `gets` what they do for it; NaN where the matrix has no score.
    """

    language: str
    gives: float
    gets: float
    low: float
    high: float
    known: int

    HEADER: ClassVar[tuple[str, ...]] = ("language", "gives", "gets", "mean within", "scores")

    def row(self) -> list[str]:
        within = "unknown" if math.isnan(self.low) else f"{self.low:+.2f} to {self.high:+.2f}"
        return [self.language, f"{self.gives:+.2f}", f"{self.gets:+.2f}", within, str(self.known)]


def rank_candidates(
    matrix: TransferMatrix,
    have: Sequence[str],
    candidates: Sequence[str] | None = None,
    most: int = 10,
    rounding: float = 0.0,
) -> tuple[CandidateLanguage, ...]:
    """Candidates in the order in which to add them, at most `most`.

    Args:
        candidates: codes (default: every other language of the matrix).
        rounding: half a unit of the last digit where the matrix holds no intervals.

    Raises:
        InputError: none of the languages at hand is in the matrix.
    """
    known = [code for code in have if code in matrix.languages]
    if not known:
        raise InputError(
            f"none of {', '.join(have)} is in the transfer matrix", hint=f"it has {', '.join(matrix.languages)}"
        )
    rest = [code for code in (candidates or matrix.languages) if code in matrix.languages and code not in known]
    found: list[CandidateLanguage] = []
    while rest and len(found) < most:
        scored = [_scored(matrix, known, code, rounding) for code in rest]
        scored = [one for one in scored if one.known]
        if not scored:
            break
        best = max(scored, key=lambda one: (np.nanmean([one.gives, one.gets]), -rest.index(one.language)))
        found.append(best)
        known.append(best.language)
        rest.remove(best.language)
    return tuple(found)


def _scored(matrix: TransferMatrix, known: Sequence[str], code: str, rounding: float) -> CandidateLanguage:
    i, others = matrix.languages.index(code), [matrix.languages.index(other) for other in known]
    gives, gets = matrix.values[others, i], matrix.values[i, others]
    both = np.concatenate([gives, gets])
    there = np.isfinite(both)
    low = np.concatenate([matrix.low[others, i], matrix.low[i, others]])
    high = np.concatenate([matrix.high[others, i], matrix.high[i, others]])
    low = np.where(np.isfinite(low), low, both - rounding if rounding else np.nan)
    high = np.where(np.isfinite(high), high, both + rounding if rounding else np.nan)

    def mean(values: np.ndarray) -> float:
        values = values[np.isfinite(values)]
        return float(values.mean()) if len(values) else math.nan

    return CandidateLanguage(code, mean(gives), mean(gets), mean(low[there]), mean(high[there]), int(there.sum()))


@dataclass(frozen=True)
class Expansion:
    """Multipliers at equal loss for `languages` -> `to` languages, with the iso-loss frontier.

    `params`, `tokens` (all languages together), `tokens_per_language` and `compute` are multipliers; `now` and `then`
    hold (N, D_tot, C) where a size was given. The frontier runs from small models on many tokens to the reverse;
    `cheapest` is its point of least compute.
    """

    languages: int
    to: int
    params: Bounded
    tokens: Bounded
    tokens_per_language: Bounded
    compute: Bounded
    frontier: tuple[FrontierPoint, ...]
    now: tuple[float, float, float] | None
    then: tuple[float, float, float] | None
    extrapolation: str | None
    notes: tuple[str, ...]
    source: str
    interval: str = "rounding"
    first: tuple[CandidateLanguage, ...] = ()
    seeds: int = 0
    cheapest: FrontierPoint | None = None

    def to_dict(self) -> dict[str, Any]:
        data = {"kind": "expansion", **asdict(self)}
        for name in ("params", "tokens", "tokens_per_language", "compute"):
            data[name] = getattr(self, name)._asdict()
        data["frontier"] = [_told(point) for point in self.frontier]
        data["cheapest"] = None if self.cheapest is None else _told(self.cheapest)
        return json_ready(data)

    def save(self, path: str | Path) -> Path:
        return files.write_json(path, self.to_dict())

    def __str__(self) -> str:
        named = (
            ("parameters N", self.params),
            ("tokens D_tot", self.tokens),
            ("tokens a language", self.tokens_per_language),
            ("compute C", self.compute),
        )
        rows = [[name, f"{m.value:.3g}x", f"{m.low:.4g}x to {m.high:.4g}x"] for name, m in named]
        lines = [f"{self.languages} -> {self.to} languages at equal loss, sampled evenly"]
        lines += ["  " + line for line in text_table(("multiply", "by", self.interval), rows)]
        if self.now and self.then:
            (N, D, C), (N2, D2, C2) = self.now, self.then
            lines.append(f"  from {count(N)} parameters, {count(D)} tokens, {C:.3g} FLOPs")
            lines.append(f"  to   {count(N2)} parameters, {count(D2)} tokens, {C2:.3g} FLOPs")
        points = [[f"{p.params:.2f}x", _said(p.tokens), _said(p.compute)] for p in self.frontier]
        lines += ["", "  other ways to keep the loss"]
        lines += ["  " + line for line in text_table(("parameters N", "tokens D_tot", "compute C"), points)]
        if self.first:
            lines += ["", "  which languages to add first"]
            lines += ["  " + line for line in text_table(CandidateLanguage.HEADER, [one.row() for one in self.first])]
        if self.then:
            lines.append("")
            lines.append(
                f"  to verify: train both ends with {self.seeds} seeds each, which tells a rise of 1 % of the loss "
                "from none (0.5 % noise, 90 % confidence, 80 % power); `babelscale study verify` writes the design"
            )
        said = ([self.extrapolation] if self.extrapolation else []) + list(self.notes)
        return "\n".join([*lines, "", *(f"  * {sentence}" for sentence in said), f"  source: {self.source}"])


def expand(
    languages: int,
    to: int,
    *,
    params: float | None = None,
    tokens: float | None = None,
    fit: Fit | None = None,
    first: tuple[CandidateLanguage, ...] = (),
    sizes: Sequence[float] = SIZES,
) -> Expansion:
    """From `languages` to `to` evenly sampled languages at equal loss.

    Args:
        params, tokens: N and D_tot (all languages) of the model to expand, for absolute numbers; both or neither.
        fit: of the multilinguality law; by default the study's printed exponents.
        first: `additions.rank_candidates`, told along.
        sizes: of the frontier's models, as multiples of the N that leaves both terms as they were.

    Raises:
        InputError: a count below one, a size that is not positive, or a fit of another law.
    """
    for name, K in (("languages", languages), ("to", to)):
        if not (int(K) == K and K >= 1):
            raise InputError(f"{name} is {K}", hint="a count of languages is a whole number, 1 or more")
    if (params is None) != (tokens is None):
        raise InputError("params and tokens go together", hint="give N and D_tot of the model to expand, or neither")
    for name, value in (("params", params), ("tokens", tokens)):
        if value is not None and not (math.isfinite(value) and value > 0):
            raise InputError(f"{name} is {value}", hint="give a positive number")
    r = to / languages
    if fit is None:
        curse = published.multilinguality()
        laws = [_weighed(curse), *map(_weighed, _corners(curse))]
    else:
        size = None if params is None or tokens is None else (params, tokens / languages)
        laws = _fitted(fit, languages, size)
    points = [each.law.multipliers(r) for each in laws]

    def bounded(name: str) -> Bounded:
        return _bounded([getattr(one, name) for one in points], fit is None)

    now = None if params is None or tokens is None else (params, tokens, 6 * params * tokens)
    point = points[0]
    then = now and (now[0] * point.params, now[1] * point.tokens, now[2] * point.compute)
    beyond = max(languages, to) / MOST_LANGUAGES
    return Expansion(
        languages=languages,
        to=to,
        params=bounded("params"),
        tokens=bounded("tokens"),
        tokens_per_language=bounded("tokens_per_language"),
        compute=bounded("compute"),
        frontier=tuple(_frontier_point(laws, r, point.params * step, fit is None) for step in sizes),
        now=now,
        then=then,
        extrapolation=f"extrapolated: {beyond:.3g}x above the study's most languages ({MOST_LANGUAGES})"
        if beyond > 1 and fit is None
        else None,
        notes=_notes(fit, now is not None),
        source="printed exponents of the ATLAS study (arXiv 2510.22037), multilinguality law"
        if fit is None
        else f"a fit of the multilinguality law{f' to {fit.target}' if fit.target else ''}",
        interval="rounding" if fit is None else "90 %",
        first=first,
        seeds=_seeds(),
        cheapest=_frontier_point(laws, r, _cheapest(laws[0], r), fit is None),
    )


def _notes(fit: Fit | None, sized: bool) -> tuple[str, ...]:
    law = published.multilinguality()
    blind = "the law does not know which languages are added"
    optimal = "the frontier takes the model of now as compute-optimal"
    if fit is not None:
        draws = f"intervals: {len(fit.draws)} draws of the fit" if len(fit.draws) else "the fit holds no draws"
        return (draws, blind, *([] if sized else [optimal]))
    return (
        "intervals cover the rounding of the printed exponents only; the study prints no uncertainty "
        f"(R2 at least {law.r2_at_least})",
        f"{blind}, and was not verified by training at the sizes it gives",
        optimal,
    )


def _seeds(noise: float = 0.005, rise: float = 0.01) -> int:
    """Seeds a side that tell a rise of the loss from none: 2 (z_0.95 + z_0.8)^2 noise^2 / rise^2, rounded up."""
    z = Z90 + normal_quantile(0.8)
    return math.ceil(2 * (z * noise / rise) ** 2)


class Weighed(NamedTuple):
    """The law and w_N, the share of the reducible loss that is capacity's."""

    law: published.PrintedMultilinguality
    w_N: float


def _weighed(law: published.PrintedMultilinguality) -> Weighed:
    return Weighed(law, law.beta / (law.alpha + law.beta))


def _fitted(fit: Fit, K: int, size: tuple[float, float] | None) -> list[Weighed]:
    """The fit and its draws; w_N at (N, D_t) where they are given, else that of a compute-optimal model."""
    if not fit.law.prices_languages:
        raise InputError(f"the fit is of the {fit.law.name} law", hint="give a fit of the multilinguality law")
    names = fit.law.parameter_names
    rows = [fit.parameters, *(dict(zip(names, row, strict=True)) for row in fit.draws)]
    found = []
    for p in rows:
        law = replace(
            published.multilinguality(),
            phi=p["phi"],
            psi=p["psi"],
            params_exponent=p["phi"] / p["alpha"],
            tokens_exponent=1 + p["psi"] / p["beta"],
        )
        w_N = p["beta"] / (p["alpha"] + p["beta"])
        if size is not None:
            capacity = p["A"] * K ** p["phi"] / size[0] ** p["alpha"]
            w_N = capacity / (capacity + p["B"] * K ** p["psi"] / size[1] ** p["beta"])
        found.append(Weighed(_Exact(law, p["alpha"], p["beta"]), w_N))
    return found


class _Exact(published.PrintedMultilinguality):
    """The law with alpha and beta of its own: they do not follow where phi or psi is 0."""

    def __init__(self, law: published.PrintedMultilinguality, alpha: float, beta: float) -> None:
        super().__init__(law.phi, law.psi, law.params_exponent, law.tokens_exponent)
        object.__setattr__(self, "_exact", (alpha, beta))

    @property
    def alpha(self) -> float:
        return self._exact[0]  # pyright: ignore[reportAttributeAccessIssue]

    @property
    def beta(self) -> float:
        return self._exact[1]  # pyright: ignore[reportAttributeAccessIssue]


def _bounded(values: list[float], whole: bool) -> Bounded:
    """The first value, with the ends of the others (the corners of a rounding) or their central 90 %."""
    others = np.array(values[1:] or values)
    low, high = (others.min(), others.max()) if whole else interval(others, rule="outer")
    return Bounded(values[0], float(min(low, values[0])), float(max(high, values[0])))


def _corners(law: published.PrintedMultilinguality) -> Iterator[published.PrintedMultilinguality]:
    """Every combination of the printed figures at the ends of their rounding."""
    ends = (-1, 1)
    for a, b, c, d in itertools.product(ends, repeat=4):
        yield published.PrintedMultilinguality(
            phi=law.phi + a * law.phi_rounding,
            psi=law.psi + b * law.phi_rounding,
            params_exponent=law.params_exponent + c * law.exponent_rounding,
            tokens_exponent=law.tokens_exponent + d * law.exponent_rounding,
        )


def _frontier_point(laws: list[Weighed], r: float, s: float, whole: bool) -> FrontierPoint:
    value = _bounded([_multiplier(each, r, s) for each in laws], whole)
    return FrontierPoint(s, value, Bounded(*(s * v for v in value)))


def _cheapest(weighed: Weighed, r: float) -> float:
    """N'/N of least compute at equal loss: there capacity has the share beta / (alpha + beta) of the reducible loss."""
    law, w_N = weighed
    return power(r**law.phi * w_N * (law.alpha + law.beta) / law.beta, 1 / law.alpha)


def tokens_multiplier(law: published.PrintedMultilinguality, r: float, s: float) -> float:
    """D_tot'/D_tot that keeps the loss when N'/N = s; infinite where no amount of data would."""
    return _multiplier(_weighed(law), r, s)


def _multiplier(weighed: Weighed, r: float, s: float) -> float:
    law, w_N = weighed
    left = 1 - r**law.phi * w_N * s**-law.alpha
    if left <= 0:
        return math.inf
    return r * power(left / (r**law.psi * (1 - w_N)), -1 / law.beta)


def _told(point: FrontierPoint) -> dict[str, Any]:
    return {"params": point.params, "tokens": point.tokens._asdict(), "compute": point.compute._asdict()}


def _said(m: Bounded) -> str:
    if math.isinf(m.value):
        return "no amount"
    return f"{m.value:.3g}x ({m.low:.3g} to {m.high:.3g})"
