"""expand(): from K to rK languages at equal loss, what becomes of N, D and C.

From L(K, N, D_t) = L_inf + A K^phi / N^alpha + B K^psi / D_t^beta (the ATLAS study, section on multilinguality), with
s = N'/N, t = D_t'/D_t and w_N the share of the reducible loss that is capacity's, w_D = 1 - w_N, equal loss means

    r^phi w_N s^-alpha + r^psi w_D t^-beta = 1

The point that leaves both terms as they were, s = r^(phi/alpha) and t = r^(psi/beta), is also the cheapest one where
the model was compute-optimal, w_N = beta / (alpha + beta).
"""

import itertools
import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from babelscale import published
from babelscale.errors import InputError
from babelscale.planning.wording import columns, count, plain, save_json

# Beyond what the study trained: its largest evenly sampled mixture.
MOST_LANGUAGES = 50
_SIZES = (0.75, 0.85, 1.0, 1.25, 1.5, 2.0, 3.0)


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
class Expansion:
    """Multipliers at equal loss for `languages` -> `to` languages, with the iso-loss frontier.

    `params`, `tokens` (all languages together), `tokens_per_language` and `compute` are multipliers; `now` and `then`
    hold (N, D_tot, C) where a size was given. The frontier runs from small models on many tokens to the reverse.
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

    def to_dict(self) -> dict[str, Any]:
        data = {"kind": "expansion", **asdict(self)}
        for name in ("params", "tokens", "tokens_per_language", "compute"):
            data[name] = getattr(self, name)._asdict()
        data["frontier"] = [
            {"params": p.params, "tokens": p.tokens._asdict(), "compute": p.compute._asdict()} for p in self.frontier
        ]
        return plain(data)

    def save(self, path: str | Path) -> Path:
        return save_json(path, self.to_dict())

    def __str__(self) -> str:
        named = (
            ("parameters N", self.params),
            ("tokens D_tot", self.tokens),
            ("tokens a language", self.tokens_per_language),
            ("compute C", self.compute),
        )
        rows = [[name, f"{m.value:.3g}x", f"{m.low:.4g}x to {m.high:.4g}x"] for name, m in named]
        lines = [f"{self.languages} -> {self.to} languages at equal loss, sampled evenly"]
        lines += ["  " + line for line in columns(("multiply", "by", "rounding"), rows)]
        if self.now and self.then:
            (N, D, C), (N2, D2, C2) = self.now, self.then
            lines.append(f"  from {count(N)} parameters, {count(D)} tokens, {C:.3g} FLOPs")
            lines.append(f"  to   {count(N2)} parameters, {count(D2)} tokens, {C2:.3g} FLOPs")
        points = [[f"{p.params:.2f}x", _said(p.tokens), _said(p.compute)] for p in self.frontier]
        lines += ["", "  other ways to keep the loss"]
        lines += ["  " + line for line in columns(("parameters N", "tokens D_tot", "compute C"), points)]
        said = ([self.extrapolation] if self.extrapolation else []) + list(self.notes)
        return "\n".join([*lines, "", *(f"  * {sentence}" for sentence in said), f"  source: {self.source}"])


def expand(languages: int, to: int, *, params: float | None = None, tokens: float | None = None) -> Expansion:
    """From `languages` to `to` evenly sampled languages at equal loss, by the study's printed exponents.

    Args:
        params, tokens: N and D_tot (all languages) of the model to expand, for absolute numbers; both or neither.

    Raises:
        InputError: a count below one, or a size that is not positive.
    """
    for name, K in (("languages", languages), ("to", to)):
        if not (int(K) == K and K >= 1):
            raise InputError(f"{name} is {K}", hint="a count of languages is a whole number, 1 or more")
    if (params is None) != (tokens is None):
        raise InputError("params and tokens go together", hint="give N and D_tot of the model to expand, or neither")
    for name, value in (("params", params), ("tokens", tokens)):
        if value is not None and not (math.isfinite(value) and value > 0):
            raise InputError(f"{name} is {value}", hint="give a positive number")
    law, r = published.multilinguality(), to / languages
    point, corners = law.multipliers(r), list(_corners(law))

    def bounded(name: str) -> Bounded:
        values = [getattr(corner.multipliers(r), name) for corner in corners]
        return Bounded(getattr(point, name), min(values), max(values))

    now = None if params is None or tokens is None else (params, tokens, 6 * params * tokens)
    then = now and (now[0] * point.params, now[1] * point.tokens, now[2] * point.compute)
    beyond = max(languages, to) / MOST_LANGUAGES
    return Expansion(
        languages=languages,
        to=to,
        params=bounded("params"),
        tokens=bounded("tokens"),
        tokens_per_language=bounded("tokens_per_language"),
        compute=bounded("compute"),
        frontier=tuple(_frontier_point(law, corners, r, point.params * step) for step in _SIZES),
        now=now,
        then=then,
        extrapolation=f"extrapolated: {beyond:.3g}x above the study's most languages ({MOST_LANGUAGES})"
        if beyond > 1
        else None,
        notes=(
            "intervals cover the rounding of the printed exponents only; the study prints no uncertainty "
            f"(R2 at least {law.r2_at_least})",
            "the law does not know which languages are added, and was not verified by training at the sizes it gives",
            "the frontier takes the model of now as compute-optimal",
        ),
        source="printed exponents of the ATLAS study (arXiv 2510.22037), multilinguality law",
    )


def _corners(law: published.Multilinguality) -> Iterator[published.Multilinguality]:
    """Every combination of the printed figures at the ends of their rounding."""
    ends = (-1, 1)
    for a, b, c, d in itertools.product(ends, repeat=4):
        yield published.Multilinguality(
            phi=law.phi + a * law.phi_rounding,
            psi=law.psi + b * law.phi_rounding,
            params_exponent=law.params_exponent + c * law.exponent_rounding,
            tokens_exponent=law.tokens_exponent + d * law.exponent_rounding,
        )


def _frontier_point(
    law: published.Multilinguality, corners: list[published.Multilinguality], r: float, s: float
) -> FrontierPoint:
    value = tokens_multiplier(law, r, s)
    all_values = [tokens_multiplier(corner, r, s) for corner in corners]
    low, high = float(np.min(all_values)), float(np.max(all_values))
    return FrontierPoint(s, Bounded(value, low, high), Bounded(s * value, s * low, s * high))


def tokens_multiplier(law: published.Multilinguality, r: float, s: float) -> float:
    """D_tot'/D_tot that keeps the loss when N'/N = s; infinite where no amount of data would."""
    w_N = law.beta / (law.alpha + law.beta)
    left = 1 - r**law.phi * w_N * s**-law.alpha
    if left <= 0:
        return math.inf
    return r * (left / (r**law.psi * (1 - w_N))) ** (-1 / law.beta)


def _said(m: Bounded) -> str:
    if math.isinf(m.value):
        return "no amount"
    return f"{m.value:.3g}x ({m.low:.3g} to {m.high:.3g})"
