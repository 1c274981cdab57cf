"""A plan from printed figures alone, for who has no runs of their own.

For target t among K planned languages, each trained on its own tokens:

    L_t = E_t + A_t K^phi / N^alpha_t + B_t K^psi / S(D_t; U_t)^alpha_t

with E, A, B, alpha of Table C.1 (multilingual vocabulary, monolingual training), phi and psi of the multilinguality
law, and lambda = 1 / R*_D of Muennighoff et al. (2023). The study never combined these figures; taking K^phi and K^psi
to scale each language's own two terms is an assumption of this planner, and the plan says so. Table C.1 stands for
K = 1. A language without a row gets the pooled one: the mean of E, log A, log B and alpha over the rows.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from babelscale import languages as language_table
from babelscale import published
from babelscale.errors import InputError
from babelscale.planning import planner
from babelscale.planning.problem import Problem
from babelscale.planning.result import Expected, Plan
from babelscale.planning.solve import Solution, solve
from babelscale.planning.terms import Draws, Setting, problem
from babelscale.published.coefficients import ROUNDING, LawRow, rounded

Array = NDArray[np.float64]

DRAWS = 200
# The least any run of the study consumed: 30,000 steps of 256 sequences of 2,048 tokens (derived), and the most.
FEWEST_TOKENS, MOST_TOKENS = 30_000 * 256 * 2048, 1e12
# After R*_D repeats the slope of S has fallen to exp(-1) = 0.37.
MANY_EPOCHS = 1 + published.SATURATION_EPOCHS


@dataclass(frozen=True)
class _Numbers:
    """Coefficients of one target, shape (R,) each; `alpha` is also beta."""

    E: Array
    log_A: Array
    log_B: Array
    alpha: Array


def plan_published(
    compute: float,
    languages: Sequence[str] | None,
    weights: Mapping[str, float] | None,
    unique_tokens: Mapping[str, float] | None,
    seed: int,
) -> Plan:
    """See `plan`; every planned language is a target.

    Raises:
        InputError: no language is named, a code is unknown, or a weight or U is bad.
    """
    codes = language_table.check(dict.fromkeys(languages or ()), "languages")
    if not codes:
        raise InputError("no languages to plan for", hint="for example languages=['sw', 'yo', 'ha']")
    private = [code for code in codes if language_table.is_private(code)]
    if private:
        raise InputError(f"nothing is published about {private[0]!r}", hint="plan it from fits of your own runs")
    shares = planner.check_weights(weights, codes)
    if 0 in shares.values():
        code = next(code for code in codes if shares[code] == 0)
        raise InputError(f"weight of {code!r} is 0", hint="leave it out: without transfer it helps no other language")
    unique = _unique(codes, planner.check_unique(unique_tokens, codes))
    setting = Setting(codes, shares, unique, float(compute))
    rows = {row.language: row for row in published.table_c1("multilingual", "monolingual")}
    point = problem({code: _draws(code, _printed(rows, code), len(codes)) for code in codes}, setting)
    best = planner.best_of(point, seed)
    drawn = _drawn(rows, setting, seed)
    again = solve(drawn.at(np.arange(planner.REPLANS)), planner.size_box(compute), seed=seed, start=best)
    n = np.log(best.params)
    spread = drawn.losses(np.repeat(best.shares, DRAWS, 0), np.repeat(n, DRAWS))
    low, high = np.quantile(spread, [0.05, 0.95], axis=0)
    value = point.losses(best.shares, n)[0]
    N = float(best.params[0])
    tokens = {code: float(D) for code, D in zip(codes, best.shares[0] * compute / 6 / N, strict=True)}
    params_interval, tokens_interval = planner.intervals(again, best, compute, codes)
    pooled = tuple(code for code in codes if code not in rows)
    table = language_table.table()
    from_table = [code for code in codes if code in unique and code not in (unique_tokens or {})]
    estimated = tuple(code for code in from_table if "estimated" in table[code].unique_tokens_source)
    return Plan(
        params=N,
        tokens=tokens,
        unique_tokens={code: unique.get(code, math.inf) for code in codes},
        losses={
            code: Expected(float(value[t]), float(min(low[t], value[t])), float(max(high[t], value[t])))
            for t, code in enumerate(codes)
        },
        weights=shares,
        params_interval=params_interval,
        tokens_interval=tokens_interval,
        objective=float(value @ point.weights),
        compute=float(compute),
        metric=published.LOSS_UNIT,
        extrapolation=_extrapolation(N, sum(tokens.values())),
        notes=_notes(codes, pooled, estimated, unique, tokens, best),
        source="printed figures of the ATLAS study (arXiv 2510.22037, Table C.1 and the multilinguality law) and, for "
        "repetition, of Muennighoff et al. (2023)",
        estimated=estimated,
        pooled=pooled,
    )


def _unique(codes: Sequence[str], given: Mapping[str, float]) -> dict[str, float]:
    """U by language: as given, else from the table of languages, else left out."""
    known = {code: language_table.lookup(code).unique_tokens for code in codes}
    return {code: U for code, U in known.items() if U is not None} | dict(given)


def _mean(values: Sequence[float]) -> Array:
    return np.array([math.fsum(values) / len(values)])


def _printed(rows: Mapping[str, LawRow], code: str) -> _Numbers:
    """A language's printed coefficients, or the pooled ones (means; of A and B geometric)."""
    taken = [rows[code]] if code in rows else list(rows.values())
    return _Numbers(*(_mean([getattr(row, name) for row in taken]) for name in ("E", "log_A", "log_B", "alpha")))


