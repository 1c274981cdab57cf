"""expand(): from K to rK languages at equal loss, what becomes of N, D and C.

From L(K, N, D_t) = L_inf + A K^phi / N^alpha + B K^psi / D_t^beta (the ATLAS study, section on multilinguality), with
s = N'/N, t = D_t'/D_t and w_N the share of the reducible loss that comes from the size, w_D = 1 - w_N, equal loss means

    r^phi w_N s^-alpha + r^psi w_D t^-beta = 1

The point that leaves both terms as they were, s = r^(phi/alpha) and t = r^(psi/beta), is also the cheapest one where
the model was compute-optimal, w_N = beta / (alpha + beta). A fit of the law to your own runs gives A, B and draws too:
w_N is then that of the model to expand, and intervals are those of the draws.

The law reads the number of languages and not which they are. The transfer score BTS(s -> t) depends on them:
`rank_candidates` takes candidates one by one, each time the one whose mean of both directions with all languages so far
is largest.
"""

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, ClassVar, NamedTuple

import numpy as np
import polars as pl

from babelscale import published
from babelscale.errors import InputError
from babelscale.fitting import Fit
from babelscale.formatting import count, fill_none, indented_table, json_ready
from babelscale.intervals import Z90, interval, normal_quantile
from babelscale.options import read
from babelscale.planning.published_laws import beyond
from babelscale.planning.request import ExpansionRequest
from babelscale.published.figures import power
from babelscale.result import JsonResult
from babelscale.transfer import TransferMatrix

# Beyond what the study trained: its largest evenly sampled mixture.
MOST_LANGUAGES = 50
SIZES = (0.75, 0.85, 1.0, 1.25, 1.5, 2.0, 3.0)


class Multiplier(NamedTuple):
    """A multiplier with its interval."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return "no amount" if math.isinf(self.value) else f"{self.value:.3g}x ({self.low:.3g} to {self.high:.3g})"


@dataclass(frozen=True)
class FrontierPoint:
    """One way to keep the loss: multiply N and D_tot by these. D and C are infinite where no data would do."""

    params: float
    tokens: Multiplier
    compute: Multiplier


@dataclass(frozen=True)
class CandidateLanguage:
    """One language to add: mean scores with the languages before it, and the (low, high) of their mean.

    `gives` is its effect on them, `gets` their effect on it; NaN where the matrix has no score. `known` scores count.
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

    return CandidateLanguage(code, _mean(gives), _mean(gets), _mean(low[there]), _mean(high[there]), int(there.sum()))


def _mean(values: np.ndarray) -> float:
    values = values[np.isfinite(values)]
    return float(values.mean()) if len(values) else math.nan


@dataclass(frozen=True, repr=False)
class Expansion(JsonResult):
    """Multipliers at equal loss for `languages` -> `to` languages, with the iso-loss frontier.

    `params`, `tokens` (all languages together), `tokens_per_language` and `compute` are multipliers; `now` and `then`
    hold (N, D_tot, C) where a size was given. The frontier runs from small models on many tokens to the reverse;
    `cheapest` is its point of least compute.
    """

    indent: ClassVar[int | None] = 1

    languages: int
    to: int
    params: Multiplier
    tokens: Multiplier
    tokens_per_language: Multiplier
    compute: Multiplier
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

    @property
    def headline(self) -> str:
        return f"{self.languages} -> {self.to} languages at equal loss, sampled evenly"

    def to_dict(self) -> dict[str, Any]:
        return json_ready({"kind": "expansion", **_named(asdict(self))})

    @classmethod
    def _fields(cls, data: Mapping[str, Any]) -> Mapping[str, Any]:
        points = ("frontier", "cheapest", "params", "tokens", "tokens_per_language", "compute")
        multipliers = {name: fill_none(data[name], math.inf) for name in points if data.get(name) is not None}
        return {**data, **multipliers, "first": fill_none(data.get("first", []), math.nan)}

    def to_frame(self) -> pl.DataFrame:
        """One row for each point of the frontier: multipliers of parameters, tokens and compute, with intervals."""
        rows = [(point.params, *point.tokens, *point.compute) for point in self.frontier]
        ends = [f"{name}{end}" for name in ("tokens", "compute") for end in ("", "_low", "_high")]
        return pl.DataFrame(rows, schema=dict.fromkeys(["params", *ends], pl.Float64), orient="row")

    def summary(self) -> str:
        named = (
            ("parameters N", self.params),
            ("tokens D_tot", self.tokens),
            ("tokens per language", self.tokens_per_language),
            ("compute C", self.compute),
        )
        rows = [[name, f"{m.value:.3g}x", f"{m.low:.4g}x to {m.high:.4g}x"] for name, m in named]
        lines = [self.headline, *indented_table(("quantity", "factor", self.interval), rows)]
        if self.now and self.then:
            for word, (N, D, C) in (("from", self.now), ("to  ", self.then)):
                lines.append(f"  {word} {count(N)} parameters, {count(D)} tokens, {C:.3g} FLOPs")
        points = [[f"{p.params:.2f}x", str(p.tokens), str(p.compute)] for p in self.frontier]
        lines += [
            "",
            "  other ways to keep the loss",
            *indented_table(("parameters N", "tokens D_tot", "compute C"), points),
        ]
        if self.first:
            rows = [each.row() for each in self.first]
            lines += ["", "  which languages to add first", *indented_table(CandidateLanguage.HEADER, rows)]
        if self.then:
            lines += [
                "",
                f"  to verify: train both mixtures with {self.seeds} seeds each. This detects a rise of the loss by 1 "
                "% (0.5 % noise, 90 % confidence, 80 % power); `babelscale study verify` writes the design",
            ]
        notes = ([self.extrapolation] if self.extrapolation else []) + list(self.notes)
        return "\n".join([*lines, "", *(f"  * {note}" for note in notes), f"  source: {self.source}"])


def _named(value: Any) -> Any:
    """Multipliers as objects with named numbers."""
    if isinstance(value, Multiplier):
        return value._asdict()
    if isinstance(value, dict):
        return {name: _named(each) for name, each in value.items()}
    return [_named(each) for each in value] if isinstance(value, list | tuple) else value


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
        fit: of the multilinguality law; by default the study's published exponents.
        first: the result of `rank_candidates`, shown along.
        sizes: of the frontier's models, as multiples of the N that leaves both terms as they were.

    Raises:
        InputError: a count below one, a size that is not positive, or a fit of another law.
    """
    request = read(ExpansionRequest, {"languages": languages, "to": to, "params": params, "tokens": tokens})
    K, r = request.count, request.to / request.count
    if (params is None) != (tokens is None):
        raise InputError("params and tokens go together", hint="give N and D_tot of the model to expand, or neither")
    now = None if params is None or tokens is None else (params, tokens, 6 * params * tokens)
    laws = _published() if fit is None else _fitted(fit, K, now)
    point, whole = laws[0], fit is None
    multipliers = {
        name: _multiplier([each.multipliers(r)[name] for each in laws], whole) for name in point.multipliers(r)
    }

    def frontier_point(s: float) -> FrontierPoint:
        value = _multiplier([each.tokens_multiplier(r, s) for each in laws], whole)
        return FrontierPoint(s, value, Multiplier(*(s * v for v in value)))

    size = multipliers["params"].value
    return Expansion(
        languages=K,
        to=request.to,
        **multipliers,
        frontier=tuple(frontier_point(size * step) for step in sizes),
        now=now,
        then=now and (now[0] * size, now[1] * multipliers["tokens"].value, now[2] * multipliers["compute"].value),
        extrapolation=beyond((max(K, request.to), 1, MOST_LANGUAGES, "the study's {} languages")) if whole else None,
        notes=_notes(fit, now is not None),
        source="published exponents of the ATLAS study (arXiv 2510.22037), multilinguality law"
        if fit is None
        else f"a fit of the multilinguality law{f' to {fit.target}' if fit.target else ''}",
        interval="rounding" if whole else "90 %",
        first=first,
        seeds=_seeds(),
        cheapest=frontier_point(point.cheapest(r)),
    )


def _notes(fit: Fit | None, sized: bool) -> tuple[str, ...]:
    blind = "the law does not depend on which languages are added"
    optimal = "the frontier assumes that the present model is compute-optimal"
    if fit is not None:
        draws = f"intervals: {len(fit.draws)} draws of the fit" if len(fit.draws) else "the fit has no draws"
        return (draws, blind, *([] if sized else [optimal]))
    return (
        "intervals cover the rounding of the published exponents only; the study publishes no uncertainty "
        f"(R2 at least {published.multilinguality().r2_at_least})",
        f"{blind}, and was not verified by training at the sizes it gives",
        optimal,
    )


def _seeds(noise: float = 0.005, rise: float = 0.01) -> int:
    """Seeds a side that distinguish a rise of the loss from none: 2 (z_0.95 + z_0.8)^2 noise^2 / rise^2, rounded up."""
    return math.ceil(2 * ((Z90 + normal_quantile(0.8)) * noise / rise) ** 2)


@dataclass(frozen=True)
class EqualLoss:
    """The law's exponents, those of its multipliers, and w_N, the size's share of the reducible loss."""

    phi: float
    psi: float
    alpha: float
    beta: float
    params_exponent: float
    tokens_exponent: float
    w_N: float

    @classmethod
    def of(cls, law: published.PrintedMultilinguality) -> "EqualLoss":
        """The published law, and a compute-optimal model."""
        w_N = law.beta / (law.alpha + law.beta)
        return cls(law.phi, law.psi, law.alpha, law.beta, law.params_exponent, law.tokens_exponent, w_N)

    def multipliers(self, r: float) -> dict[str, float]:
        """N, D and C that leave both terms as they were."""
        params, tokens = power(r, self.params_exponent), power(r, self.tokens_exponent)
        return {"params": params, "tokens": tokens, "tokens_per_language": tokens / r, "compute": params * tokens}

    def tokens_multiplier(self, r: float, s: float) -> float:
        """D_tot'/D_tot that keeps the loss when N'/N = s; infinite where no amount of data would."""
        rest = 1 - r**self.phi * self.w_N * s**-self.alpha
        return math.inf if rest <= 0 else r * power(rest / (r**self.psi * (1 - self.w_N)), -1 / self.beta)

    def cheapest(self, r: float) -> float:
        """N'/N of least compute: there the size has the share beta / (alpha + beta) of the reducible loss."""
        return power(r**self.phi * self.w_N * (self.alpha + self.beta) / self.beta, 1 / self.alpha)