def _draws(
    code: str, numbers: _Numbers, K: int, phi: Array | float | None = None, psi: Array | float | None = None
) -> Draws:
    curse = published.multilinguality()
    phi, psi = curse.phi if phi is None else phi, curse.psi if psi is None else psi
    one = np.ones_like(numbers.E)
    return Draws(
        E=numbers.E,
        A=np.exp(numbers.log_A) * K**phi,
        alpha=numbers.alpha,
        B=np.exp(numbers.log_B) * K**psi,
        beta=numbers.alpha,
        gamma=0 * one,
        lam=one / published.SATURATION_EPOCHS,
        size_cap=np.full_like(one, np.inf),
        size_lam=0 * one,
        worth={frozenset([code]): one},
    )


def _drawn(rows: Mapping[str, LawRow], setting: Setting, seed: int) -> Problem:
    """Draws: the rounding of the print, and for a pooled language one of the rows at random."""
    curse = published.multilinguality()
    rng = np.random.default_rng(seed)
    phi = rounded(rng, curse.phi, DRAWS, curse.phi_rounding)
    psi = curse.psi + rng.uniform(-curse.phi_rounding, curse.phi_rounding, DRAWS)
    laws = {}
    everyone = list(rows.values())
    for code in setting.languages:
        picked = (
            [rows[code]] * DRAWS if code in rows else [everyone[i] for i in rng.integers(len(everyone), size=DRAWS)]
        )
        numbers = _Numbers(
            *(
                np.maximum(
                    np.array([getattr(row, name) for row in picked]) + rng.uniform(-ROUNDING, ROUNDING, DRAWS), 0.0
                )
                for name in ("E", "log_A", "log_B", "alpha")
            )
        )
        laws[code] = _draws(code, numbers, len(setting.languages), phi, psi)
    return problem(laws, setting)


def _extrapolation(N: float, total: float) -> str | None:
    """How far a plan goes beyond the study's sizes and tokens."""
    sizes = [scale.params for scale in published.model_scales()]
    said = []
    for value, low, high, unit in (
        (N, sizes[0], sizes[-1], "parameters"),
        (total, FEWEST_TOKENS, MOST_TOKENS, "tokens"),
    ):
        if value > high:
            said.append(f"{value / high:.3g}x above the study's most {unit} ({high:.3g})")
        elif value < low:
            said.append(f"{low / value:.3g}x below the study's fewest {unit} ({low:.3g})")
    return f"extrapolated: {', '.join(said)}" if said else None


def _notes(
    codes: Sequence[str],
    pooled: Sequence[str],
    estimated: Sequence[str],
    unique: Mapping[str, float],
    tokens: Mapping[str, float],
    best: Solution,
) -> tuple[str, ...]:
    notes = []
    if pooled:
        notes.append(
            f"{', '.join(pooled)}: no printed law, a pooled one stands in (mean over "
            f"{', '.join(row.language for row in published.table_c1('multilingual', 'monolingual'))}); its interval "
            "covers the spread between those languages"
        )
    if len(pooled) < len(codes):
        notes.append("interval of a language with a printed law: rounding of the printed coefficients only")
    notes.append("the study prints no uncertainty of its fits: no interval here covers it, nor the scatter of runs")
    if len(codes) > 1:
        notes.append(
            f"sharing one model among {len(codes)} languages is priced by the study's K^phi and K^psi, whichever "
            "languages they are; the study tried that with even sampling only"
        )
    if estimated:
        notes.append(f"unique tokens of {', '.join(estimated)} are estimates from the sizes of web corpora")
    if unknown := [code for code in codes if code not in unique]:
        notes.append(f"unique tokens of {', '.join(unknown)} are unknown: planned as if they never repeat")
    if often := [code for code in codes if tokens[code] > MANY_EPOCHS * unique.get(code, math.inf)]:
        notes.append(
            f"{', '.join(often)}: more than {MANY_EPOCHS:.0f} epochs, where a repeat is worth less than 0.37 of a "
            "new token"
        )
    if best.at_edge.any():
        notes.append("the best size lies at the edge of what was searched")
    return (*notes, *_helpers(codes))


def _helpers(codes: Sequence[str]) -> list[str]:
    """Printed transfer scores of the best sources, for what they are: not part of the plan's loss."""
    matrix = published.transfer_matrix()
    said, absent = [], []
    for code in codes:
        if code in matrix.languages:
            best = ", ".join(f"{helper.source} {helper.value:+.1f}" for helper in matrix.helpers(code, 3))
            said.append(f"{code} ({best})")
        else:
            absent.append(code)
    notes = [f"highest printed transfer scores at 2B, not in the losses: {'; '.join(said)}"] if said else []
    return notes + ([f"no printed transfer scores for {', '.join(absent)}"] if absent else [])