def _published() -> list[EqualLoss]:
    """The published law, then every combination of its figures at the ends of their rounding."""
    law = published.multilinguality()
    half = (law.phi_rounding, law.phi_rounding, law.exponent_rounding, law.exponent_rounding)
    figures = (law.phi, law.psi, law.params_exponent, law.tokens_exponent)
    corners = itertools.product((-1, 1), repeat=4)
    ends = ([x + sign * h for x, sign, h in zip(figures, signs, half, strict=True)] for signs in corners)
    return [EqualLoss.of(law), *(EqualLoss.of(published.PrintedMultilinguality(*each)) for each in ends)]


def _fitted(fit: Fit, K: int, now: tuple[float, float, float] | None) -> list[EqualLoss]:
    """The fit and its draws; w_N at the size of now where it is given, else that of a compute-optimal model."""
    if not fit.law.prices_languages:
        raise InputError(f"the fit is of the {fit.law.name} law", hint="give a fit of the multilinguality law")
    found = []
    for p in [fit.parameters, *(dict(zip(fit.law.parameter_names, row, strict=True)) for row in fit.draws)]:
        w_N = p["beta"] / (p["alpha"] + p["beta"])
        if now is not None:
            capacity = p["A"] * K ** p["phi"] / now[0] ** p["alpha"]
            w_N = capacity / (capacity + p["B"] * K ** p["psi"] / (now[1] / K) ** p["beta"])
        exponents = p["phi"] / p["alpha"], 1 + p["psi"] / p["beta"]
        found.append(EqualLoss(p["phi"], p["psi"], p["alpha"], p["beta"], *exponents, w_N))
    return found


def _multiplier(values: Sequence[float], whole: bool) -> Multiplier:
    """The first value, with the ends of the others (the corners of a rounding) or their central 90 %."""
    others = np.array(values[1:] or values)
    low, high = (others.min(), others.max()) if whole else interval(others, rule="outer")
    return Multiplier(values[0], float(min(low, values[0])), float(max(high, values[0])))
